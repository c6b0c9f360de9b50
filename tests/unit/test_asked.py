"""What a config asks for across areas, and what `status` shows of it."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from splatdag.asked import logs_of, recordings_of, split_of

from splatdag.config import read_config


def driving(root: Path, **more: Any) -> dict[str, Any]:
    """Of a folder with the logs 001, which is measured on, and 002."""
    for name in ("001", "002"):
        (root / "data" / name / "lidar").mkdir(parents=True, exist_ok=True)
    return {"driving": {"data_root": str(root / "data"), **more}}


def recorded(given: dict[str, Any], results: Path) -> tuple[list[str], list[str]]:
    """Runs of driving that are recorded, and what is said."""
    config = read_config(given)
    _, measured = split_of(config, logs_of(config, results))
    files, people, left_out = recordings_of(config, {}, measured, results)
    assert people == []
    return [file.removesuffix("/rerun/driving.rrd").removeprefix("driving/") for file in files], left_out


def measured(results: Path, run: str, kept: bool) -> None:
    (results / "driving" / run / "clip").mkdir(parents=True)
    (results / "driving" / run / "metrics.json").write_text('{"rows": {"images": []}}')
    if kept:
        (results / "driving" / run / "clip" / "motion.npz").touch()


def test_measured_logs_and_runs_that_are_there_are_recorded(tmp_path: Path) -> None:
    assert recorded(driving(tmp_path), tmp_path) == (["flux4d/001", "overfit/clip_0"], [])
    measured(tmp_path, "flux4d/001", kept=True)
    measured(tmp_path, "older/003", kept=True)
    assert recorded(driving(tmp_path), tmp_path) == (["flux4d/001", "overfit/clip_0", "older/003"], [])


def test_logs_without_clips_are_left_out_with_a_line(tmp_path: Path) -> None:
    for run in ("flux4d/001", "older/003"):
        measured(tmp_path, run, kept=False)
    line = "recordings: flux4d/001, older/003: no clip was measured and kept, so nothing is recorded"
    assert recorded(driving(tmp_path), tmp_path) == (["overfit/clip_0"], [line])


def test_a_run_that_keeps_no_clips_is_not_recorded(tmp_path: Path) -> None:
    assert recorded(driving(tmp_path, evaluate={"save_renders": False}), tmp_path) == (["overfit/clip_0"], [])


def test_without_a_folder_of_logs_nothing_of_driving_is_looked_at(tmp_path: Path) -> None:
    assert recorded({"driving": {"index_path": str(tmp_path / "nowhere.jsonl")}}, tmp_path) == ([], [])


def status(folder: Path, given: dict[str, Any]) -> subprocess.CompletedProcess[str]:
    (folder / "captures.tsv").write_text("capture\tdata_dir\nroom\tsample:room\n")
    words = ["--config-json", json.dumps(given), "--sheet", "captures.tsv", "--results", "results", "--logs", "logs"]
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
def test_status_shows_what_it_can_before_the_line_on_what_it_cannot(
    tmp_path: Path, given: dict[str, Any], message: str
) -> None:
    done = status(tmp_path, given)
    assert done.returncode == 2
    assert done.stdout.splitlines()[:2] == ["captures  pose     train", "room      waiting  waiting"]
    assert f"failed: {message}" in done.stderr
    assert "Traceback" not in done.stderr


def test_status_reads_no_index_of_driving_where_no_logs_are_named(tmp_path: Path) -> None:
    done = status(tmp_path, {"driving": {"index_path": "gone.jsonl"}})
    assert (done.returncode, done.stdout.splitlines()[-1]) == (0, "0 of 3 stages done, 3 waiting")
