"""Driving as an area: logs to clips, and runs of Flux4D on one clip or on many logs."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar

from splatdag.driving.config import DrivingConfig
from splatdag.driving.plan import DrivingPlan
from splatdag.driving.targets import driving_logs
from splatdag.samples.options import SEQUENCES, StreetOptions
from splatdag.workflow.area import Area, Context, CpuResources, GpuResources, StageRule
from splatdag.workflow.options import SampleOptions


class Driving(Area):
    """PandaSet's driving logs to Gaussians that move."""

    name = "driving"
    config = DrivingConfig
    samples: ClassVar[Mapping[str, type[SampleOptions]]] = {"street": StreetOptions}
    rules: ClassVar[Mapping[str, StageRule]] = {
        "index_pandaset": StageRule("index", "driving.clips.index", "driving/index.log", "driving/index/report.json"),
        "index_split": StageRule(
            "index",
            "driving.clips.index_split",
            "driving/index_{split}.log",
            "driving/index/{split}.json",
        ),
        "check_pandaset": StageRule(
            "check",
            "driving.checks.check",
            "driving/check.log",
            "driving/check/report.json",
            CpuResources(mem_mb=4_000, runtime=120),
        ),
        "lift_alignment": StageRule(
            "alignment",
            "driving.checks.lift_alignment",
            "driving/lift_alignment.log",
            "driving/lift_alignment/{clip}/alignment.json",
            CpuResources(mem_mb=4_000, runtime=15),
        ),
        "voxelization": StageRule(
            "voxelization",
            "driving.checks.voxelization",
            "driving/voxelization.log",
            "driving/voxelization/{clip}/voxelization.json",
            CpuResources(mem_mb=8_000),
        ),
        "lift_log": StageRule(
            "lift",
            "driving.clips.lift_logs",
            "driving/lift/{scene}.log",
            "driving/lift/{scene}.json",
            CpuResources(mem_mb=4_000, runtime=60),
        ),
        "overfit_flux4d": StageRule(
            "train",
            "driving.training.overfit",
            "driving/{overfit}/overfit.log",
            "driving/{overfit}/manifest.json",
            GpuResources(mem_mb=32_000, runtime=720),
        ),
        "draw_flow": StageRule(
            "flow",
            "driving.evaluation.flow",
            "driving/{run}/flow.log",
            "driving/{run}/flow/summary.json",
            GpuResources(mem_mb=16_000, runtime=60),
        ),
        "train_flux4d": StageRule(
            "train",
            "driving.training.train",
            "driving/{run}/train.log",
            "driving/{run}/meta.json",
            GpuResources(threads=8, mem_mb=48_000, runtime=720, gpu_class="h100"),
        ),
        "evaluate_flux4d": StageRule(
            "evaluate",
            "driving.evaluation.evaluate",
            "driving/{run}/{scene}/evaluate.log",
            "driving/{run}/{scene}/metrics.json",
            GpuResources(mem_mb=32_000, runtime=120),
        ),
        "merge_flux4d": StageRule(
            "merge",
            "driving.evaluation.merge",
            "driving/{run}/merge.log",
            "driving/{run}/manifest.json",
            CpuResources(threads=1, runtime=15),
        ),
        "link_ckpt": StageRule(
            "link",
            "workflow.link",
            "driving/{run}/link.log",
            "driving/{run}/out_dir.txt",
            CpuResources(threads=1),
            throttled=False,
        ),
        "record_drive": StageRule(
            "record",
            "driving.record_drive",
            "driving/{run}/{scene}/recording.log",
            "driving/{run}/{scene}/rerun/driving.rrd",
            CpuResources(mem_mb=8_000, runtime=60),
            throttled=False,
        ),
    }

    def plan(self, config: Any, context: Context) -> DrivingPlan:
        """Look for the logs; what they hold is looked at when it is asked for."""
        samples = SEQUENCES[: config.samples.street.logs]
        logs = driving_logs(config.driving.data_root, context.results, samples)
        return DrivingPlan(type(self), config, context, logs)
