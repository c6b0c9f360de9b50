"""Which recordings the config asks for: of captures and driving, and of the human trainer's results."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from splatdag.humans.results_tree import Recording, epoch_name, epochs_in, runs_in
from splatdag.recording.options import RunSelection, Task
from splatdag.workflow.errors import UserError, nearest
from splatdag.workflow.plan import RunRecording

SAMPLE = "sample:humans"
"""The bundled results tree, as `results_root`."""
SCENES = "preprocess/scenes"
"""Where the human trainer keeps its scenes' files."""
_NAMED = 5
"""Scenes that a message names at most."""


@dataclass(frozen=True)
class HumanResults:
    """A results tree of the human trainer."""

    root: str
    """Folder of `<scene>/<experiment>/`."""
    scenes_dir: str
    """Folder of `<scene>.json`."""
    sample: bool
    """Whether a rule makes it."""


def human_results(selection: RunSelection, results: str) -> HumanResults:
    """The tree that the config names.

    Args:
        selection: from the config.
        results: folder of the results, which samples are made in.
    """
    sample = selection.results_root == SAMPLE
    root = f"{results}/samples/humans/results" if sample else selection.results_root
    scenes = f"{results}/samples/humans/scenes" if sample else SCENES
    return HumanResults(root, selection.scenes_dir or scenes, sample)


def wanted(
    selection: RunSelection,
    runs: list[RunRecording],
    tree: HumanResults,
    sample_run: tuple[str, str],
    sample_epochs: Mapping[str, Sequence[str]],
) -> tuple[list[str], list[Recording]]:
    """What the config asks for, found by names of folders; no file is opened.

    Args:
        selection: from the config.
        runs: of captures and driving that could be recorded.
        tree: as `human_results` gives it; one that a rule makes need not be there.
        sample_run: scene and experiment of the sample.
        sample_epochs: what the sample has of each task.

    Returns:
        Recordings of runs, relative to the results, and those of people.

    Raises:
        UserError: there is no such tree, or there are runs but none is selected; names what there is.
    """
    people = [sample_run] if tree.sample else _runs_of(selection, Path(tree.root))
    _check([*((run.scene, run.exp) for run in runs), *people], selection)
    return (
        [run.file for run in runs if selection.takes(run.exp, run.scene)],
        [
            Recording(scene, exp, task, epoch)
            for scene, exp in people
            if selection.takes(exp, scene)
            for task in dict.fromkeys(selection.tasks)
            for epoch in _selected_epochs(
                list(sample_epochs[task]) if tree.sample else epochs_in(Path(tree.root, scene, exp), task),
                task,
                selection,
            )
        ],
    )


def _runs_of(selection: RunSelection, root: Path) -> list[tuple[str, str]]:
    if root.is_dir() or selection.results_root == RunSelection.model_fields["results_root"].default:
        return runs_in(root)
    raise UserError(f"config.sharing.results_root: no such folder: {root}")


def _check(runs: list[tuple[str, str]], selection: RunSelection) -> None:
    of_exp = [(scene, exp) for scene, exp in runs if selection.exp_name in (None, exp)]
    if runs and not of_exp:
        hint = nearest(str(selection.exp_name), {exp for _, exp in runs})
        raise UserError(f"config.sharing.exp_name: there is no run of {selection.exp_name!r}{hint}")
    if runs and not any(selection.takes(exp, scene) for scene, exp in of_exp):
        scenes = ", ".join(list(dict.fromkeys(scene for scene, _ in of_exp))[:_NAMED])
        raise UserError(
            f"config.sharing.scene_name_includes: no scene with {selection.scene_name_includes!r}; there are {scenes}"
        )


def _selected_epochs(there: list[str], task: Task, selection: RunSelection) -> list[str]:
    """An epoch that is not there is kept where it was asked for: its job fails and says so, and the others go on."""
    if selection.epoch == "all":
        return there
    if selection.epoch == "latest":
        return there[-1:]
    asked = epoch_name(selection.epoch)
    found = [epoch for epoch in there if epoch_name(epoch) == asked]
    counts_alone = task == "trn_nv_generation" and len(selection.tasks) > 1
    return found or ([] if counts_alone else [asked])
