"""What all areas share: the checked config, digests, site and profile. A wrong input stops here, before the DAG."""

import functools
import json
import shlex
import sys
from pathlib import Path

from splatdag.captures import targets
from splatdag.captures.sheet import Stages, read_captures, row_notices
from splatdag.captures.split import list_file
from splatdag.config import notice_lines, notices, read_config
from splatdag.driving.layout import CAMERAS
from splatdag.driving.options import LiftOptions
from splatdag.driving.targets import (
    alignment_files,
    checked_index,
    clip_folder,
    driving_logs,
    lines_of,
    logs_digest,
    recorded_logs,
    split_logs,
)
from splatdag.sharing import upload_targets
from splatdag.sharing.layout import Scene
from splatdag.samples.humans_options import HUMANS_EPOCHS, HUMANS_RUN
from splatdag.samples.options import SEQUENCES
from splatdag.sharing import results_tree
from splatdag.sharing.options import RecordingOptions
from splatdag.sharing.targets import human_results, wanted
from splatdag.splats.kernels import COMPILED_WITH
from splatdag.workflow import snakefile
from splatdag.workflow.code_digest import code_digest
from splatdag.workflow.inventory import contents_digest, data_digest
from splatdag.workflow.manifest import package_versions
from splatdag.workflow.options import flags, only
from splatdag.workflow.sheets import NAME
from splatdag.workflow.site import read_site
from splatdag.workflow.snakefile import for_every_job

HERE = Path(str(workflow.current_basedir)).parent  # ours, also as a module of another workflow

snakefile.prepare_environment()


configfile: snakefile.found("config/config.yaml", HERE)


RESULTS, LOGS = workflow.pathvars.apply("<results>"), workflow.pathvars.apply("<logs>")
BACKEND = snakefile.backend(workflow.global_resources)
SITE_FILE = snakefile.site_file(HERE)

with snakefile.one_line_errors():
    if workflow.is_main_process:
        snakefile.check_profile(sys.argv, workflow.main_snakefile)
        snakefile.prepare_slurm(sys.argv[1:], Path(workflow.workdir_init))
    snakefile.share_gpus(workflow.global_resources)
    SITE = read_site(SITE_FILE)
    snakefile.limit_commits(workflow.global_resources)
    GIVEN = {key: value for key, value in config.items() if key != "pathvars"}
    CONFIG = read_config(GIVEN)
    CAPTURES_SHEET = snakefile.found(CONFIG.captures.sheet, HERE)
    STAGES = Stages(CONFIG.captures.frames, CONFIG.captures.pose, CONFIG.captures.train)
    CAPTURES = read_captures(CAPTURES_SHEET, STAGES, Path(RESULTS), files=workflow.is_main_process)
    HUMANS = human_results(CONFIG.sharing, RESULTS)
    DRIVING = driving_logs(CONFIG.driving.data_root, RESULTS, SEQUENCES[: CONFIG.samples.street.logs])
    if workflow.is_main_process:
        snakefile.tell(notice_lines([*notices(CONFIG), *row_notices(CAPTURES, STAGES)]))


site = snakefile.site_resources(SITE)
COMPARED = ["--results", RESULTS, "--logs", LOGS, "--out", f"{RESULTS}/compare", *flags(SITE.prices)]
REFRESH_COMPARISON = shlex.join(["python", "-m", "splatdag.workflow.compare", *COMPARED])


wildcard_constraints:
    capture=NAME,
    variant="|".join(targets.VARIANTS),
    eval_name=NAME,
    exp=NAME,
    scene=NAME,


@for_every_job
def capture_data(wildcards):
    """The photos of a capture: a folder that may be touched freely, or what another rule makes."""
    capture = CAPTURES[wildcards.capture]
    if capture.sample:
        return f"<results>/samples/{capture.sample}"
    return f"<results>/captures/{capture.name}/images" if capture.is_video else ancient(capture.data_dir)


@for_every_job
def capture_digest(wildcards):
    """What the photos are, or the video; a sample's are known by the rule that makes them."""
    capture = CAPTURES[wildcards.capture]
    return f"sample:{capture.sample}" if capture.sample else remembered_digest(capture.data_dir, 1)


@for_every_job
def training_digest(wildcards):
    """What the photos are that a training reads, those that are scaled down already among them."""
    capture = CAPTURES[wildcards.capture]
    if capture.sample or capture.is_video:
        return capture_digest(wildcards)
    return remembered_digest(capture.data_dir, capture.stages.train.data_factor)


@for_every_job
def split_digest(wildcards):
    """What the file that lists held-out photos says; empty where the option names none."""
    capture = CAPTURES[wildcards.capture]
    listed = list_file(capture.stages.train.split, capture.data_dir)
    return snakefile.digest_of_files([listed]) if listed and listed.is_file() else ""


@for_every_job
def video(wildcards):
    """The video that a capture's photos are taken from."""
    return ancient(CAPTURES[wildcards.capture].data_dir)


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


def rendered(files):
    """What a target asks for: these results, and first the kernels that they are rendered with."""
    return [*kernels_for(files), *(f"{RESULTS}/{file}" for file in files)]


def kernels_for(files):
    """What trainings need ahead, where there are any."""
    return [f"{RESULTS}/kernels/any.json"] if files else []


def finished_runs(wildcards):
    """Digest of all manifests, so that the comparison is made again when a run is added or changes."""
    manifests = Path(RESULTS).glob("*/**/manifest.json")
    return snakefile.digest_of_files(path for path in manifests if path.parent.name != "state")


def recording_files(wildcards):
    """What `recordings` asks for: runs of captures and driving that are asked for or there, and of people."""
    of_captures, of_people = wanted_recordings()
    files = [*(f"{RESULTS}/{file}" for file in of_captures), *of_people]
    return kernels_for(untrained(files)) + files


