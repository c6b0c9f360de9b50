"""Captures as an area: rows of a sheet to runs `single`, `combined` and `filtered`."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, ClassVar

from splatdag.captures.config import CapturesConfig
from splatdag.captures.plan import CapturesPlan
from splatdag.samples.options import RoomOptions
from splatdag.workflow.area import Area, Context, CpuResources, GpuResources, StageRule
from splatdag.workflow.options import SampleOptions

if TYPE_CHECKING:
    pass

_CAPTURE = "captures/{capture}"
_RUN = "captures/{capture}/{variant}"
_CKPT = "captures/{ckpt}/ckpt"


class Captures(Area):
    """Photos or a video of a static scene to an evaluated splat."""

    name = "captures"
    config = CapturesConfig
    samples: ClassVar[Mapping[str, type[SampleOptions]]] = {"room": RoomOptions}
    rules: ClassVar[Mapping[str, StageRule]] = {
        "extract_frames": StageRule(
            "frames",
            "captures.frames",
            f"{_CAPTURE}/frames.log",
            f"{_CAPTURE}/images/frames.json",
            CpuResources(mem_mb=4_000, runtime=120),
            share=1 / 3,
        ),
        "pose_capture": StageRule(
            "pose",
            "captures.pose",
            f"{_CAPTURE}/pose.log",
            f"{_CAPTURE}/registration.json",
            CpuResources(mem_mb=8_000, runtime=240),
            share=2 / 3,
        ),
        "train_capture": StageRule(
            "train",
            "scene.train",
            f"{_RUN}/train.log",
            f"{_RUN}/manifest.json",
            GpuResources(mem_mb=32_000, runtime=720),
        ),
        "evaluate_capture": StageRule(
            "evaluate",
            "scene.evaluate",
            f"{_RUN}/eval_on_{{eval_name}}/evaluate.log",
            f"{_RUN}/eval_on_{{eval_name}}/manifest.json",
            GpuResources(mem_mb=16_000, runtime=120),
        ),
        "evaluate_ckpt": StageRule(
            "evaluate",
            "scene.evaluate",
            f"{_CKPT}/evaluate.log",
            f"{_CKPT}/manifest.json",
            GpuResources(mem_mb=16_000, runtime=120),
        ),
        "link_ckpt_evaluation": StageRule(
            "link",
            "workflow.link",
            f"{_CKPT}/link.log",
            "captures/{ckpt}/out_dir.txt",
            CpuResources(threads=1),
            throttled=False,
        ),
        "link_run": StageRule(
            "link",
            "workflow.link",
            f"{_RUN}/link.log",
            f"{_CAPTURE}/result_dir_{{variant}}.txt",
            CpuResources(threads=1),
            throttled=False,
        ),
        "record_capture": StageRule(
            "record",
            "captures.record_capture",
            f"{_RUN}/recording.log",
            f"{_RUN}/rerun/capture.rrd",
            CpuResources(mem_mb=4_000),
            throttled=False,
        ),
    }

    def plan(self, config: Any, context: Context) -> CapturesPlan:
        """Read the sheet and check the files and options of its rows."""
        return CapturesPlan(type(self), config, context)
