"""What recordings and uploads are made from: runs of captures and driving, and of the human trainer."""

import functools
from pathlib import Path

from splatdag.humans import results_tree

from splatdag.hub import targets as upload_targets
from splatdag.hub.layout import Scene
from splatdag.recording.options import RecordingOptions

TASK_OF = {name: task for task, name in results_tree.FILES.items()}


def recording_files(wildcards):
    """What `recordings` asks for: runs of captures and driving that are asked for or there, and of people."""
    of_runs, of_people = wanted_recordings()
    files = [*(f"{RESULTS}/{file}" for file in of_runs), *of_people]
    return kernels_for(untrained(files)) + files


def untrained(recordings):
    """Those of captures whose runs are not finished; a recording by itself needs no kernels."""
    paths = [Path(path) for path in recordings]
    return [path for path in paths if path.name == "capture.rrd" and not (path.parents[1] / "manifest.json").exists()]


@functools.cache
def wanted_recordings():
    """Those of captures and driving, relative to the results, and those of people; says what is left out."""
    measured = driving_split()[1] if CONFIG.driving.data_root else []
    with snakefile.one_line_errors():
        of_runs, of_people, left_out = asked.recordings_of(CONFIG, CAPTURES, measured, Path(RESULTS))
    if workflow.is_main_process:
        snakefile.tell(left_out)
    return of_runs, [f"{HUMANS.root}/{recording.file}" for recording in of_people]


@for_every_job
def human_run(wildcards):
    """A run of the human trainer: a folder that may be touched freely, or the receipt of what a rule makes."""
    if HUMANS.sample:
        return "<results>/samples/humans/sample.json"
    return ancient(f"{HUMANS.root}/{wildcards.scene}/{wildcards.exp}")


@for_every_job
def human_task(wildcards):
    return TASK_OF[wildcards.recording]


@for_every_job
def human_digest(wildcards):
    """What a recording is made from."""
    if HUMANS.sample:
        return sample_digest("humans")
    recording = results_tree.Recording(wildcards.scene, wildcards.exp, human_task(wildcards), wildcards.epoch)
    with snakefile.one_line_errors():
        return results_tree.inputs_digest(Path(HUMANS.root), recording, Path(HUMANS.scenes_dir))


@functools.cache
def made_recordings():
    """The recordings of the target `recordings`, if `upload` makes them."""
    if not CONFIG.sharing.export:
        return frozenset()
    of_runs, of_people = wanted_recordings()
    return frozenset([*(Path(RESULTS) / file for file in of_runs), *map(Path, of_people)])


@functools.cache
def uploads():
    """What `upload` publishes, by scene; says what it has to leave out."""
    with snakefile.one_line_errors():
        found, troubles = asked.uploads_of(CONFIG, made_recordings(), Path(RESULTS))
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