def untrained(recordings):
    """Those of captures whose runs are not finished; a recording by itself needs no kernels."""
    paths = [Path(path) for path in recordings]
    return [path for path in paths if path.name == "capture.rrd" and not (path.parents[1] / "manifest.json").exists()]


@functools.cache
def wanted_recordings():
    """Those of captures and driving, relative to the results, and those of people."""
    runs = targets.recorded_runs(CAPTURES, Path(RESULTS))
    if CONFIG.driving.data_root:
        runs += recorded_logs(
            CONFIG.driving.run,
            driving_split()[1],
            CONFIG.driving.overfit_run,
            CONFIG.driving.overfit.clip_index,
            Path(RESULTS),
        )
    with snakefile.one_line_errors():
        of_captures, of_people = wanted(CONFIG.sharing, runs, HUMANS, HUMANS_RUN, HUMANS_EPOCHS)
    return of_captures, [f"{HUMANS.root}/{recording.file}" for recording in of_people]


INDEX_FULL = CONFIG.driving.out_full or "<results>/driving/index/pandaset_full_clips.pkl"
INDEX_TINY = CONFIG.driving.out_tiny or "<results>/driving/index/pandaset_tiny_clips.pkl"
CHECKED_LOGS = CONFIG.driving.check.scenes or DRIVING.names
TINY_LOGS = CONFIG.driving.index.tiny_scenes or DRIVING.names[: CONFIG.driving.index.tiny_num_scenes]


@for_every_job
def driving_data(wildcards):
    """The driving logs: a folder that may be touched freely, or what another rule makes."""
    if DRIVING.sample:
        return "<results>/samples/street"
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
        return split_logs(DRIVING, CONFIG.driving.index, CONFIG.driving.index_path)


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


TASK_OF = {name: task for task, name in results_tree.FILES.items()}


@for_every_job
def human_run(wildcards):
    """A run of the human trainer: a folder that may be touched freely, or what another rule makes."""
    return (
        "<results>/samples/humans/sample.json"
        if HUMANS.sample
        else ancient(f"{HUMANS.root}/{wildcards.scene}/{wildcards.exp}")
    )


@for_every_job
def human_task(wildcards):
    return TASK_OF[wildcards.recording]


@for_every_job
def human_digest(wildcards):
    """What a recording is made from; a sample is known by the rule that makes it."""
    if HUMANS.sample:
        return "sample"
    recording = results_tree.Recording(wildcards.scene, wildcards.exp, human_task(wildcards), wildcards.epoch)
    return results_tree.inputs_digest(Path(HUMANS.root), recording, Path(HUMANS.scenes_dir))


@functools.cache
def made_recordings():
    """The recordings of the target `recordings`, if `upload` makes them."""
    if not CONFIG.sharing.export:
        return frozenset()
    of_captures, of_people = wanted_recordings()
    return frozenset([*(Path(RESULTS) / file for file in of_captures), *map(Path, of_people)])


def recordings():
    """The recordings that there are, and those that are made."""
    on_disk = upload_targets.recordings_on_disk(Path(RESULTS), Path(HUMANS.root))
    return sorted({*on_disk, *made_recordings()})


@functools.cache
def uploads():
    """What `upload` publishes, by scene; says what it has to leave out."""
    sharing = CONFIG.sharing
    with snakefile.one_line_errors():
        found, troubles = upload_targets.uploads(
            recordings(),
            Path(RESULTS),
            Path(HUMANS.root),
            sharing.resolved_upload(),
            sharing,
        )
    if workflow.is_main_process:
        snakefile.tell(troubles)
    return found


@functools.cache
def upload_receipts(wildcards):
    """What `upload` asks for, and first the kernels for what is to be trained; prints the plan, in a dry run too."""
    if workflow.is_main_process:
        snakefile.tell(upload_targets.plan_lines(uploads(), CONFIG.sharing.upload, f"{RESULTS}/hub"))
    files = published(CONFIG.sharing.upload).values()
    receipts = [file.format(exp=scene.exp, scene=scene.name) for scene in uploads() for file in files]
    recorded = {path for upload in uploads().values() for path in upload.recordings} & made_recordings()
    return kernels_for(untrained(recorded)) + receipts


def upload_of(wildcards):
    with snakefile.one_line_errors():
        return upload_targets.upload_of(Scene(wildcards.exp, wildcards.scene), uploads())


@for_every_job
def scene_recordings(wildcards):
    return [str(path) for path in upload_of(wildcards).recordings]


@for_every_job
def scene_made(wildcards):
    """Recordings that are made; others are no input, or Snakemake would make them too."""
    return [str(path) for path in upload_of(wildcards).recordings if path in made_recordings()]


@for_every_job
def scene_given(wildcards):
    """What the recordings are that are taken as they are."""
    return upload_targets.state_digest(set(upload_of(wildcards).recordings) - made_recordings())


@for_every_job
def scene_run(wildcards):
    return str(upload_of(wildcards).run)


@for_every_job
def hub_folder(wildcards):
    """What is written to in the Hub's place."""
    return f"{RESULTS}/hub"


def upload_flags():
    """The options of an upload, and where scene JSON files are."""
    return [*flags(CONFIG.sharing.resolved_upload()), f"--scenes-dir={HUMANS.scenes_dir}"]


def published(options):
    """What an upload makes here: a receipt, and the page where no repository is set."""
    receipt = {"receipt": "<results>/sharing/{exp}/{scene}.json"}
    return receipt if options.repo_id else receipt | {"page": "<results>/hub/experiments/{exp}/{scene}/README.md"}
