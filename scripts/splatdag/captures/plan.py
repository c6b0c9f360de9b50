"""Plan of captures: the runs of each row of the sheet, and the inputs and parameters of their jobs."""

from __future__ import annotations

import shlex
from collections.abc import Callable, Iterable, Iterator
from dataclasses import replace
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

from splatdag.captures.config import CapturesConfig, CkptRun
from splatdag.captures.sheet import DUAL_VARIANTS, Capture, Stages, read_captures, row_notices
from splatdag.formats.photoset import PhotoSet
from splatdag.scene.ckpt_files import of_all_ranks, settings_file
from splatdag.scene.split import list_file
from splatdag.workflow.area import (
    Area,
    Context,
    Own,
    OwnResources,
    Plan,
    PlannedRun,
    PlannedStage,
    found_like,
    sample_digest,
    sample_of,
    sample_receipt,
)
from splatdag.workflow.code_digest import code_digest
from splatdag.workflow.digests import contents_digest, digest_of_files, digest_of_folder
from splatdag.workflow.errors import UserError, nearest
from splatdag.workflow.options import Options, flags
from splatdag.workflow.result_dirs import check_result_dir, link_of

if TYPE_CHECKING:
    from splatdag.splats.lpips_weights import Net
    from splatdag.workflow.backend import Backend

VARIANTS = ("single", *DUAL_VARIANTS)
"""The runs of a capture: as the sheet says, on all photos, and on those that match."""
_NAMED = 5
"""Captures that a message names at most."""


