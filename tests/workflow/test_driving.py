"""Driving logs through Snakemake: what is planned, and what an edit reruns."""

from __future__ import annotations

import json
import os
import pickle
import re

import pytest
from pandaset_logs import changed_list, write_lines, write_metadata
from plans import planned

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
    assert sorted(jobs) == ["check_pandaset", "index_pandaset", *CHECKS[:1], "make_sample_street", *CHECKS[1:]]
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
    assert rules(snakemake("-n", receipts[1])) == ["lift_log"]


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
    assert not {"train_flux4d", "make_sample_street", "record_drive"} & set(rules(snakemake("-n", "all")))


RUNS = {
    "reserved": ({"run": "index"}, "'index' is no name for a run: results/driving/index holds something else"),
    "the same": ({"run": "overfit"}, "run and overfit_run are both 'overfit'"),
    "another": ({"flow_run": "old"}, "flow_run is 'old', but the runs are 'flux4d' and 'overfit'"),
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
        project, data_root=str(data), run="mine", index={"val_scenes": "002"}, ckpt="ckpt_step_000500.pt", gpus=2
    )
    jobs = planned(snakemake("-n", "-p", "flux4d").stdout)
    [command] = jobs["evaluate_flux4d"]
    assert "--ckpt results/driving/mine/ckpt_step_000500.pt --scene 002 " in command
    assert len(jobs["lift_log"]) == 2
    assert "--scenes 002" in jobs["flux4d"][0]
