"""The table of what is done and what is not."""

import fcntl

import pytest
from splatdag.workflow.plan import PlannedStage

from splatdag.commands.status_table import status_lines

HEADER = "2026-02-01 10:00:00 started splatdag.scene.train (process 12)\n"
ENDS = {
    "done": "2026-02-01 10:01:00 finished in 60.0 s\n",
    "failed": "2026-02-01 10:01:00 failed: no photos\n",
    "stopped": "2026-02-01 10:01:00 stopped: state saved\n",
    "killed": "",
}


class Project:
    """Planned stages with the logs and outputs that a test gives them."""

    def __init__(self, root):
        self.results, self.logs, self.planned = root / "results", root / "logs", []

    def plan(self, area, scene, stage, log=None, output=False):
        place = f"{area}/{scene}/{stage}"
        self.planned.append(PlannedStage(area, scene, stage, f"{place}.log", f"{place}.out"))
        if log:
            self.write(self.logs / f"{place}.log", HEADER + ENDS[log])
        if output:
            self.write(self.results / f"{place}.out", "")
        return self.logs / f"{place}.log"

    def write(self, path, text):
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)

    def lines(self):
        return status_lines(self.planned, self.results, self.logs)


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


def test_a_stage_is_running_while_its_log_is_locked_even_if_an_old_output_is_there(project):
    log = project.plan("captures", "room", "train", "killed", output=True)
    assert "room      done" in project.lines()
    with log.open("a") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
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
