"""What the rules of captures ask of the sheet: photos, their digests, options of each row, and what targets make."""

import functools
from pathlib import Path

from splatdag.scene.split import list_file
from splatdag.formats.photoset import data_digest


@for_every_job
def capture_data(wildcards):
    """The photos of a capture: a folder that may be touched freely, or the receipt of those that a rule makes."""
    capture = CAPTURES[wildcards.capture]
    if capture.sample:
        return f"<results>/samples/{capture.sample}/photos.json"
    return f"<results>/captures/{capture.name}/images/frames.json" if capture.is_video else ancient(capture.data_dir)


@for_every_job
def photos_digest(wildcards):
    """What the photos are, or what they are made from and how."""
    capture = CAPTURES[wildcards.capture]
    if capture.sample:
        return sample_digest(capture.sample)
    if capture.is_video:
        return shlex.join([video_digest(wildcards), code_digest("captures.frames"), *frames_flags(wildcards)])
    return remembered_digest(capture.data_dir, 1)


@for_every_job
def training_digest(wildcards):
    """What the photos are that a training reads, those that are scaled down already among them."""
    capture = CAPTURES[wildcards.capture]
    if capture.sample or capture.is_video:
        return photos_digest(wildcards)
    return remembered_digest(capture.data_dir, capture.stages.train.data_factor)


@for_every_job
def split_digest(wildcards):
    """What the file that lists held-out photos says; empty where the option names none."""
    capture = CAPTURES[wildcards.capture]
    listed = list_file(capture.stages.train.split, capture.data_dir)
    with snakefile.one_line_errors():
        return snakefile.digest_of_files([listed]) if listed and listed.is_file() else ""


@for_every_job
def video(wildcards):
    """The video that a capture's photos are taken from."""
    return ancient(CAPTURES[wildcards.capture].data_dir)


@for_every_job
def video_digest(wildcards):
    """What the video is that frames are taken from."""
    return remembered_digest(CAPTURES[wildcards.capture].data_dir, 1)


@for_every_job
def eval_data(wildcards):
    """The dataset of an external evaluation."""
    with snakefile.one_line_errors():
        return ancient(targets.checked_eval_dir(CAPTURES[wildcards.capture], wildcards.eval_name))


@for_every_job
def eval_digest(wildcards):
    capture = CAPTURES[wildcards.capture]
    return remembered_digest(capture.eval_dir, capture.stages.train.data_factor)


@functools.cache
def remembered_digest(data_dir, data_factor):
    with snakefile.one_line_errors():
        return data_digest(data_dir, snakefile.CACHE, data_factor)


@for_every_job
def frames_flags(wildcards):
    return CAPTURES[wildcards.capture].stages.frames_flags


@for_every_job
def pose_flags(wildcards):
    return CAPTURES[wildcards.capture].stages.pose_flags


@for_every_job
def train_flags(wildcards):
    capture = CAPTURES[wildcards.capture]
    with snakefile.one_line_errors():
        variant = targets.checked_variant(capture, wildcards.variant)
    return capture.stages.train_flags(variant, external=capture.eval_dir is not None)


@for_every_job
def image_cache(wildcards):
    """A resource, not a parameter: where photos are kept changes nothing of the result, so nothing is to run again."""
    return CAPTURES[wildcards.capture].stages.train.image_cache


def of_row(stage, name, amount):
    """What a job of this stage asks for: as the capture's row says (column resources.<stage>.<name>), else `amount`."""
    of_rows = {capture.name: getattr(getattr(capture.resources, stage), name) for capture in CAPTURES.values()}

    @for_every_job
    def asked(wildcards):
        return of_rows[wildcards.capture] or (amount(wildcards) if callable(amount) else amount)

    return asked if any(of_rows.values()) else amount


def train_minutes(wildcards):
    """Half a day for a single run, a day for each of a pair."""
    return 720 if wildcards.variant == "single" else 1440


@for_every_job
def eval_flags(wildcards):
    word = CAPTURES[wildcards.capture].stages.train.eval_match_string
    return [f"--eval-match-string={word}"] if word else []


@for_every_job
def result_link(wildcards):
    """Where the run `single` appears too."""
    return str(CAPTURES[wildcards.capture].result_dir)


@functools.cache
def single_runs():
    """What `captures` asks for. Functions ask for it and for the pairs, so that jobs and other targets never list them."""
    return rendered(targets.single_files(CAPTURES))


@functools.cache
def dual_runs():
    """What `captures_dual` asks for; says, when it is asked for, which rows have one variant only."""
    one_variant = targets.unmatched(CAPTURES)
    if one_variant and workflow.is_main_process:
        snakefile.tell([one_variant])
    return rendered(targets.dual_files(CAPTURES))
