"""What the rules of driving ask of the logs and their index: folders, digests, and what is trained and measured on."""

import functools
from pathlib import Path

from splatdag.driving.logs.folders import CAMERAS
from splatdag.driving.options import LiftOptions
from splatdag.driving.targets import alignment_files, checked_index, clip_folder, lines_of, logs_digest
from splatdag.workflow.digests import contents_digest

INDEX_FULL = CONFIG.driving.out_full or "<results>/driving/index/pandaset_full_clips.pkl"
INDEX_TINY = CONFIG.driving.out_tiny or "<results>/driving/index/pandaset_tiny_clips.pkl"
CHECKED_LOGS = CONFIG.driving.check.scenes or DRIVING.names
TINY_LOGS = CONFIG.driving.index.tiny_scenes or DRIVING.names[: CONFIG.driving.index.tiny_num_scenes]


@for_every_job
def driving_data(wildcards):
    """The driving logs: a folder that may be touched freely, or the receipt of those that a rule makes."""
    if DRIVING.sample:
        return "<results>/samples/street/street.json"
    with snakefile.one_line_errors():
        DRIVING.checked()
    return ancient(DRIVING.root)


@for_every_job
def checked_data(wildcards):
    with snakefile.one_line_errors():
        DRIVING.checked(CHECKED_LOGS, "check.scenes")
    return driving_data(wildcards)


@for_every_job
def lists_digest(wildcards):
    """What the index is made from: poses, times, and names of tables and images."""
    return remembered_logs(None, CONFIG.driving.index.camera_names, False)


@for_every_job
def checked_digest(wildcards):
    return remembered_logs(CHECKED_LOGS, CAMERAS, True, True)


@for_every_job
def alignment_digest(wildcards):
    return remembered_logs(first_logs(), (CONFIG.driving.alignment.camera,), True)


@for_every_job
def clips_digest(wildcards):
    return remembered_logs(first_logs(), index_cameras(), True)


@for_every_job
def log_digest(wildcards):
    with snakefile.one_line_errors():
        DRIVING.checked([wildcards.scene], "data_root")
    return remembered_logs((wildcards.scene,), index_cameras(), True)


def first_logs():
    """The logs that checks by eye may look into."""
    return None if CONFIG.driving.index_path else TINY_LOGS


def index_cameras():
    """The cameras of the clips, or all that they may have."""
    return CAMERAS if CONFIG.driving.index_path else CONFIG.driving.index.camera_names


@functools.cache
def remembered_logs(scenes, cameras, opened, annotated=False):
    if DRIVING.sample:
        return sample_digest("street")
    with snakefile.one_line_errors():
        return logs_digest(DRIVING, snakefile.CACHE, scenes, cameras, opened=opened, annotated=annotated)


def index_or(made):
    """The index of the user's, or the one that is made."""

    @for_every_job
    def index(wildcards):
        if CONFIG.driving.index_path is None:
            return made
        with snakefile.one_line_errors():
            return ancient(checked_index(CONFIG.driving.index_path))

    return index


@for_every_job
def index_digest(wildcards):
    """What the user's index says; the one that is made is known by its rule."""
    path = CONFIG.driving.index_path
    if path is None:
        return "made"
    with snakefile.one_line_errors():
        return contents_digest([("index", Path(checked_index(path)))], snakefile.CACHE, ["index", path])


DRIVING_RUN = f"<results>/driving/{CONFIG.driving.run}"
OVERFIT_RUN = f"<results>/driving/{CONFIG.driving.overfit_run}"
FLOW_RUN = f"<results>/driving/{CONFIG.driving.flow_run or CONFIG.driving.overfit_run}"
DRIVING_FILES = [
    f"{OVERFIT_RUN}/manifest.json",
    f"{FLOW_RUN}/flow/summary.json",
    f"{DRIVING_RUN}/manifest.json",
    "<results>/kernels/any.json",
]


@functools.cache
def driving_split():
    """Names of the logs to train on, and of those to measure on."""
    with snakefile.one_line_errors():
        if not CONFIG.driving.index_path:
            DRIVING.checked()
        return asked.split_of(CONFIG, DRIVING)


def training_points(wildcards):
    """Lifted frames of the logs to train on."""
    return [f"{RESULTS}/driving/lift/{scene}.json" for scene in driving_split()[0]]


def measured_logs(wildcards):
    return driving_split()[1]


def measured_rows(wildcards):
    """What is measured of each log."""
    return [f"{RESULTS}/driving/{CONFIG.driving.run}/{scene}/metrics.json" for scene in driving_split()[1]]


@for_every_job
def training_logs_digest(wildcards):
    """What the logs hold that a training reads."""
    return remembered_logs(None, index_cameras(), True)


@for_every_job
def measured_digest(wildcards):
    """What a log holds that a measurement reads, boxes among it."""
    return remembered_logs((wildcards.scene,), index_cameras(), True, True)


@for_every_job
def overfit_digest(wildcards):
    return remembered_logs(first_logs(), index_cameras(), True, True)
