"""Plan of driving: the runs of Flux4D that the config names, their stages and recordings."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace
from functools import cached_property
from pathlib import Path
from typing import Any

from splatdag.driving.jobs import DrivingJobs
from splatdag.driving.targets import clip_folder
from splatdag.workflow.area import OwnResources, PlannedRun, PlannedStage, found_like, sample_of

_NAMED = 5
"""Logs that a message names at most."""


class DrivingPlan(DrivingJobs):
    """Runs that the config names, what each target asks for, stages and recordings; and, inherited, their jobs."""

    def targets(self) -> dict[str, Callable[[], list[str]]]:
        """`driving` asks for all runs; the others for those of a kind."""
        return {
            "driving": self.asked,
            "flux4d": self.logs_runs,
            "flux4d_overfit": self.clip_runs,
            "flux4d_flow": self.flow_summaries,
            "flux4d_ckpts": self.ckpt_runs,
        }

    def asked(self) -> list[str]:
        """All runs, checkpoints and pictures of motion, where a folder of logs is named."""
        if not self.driving.data_root:
            return []
        return [*self.clip_runs(), *self.flow_summaries(), *self.logs_runs(), *self.ckpt_runs()]

    def logs_runs(self) -> list[str]:
        """Runs on many logs."""
        return [f"{self._folder}/{name}/manifest.json" for name in self.driving.runs]

    def ckpt_runs(self) -> list[str]:
        """Evaluations of checkpoint files, and their links."""
        links = [name for name, run in self.driving.ckpts.items() if run.out_dir]
        return [
            *(f"{self._folder}/{name}/manifest.json" for name in self.driving.ckpts),
            *(f"{self._folder}/{name}/out_dir.txt" for name in links),
        ]

    def clip_runs(self) -> list[str]:
        """Runs on one clip."""
        return [f"{self._folder}/{name}/manifest.json" for name in self.driving.overfits]

    def flow_summaries(self) -> list[str]:
        """Pictures of motion."""
        return [f"{self._folder}/{name}/flow/summary.json" for name in self.flow_runs]

    @property
    def flow_runs(self) -> tuple[str, ...]:
        """Runs whose motion is drawn."""
        return self.driving.flow_runs or tuple(self.driving.overfits)

    def stages(self) -> Iterator[PlannedStage]:
        """The stages of all runs, and of the checks that were begun."""
        if not self.logs.names:
            return
        clip = {
            "lift_alignment": str(self.driving.alignment.clip_index),
            "voxelization": str(self.driving.voxelization.clip_index),
        }
        index = self._stage("index_pandaset", "index")
        if (self.driving.overfits and not self.driving.index_path) or self._context.begun(index):
            yield index
        for rule in ("check_pandaset", "lift_alignment", "voxelization"):
            stage = self._stage(rule, "check", clip=clip.get(rule, ""))
            if self._context.begun(stage):
                yield stage
        for name in self.driving.overfits:
            yield self._stage("overfit_flux4d", name, overfit=name)
        for name in self.flow_runs:
            yield self._stage("draw_flow", name, run=name)
        if not self._measured:
            return
        train, test = self.split
        learnt = train if self.driving.runs else []
        for split, logs in (("train", learnt), ("test", test)):
            if logs and not self.driving.index_path:
                yield self._stage("index_split", f"index/{split}", split=split)
        for scene in dict.fromkeys((*learnt, *test)):
            yield self._stage("lift_log", f"lift/{scene}", scene=scene)
        for name in self.driving.runs:
            yield self._stage("train_flux4d", name, run=name)
            yield from (self._stage("evaluate_flux4d", f"{name}/{log}", run=name, scene=log) for log in test)
            yield self._stage("merge_flux4d", name, run=name)
        for name, of_ckpt in self.driving.ckpts.items():
            yield from (self._stage("evaluate_flux4d", f"{name}/{log}", run=name, scene=log) for log in test)
            yield self._stage("merge_flux4d", name, run=name)
            if of_ckpt.out_dir:
                yield self._stage("link_ckpt", name, run=name)

    def _stage(self, rule: str, row: str, **wildcards: str) -> PlannedStage:
        return self._context.stage(self._area.name, rule, self._area.rules[rule], row, **wildcards)

    def runs(self) -> Iterator[PlannedRun]:
        """The logs that runs are measured on, the clips of others, and what else is there, if clips are kept or were
        recorded earlier."""
        return iter(self._recordable[0])

    def lines(self, target: str) -> list[str]:
        """Return a line on what can't be recorded, for the target `recordings` alone."""
        return self._recordable[1] if target == "recordings" else []

    @cached_property
    def _recordable(self) -> tuple[list[PlannedRun], list[str]]:
        if not self.driving.data_root:
            return [], []
        runs = list(dict.fromkeys(self._logs_and_clips()))
        folders = {run: Path(run.folder) for run in runs}
        bare = [
            run
            for run, folder in folders.items()
            if (folder / "metrics.json").is_file() and not any(folder.glob("*/motion.npz"))
        ]
        names = [f"{run.variant}/{run.scene}" for run in bare]
        more = f" and {len(names) - _NAMED} more" if len(names) > _NAMED else ""
        line = f"recordings: {', '.join(names[:_NAMED])}{more}: no clip was measured and kept, so nothing is recorded"
        kept = {run.folder: run for run in runs if run not in bare}
        for found in found_like(self._context.results, "driving/{run}/{scene}/rerun/{file}"):
            earlier = replace(self._run(found["run"], found["scene"]), recordings=())  # it can't be made again
            kept.setdefault(earlier.folder, earlier)
        return list(kept.values()), [line] if bare else []

    def _logs_and_clips(self) -> Iterator[PlannedRun]:
        for name, of_logs in self._measured.items():
            if of_logs.evaluate.save_renders:
                yield from (self._run(name, scene) for scene in self.split[1])
        for name, of_clip in self.driving.overfits.items():
            yield self._run(name, clip_folder(of_clip.overfit.clip_index))
        known = self._all_runs.keys()
        for found in found_like(self._context.results, "driving/{run}/{scene}/metrics.json"):
            if found["run"] not in known:
                yield self._run(found["run"], found["scene"])

    def _run(self, name: str, scene: str) -> PlannedRun:
        recording = self._context.recording("record_drive", self._area.rules["record_drive"], run=name, scene=scene)
        folder, row = f"{self._folder}/{name}/{scene}", f"{name}/{scene}"
        return PlannedRun(
            self._area.name,
            scene,
            name,
            folder,
            f"{folder}/metrics.json",
            whole=f"{self._folder}/{name}/manifest.json",
            recordings=(recording,),
            row=row,
            sample=self.sample(None) if name in self._all_runs else sample_of(folder),
        )

    def own_resources(self, rule: str, wildcards: Any) -> OwnResources | None:
        """Return a run's own resources for the stage of a rule; None where the run's config has none."""
        name = getattr(wildcards, "run", None) or getattr(wildcards, "overfit", None)
        run = self._all_runs.get(str(name))
        return None if run is None else getattr(run.resources, self._area.rules[rule].stage, None)

    def has_own_resources(self, rule: str) -> bool:
        """Tell whether any run has resources of its own for the stage of a rule."""
        stage = self._area.rules[rule].stage
        own = [getattr(run.resources, stage, None) for run in self._all_runs.values()]
        return any(asked is not None and asked.model_fields_set for asked in own)
