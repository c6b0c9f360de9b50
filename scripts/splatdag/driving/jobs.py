"""Inputs and parameters of the jobs of driving, by rule."""

from __future__ import annotations

import hashlib
from functools import cached_property
from pathlib import Path
from typing import Any

from splatdag.driving.config import CkptRun, ClipRun, DrivingConfig, LogsRun
from splatdag.driving.logs.contents import logs_digest
from splatdag.driving.logs.folders import CAMERAS
from splatdag.driving.options import IndexOptions, LiftOptions
from splatdag.driving.targets import (
    DrivingLogs,
    checked_index,
    clip_folder,
    full_index,
    split_index,
    split_logs,
    tiny_index,
)
from splatdag.workflow.area import Area, Context, Own, Plan, sample_digest, sample_receipt
from splatdag.workflow.digests import contents_digest
from splatdag.workflow.errors import UserError
from splatdag.workflow.options import flags, only
from splatdag.workflow.result_dirs import check_result_dir


class DrivingJobs(Plan):
    """Inputs and parameters of jobs: methods that rules take, each of a job's wildcards."""

    def __init__(self, area: type[Area], config: Any, context: Context, logs: DrivingLogs) -> None:
        self._area = area
        self._config, self._context = config, context
        self.driving: DrivingConfig = config.driving
        self.logs = logs

    @property
    def _folder(self) -> str:
        return f"{self._context.results}/driving"

    @cached_property
    def split(self) -> tuple[list[str], list[str]]:
        """Names of the logs to train on, and of those to measure on; none where no folder of logs is named.

        Raises:
            UserError: the index of the user's own can't be read.
        """
        if not self.driving.data_root:
            return [], []
        if not self.driving.index_path:
            self.logs.checked()
        return split_logs(self.logs, self.driving.index, self.driving.index_path)

    @property
    def _all_runs(self) -> dict[str, LogsRun | ClipRun | CkptRun]:
        return {**self._measured, **self.driving.overfits}

    @property
    def _measured(self) -> dict[str, LogsRun | CkptRun]:
        """Runs that are measured on logs."""
        return {**self.driving.runs, **self.driving.ckpts}

    def data(self, wildcards: Any) -> Any:
        """The driving logs: the user's folder, or the receipt of those that a rule makes.

        Raises:
            UserError: there are none.
        """
        if self.logs.sample:
            return sample_receipt("street")
        self.logs.checked()
        return Own(self.logs.root)

    def checked_data(self, wildcards: Any) -> Any:
        """The driving logs, of which those to check are there."""
        self.logs.checked(self.checked_logs(wildcards), "check.scenes")
        return self.data(wildcards)

    def sample(self, wildcards: Any) -> str:
        """Bundled sample that runs are made from, as manifests name it; empty for own logs."""
        return self._area.sample("street" if self.logs.sample else None)

    def checked_logs(self, wildcards: Any) -> tuple[str, ...]:
        """Logs that are checked."""
        return self.driving.check.scenes or self.logs.names

    def run_id(self, wildcards: Any) -> str:
        """Return the id of a run: the area, its clip or `logs`, and its name."""
        name = wildcards.overfit if hasattr(wildcards, "overfit") else wildcards.run
        if name in self.driving.overfits:
            return f"{self._area.name}/{clip_folder(self.driving.overfits[name].overfit.clip_index)}/{name}"
        return f"{self._area.name}/logs/{name}"

    def recorded(self, wildcards: Any) -> str:
        """Return the file that is there once a log or clip was measured: its metrics, or a clip run's manifest."""
        if wildcards.run in self.driving.overfits:
            return f"{self._folder}/{wildcards.run}/manifest.json"
        return f"{self._folder}/{wildcards.run}/{wildcards.scene}/metrics.json"

    @property
    def _tiny_logs(self) -> tuple[str, ...]:
        index = self.driving.index
        return index.tiny_scenes or self.logs.names[: index.tiny_num_scenes]

    @property
    def _first_logs(self) -> tuple[str, ...]:
        """The logs that checks by eye and runs on one clip may look into."""
        return self.logs.names if self.driving.index_path else self._tiny_logs

    @property
    def _index_cameras(self) -> tuple[str, ...]:
        """The cameras of the clips, or all that they may have."""
        return CAMERAS if self.driving.index_path else self.driving.index.camera_names

    def lists_digest(self, wildcards: Any) -> str:
        """Return the digest of the index's inputs: poses, times, and names of tables and images."""
        return self._digest(self.logs.names, self.driving.index.camera_names, False, False)

    def checked_digest(self, wildcards: Any) -> str:
        """Return the digest of the files that the check of the logs reads."""
        return self._digest(self.checked_logs(wildcards), CAMERAS, True, True)

    def alignment_digest(self, wildcards: Any) -> str:
        """Return the digest of the files that the check of lidar, poses and cameras reads."""
        return self._digest(self._first_logs, (self.driving.alignment.camera,), True, False)

    def clips_digest(self, wildcards: Any) -> str:
        """Return the digest of the files that the check of a clip's voxels reads."""
        return self._digest(self._first_logs, self._index_cameras, True, False)

    def overfit_digest(self, wildcards: Any) -> str:
        """Return the digest of the files that a run on one clip reads."""
        return self._digest(self._first_logs, self._index_cameras, True, True)

    def flow_digest(self, wildcards: Any) -> str:
        """Return the digest of the files that pictures of motion read."""
        logs = self.logs.names if wildcards.run in self.driving.runs else self._first_logs
        camera = self._all_runs[wildcards.run].flow.camera
        cameras = self._index_cameras if camera is None else tuple(dict.fromkeys((*self._index_cameras, camera)))
        return self._digest(logs, cameras, True, True)

    def log_digest(self, wildcards: Any) -> str:
        """Return the digest of the files that lifting a log reads.

        Raises:
            UserError: there is no such log.
        """
        self.logs.checked([wildcards.scene], "data_root")
        return self._digest((wildcards.scene,), self._index_cameras, True, False)

    def training_digest(self, wildcards: Any) -> str:
        """Return the digest of the files that a training on many logs reads."""
        return self._digest(tuple(self.split[0]), self._index_cameras, True, False)

    def measured_digest(self, wildcards: Any) -> str:
        """Return the digest of the files that measuring a log reads, its boxes included."""
        return self._digest((wildcards.scene,), self._index_cameras, True, True)

    def _digest(self, names: tuple[str, ...], cameras: tuple[str, ...], opened: bool, annotated: bool) -> str:
        if self.logs.sample:
            return sample_digest(self._config, "street")
        key = (names, cameras, opened, annotated)
        if key not in self._digests:
            self._digests[key] = logs_digest(
                Path(self.logs.root), names, self._context.cache, cameras, opened=opened, annotated=annotated
            )
        return self._digests[key]

    @cached_property
    def _digests(self) -> dict[tuple[Any, ...], str]:
        return {}

    def index(self, wildcards: Any) -> Any:
        """The index of all logs, or the user's own.

        Raises:
            UserError: the user's own is not there.
        """
        return self._own_index or full_index(self.driving)

    def tiny(self, wildcards: Any) -> Any:
        """The index of a few logs, or the user's own.

        Raises:
            UserError: the user's own is not there.
        """
        return self._own_index or tiny_index(self.driving)

    def flow_index(self, wildcards: Any) -> Any:
        """The index that the clip of pictures of motion is taken from."""
        return self.index(wildcards) if wildcards.run in self.driving.runs else self.tiny(wildcards)

    def training_index(self, wildcards: Any) -> Any:
        """The index of the logs to train on, or the user's own.

        Raises:
            UserError: the user's own is not there.
        """
        return self._own_index or split_index("train")

    def test_index(self, wildcards: Any) -> Any:
        """The index of the logs to measure on, or the user's own.

        Raises:
            UserError: the user's own is not there.
        """
        return self._own_index or split_index("test")

    def index_of_log(self, wildcards: Any) -> Any:
        """The index that has a log's clips."""
        return self.test_index(wildcards) if wildcards.scene in self.split[1] else self.training_index(wildcards)

    @property
    def _own_index(self) -> Any:
        """The user's own index; parameters say what of it counts for a job."""
        path = self.driving.index_path
        return None if path is None else Own(checked_index(path))

    def clips(self, wildcards: Any) -> str:
        """Return the digest of the clips in the user's own index; empty where a rule makes the index, whose files then
        say when to run again."""
        return self._clips()

    def clips_of_log(self, wildcards: Any) -> str:
        """Return the digest of one log's clips, as `clips` does."""
        return self._clips([wildcards.scene])

    def training_clips(self, wildcards: Any) -> str:
        """Return the digest of the clips to train on, as `clips` does; those of test logs do not count."""
        return self._clips(self.split[0], "train")

    def measured_clips(self, wildcards: Any) -> str:
        """Return the digest of a log's test clips, as `clips` does; of all logs' where max_eval_clips is set."""
        most = self._measured[wildcards.run].evaluate.max_eval_clips
        return self._clips([wildcards.scene] if most is None else self.split[1], "test")

    def _clips(self, names: list[str] | None = None, split: str | None = None) -> str:
        if self.driving.index_path is None:
            return ""
        from splatdag.driving.clips.clips import read_index  # it needs pandas, which most runs of Snakemake do not

        path = Path(checked_index(self.driving.index_path))
        of_file = contents_digest([("index", path)], self._context.cache, ["index", str(path)])
        if self._read is None or self._read[0] != of_file:
            self._read = of_file, read_index(path)
        of_logs = [clip for clip in self._read[1] if names is None or clip.scene_id in names]
        chosen = [clip for clip in of_logs if split in (None, clip.split)]
        return hashlib.blake2b(repr(chosen).encode(), digest_size=8).hexdigest()

    _read: tuple[str, list[Any]] | None = None

    def split_logs(self, wildcards: Any) -> list[str]:
        """Logs to train on, or those to measure on."""
        return self.split[wildcards.split == "test"]

    def split_digest(self, wildcards: Any) -> str:
        """Return the digest of the inputs of one split's index (train or test): poses, times, and names of files."""
        return self._digest(tuple(self.split_logs(wildcards)), self.driving.index.camera_names, False, False)

    def split_flags(self, wildcards: Any) -> list[str]:
        """Return the options of the index of one split, as flags."""
        return flags(self.driving.index.model_copy(update=_OF_NO_CLIP))

    def training_points(self, wildcards: Any) -> list[str]:
        """Lifted frames of the logs to train on."""
        return [f"{self._folder}/lift/{scene}.json" for scene in self.split[0]]

    def measured_logs(self, wildcards: Any) -> list[str]:
        """Logs that a run is measured on."""
        return self.split[1]

    def measured_rows(self, wildcards: Any) -> list[str]:
        """List the metrics files of the logs that a run is measured on."""
        return [f"{self._folder}/{wildcards.run}/{scene}/metrics.json" for scene in self.split[1]]

    def index_flags(self, wildcards: Any) -> list[str]:
        """Options of the index."""
        return flags(self.driving.index)

    def check_flags(self, wildcards: Any) -> list[str]:
        """Options of the check of the logs."""
        return flags(self.driving.check)

    def alignment_flags(self, wildcards: Any) -> list[str]:
        """Options of the check of lidar, poses and cameras."""
        return flags(self.driving.alignment)

    def voxelization_flags(self, wildcards: Any) -> list[str]:
        """Options of the check of a clip's voxels."""
        return flags(self.driving.voxelization)

    def lift_flags(self, wildcards: Any) -> list[str]:
        """Options of lifting; a run that has others lifts for itself."""
        return flags(only(self.driving.train, LiftOptions))

    def train_flags(self, wildcards: Any) -> list[str]:
        """Options of a training on many logs."""
        return flags(self.driving.runs[wildcards.run].train)

    def evaluate_flags(self, wildcards: Any) -> list[str]:
        """Options of a run's evaluation."""
        return flags(self._measured[wildcards.run].evaluate)

    def overfit_flags(self, wildcards: Any) -> list[str]:
        """Options of a training on one clip."""
        return flags(self.driving.overfits[wildcards.overfit].overfit)

    def flow_flags(self, wildcards: Any) -> list[str]:
        """Options of a run's pictures of motion."""
        return flags(self._all_runs[wildcards.run].flow)

    def ckpt(self, wildcards: Any) -> str:
        """Name of the checkpoint of a run that is measured and whose motion is drawn."""
        return self._trained[wildcards.run].ckpt

    @property
    def _trained(self) -> dict[str, LogsRun | ClipRun]:
        return {**self.driving.runs, **self.driving.overfits}

    def ckpt_file(self, wildcards: Any) -> str:
        """The checkpoint that is measured and drawn: of the run, or a file from anywhere."""
        own = self.driving.ckpts.get(wildcards.run)
        return own.ckpt if own else f"{self._folder}/{wildcards.run}/{self.ckpt(wildcards)}"

    def measured_ckpt(self, wildcards: Any) -> Any:
        """Checkpoint that has to be there before a run is measured or drawn.

        Raises:
            UserError: there is no such checkpoint file.
        """
        own = self.driving.ckpts.get(wildcards.run)
        if own is None:
            return f"{self._folder}/{wildcards.run}/ckpt_last.pt"
        if not Path(own.ckpt).is_file():
            raise UserError(f"config.driving.ckpts.{wildcards.run}.ckpt: no such file: {own.ckpt}")
        return Own(own.ckpt)

    def ckpt_digest(self, wildcards: Any) -> str:
        """Return the digest of a checkpoint file that the config names; empty for a run's own, which a rule makes."""
        own = self.driving.ckpts.get(wildcards.run)
        return contents_digest([("ckpt", Path(own.ckpt))], self._context.cache, ["ckpt", own.ckpt]) if own else ""

    def merged_with(self, wildcards: Any) -> list[str]:
        """List the files to merge with a run's measurements: its training's meta.json; none for a checkpoint file."""
        return [] if wildcards.run in self.driving.ckpts else [f"{self._folder}/{wildcards.run}/meta.json"]

    def ckpt_link(self, wildcards: Any) -> str:
        """Return the path of the link to the evaluation of a checkpoint.

        Raises:
            UserError: out_dir is not set, or something is in the way.
        """
        where, own = f"config.driving.ckpts.{wildcards.run}.out_dir", self.driving.ckpts[wildcards.run]
        if own.out_dir is None:
            raise UserError(f"{where}: not set, so there is no link to make")
        folder = Path(self._folder)
        check_result_dir(Path(own.out_dir), folder / wildcards.run, folder, where)
        return own.out_dir

    def record_flags(self, wildcards: Any) -> list[str]:
        """Return the options of a log's recording, as flags."""
        return flags(self._config.sharing.recordings)


_OF_NO_CLIP: dict[str, Any] = {
    name: IndexOptions.model_fields[name].default
    for name in ("tiny_scenes", "tiny_num_scenes", "val_scenes", "val_num_scenes", "max_scenes")
}
"""Options of the index that say which logs it has, and which of them are measured on."""
