"""`snakemake upload`: all runs, the plan before anything is sent, one commit at a time."""

import json
import re

import pytest
from support.plans import planned
from support.uploads import REPO, environment, record

CONFIG = ["--config", f'sharing={{"upload": {{"repo_id": "{REPO}", "include_samples": true}}}}']
SHIPPED = "  results_root: sample:humans"


@pytest.fixture
def runs(project):
    """Two captures, one with two variants, and a folder of an older trainer's results; only what is there is taken."""
    config = project / "config" / "config.yaml"
    text = config.read_text()
    assert SHIPPED in text
    config.write_text(text.replace(SHIPPED, "  export: false\n  results_root: results/humans\n  #"))
    for run, name in (
        ("captures/room/single", "capture"),
        ("captures/room/filtered", "capture"),
        ("captures/hall/single", "capture"),
    ):
        record(project / "results" / run / "rerun" / f"{name}.rrd")
    old = project / "old" / "hi4d_pair16_jump" / "105_debug"
    for epoch in (0, 15):
        record(old / "rerun" / f"evaluation_nvs_epoch_{epoch:04}.rrd")
        metrics = old / "evaluation" / f"epoch_{epoch:04}" / "nvs" / "metrics" / "metrics_all_cams_per_frame.csv"
        metrics.parent.mkdir(parents=True)
        metrics.write_text(f"camera_id,frame_id,psnr\n28,1,{epoch}\n4,1,20\n16,1,30\n")
    (old / "manifest.json").write_text('{"source_camera_id": 28}')
    return project


@pytest.fixture
def with_hub(hub):
    """This process's environment with the Hub in it."""
    return environment(hub)


def said(done):
    return [line.removeprefix("splatdag: ") for line in done.stderr.splitlines() if line.startswith("splatdag: ")]


def test_without_a_repository_the_tree_goes_to_a_folder_and_the_plan_says_so(snakemake, runs):
    plan = snakemake("-n", "upload")
    assert said(plan) == [
        "upload: 3 recordings of 3 scenes, 15.0 kB, to the folder results/hub (sharing.upload.repo_id is not set)",
        "  experiments/filtered/room: capture.rrd (5.0 kB)",
        "  experiments/single/hall: capture.rrd (5.0 kB)",
        "  experiments/single/room: capture.rrd (5.0 kB)",
    ]
    assert not (runs / "results" / "hub").exists()
    done = snakemake("upload")
    assert done.returncode == 0, done.stderr
    assert said(done) == said(plan)
    for scene in ("filtered/room", "single/hall", "single/room"):
        assert (runs / "results/hub/experiments" / scene / "rerun_files/capture.rrd").stat().st_size == 5_000
        assert json.loads((runs / f"results/sharing/{scene}.json").read_text())["files"]
    assert not _jobs(snakemake("-n", "upload"))
    (runs / "results/hub/experiments/single/hall/README.md").unlink()
    assert _jobs(snakemake("-n", "upload")) == ["single/hall"]


def _jobs(done):
    """Scenes that a dry run would publish."""
    return sorted(re.findall(r"output: results/sharing/(\S+?)\.json", done.stdout))


def test_scenes_go_to_the_hub_one_commit_each_and_one_at_a_time(snakemake, runs, hub, with_hub):
    done = snakemake("upload", "--cores", "4", *CONFIG, env=with_hub)
    assert done.returncode == 0, done.stderr
    assert f"upload: 3 recordings of 3 scenes, 15.0 kB, to {REPO} (dataset), branch main" in said(done)
    assert sorted(commit.message for commit in hub.repository(REPO).history()) == [
        "filtered/room: 1 recording", "single/hall: 1 recording", "single/room: 1 recording",
    ]  # fmt: skip
    assert not (runs / "results" / "hub").exists()
    assert "waiting for another upload" not in done.stderr, "Snakemake starts one at a time"
    assert not _jobs(snakemake("-n", "upload", *CONFIG, env=with_hub))
    before = hub.sent()
    assert snakemake("upload", "--forcerun", "upload_scene", *CONFIG, env=with_hub).returncode == 0
    assert hub.sent() == before
    record(runs / "results/captures/hall/single/rerun/capture.rrd", seed=1)
    assert _jobs(snakemake("-n", "upload", *CONFIG, env=with_hub)) == ["single/hall"]
    for config in ([], ["--config", CONFIG[1].replace("lab/", "team/")]):
        assert _jobs(snakemake("-n", "upload", *config)) == ["filtered/room", "single/hall", "single/room"]


