"""People as an area: recordings of the human trainer's results."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from functools import cached_property
from pathlib import Path
from typing import Any, ClassVar

from splatdag.humans.results_tree import FILES, Recording, epoch_name, epochs_in, inputs_digest, runs_in
from splatdag.recording.options import RecordingOptions, RunSelection, Task
from splatdag.samples.humans_options import HUMANS_EPOCHS, HUMANS_RUN, HumansOptions
from splatdag.workflow.area import (
    Area,
    Context,
    CpuResources,
    Describer,
    Own,
    Plan,
    PlannedRecording,
    PlannedRun,
    StageRule,
    sample_digest,
    sample_receipt,
)
from splatdag.workflow.errors import UserError
from splatdag.workflow.options import SampleOptions, flags, only
from splatdag.workflow.sequences import by_number

SAMPLE = "sample:humans"
"""The bundled results tree, as `sharing.results_root`."""
SCENES = "preprocess/scenes"
"""Folder of `<scene>.json` files, as the human trainer keeps them."""
TASK_OF = {name: task for task, name in FILES.items()}


class Humans(Area):
    """Several people per scene."""

    name = "humans"
    samples: ClassVar[Mapping[str, type[SampleOptions]]] = {"humans": HumansOptions}
    rules: ClassVar[Mapping[str, StageRule]] = {
        "record_epoch": StageRule(
            "record",
            "humans.record_epoch",
            "humans/{scene}/{exp}/{recording}_{epoch}.log",
            "{scene}/{exp}/rerun/{recording}_{epoch}.rrd",  # below sharing.output_dir, else results_root
            CpuResources(mem_mb=4_000, runtime=60),
            throttled=False,
        )
    }

    def plan(self, config: Any, context: Context) -> HumansPlan:
        """Find the runs that the human trainer left."""
        return HumansPlan(config, context)


class HumansPlan(Plan):
    """Results tree of the human trainer, and the inputs and parameters of the jobs that record it."""

    def __init__(self, config: Any, context: Context) -> None:
        self._config, self._context = config, context
        self.selection: RunSelection = config.sharing
        self.is_sample = self.selection.results_root == SAMPLE
        self.root = results_root(self.selection, context.results)
        self.recorded_root = recorded_root(self.selection, context.results)
        scenes = f"{context.results}/samples/humans/scenes" if self.is_sample else SCENES
        self.scenes_dir = self.selection.scenes_dir or scenes

    def runs(self) -> Iterator[PlannedRun]:
        """Yield every run of the tree, with a recording for each selected task and epoch, and runs recorded before.

        Raises:
            UserError: there is no such tree.
        """
        for scene, exp in self._runs:
            yield self._run(scene, exp, tuple(self._recordings(scene, exp)))
        recorded = {path.parts[-4:-2] for path in Path(self.recorded_root).glob("*/*/rerun/[!.]*.rrd")}
        for scene, exp in sorted(recorded - set(self._runs)):
            yield self._run(scene, exp, ())

    def _run(self, scene: str, exp: str, recordings: tuple[PlannedRecording, ...]) -> PlannedRun:
        folder = f"{self.root}/{scene}/{exp}"
        return PlannedRun(
            Humans.name,
            scene,
            exp,
            folder,
            folder,
            rerun=f"{self.recorded_root}/{scene}/{exp}/rerun",
            recordings=recordings,
            trained=False,
            describer=Describer("humans.description", self.scenes_dir),
            made=self.is_sample,
            sample=self.sample(None),
        )

    @cached_property
    def _runs(self) -> list[tuple[str, str]]:
        if self.is_sample:
            return [HUMANS_RUN]
        root = Path(self.root)
        if root.is_dir() or self.selection.results_root == RunSelection.model_fields["results_root"].default:
            return runs_in(root)
        raise UserError(f"config.sharing.results_root: no such folder: {root}")

    def _recordings(self, scene: str, exp: str) -> Iterator[PlannedRecording]:
        found = [
            Recording(scene, exp, task, epoch)
            for task in dict.fromkeys(self.selection.tasks)
            for epoch in self._epochs(self._there(scene, exp, task), task)
        ]
        rule = Humans.rules["record_epoch"]
        for recording in sorted(found, key=lambda recording: by_number(recording.epoch)):
            wildcards = {"scene": scene, "exp": exp, "recording": FILES[recording.task], "epoch": recording.epoch}
            yield PlannedRecording(
                f"{self.recorded_root}/{recording.file}",
                rule.log.format(**wildcards),
                "record_epoch",
                f"record {recording.task}",
                f"{recording.run}/{recording.epoch}",
            )

    def _there(self, scene: str, exp: str, task: Task) -> list[str]:
        return list(HUMANS_EPOCHS[task]) if self.is_sample else epochs_in(Path(self.root, scene, exp), task)

    def _epochs(self, there: list[str], task: Task) -> list[str]:
        """Select epochs; one that is named and not there is kept: its job fails and says so, the others go on."""
        if self.selection.epoch == "all":
            return there
        if self.selection.epoch == "latest":
            return there[-1:]
        asked = epoch_name(self.selection.epoch)
        found = [epoch for epoch in there if epoch_name(epoch) == asked]
        counts_alone = task == "trn_nv_generation" and len(self.selection.tasks) > 1
        return found or ([] if counts_alone else [asked])

    # what rules ask for, job by job

    def run(self, wildcards: Any) -> Any:
        """Return a run of the human trainer: the user's folder, or the receipt of the bundled sample."""
        if self.is_sample:
            return sample_receipt("humans")
        return Own(f"{self.root}/{wildcards.scene}/{wildcards.exp}")

    def scenes(self, wildcards: Any) -> str:
        """Return the folder of `<scene>.json`, which names the source camera."""
        return self.scenes_dir

    def sample(self, wildcards: Any) -> str:
        """Return the bundled sample that is recorded, as manifests name it; empty for own results."""
        return Humans.sample("humans" if self.is_sample else None)

    def task(self, wildcards: Any) -> str:
        """Return the task that a recording shows."""
        return TASK_OF[wildcards.recording]

    def digest(self, wildcards: Any) -> str:
        """Return the digest of a recording's inputs; of the bundled sample, a text of its code's digest and options."""
        if self.is_sample:
            return sample_digest(self._config, "humans")
        recording = Recording(wildcards.scene, wildcards.exp, TASK_OF[wildcards.recording], wildcards.epoch)
        return inputs_digest(Path(self.root), recording, Path(self.scenes_dir), self._context.cache)

    def record_flags(self, wildcards: Any) -> list[str]:
        """Return the flags of an epoch's recording."""
        return flags(only(self._config.sharing.recordings, RecordingOptions))


def results_root(selection: RunSelection, results: str) -> str:
    """Return the folder of the runs `<scene>/<experiment>/`: the user's own, or that of the bundled sample."""
    return (
        f"{results}/samples/humans/results" if selection.results_root == SAMPLE else str(Path(selection.results_root))
    )


def recorded_root(selection: RunSelection, results: str) -> str:
    """Return the folder of recordings `<scene>/<experiment>/rerun/`: that of the runs, unless `output_dir` is set."""
    return str(Path(selection.output_dir)) if selection.output_dir else results_root(selection, results)
