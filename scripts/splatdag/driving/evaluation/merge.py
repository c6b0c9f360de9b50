"""Metrics, preview and manifest of a checkpoint, from what was measured of each log."""

from __future__ import annotations

import json
import time
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from splatdag.driving.evaluation.measure_and_publish import MEASURED, check_place, publish_run
from splatdag.driving.evaluation.scores import Row
from splatdag.workflow.attempts import process_seconds
from splatdag.workflow.digests import file_digest
from splatdag.workflow.errors import UserError
from splatdag.workflow.manifest import Manifest, RunId, manifest_of, merged, processor_name
from splatdag.workflow.publish import read_json, write_json
from splatdag.workflow.stage import Job, run

STAGE = "driving.evaluation.merge"


def main(run_dir: Path, ckpt: Path, index_path: Path, scenes: tuple[str, ...], job: Job) -> None:
    """Write metrics.json, preview.jpg and, last, manifest.json of a checkpoint.

    The manifest adds up what all processes used. In the folder of the training that wrote the checkpoint it is that of
    the training; in any other it is that of the evaluation, and the checkpoint is its input.

    Args:
        run_dir: with a folder of each log, as `evaluate` left it.
        ckpt: that was evaluated.
        index_path: that was evaluated on.
        scenes: names of the logs.
        job: how to run.
    """
    startup, begin = process_seconds(), time.perf_counter()
    check_place(run_dir, ckpt)
    if not scenes:
        raise UserError("scenes: none; name the logs that were measured")
    measured = {scene: _read_rows(run_dir / scene / MEASURED) for scene in scenes}
    evaluations = {
        scene: _read_manifest(run_dir / scene / MEASURED, rows["manifest"], "an evaluation")
        for scene, rows in measured.items()
    }
    evaluation = _common(run_dir, evaluations, ckpt)
    meta = run_dir / "meta.json"
    own = ckpt.resolve().parent == run_dir.resolve() and meta.is_file()
    trained = [_read_manifest(meta, read_json(meta), "a training")] if own else []
    about = {
        "ckpt": str(ckpt),
        "index_path": str(index_path),
        "scenes": list(scenes),
        "step": evaluation.steps,
        "camera_name": evaluation.options["camera"],
    }
    fields = publish_run(run_dir, measured, about)
    merge = manifest_of(
        STAGE,
        RunId.of(job.run_id, STAGE, run_dir),
        run_dir,
        {"startup": startup, "publish": time.perf_counter() - begin},
        sample=job.sample,
        options={},
        inputs={},
        device=processor_name(),
    )
    if not own:
        fields["inputs"] = {name: digest for one in evaluations.values() for name, digest in one.inputs.items()}
    whole = merged([*trained, *evaluations.values(), merge], run=merge.run, sample=merge.sample, **fields)
    write_json(run_dir / "manifest.json", whole.model_dump(mode="json"))


def _read_rows(path: Path) -> Row:
    try:
        rows: Row = json.loads(path.read_text(encoding="utf-8"))["rows"]
        rows["manifest"]
    except OSError as error:
        raise UserError(f"{path}: {error.strerror}") from None
    except (ValueError, OverflowError, KeyError, TypeError) as error:
        raise UserError(f"{path}: not what an evaluation writes ({type(error).__name__}: {error})") from None
    return rows


def _read_manifest(path: Path, values: Any, writer: str) -> Manifest:
    """Read the manifest that a file has among other values."""
    try:
        return Manifest.model_validate({name: values[name] for name in Manifest.model_fields if name in values})
    except (ValidationError, TypeError) as error:
        where = ".".join(map(str, error.errors()[0]["loc"])) if isinstance(error, ValidationError) else "no object"
        raise UserError(f"{path}: not what {writer} writes ({where}); make it again") from None


def _common(run_dir: Path, evaluations: dict[str, Manifest], ckpt: Path) -> Manifest:
    """The first evaluation, whose checkpoint and options all others have.

    Raises:
        UserError: a log was measured with another checkpoint than this file, or with other options than the others.
    """
    if not ckpt.is_file():
        raise UserError(f"ckpt: no such file: {ckpt}")
    first = next(iter(evaluations.values()))
    digest = file_digest(ckpt)
    for scene, one in evaluations.items():
        others = {
            "another checkpoint": one.inputs["ckpt"] != digest,
            "other options": one.options != first.options,
        }
        if wrong := [what for what, differs in others.items() if differs]:
            raise UserError(f"{run_dir / scene / MEASURED}: was measured with {wrong[0]}; evaluate the log again")
    return first


if __name__ == "__main__":
    run(main)
