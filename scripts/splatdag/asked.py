"""What a config asks for across areas, found by names of files: for the rules, and for `status`."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

from splatdag.captures.sheet import Capture
from splatdag.captures.targets import recorded_runs
from splatdag.config import Config
from splatdag.driving.targets import DrivingLogs, driving_logs, recorded_logs, split_logs
from splatdag.hub.layout import Scene
from splatdag.hub.targets import Upload, recordings_on_disk, uploads
from splatdag.humans.results_tree import Recording
from splatdag.humans.targets import human_results, wanted
from splatdag.samples.humans_options import HUMANS_EPOCHS, HUMANS_RUN
from splatdag.samples.options import SEQUENCES
from splatdag.workflow.plan import RunRecording

_NAMED = 5
"""Logs that a message names at most."""


def logs_of(config: Config, results: Path) -> DrivingLogs:
    """The driving logs; without any where no folder is named or it is not there."""
    return driving_logs(config.driving.data_root, str(results), SEQUENCES[: config.samples.street.logs])


def split_of(config: Config, logs: DrivingLogs) -> tuple[list[str], list[str]]:
    """Names of the driving logs to train on, and of those to measure on; none where no folder of logs is named.

    Raises:
        UserError: as `split_logs`.
    """
    return split_logs(logs, config.driving.index, config.driving.index_path) if config.driving.data_root else ([], [])


def recordings_of(
    config: Config, captures: dict[str, Capture], measured: Iterable[str], results: Path
) -> tuple[list[str], list[Recording], list[str]]:
    """What is recorded.

    Args:
        config: the config.
        captures: rows of its sheet.
        measured: the driving logs that are measured on.
        results: folder of results.

    Returns:
        Recordings of runs, relative to the results; those of the human trainer's; and lines on what is left out.

    Raises:
        UserError: as `wanted`.
    """
    of_driving, left_out = _of_driving(config, measured, results) if config.driving.data_root else ([], [])
    runs = [*recorded_runs(captures, results), *of_driving]
    of_runs, of_people = wanted(
        config.sharing, runs, human_results(config.sharing, str(results)), HUMANS_RUN, HUMANS_EPOCHS
    )
    return of_runs, of_people, left_out


def _of_driving(config: Config, measured: Iterable[str], results: Path) -> tuple[list[RunRecording], list[str]]:
    """Logs and clips whose evaluation keeps clips, or kept some if it is done; a line on the others."""
    driving = config.driving
    kept = measured if driving.evaluate.save_renders else ()
    runs = recorded_logs(driving.run, kept, driving.overfit_run, driving.overfit.clip_index, results)
    folders = {run: results / "driving" / run.exp / run.scene for run in runs}
    bare = [
        run
        for run, folder in folders.items()
        if (folder / "metrics.json").is_file() and not any(folder.glob("*/motion.npz"))
    ]
    names = [f"{run.exp}/{run.scene}" for run in bare]
    more = f" and {len(names) - _NAMED} more" if len(names) > _NAMED else ""
    line = f"recordings: {', '.join(names[:_NAMED])}{more}: no clip was measured and kept, so nothing is recorded"
    return [run for run in runs if run not in bare], [line] if bare else []


def uploads_of(config: Config, made: Iterable[Path], results: Path) -> tuple[dict[Scene, Upload], list[str]]:
    """What is uploaded, by scene, and a line on everything that can't be.

    Args:
        config: the config.
        made: recordings that the target `recordings` makes; they count where an upload makes them first.
        results: folder of results.

    Raises:
        UserError: as `uploads`.
    """
    sharing = config.sharing
    root = Path(human_results(sharing, str(results)).root)
    paths = {*recordings_on_disk(results, root), *(made if sharing.export else [])}
    return uploads(sorted(paths), results, root, sharing.resolved_upload(), sharing)
