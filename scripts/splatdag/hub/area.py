"""Sharing as an area: recordings of the runs of all areas, and their publication."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import suppress
from functools import cached_property
from pathlib import Path
from typing import Any, ClassVar

from splatdag.hub.config import SharingConfig
from splatdag.hub.layout import Scene
from splatdag.hub.targets import Upload, given_digest, plan_lines, upload_of, uploads
from splatdag.workflow.area import (
    Area,
    Context,
    CpuResources,
    Plan,
    PlannedRecording,
    PlannedRun,
    PlannedStage,
    StageRule,
)
from splatdag.workflow.code_digest import code_digest
from splatdag.workflow.errors import UserError, nearest
from splatdag.workflow.options import flags

_NAMED = 5
"""Scenes that a message names at most."""


class Sharing(Area):
    """Recordings of finished runs, and where they are published."""

    name = "sharing"
    config = SharingConfig
    rules: ClassVar[Mapping[str, StageRule]] = {
        "upload_scene": StageRule(
            "upload",
            "hub.upload",
            "sharing/{exp}/{scene}/upload.log",
            "sharing/{exp}/{scene}.json",
            CpuResources(runtime=120),
            throttled=False,
        )
    }

    def plan(self, config: Any, context: Context) -> SharingPlan:
        """Return a plan that reads the runs of all areas only once they are needed."""
        return SharingPlan(config, context)


class SharingPlan(Plan):
    """Recordings to make, and uploads that publish them."""

    def __init__(self, config: Any, context: Context) -> None:
        self._config, self._context = config, context
        self.sharing: SharingConfig = config.sharing

    def targets(self) -> dict[str, Callable[[], list[str]]]:
        """Return the files of each target: recordings of runs that are there or requested, and receipts of uploads."""
        return {"recordings": self.recording_files, "upload": self.receipts}

    def asked(self) -> list[str]:
        """Return the recordings."""
        return self.recording_files()

    def renders(self, files: list[str]) -> bool:
        """Tell whether any of these files is of a run that is trained first; a recording by itself needs no kernels."""
        wanted = set(files) if set(files) <= self._recording_files else set(self._made_for_upload())
        return any(
            recording.file in wanted
            for run in self.recorded
            if run.trained and not self._is_there(run)
            for recording in run.recordings
        )

    def _all_runs(self) -> Iterator[PlannedRun]:
        for name, plan in self._context.plans().items():
            if name != Sharing.name:
                yield from plan.runs()

    @cached_property
    def selected(self) -> list[PlannedRun]:
        """The runs that the config selects, made or not.

        Raises:
            UserError: there are runs, but none is selected; names what there is.
        """
        runs = list(self._all_runs())
        sharing = self.sharing
        of_exp = [run for run in runs if sharing.exp_name in (None, run.variant)]
        if runs and not of_exp:
            hint = nearest(str(sharing.exp_name), {run.variant for run in runs})
            raise UserError(f"config.sharing.exp_name: there is no run of {sharing.exp_name!r}{hint}")
        chosen = [run for run in of_exp if sharing.takes(run.variant, run.scene)]
        if runs and not chosen:
            scenes = ", ".join(list(dict.fromkeys(run.scene for run in of_exp))[:_NAMED])
            raise UserError(
                f"config.sharing.scene_name_includes: no scene with {sharing.scene_name_includes!r}; there are {scenes}"
            )
        return chosen

    @cached_property
    def recorded(self) -> list[PlannedRun]:
        """Selected runs to record: those that are there, and those that the same command makes."""
        return [run for run in self.selected if self._is_there(run) or run.made or self._is_asked(run)]

    def _is_there(self, run: PlannedRun) -> bool:
        return Path(run.done).exists()

    def _is_asked(self, run: PlannedRun) -> bool:
        return not self._asked_files.isdisjoint(
            {run.done, run.whole, *(recording.file for recording in run.recordings)}
        )

    @cached_property
    def _asked_files(self) -> frozenset[str]:
        """Files that the same command makes, those of recordings and uploads left out."""
        asked, files = self._context.targets(), set[str]()
        for name, plan in self._context.plans().items():
            if name == Sharing.name:
                continue
            if "all" in asked:
                files.update(plan.asked())
            for target, its_files in plan.targets().items():
                if target in asked:
                    files.update(its_files())
        return frozenset((*files, *asked))

    def _not_made(self) -> list[str]:
        """Return a line on the selected runs that are neither there nor requested."""
        missing = [run for run in self.selected if run.recordings and run not in self._recorded_set]
        rest = [run.row or f"{run.scene}/{run.variant}" for run in missing]
        if not rest:
            return []
        more = f" and {len(rest) - _NAMED} more" if len(rest) > _NAMED else ""
        return [
            f"recordings: {', '.join(rest[:_NAMED])}{more}: not there yet, so not recorded;"
            " ask for them, too, to make them first: snakemake all"
        ]

    @cached_property
    def _recorded_set(self) -> frozenset[PlannedRun]:
        return frozenset(self.recorded)

    def recording_files(self) -> list[str]:
        """Return the recordings that are made."""
        return [recording.file for run in self.recorded for recording in run.recordings]

    @cached_property
    def _recording_files(self) -> frozenset[str]:
        return frozenset(self.recording_files())

    def lines(self, target: str) -> Iterable[str]:
        """Return lines on runs that are left out and, for `upload`, on files, their sizes and their destination."""
        if target == "upload":
            found, troubles = self.uploads
            return [*troubles, *plan_lines(found, self.sharing.upload, f"{self._context.results}/hub")]
        return [*self._left_out(), *([] if target == "all" else self._not_made())]

    def _left_out(self) -> Iterator[str]:
        """Yield the lines of the areas on what can't be recorded."""
        for name, plan in self._context.plans().items():
            if name != Sharing.name:
                yield from plan.lines("recordings")

    def stages(self) -> Iterator[PlannedStage]:
        """Yield the stages of recordings in areas that can be read, and of uploads once one of them was begun.

        Raises:
            UserError: an area can't be read, after the stages of the others.
        """
        for run in self._readable():
            for recording in run.recordings:
                yield self._stage(run, recording)
        rule = Sharing.rules["upload_scene"]
        stages = [
            self._context.stage(Sharing.name, "upload_scene", rule, str(scene), exp=scene.exp, scene=scene.name)
            for scene in self.uploads[0]
        ]
        if any(map(self._context.begun, stages)):
            yield from stages

    def _readable(self) -> Iterator[PlannedRun]:
        plans = self._context.plans()
        for name in plans:
            if name != Sharing.name:
                with suppress(UserError):
                    yield from (run for run in plans[name].runs() if self.sharing.takes(run.variant, run.scene))

    @staticmethod
    def _stage(run: PlannedRun, recording: PlannedRecording) -> PlannedStage:
        row = recording.row or run.row or f"{run.scene}/{run.variant}"
        return PlannedStage(run.area, row, recording.stage, recording.log, recording.file, recording.rule)

    @cached_property
    def made(self) -> frozenset[str]:
        """The recordings of the target `recordings`, as far as `upload` makes them."""
        return self._recording_files if self.sharing.export else frozenset()

    @cached_property
    def uploads(self) -> tuple[dict[Scene, Upload], list[str]]:
        """Uploads by scene, and lines on names that the Hub can't take and bundled samples that are left out.

        Raises:
            UserError: two runs have the same place.
        """
        return uploads(self.selected, self.made, self.sharing.resolved_upload(), self.sharing.epoch)

    def receipts(self) -> list[str]:
        """Return a receipt for every scene, and its page where no repository is set."""
        files = [f"{self._context.results}/{file}" for file in published(self.sharing.upload.repo_id).values()]
        return [file.format(exp=scene.exp, scene=scene.name) for scene in self.uploads[0] for file in files]

    def _made_for_upload(self) -> list[str]:
        """Return the recordings that are made for the uploads."""
        return [str(path) for upload in self.uploads[0].values() for path in upload.recordings if upload.is_made(path)]

    # what rules ask for, job by job

    def _upload(self, wildcards: Any) -> Upload:
        return upload_of(Scene(wildcards.exp, wildcards.scene), self.uploads[0])

    def scene_recordings(self, wildcards: Any) -> list[str]:
        """Return the recordings of a scene."""
        return [str(path) for path in self._upload(wildcards).recordings]

    def scene_made(self, wildcards: Any) -> list[str]:
        """Return a scene's recordings that rules make; others are no input, or Snakemake would make them too."""
        upload = self._upload(wildcards)
        return [str(path) for path in upload.recordings if upload.is_made(path)]

    def scene_given(self, wildcards: Any) -> str:
        """Return the digest of a scene's recordings that no rule makes; empty where there are none."""
        upload = self._upload(wildcards)
        return given_digest([path for path in upload.recordings if not upload.is_made(path)], self._context.cache)

    def sample(self, wildcards: Any) -> str:
        """Return the bundled sample that a scene is made from, as manifests name it; empty for one's own data."""
        return self._upload(wildcards).sample

    def scene_run(self, wildcards: Any) -> str:
        """Return the folder of a scene's run."""
        return str(self._upload(wildcards).run)

    def hub_folder(self, wildcards: Any) -> str:
        """Return the folder that stands in for the Hub."""
        return f"{self._context.results}/hub"

    def upload_flags(self, wildcards: Any) -> list[str]:
        """Return the options of an upload, and the module and folder that describe the run on its page."""
        describer = self._upload(wildcards).describer
        described = [f"--describer={describer.module}", f"--described-from={describer.folder}"] if describer else []
        return [*flags(self.sharing.resolved_upload()), *described]

    def upload_code(self, wildcards: Any) -> list[str]:
        """Return the digests of the code of an upload and of the module that describes the run."""
        describer = self._upload(wildcards).describer
        modules = [Sharing.rules["upload_scene"].module, *([describer.module] if describer else [])]
        return [code_digest(module) for module in modules]


def published(repo_id: str | None) -> dict[str, str]:
    """Return the files that an upload writes into the results: a receipt, and the page where no repository is set."""
    receipt = {"receipt": Sharing.rules["upload_scene"].output}
    return receipt if repo_id else receipt | {"page": "hub/experiments/{exp}/{scene}/README.md"}