class CapturesPlan(Plan):
    """Rows of the sheet, and the inputs and parameters of their jobs."""

    def __init__(self, area: type[Area], config: Any, context: Context) -> None:
        captures: CapturesConfig = config.captures
        self._area = area
        self._config, self._context = config, context
        self.stages_of_config = Stages(captures.frames, captures.pose, captures.train)
        self.ckpts: dict[str, CkptRun] = captures.ckpts
        self.sheet = context.found(captures.sheet)
        self.rows = read_captures(self.sheet, self.stages_of_config, Path(context.results), files=context.files)

    def targets(self) -> dict[str, Callable[[], list[str]]]:
        """Return the files of each target: single runs, pairs of runs, and evaluations of files of splats."""
        return {
            "captures": self.single_files,
            "captures_dual": self.dual_files,
            "captures_ckpts": self.ckpt_files,
        }

    def asked(self) -> list[str]:
        """Return the files that the target `all` makes; pairs are made only by `captures_dual`."""
        return [*self.single_files(), *self.ckpt_files()]

    def single_files(self) -> list[str]:
        """Return the files of the run `single` of each row, of its external evaluation and of its link."""
        return [file for capture in self.rows.values() for file in self._run_files(capture, ["single"])]

    def ckpt_files(self) -> list[str]:
        """Return the manifests of the evaluations of files of splats, and the receipts of their links."""
        folder = f"{self._context.results}/captures"
        links = [name for name, of_ckpt in self.ckpts.items() if of_ckpt.out_dir]
        return [
            *(f"{folder}/{name}/ckpt/manifest.json" for name in self.ckpts),
            *(f"{folder}/{name}/out_dir.txt" for name in links),
        ]

    def dual_files(self) -> list[str]:
        """Return the files of the pair of each row, or of the one variant of it that the row names."""
        return [file for capture in self.rows.values() for file in self._run_files(capture, capture.dual_variants)]

    def _run_files(self, capture: Capture, variants: Iterable[str]) -> Iterator[str]:
        """Yield the files of runs: a manifest per variant, one per external evaluation, and receipts of links."""
        folder = f"{self._context.results}/captures/{capture.name}"
        for variant in variants:
            yield f"{folder}/{variant}/manifest.json"
            if capture.eval_name:
                yield f"{folder}/{variant}/eval_on_{capture.eval_name}/manifest.json"
            if capture.result_dir:
                yield f"{folder}/result_dir_{variant}.txt"

    def lines(self, target: str) -> Iterator[str]:
        """Yield a line on the rows without a match string, of which `captures_dual` plans `combined` alone."""
        names = [capture.name for capture in self.rows.values() if not capture.stages.train.match_string]
        if target == "captures_dual" and names:
            more = f" and {len(names) - _NAMED} more" if len(names) > _NAMED else ""
            yield f"captures_dual: {', '.join(names[:_NAMED])}{more}: no match_string, so only `combined` is planned"

    def stages(self) -> Iterator[PlannedStage]:
        """Yield the stages of captures and files of splats; those of `combined` and `filtered` once one was begun."""
        for capture in self.rows.values():
            if capture.is_video:
                yield self._stage("extract_frames", capture.name, capture=capture.name)
            yield self._stage("pose_capture", capture.name, capture=capture.name)
            for variant in VARIANTS:
                own = list(self._of_run(capture, variant))
                if variant == "single" or any(self._context.begun(stage) for stage in own):
                    yield from own

        for name, of_ckpt in self.ckpts.items():
            yield self._stage("evaluate_ckpt", f"{name}/ckpt", ckpt=name)
            if of_ckpt.out_dir:
                yield self._stage("link_ckpt_evaluation", f"{name}/ckpt", ckpt=name)

    def _of_run(self, capture: Capture, variant: str) -> Iterator[PlannedStage]:
        row = _row(capture.name, variant)
        run = {"capture": capture.name, "variant": variant}
        yield self._stage("train_capture", row, **run)
        if capture.eval_name:
            yield self._stage("evaluate_capture", row, **run, eval_name=capture.eval_name)
        if capture.result_dir:
            yield self._stage("link_run", row, **run)

    def _stage(self, rule: str, row: str, **wildcards: str) -> PlannedStage:
        return self._context.stage(self._area.name, rule, self._area.rules[rule], row, **wildcards)

    def runs(self) -> Iterator[PlannedRun]:
        """Yield the run `single` of every row, runs of pairs that are requested or there, and others once recorded."""
        asked = self._context.targets()
        found = dict.fromkeys(
            (path["capture"], path["variant"])
            for path in found_like(self._context.results, "captures/{capture}/{variant}/rerun/{file}")
        )
        for capture in self.rows.values():
            for variant in VARIANTS:
                run = self._run(capture.name, variant)
                by_name = "captures_dual" in asked and variant in capture.dual_variants
                if variant == "single" or by_name or run.done in asked or Path(run.done).is_file():
                    found.pop((capture.name, variant), None)
                    yield run
        for name, variant in found:  # recorded earlier; it can't be made again
            run = self._run(name, variant)
            yield replace(run, recordings=(), sample=sample_of(run.folder))

    def _run(self, capture: str, variant: str) -> PlannedRun:
        rule = self._area.rules["record_capture"]
        recording = self._context.recording("record_capture", rule, capture=capture, variant=variant)
        folder = f"{self._context.results}/captures/{capture}/{variant}"
        row = _row(capture, variant)
        return PlannedRun(
            self._area.name,
            capture,
            variant,
            folder,
            f"{folder}/manifest.json",
            recordings=(recording,),
            row=row,
            sample=self._area.sample(self.rows[capture].sample) if capture in self.rows else "",
        )

    def notices(self) -> list[tuple[str, str]]:
        """Return the notices that rows' own options cause, each with its place in the sheet."""
        return row_notices(self.rows, self.stages_of_config)

    @property
    def _nets(self) -> list[Net]:
        """Networks of LPIPS that runs are measured with."""
        of_ckpts = [of_ckpt.evaluate.lpips_net or "alex" for of_ckpt in self.ckpts.values()]
        return list(dict.fromkeys([*(capture.stages.train.lpips_net for capture in self.rows.values()), *of_ckpts]))

    def backends(self) -> Iterator[Backend]:
        """Yield the backend LPIPS, which measures runs, with each network that a row or a file of splats names."""
        from splatdag.splats.lpips_weights import lpips_backend  # needed seldom, and every job reads this module

        for net in self._nets:
            yield lpips_backend(net, ("train_capture", "evaluate_capture", "evaluate_ckpt"))

    def fetched(self) -> list[str]:
        """Return the receipts of the weights of LPIPS that are to be fetched."""
        from splatdag.splats.lpips_weights import to_fetch

        return [f"{self._context.results}/weights/lpips_{net}.json" for net in self._nets if to_fetch(net)]

    def own_resources(self, rule: str, wildcards: Any) -> OwnResources | None:
        """Return a job's own resources: from the columns `resources.<stage>.<name>` of the capture's row, or from
        `resources` of the file of splats; None for a stage that can have none."""
        of_ckpt = hasattr(wildcards, "ckpt")
        resources = self._ckpt(wildcards).resources if of_ckpt else self.row(wildcards).resources
        return getattr(resources, self._area.rules[rule].stage, None)

    @cached_property
    def _with_own_resources(self) -> set[str]:
        found: list[Options] = [c.resources for c in self.rows.values()]
        found += [of_ckpt.resources for of_ckpt in self.ckpts.values()]
        return {stage for own in found for stage in type(own).model_fields if getattr(own, stage).model_fields_set}

    def has_own_resources(self, rule: str) -> bool:
        """Tell whether any row or file of splats has resources of its own for the stage of a rule."""
        return self._area.rules[rule].stage in self._with_own_resources

    # what rules ask for, job by job

    def _ckpt(self, wildcards: Any) -> CkptRun:
        return self.ckpts[wildcards.ckpt]

    def ckpt_kind(self, wildcards: Any) -> str:
        """Return the kind of a file of splats: a checkpoint (`ckpt`) or a PLY file (`ply`)."""
        return self._ckpt(wildcards).kind

    def ckpt_file(self, wildcards: Any) -> Any:
        """Return a file of splats from anywhere.

        Raises:
            UserError: it is not there.
        """
        of_ckpt = self._ckpt(wildcards)
        if not of_ckpt.file.is_file():
            raise UserError(f"config.captures.ckpts.{wildcards.ckpt}.{of_ckpt.kind}: no such file: {of_ckpt.file}")
        return Own(of_ckpt.file)

    def ckpt_digest(self, wildcards: Any) -> str:
        """Return the digest of a file of splats and of files read with it: a checkpoint's other ranks and settings.

        Raises:
            UserError: the file of a rank is missing.
        """
        of_ckpt = self._ckpt(wildcards)
        files = [of_ckpt.file]
        if of_ckpt.kind == "ckpt":
            settings = settings_file(of_ckpt.file)
            files = [*of_all_ranks(of_ckpt.file), *([settings] if settings else [])]
        return contents_digest(
            [(file.name, file) for file in files], self._context.cache, ["ckpt", str(of_ckpt.file.absolute())]
        )

    def ckpt_trained_on(self, wildcards: Any) -> Any:
        """Return the dataset that a file of splats was trained on; none where that is the one to evaluate on.

        Raises:
            UserError: it has no cameras.
        """
        trained_on = self._ckpt(wildcards).trained_on
        if trained_on is None:
            return []
        if PhotoSet(Path(trained_on)).model is None:
            raise UserError(f"config.captures.ckpts.{wildcards.ckpt}.trained_on: no COLMAP model in {trained_on}")
        return Own(trained_on)

    def ckpt_trained_on_digest(self, wildcards: Any) -> str:
        """Return the digest of the cameras and points of `trained_on`; empty where it is not set or has no model."""
        trained_on = self._ckpt(wildcards).trained_on
        model = PhotoSet(Path(trained_on)).model if trained_on else None
        return digest_of_folder(model) if model else ""

    def ckpt_data(self, wildcards: Any) -> Any:
        """Return the dataset that a file of splats is evaluated on.

        Raises:
            UserError: there is none.
        """
        data_dir = Path(self._ckpt(wildcards).data_dir)
        PhotoSet(data_dir).check(f"config.captures.ckpts.{wildcards.ckpt}.data_dir")
        return Own(data_dir)

    def ckpt_data_digest(self, wildcards: Any) -> str:
        """Return the digest of the dataset that a file of splats is evaluated on."""
        of_ckpt = self._ckpt(wildcards)
        return PhotoSet(Path(of_ckpt.data_dir)).digest(self._context.cache, of_ckpt.evaluate.data_factor or 1)

    def ckpt_flags(self, wildcards: Any) -> list[str]:
        """Return the flags of the evaluation of a file of splats."""
        of_ckpt = self._ckpt(wildcards)
        trained_on = [f"--trained-on={of_ckpt.trained_on}"] if of_ckpt.trained_on else []
        return [*trained_on, *flags(of_ckpt.evaluate)]

    def ckpt_link(self, wildcards: Any) -> str:
        """Return the path of the link to the evaluation of a file of splats.

        Raises:
            UserError: `out_dir` is not set, or something else is there.
        """
        where, out_dir = f"config.captures.ckpts.{wildcards.ckpt}.out_dir", self._ckpt(wildcards).out_dir
        if out_dir is None:
            raise UserError(f"{where}: not set, so there is no link to make")
        area = Path(self._context.results, "captures")
        check_result_dir(Path(out_dir), area / wildcards.ckpt / "ckpt", area, where)
        return out_dir

    def row(self, wildcards: Any) -> Capture:
        """Return the row of a job's capture.

        Raises:
            UserError: the sheet has none.
        """
        name = wildcards.capture
        if name not in self.rows:
            raise UserError(f"{self.sheet}: no capture {name!r}{nearest(name, self.rows)}")
        return self.rows[name]

    def data(self, wildcards: Any) -> Any:
        """Return the photos of a capture: the user's folder, or the receipt of those that a rule makes."""
        capture = self.row(wildcards)
        if capture.sample:
            return sample_receipt(capture.sample)
        return f"<results>/captures/{capture.name}/images/frames.json" if capture.is_video else Own(capture.data_dir)

    def sample(self, wildcards: Any) -> str:
        """Return the bundled sample that a capture is made from, as manifests name it; empty for own photos."""
        return self._area.sample(self.row(wildcards).sample)

    def photos_digest(self, wildcards: Any) -> str:
        """Return the digest of the photos; of a sample or a video, a text of its source's digest, code and options."""
        capture = self.row(wildcards)
        if capture.sample:
            return sample_digest(self._config, capture.sample)
        if capture.is_video:
            return shlex.join(
                [self.video_digest(wildcards), code_digest("captures.frames"), *self.frames_flags(wildcards)]
            )
        return capture.photos.digest(self._context.cache)

    def training_digest(self, wildcards: Any) -> str:
        """Return the digest of the photos that a training reads, those of `images_<data_factor>/` included."""
        capture = self.row(wildcards)
        if capture.sample or capture.is_video:
            return self.photos_digest(wildcards)
        return capture.photos.digest(self._context.cache, capture.stages.train.data_factor)

    def split_digest(self, wildcards: Any) -> str:
        """Return the digest of the file that lists held-out photos; empty where the option names none."""
        capture = self.row(wildcards)
        listed = list_file(capture.stages.train.split, capture.data_dir)
        return digest_of_files([listed]) if listed and listed.is_file() else ""

    def video(self, wildcards: Any) -> Any:
        """Return the video that a capture's photos are taken from."""
        return Own(self.row(wildcards).data_dir)

    def video_digest(self, wildcards: Any) -> str:
        """Return the digest of the video that frames are taken from."""
        return self.row(wildcards).photos.digest(self._context.cache)

    def eval_data(self, wildcards: Any) -> Any:
        """Return the dataset of an external evaluation.

        Raises:
            UserError: the row names no such dataset.
        """
        capture, eval_name = self.row(wildcards), wildcards.eval_name
        if capture.eval_dir is None or capture.eval_name != eval_name:
            has = f"eval_on_{capture.eval_name}" if capture.eval_name else "no eval_dir"
            raise UserError(f"{capture.where}: asked for eval_on_{eval_name}, but the row has {has}")
        return Own(capture.eval_dir)

    def eval_digest(self, wildcards: Any) -> str:
        """Return the digest of the dataset of an external evaluation."""
        capture = self.row(wildcards)
        assert capture.eval_photos is not None
        return capture.eval_photos.digest(self._context.cache, capture.stages.train.data_factor)

    def frames_flags(self, wildcards: Any) -> list[str]:
        """Return the flags of the stage that takes photos from a video."""
        return self.row(wildcards).stages.frames_flags

    def pose_flags(self, wildcards: Any) -> list[str]:
        """Return the flags of the stage that estimates the camera poses."""
        return self.row(wildcards).stages.pose_flags

    def train_flags(self, wildcards: Any) -> list[str]:
        """Return the flags of the training of a variant.

        Raises:
            UserError: `filtered` of a row without a match string.
        """
        capture, variant = self.row(wildcards), wildcards.variant
        if variant == "filtered" and not capture.stages.train.match_string:
            raise UserError(f"{capture.where}: no match_string, so there is no variant `filtered`")
        return capture.stages.train_flags(variant, external=capture.eval_dir is not None)

    def image_cache(self, wildcards: Any) -> str:
        """Return the place of the photos in memory: a resource, as it does not change the result and reruns nothing."""
        return self.row(wildcards).stages.train.image_cache

    def train_times(self, wildcards: Any) -> int:
        """Return the factor on the time of a training: each of a pair has twice that of a single run."""
        return 1 if wildcards.variant == "single" else 2

    def eval_flags(self, wildcards: Any) -> list[str]:
        """Return the flags of an external evaluation."""
        word = self.row(wildcards).stages.train.eval_match_string
        return [f"--eval-match-string={word}"] if word else []

    def result_link(self, wildcards: Any) -> str:
        """Return the path of the link to a run: `result_dir` itself for `single`, a name in it for a run of a pair.

        Raises:
            UserError: the row has no `result_dir`.
        """
        capture = self.row(wildcards)
        if capture.result_dir is None:
            raise UserError(f"{capture.where}: no result_dir, so there is no link to make")
        return str(link_of(capture.result_dir, wildcards.variant))

    def record_flags(self, wildcards: Any) -> list[str]:
        """Return the flags of a run's recording."""
        return flags(self._config.sharing.recordings)


def _row(capture: str, variant: str) -> str:
    return capture if variant == "single" else f"{capture}/{variant}"
