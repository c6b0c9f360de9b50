"""The table of what is done and what is not."""

import json
import subprocess
import sys

import pytest
from support.area_plans import plans as plans
from support.area_plans import write

from splatdag.areas import all_rules
from splatdag.commands.status_table import status_lines
from splatdag.samples.humans_options import HUMANS_RUN
from splatdag.workflow.area import PlannedStage
from splatdag.workflow.attempts import machine, recorded

ENDS = {
    "done": ("finished", ""),
    "failed": ("failed", "no photos"),
    "stopped": ("stopped", "saved"),
    "killed": ("", ""),
}


def recorded_attempt(how):
    """The record of an attempt that ended so, on another machine long ago."""
    end, reason = ENDS[how]
    about = {"started": "2026-02-01T10:00:00Z", "seconds": 60, "host": "a", "device": "processor", "threads": 2}
    return json.dumps([about | {"end": end, "reason": reason, "machine": machine()}])


class Project:
    """Planned stages with the logs and outputs that a test gives them."""

    def __init__(self, root):
        self.results, self.logs, self.planned = root / "results", root / "logs", []

    def plan(self, area, scene, stage, log=None, output=False):
        place = f"{area}/{scene}/{stage}"
        self.planned.append(PlannedStage(area, scene, stage, f"{place}.log", str(self.results / f"{place}.out")))
        if log:
            self.write(self.logs / f"{place}.attempts.json", recorded_attempt(log))
        if output:
            self.write(self.results / f"{place}.out", "")
        return self.logs / f"{place}.log"

    def write(self, path, text):
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)

    def lines(self):
        return status_lines(self.planned, self.logs)


@pytest.fixture
def project(tmp_path):
    return Project(tmp_path)


def test_the_table_has_a_row_per_scene_and_an_aligned_column_per_stage(project):
    project.plan("captures", "room", "pose", "done", output=True)
    project.plan("captures", "room", "train", "stopped")
    project.plan("captures", "dog/filtered", "pose", "done", output=True)
    project.plan("captures", "dog/filtered", "train")
    project.plan("worlds", "photorealistic/index_0001", "scaffold", output=True)
    assert project.lines() == [
        "captures      pose  train",
        "room          done  stopped",
        "dog/filtered  done  waiting",
        "",
        "worlds                     scaffold",
        "photorealistic/index_0001  done",
        "",
        "3 of 5 stages done, 1 waiting, 1 stopped",
    ]


def test_failed_and_killed_stages_are_told_with_reason_and_log(project):
    failed = project.plan("captures", "room", "pose", "failed")
    killed = project.plan("captures", "room", "train", "killed")
    lines = project.lines()
    assert f"captures/room pose failed: no photos; see {failed}" in lines
    assert f"captures/room train killed: ended without a word: killed, out of memory or a crash; see {killed}" in lines
    assert lines[-1] == "0 of 2 stages done, 1 failed, 1 killed"


def test_a_stage_is_running_while_its_process_lives_even_if_an_old_output_is_there(project):
    log = project.plan("captures", "room", "train", "killed", output=True)
    assert "room      done" in project.lines()
    with recorded("scene.train", log, "processor", 2):
        assert "room      running" in project.lines()


def test_an_output_that_was_removed_is_waiting_to_be_made_again(project):
    project.plan("captures", "room", "train", "done")
    assert project.lines()[-1] == "0 of 1 stages done, 1 waiting"


def test_an_output_without_a_log_is_done(project):
    project.plan("captures", "room", "train", output=True)
    assert project.lines()[-1] == "1 of 1 stages done"


def test_a_scene_without_a_stage_has_a_dash(project):
    project.plan("captures", "room", "pose", output=True)
    project.plan("captures", "hall", "train")
    assert project.lines()[1:3] == ["room      done  -", "hall      -     waiting"]


def test_a_stage_that_only_a_later_scene_begins_with_is_the_first_column(project):
    project.plan("captures", "room", "pose")
    project.plan("captures", "room", "train")
    for stage in ("frames", "pose", "train", "evaluate"):
        project.plan("captures", "walk", stage, output=stage == "frames")
    project.plan("captures", "walk/filtered", "train")
    assert project.lines()[0].split() == ["captures", "frames", "pose", "train", "evaluate"]
    assert project.lines()[1].split() == ["room", "-", "waiting", "waiting", "-"]


@pytest.mark.parametrize(("scenes", "rows"), [(40, 41), (41, 3)])
def test_of_more_than_forty_scenes_only_those_not_done_are_shown(project, scenes, rows):
    for index in range(scenes - 1):
        project.plan("captures", f"scene_{index}", "train", output=True)
    project.plan("captures", "hall", "train", "failed")
    lines = project.lines()
    assert lines.index("") == rows
    assert any(line.split() == ["hall", "failed"] for line in lines)
    assert (f"({scenes - 1} more, all done)" in lines) == (scenes == 41)
    assert lines[-1] == f"{scenes - 1} of {scenes} stages done, 1 failed"


def test_an_empty_plan_says_so(project):
    assert project.lines() == ["nothing is planned: the config names no scene"]


# What a config plans

CKPT = {"ckpt": "mine.pt", "out_dir": "elsewhere"}
EVERYTHING = {
    "captures": {"ckpts": {"theirs": CKPT | {"data_dir": "dog"}}},
    "driving": {"data_root": "sample:street", "flow_runs": ["flux4d"], "ckpts": {"theirs": CKPT}},
    "sharing": {"results_root": "sample:humans"},
}
SHEET = "capture\tdata_dir\teval_dir\tresult_dir\nroom\tsample:room\nwalk\twalk.mp4\ndog\tdog\teval\tresults/dog\n"


