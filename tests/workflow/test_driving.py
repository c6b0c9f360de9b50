"""Driving logs through Snakemake: what is planned, and what an edit reruns."""

from __future__ import annotations

import json
import os
import pickle
import re

import pytest
from support.pandaset_logs import changed_list, write_lines, write_metadata
from support.plans import planned, write_stand_ins

CHECKS = ("lift_alignment", "voxelization")


@pytest.fixture
def data(project, tmp_path_factory):
    """Two logs of empty tables and images, and a config that names them; no captures."""
    root = tmp_path_factory.mktemp("pandaset")
    for name in ("001", "002"):
        write_metadata(root, name)
    (project / "config" / "captures.tsv").write_text("capture\tdata_dir\n")
    write_config(project, data_root=str(root))
    return root


def write_config(project, **driving):
    (project / "config" / "config.yaml").write_text(json.dumps({"driving": driving}))


def rules(done):
    assert done.returncode == 0, done.stderr
    return re.findall(r"^(?:local)?rule (\w+):", done.stdout + done.stderr, re.MULTILINE)


def test_the_sample_is_planned_before_it_is_there(snakemake):
    jobs = planned(snakemake("-n", "-p", "check_pandaset", *CHECKS).stdout)
    assert sorted(jobs) == ["check_pandaset", "index_pandaset", *CHECKS[:1], "make_sample", *CHECKS[1:]]
    tiny = "--index-path results/driving/index/pandaset_tiny_clips.pkl --data-root results/samples/street"
    assert all(tiny in jobs[name][0] for name in CHECKS)


def test_touching_reruns_nothing_and_an_edit_what_it_must(data, snakemake, project):
    assert rules(snakemake("index_pandaset", "--cores", "2")) == ["index_pandaset"]
    index = project / "results" / "driving" / "index"
    assert json.loads((index / "report.json").read_text())["clips"] == 22
    assert len((index / "pandaset_full_clips.jsonl").read_text().splitlines()) == 22
    for path in [data, *data.rglob("*")]:
        os.utime(path)
    (data / "002" / "lidar" / "Thumbs.db").touch()
    (data / "notes.txt").touch()
    (data / "002" / "lidar" / "07.pkl.gz").write_bytes(b"other points")
    assert rules(snakemake("-n", "index_pandaset")) == []
    changed_list(data / "002" / "lidar" / "timestamps.json", lambda times: times[:70])
    assert rules(snakemake("-n", "index_pandaset")) == ["index_pandaset"]


def test_edited_points_rerun_what_reads_them(data, snakemake, project):
    index = write_lines(project / "own.jsonl", "001", 4, [0])
    write_config(project, data_root=str(data), index_path="own.jsonl")
    jobs = planned(snakemake("-n", "-p", *CHECKS, "results/driving/lift/001.json").stdout)
    assert set(jobs) == {*CHECKS, "lift_log"}
    assert all("--index-path own.jsonl " in command for [command] in jobs.values())
    receipts = ["results/driving/lift/001.json", "results/driving/lift/002.json"]
    snakemake("--touch", "--cores", "1", *receipts)
    done = snakemake("--cores", "1", *receipts)
    assert done.returncode == 0, done.stderr
    for receipt in receipts:
        assert json.loads((project / receipt).read_text())["frames"] == [], "the tables are empty"
    assert rules(snakemake("-n", receipts[1])) == []
    (data / "001" / "lidar" / "07.pkl.gz").write_bytes(b"other points")
    assert rules(snakemake("-n", receipts[1])) == []
    (data / "002" / "lidar" / "07.pkl.gz").write_bytes(b"other points")
    assert rules(snakemake("-n", receipts[1])) == ["lift_log"]
    snakemake("--touch", "--cores", "1", receipts[1])
    index.write_text(index.read_text().replace('"frame_end": 3', '"frame_end":  3'))
    assert rules(snakemake("-n", receipts[1])) == [], "the same clips"
    index.write_text(index.read_text() + write_lines(project / "more.jsonl", "002", 4, [0]).read_text())
    assert rules(snakemake("-n", receipts[1])) == ["lift_log"], "a clip of this log"


def test_an_index_of_the_old_scripts_is_accepted(data, snakemake, project):
    old = {"clip_id": "a", "scene_id": "001", "split": "train", "setting": "x", "frame_start": 0, "frame_end": 2,
           "input_frame_indices": [0], "target_frame_indices": [1]}  # fmt: skip
    (project / "old.pkl").write_bytes(pickle.dumps({"meta": {}, "clips": [old]}))
    write_config(project, data_root=str(data), index_path="old.pkl")
    assert sorted(rules(snakemake("-n", *CHECKS))) == sorted(CHECKS)


def test_indices_lie_where_the_config_says(data, snakemake, project):
    write_config(project, data_root=str(data), out_full="data/metadata/full.pkl", index={"tiny_scenes": "002"})
    snakemake("index_pandaset", "--cores", "1")
    assert {path.name for path in (project / "data" / "metadata").iterdir()} == {"full.pkl", "full.jsonl"}
    tiny = project / "results" / "driving" / "index" / "pandaset_tiny_clips.jsonl"
    assert {json.loads(line)["scene_id"] for line in tiny.read_text().splitlines()} == {"002"}