def test_also_where_resources_of_the_command_line_replace_the_profiles(snakemake, runs, hub, with_hub):
    done = snakemake("upload", "--cores", "4", "--resources", "gpu=0", *CONFIG, env=with_hub)
    assert done.returncode == 0, done.stderr
    assert "waiting for another upload" not in done.stderr
    assert len(hub.repository(REPO).history()) == 3


def test_a_scene_that_fails_costs_no_other_and_the_next_run_does_it(snakemake, runs, hub, with_hub):
    (runs / "results/captures/hall/single/rerun/capture.rrd").write_bytes(b"broken")
    done = snakemake("upload", *CONFIG, env=with_hub)
    assert done.returncode == 1
    assert "hall/single/rerun/capture.rrd: not a Rerun recording" in done.stderr
    assert len(hub.repository(REPO).history()) == 2
    record(runs / "results/captures/hall/single/rerun/capture.rrd")
    assert snakemake("upload", *CONFIG, env=with_hub).returncode == 0
    assert len(hub.repository(REPO).history()) == 3


def test_no_token_stops_the_run_before_anything_is_started(snakemake, runs, hub, with_hub):
    with_hub.pop("HF_TOKEN")
    done = snakemake("upload", *CONFIG, env=with_hub)
    assert done.returncode == 2
    assert done.stderr.count("HF_TOKEN: not set in the environment") == 1
    assert hub.requests == []
    assert not (runs / "logs" / "sharing").exists()
    assert snakemake("-n", "upload", *CONFIG, env=with_hub).returncode == 0, "a plan needs none"
    assert snakemake("upload", env=with_hub).returncode == 0, "nor a folder"


def test_the_token_is_in_nothing_that_a_run_leaves(snakemake, runs, hub, with_hub):
    secret = "hf_Planted" + "InTheRun42"
    hub.tokens = {secret: "write"}
    hub.fail("POST", "/commit/", status=503, headers={"X-Error-Message": secret})
    done = snakemake("upload", "--verbose", *CONFIG, env=with_hub | {"HF_TOKEN": secret})
    assert done.returncode == 0, done.stderr
    shown = snakemake("-n", "-p", "upload", "--forceall", *CONFIG, env=with_hub | {"HF_TOKEN": secret})
    for text in (done.stdout, done.stderr, shown.stdout, shown.stderr):
        assert secret not in text
    files = [path for path in runs.rglob("*") if path.is_file()]
    assert any(".snakemake" in path.parts for path in files)
    for path in files:
        assert secret.encode() not in path.read_bytes(), path


OLD = '{"results_root": "old", "exp_name": "105_debug", "scene_name_includes": "pair16"%s}'


@pytest.mark.parametrize(
    ("more", "epochs"),
    [("", ["0000", "0015"]), (', "epoch": "latest"', ["0015"]), (', "tasks": ["trn_nv_generation"]', []),
     (', "upload": {"selection": "none", "rrd_glob": "*_0000.rrd"}', ["0000"])],
)  # fmt: skip
def test_an_older_tree_is_published_by_experiment_scene_and_epoch(snakemake, runs, more, epochs):
    done = snakemake("-n", "upload", "--config", f"sharing={OLD % more}")
    files = [f"evaluation_nvs_epoch_{epoch} (5.0 kB)".replace(" ", ".rrd ", 1) for epoch in epochs]
    if not epochs:
        assert said(done) == ["upload: nothing to publish: no run has recordings that are selected"]
    else:
        assert said(done)[1:] == [f"  experiments/105_debug/hi4d_pair16_jump: {', '.join(files)}"]


def test_the_page_of_an_older_run_has_its_metrics_without_the_source_camera(snakemake, runs):
    done = snakemake("upload", "--config", f"sharing={OLD % ''}")
    assert done.returncode == 0, done.stderr
    page = (runs / "results/hub/experiments/105_debug/hi4d_pair16_jump/README.md").read_text()
    assert "| source camera | 28 |" in page
    assert "| | psnr |\n|---|---|\n| epoch 0 | 25 |\n| epoch 15 | 25 |\n" in page


def test_one_scene_is_asked_for_by_its_receipt(snakemake, runs):
    assert _jobs(snakemake("-n", "results/sharing/single/hall.json")) == ["single/hall"]
    done = snakemake("-n", "results/sharing/single/nowhere.json")
    assert done.returncode == 2
    assert "upload: single/nowhere: no run of that experiment and scene has recordings" in done.stderr