@pytest.fixture
def everything(plans, tmp_path):
    """Plan a config that has a part for every rule."""
    from support.scenes import write_gaussian_scene

    write("config/captures.tsv", SHEET.replace("walk.mp4", "../walk.mp4").replace("dog\teval", "../dog\t../eval"))
    (tmp_path / "walk.mp4").touch()
    for name in ("dog", "eval"):
        write_gaussian_scene(tmp_path / name)
    return lambda **more: plans(EVERYTHING | more)


def stages(made):
    return {stage.rule: stage for plan in made.values() for stage in plan.stages()}


@pytest.mark.parametrize("rule", all_rules())
def test_every_rule_that_has_a_log_is_in_the_table(everything, rule):
    """Four of the ten rules of driving were not."""
    _, asked = all_rules()[rule]
    wildcards = {
        "sample": "room", "capture": "dog", "variant": "single", "eval_name": "eval", "run": "flux4d", "scene": "001",
        "overfit": "overfit", "exp": "single", "clip": "0", "ckpt": "theirs", "split": "test",
            "net": "alex",
    }  # fmt: skip
    if rule == "record_epoch":
        wildcards = {"scene": HUMANS_RUN[0], "exp": HUMANS_RUN[1], "recording": "evaluation_nvs", "epoch": "epoch_0000"}
    elif rule in ("extract_frames", "upload_scene"):
        wildcards |= {"capture": "walk", "scene": "room"}
    elif rule == "link_ckpt":
        wildcards["run"] = "theirs"
    log = asked.log.format(**wildcards)
    write(f"logs/{log}")
    write("results/captures/room/single/manifest.json")
    made = [stage for plan in everything().values() for stage in plan.stages() if stage.rule == rule]
    assert log in {stage.log for stage in made}


def test_a_table_has_each_stage_once_and_each_with_a_log_of_its_own(everything):
    made = [stage for plan in everything().values() for stage in plan.stages()]
    assert len({stage.log for stage in made}) == len({stage.output for stage in made}) == len(made)
    assert len({(stage.area, stage.scene, stage.stage) for stage in made}) == len(made)
    assert all(stage.output.startswith("results/") for stage in made)


def test_stages_that_are_asked_for_by_name_are_in_the_table_once_begun(everything):
    by_name = {"make_sample", "compile_kernels", "fetch_lpips", "check_pandaset", "lift_alignment", "voxelization"}
    by_name |= {"upload_scene"}
    assert by_name.isdisjoint(stages(everything()))
    write("results/driving/check/report.json", "{}")
    assert stages(everything()).keys() & by_name == {"check_pandaset"}


def test_runs_of_driving_are_rows_of_their_own(plans):
    given = {"data_root": "sample:street", "runs": {"a": {}, "b": {}}, "overfits": {"c": {}}, "flow_runs": ["b", "c"]}
    found = [f"{stage.scene} {stage.stage}" for stage in plans({"driving": given})["driving"].stages()]
    of_runs = [row for row in found if row[0] in "abc"]
    assert of_runs == [
        "c train", "b flow", "c flow", "a train", "a/001 evaluate", "a merge", "b train", "b/001 evaluate", "b merge",
    ]  # fmt: skip
    assert [row for row in found if row not in of_runs] == [
        "index index", "index/train index", "index/test index", "lift/002 lift", "lift/001 lift",
    ]  # fmt: skip


# The command


def status(folder, given):
    write(folder / "config" / "captures.tsv", "capture\tdata_dir\nroom\tsample:room\n")
    words = ["--config-json", json.dumps(given), "--here", ".", "--results", "results", "--logs", "logs"]
    command = [sys.executable, "-m", "splatdag.commands.status", *words]
    return subprocess.run(command, capture_output=True, text=True, cwd=folder)


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"sharing": {"exp_name": "x"}}, "config.sharing.exp_name: there is no run of 'x'; known are single"),
        ({"sharing": {"results_root": "gone"}}, "config.sharing.results_root: no such folder: gone"),
        ({"driving": {"data_root": "data", "index_path": "gone.jsonl"}}, "gone.jsonl: "),
    ],
)
def test_status_shows_what_it_can_before_the_line_on_what_it_cannot(tmp_path, given, message):
    (tmp_path / "data" / "001" / "lidar").mkdir(parents=True)
    done = status(tmp_path, given)
    assert done.returncode == 2
    assert done.stdout.splitlines()[0].startswith("captures  pose     train")
    assert done.stdout.splitlines()[1].startswith("room      waiting  waiting")
    assert f"failed: {message}" in done.stderr
    assert done.stderr.count(message) == 1
    assert "Traceback" not in done.stderr


def test_an_area_that_cannot_be_read_hides_no_other(tmp_path):
    given = {"captures": {"sheet": "gone.tsv"}, "driving": {"data_root": "sample:street"}}
    done = status(tmp_path, given | {"sharing": {"results_root": "sample:humans"}})
    assert done.returncode == 2
    assert "failed: gone.tsv: " in done.stderr
    assert [line.split()[0] for line in done.stdout.split("\n") if line.startswith(("driving ", "humans "))] == [
        "driving", "humans",
    ]  # fmt: skip


def test_status_reads_no_index_of_driving_where_no_logs_are_named(tmp_path):
    done = status(tmp_path, {"driving": {"index_path": "gone.jsonl"}})
    assert (done.returncode, done.stdout.splitlines()[-1]) == (0, "0 of 3 stages done, 3 waiting")