REFUSED = {
    "not set": ({}, "flux4d", "config.driving.data_root: not set; it names the folder of PandaSet's logs"),
    "no logs": ({"data_root": "nowhere"}, "index_pandaset", "config.driving.data_root: nowhere has no PandaSet logs"),
    "no such log": (
        {"data_root": "sample:street", "check": {"scenes": "009"}},
        "check_pandaset",
        "config.driving.check.scenes: ",
    ),
    "no index": (
        {"data_root": "sample:street", "index_path": "x.pkl"},
        "voxelization",
        "config.driving.index_path: no such file: x.pkl",
    ),
    "same index": ({"out_full": "a.pkl", "out_tiny": "a.pkl"}, "captures", "out_full and out_tiny are the same file"),
}


@pytest.mark.parametrize("case", REFUSED)
def test_what_is_not_there_stops_with_one_line(snakemake, project, case):
    given, target, message = REFUSED[case]
    write_config(project, **given)
    done = snakemake("-n", target)
    assert done.returncode == 2
    assert message in done.stderr.partition("splatdag: ")[2].splitlines()[0]


def test_logs_that_are_not_there_cost_no_other_area(snakemake, project):
    write_config(project, data_root="nowhere")
    assert "train_capture" in rules(snakemake("-n", "captures"))


def test_without_logs_nothing_of_driving_is_asked_for(snakemake, project):
    write_config(project)
    assert not {"train_flux4d", "index_pandaset", "record_drive"} & set(rules(snakemake("-n", "all")))


RUNS = {
    "reserved": ({"runs": {"index": {}}}, "'index' is no name for a run: results/driving/index holds something else"),
    "the same": ({"runs": {"overfit": {}}}, "runs and overfits both have 'overfit'"),
    "another": ({"flow_runs": ["old"]}, "flow_runs names 'old', but the runs are flux4d, overfit"),
}


@pytest.mark.parametrize("case", RUNS)
def test_names_that_can_be_no_run_are_refused(snakemake, project, case):
    given, message = RUNS[case]
    write_config(project, data_root="sample:street", **given)
    done = snakemake("-n", "flux4d")
    assert done.returncode == 2
    assert message in done.stderr


def test_measured_logs_and_files_are_those_of_the_config(data, snakemake, project):
    write_config(
        project,
        data_root=str(data),
        runs={"mine": {"ckpt": "ckpt_step_000500.pt"}, "still": {"train": {"flow_lambda": 0, "iters": 7}}},
        train={"iters": 9},
        index={"val_scenes": "002"},
    )
    jobs = planned(snakemake("-n", "-p", "flux4d").stdout)
    for run, ckpt in (("mine", "ckpt_step_000500.pt"), ("still", "ckpt_last.pt")):
        [command] = [command for command in jobs["evaluate_flux4d"] if f"results/driving/{run}/" in command]
        assert f"--ckpt results/driving/{run}/{ckpt} --scene 002 " in command
        assert any(f"--run-dir results/driving/{run} " in command for command in jobs["merge_flux4d"])
    assert all(command.endswith("--scenes 002") for command in jobs["merge_flux4d"])
    assert len(jobs["lift_log"]) == 2, "both runs read the same"
    mine, still = sorted(jobs["train_flux4d"])
    assert "--output-dir results/driving/mine --run-id driving/logs/mine " in mine
    assert mine.endswith("/mine/train.log --preset=auto --iters=9")
    assert "--output-dir results/driving/still --run-id driving/logs/still " in still
    assert still.endswith("/still/train.log --preset=auto --flow-lambda=0.0 --iters=7")


def test_a_training_runs_again_for_what_it_reads_alone(data, snakemake, project):
    """001 is measured on, 002 is learnt from."""
    runs = {"flux4d": {}, "still": {"train": {"flow_lambda": 0}}}
    write_config(project, data_root=str(data), runs=runs)
    write_stand_ins(project, snakemake("-n", "-p", "--forceall", "flux4d").stdout)
    assert snakemake("--touch", "--forceall", "--cores", "1", "flux4d").returncode == 0

    def reran():
        return sorted(set(rules(snakemake("-n", "flux4d"))) - {"flux4d"})

    def edit_list(log):
        changed_list(data / log / "lidar" / "timestamps.json", lambda times: [time + 1 for time in times])

    measured = ["evaluate_flux4d", "lift_log", "merge_flux4d"]
    assert reran() == []
    (data / "001" / "camera" / "front_camera" / "07.jpg").write_bytes(b"another image")
    assert reran() == measured, "an image of a log to measure on"
    edit_list("001")
    assert reran() == ["evaluate_flux4d", "index_split", "lift_log", "merge_flux4d"], "its clips"
    write_metadata(data, "011")
    assert reran() == ["evaluate_flux4d", "index_split", "lift_log", "merge_flux4d"], "another such log"
    write_config(project, data_root=str(data), runs=runs | {"still": {"train": {"flow_lambda": 1}}})
    done = snakemake("-n", "-p", "flux4d")
    [command] = planned(done.stdout)["train_flux4d"]
    assert "--output-dir results/driving/still " in command, "an option of one run, beside the index that is made anew"
    assert len(planned(done.stdout)["evaluate_flux4d"]) == 4
    write_config(project, data_root=str(data), runs=runs)
    (data / "002" / "camera" / "front_camera" / "07.jpg").write_bytes(b"another image")
    [*commands] = planned(snakemake("-n", "-p", "flux4d").stdout)["train_flux4d"]
    assert len(commands) == 2, "an image of a log that both learn from"