def test_a_name_that_is_no_folder_of_the_hub_is_left_out_and_told(snakemake, runs):
    record(runs / "old" / "a b" / "105_debug" / "rerun" / "capture.rrd")
    record(runs / "old" / "hi4d_pair17" / "105_debug" / "rerun" / "x?.rrd")
    lines = said(snakemake("-n", "upload", "--config", 'sharing={"results_root": "old"}'))
    assert [line for line in lines if line.endswith("left out")] == [
        "upload: old/a b/105_debug: scene 'a b': not a name for a folder of the Hub; letters, digits, _, - and single"
        " dots inside, at most 150; left out",
        "upload: old/hi4d_pair17/105_debug/rerun/x?.rrd: not a name for a file of the Hub; letters, digits, _, - and ."
        " only; left out",
    ]
    assert "  experiments/105_debug/hi4d_pair16_jump" in "\n".join(lines)


def test_two_runs_of_one_place_are_refused(snakemake, runs):
    record(runs / "old" / "room" / "single" / "rerun" / "capture.rrd")
    done = snakemake("-n", "upload", "--config", 'sharing={"results_root": "old"}')
    assert done.returncode == 2
    [line] = said(done)
    assert "old/room/single" in line
    assert "would both be experiments/single/room; rename one of them" in line


def test_a_wrong_repository_is_refused_before_anything_is_planned(snakemake, runs):
    for wrong in ("no-owner", "a/b/c", "a/b c", "-x/y"):
        done = snakemake("-n", "upload", "--config", f'sharing={{"upload": {{"repo_id": "{wrong}"}}}}')
        assert done.returncode == 2
        assert "config.sharing.upload.repo_id: string should match pattern" in done.stderr


def test_what_is_missing_is_recorded_first_and_what_no_rule_makes_is_taken_as_it_is(snakemake, runs):
    sharing = 'sharing={"export": true, "exp_name": "single"}'
    record(runs / "results/captures/room/single/rerun/notes.rrd")
    (runs / "results/captures/room/single/rerun/capture.rrd").unlink()
    made = {"compile_kernels", "train_capture", "record_capture", "record_epoch"}
    done = snakemake("-n", "-p", "upload", "--config", sharing)
    assert done.returncode == 0, done.stderr
    assert not planned(done.stdout).keys() & made, "what is neither there nor asked for is not trained"
    done = snakemake("-n", "-p", "upload", "captures", "--config", sharing)
    assert "  experiments/single/room: capture.rrd (to be recorded), notes.rrd (5.0 kB)" in said(done)
    assert "  experiments/single/hall: capture.rrd (5.0 kB)" in said(done), "though no row of the sheet is `hall`"
    jobs = planned(done.stdout)
    assert len(jobs["record_capture"]) == len(jobs["train_capture"]) == len(jobs["compile_kernels"]) == 1
    (runs / "results/captures/room/single/manifest.json").write_text("{}")
    again = planned(snakemake("-n", "-p", "upload", "--config", sharing).stdout)
    assert "record_capture" in again
    assert "compile_kernels" not in again, "what is trained is recorded without kernels"
    [room] = [command for command in jobs["upload_scene"] if "--scene room" in command]
    folder = "results/captures/room/single/rerun"
    assert f"--recordings {folder}/capture.rrd {folder}/notes.rrd " in room
    assert not planned(snakemake("-n", "-p", "upload").stdout).keys() & made, "nothing is made without export"
    elsewhere = 'sharing={"export": true, "results_root": "sample:humans", "exp_name": "sample"}'
    jobs = planned(snakemake("-n", "-p", "upload", "--config", elsewhere).stdout)
    assert jobs.keys() & made == {"record_epoch"}, "no captures, no kernels"


def test_a_folder_of_results_that_is_not_there_is_told(snakemake, runs):
    done = snakemake("-n", "upload", "--config", 'sharing={"results_root": "nowhere"}')
    assert done.returncode == 2
    assert said(done) == ["config.sharing.results_root: no such folder: nowhere"]


def test_a_project_without_recordings_has_nothing_to_publish(snakemake, runs):
    for path in (runs / "results").rglob("*.rrd"):
        path.unlink()
    done = snakemake("upload")
    assert done.returncode == 0, done.stderr
    assert said(done) == ["upload: nothing to publish: no run has recordings that are selected"]
    assert not (runs / "results" / "sharing").exists()
