"""Metrics, preview and manifest of a checkpoint, from what was measured of each log."""

from __future__ import annotations

import json
from pathlib import Path

from splatdag.driving.evaluation.measure_and_publish import MEASURED, check_place, publish_evaluation, publish_run
from splatdag.driving.evaluation.scores import Row
from splatdag.workflow.digests import file_digest
from splatdag.workflow.errors import UserError
from splatdag.workflow.stage import Job, run


def main(run_dir: Path, ckpt: Path, index_path: Path, scenes: tuple[str, ...], job: Job) -> None:
    """Write metrics.json, preview.jpg and, last, manifest.json of a checkpoint.

    In the folder of the training that wrote the checkpoint, the manifest is that of the training; in any other it is
    that of the evaluation, and the checkpoint is its input.

    Args:
        run_dir: with a folder of each log, as `evaluate` left it.
        ckpt: that was evaluated.
        index_path: that was evaluated on.
        scenes: names of the logs.
        job: how to run.
    """
    check_place(run_dir, ckpt)
    if not scenes:
        raise UserError("scenes: none; name the logs that were measured")
    measured = {scene: _read_rows(run_dir / scene / MEASURED) for scene in scenes}
    evaluated = _evaluated(run_dir, measured, ckpt)
    about = {
        "ckpt": str(ckpt),
        "index_path": str(index_path),
        "scenes": list(scenes),
        "step": evaluated["step"],
        "camera_name": evaluated["options"]["camera"],
    }
    if ckpt.resolve().parent == run_dir.resolve() and (run_dir / "meta.json").is_file():
        publish_run(run_dir, measured, about, job)
    else:
        publish_evaluation(run_dir, measured, evaluated, about, job)


def _read_rows(path: Path) -> Row:
    try:
        rows: Row = json.loads(path.read_text(encoding="utf-8"))["rows"]
        if not isinstance(rows["evaluated"], dict):
            raise KeyError("evaluated")
    except OSError as error:
        raise UserError(f"{path}: {error.strerror}") from None
    except (ValueError, OverflowError, KeyError, TypeError) as error:
        raise UserError(f"{path}: not what an evaluation writes ({type(error).__name__}: {error})") from None
    return rows


def _evaluated(run_dir: Path, measured: dict[str, Row], ckpt: Path) -> Row:
    """Find what all logs were measured with: step, options, device, and digests of the checkpoint and of their clips.

    Raises:
        UserError: a log was measured with another checkpoint than this file, or with other options than the others.
    """
    if not ckpt.is_file():
        raise UserError(f"ckpt: no such file: {ckpt}")
    first: Row = next(iter(measured.values()))["evaluated"]
    inputs = {"ckpt": file_digest(ckpt)}
    for scene, rows in measured.items():
        evaluated = rows["evaluated"]
        others = "another checkpoint" if evaluated["inputs"]["ckpt"] != inputs["ckpt"] else "other options"
        if evaluated["inputs"]["ckpt"] != inputs["ckpt"] or evaluated["options"] != first["options"]:
            raise UserError(f"{run_dir / scene / MEASURED}: was measured with {others}; evaluate the log again")
        inputs |= evaluated["inputs"]
    return first | {"inputs": inputs}


if __name__ == "__main__":
    run(main)
