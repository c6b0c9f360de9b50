"""The table of backends: what is there, what is missing, and what to do about it."""

from __future__ import annotations

import json
import sys
from dataclasses import replace
from pathlib import Path

import pytest

from splatdag.captures.plan import CapturesPlan
from splatdag.commands.check_checkpoints import lines, main
from splatdag.splats.lpips_weights import WEIGHTS
from splatdag.workflow.backend import Backend, Installation, Upstream
from splatdag.workflow.errors import UserError
from splatdag.workflow.stage import Job
from splatdag.workflow.weights import Weights


def weights(folder: Path | None, commercial: bool | None) -> Weights:
    return Weights(
        name="lab/echo-1B",
        source="https://example.org/lab/echo-1B",
        revision="ab12",
        licence="CC-BY-NC-4.0",
        licence_url="https://example.org/licence",
        commercial=commercial,
        folder=folder,
        files={"model.bin": ""},
    )


def upstream(folder: Path, python: str | None) -> Upstream:
    return Upstream(
        repository="https://example.org/lab/echo",
        revision="0123456789abcdef",
        entry=folder / "entry.py",
        python_version="3.10",
        requirements=("numpy<2",),
        modules=("json",),
        key="upstreams.echo",
        installed=Installation(checkout=str(folder / "checkout"), python=python),
    )


@pytest.fixture
def bare(tmp_path: Path) -> Backend:
    """A backend of which nothing is there but its interpreter."""
    return Backend(
        "echo",
        ("align_world", "pose_static"),
        (weights(tmp_path / "weights", False),),
        upstream(tmp_path, sys.executable),
        gpu_mb=11_400,
    )


def columns(line: str, header: str) -> dict[str, str]:
    """Cells of a line by the names above them."""
    names = header.split()
    starts = [header.index(name) for name in names]
    return {name: line[start:end].strip() for name, start, end in zip(names, starts, [*starts[1:], None], strict=True)}


def test_a_row_says_what_is_there_and_what_it_costs(bare):
    header, first, second, *_ = lines([bare])
    row = columns(first, header)
    assert row["rule"] == "align_world"
    assert row["checkout"] == "missing"
    assert row["interpreter"].startswith("found, 3.")
    assert row["weights"] == "lab/echo-1B: missing"
    assert row["licence"] == "CC-BY-NC-4.0, not for commercial use"
    assert row["memory"] == "11,400 MB on the GPU"
    assert row["proven"] == "unproven"
    assert second.split() == ["pose_static"]


def test_what_is_missing_is_told_with_what_to_do(bare, tmp_path):
    told = lines([bare])
    told = told[told.index("") + 1 :]
    assert told[0] == f"echo: checkout: missing: {tmp_path}/checkout"
    assert f"echo: lab/echo-1B: missing: {tmp_path}/weights/model.bin" in told
    assert (
        "    get it from https://example.org/lab/echo-1B"
        " (licence: CC-BY-NC-4.0, not for commercial use; https://example.org/licence)"
    ) in told
    assert f"    git clone https://example.org/lab/echo {tmp_path}/checkout" in told


def test_a_backend_of_two_areas_is_one_row_with_the_rules_of_both(bare):
    _, first, second, third, *_ = lines([bare, replace(bare, rules=("pose_static", "pose_capture"))])
    assert [line.split()[0] for line in (first, second, third)] == ["align_world", "pose_static", "pose_capture"]
    assert "echo" in first
    assert "echo" not in third


def test_where_all_is_there_nothing_is_to_be_done(tmp_path):
    (tmp_path / "model.bin").write_bytes(b"x")
    whole = Backend("ours", ("train",), (weights(tmp_path, True),), proven=True, proof="GPU, 2026-11-28")
    header, row = lines([whole])
    assert columns(row, header) == {
        "rule": "train",
        "backend": "ours",
        "checkout": "embedded",
        "interpreter": "embedded",
        "weights": "lab/echo-1B: found",
        "licence": "CC-BY-NC-4.0",
        "memory": "not measured",
        "proven": "proven: GPU, 2026-11-28",
    }


@pytest.fixture
def check(tmp_path, monkeypatch, capsys):
    """Run the command on a sheet with these networks of LPIPS; gives its lines."""
    monkeypatch.setenv("TORCH_HOME", str(tmp_path / "torch"))

    def run(*nets: str) -> list[str]:
        rows = "".join(f"room{index}\tsample:room\t{net}\n" for index, net in enumerate(nets))
        (tmp_path / "captures.tsv").write_text("capture\tdata_dir\ttrain.lpips_net\n" + rows)
        config = {"captures": {"sheet": str(tmp_path / "captures.tsv")}}
        main(json.dumps(config), tmp_path, tmp_path / "results", tmp_path / "logs", Job())
        return capsys.readouterr().out.splitlines()

    return run


def test_captures_name_the_weights_of_lpips_which_can_be_done_without(check, tmp_path):
    told = check("alex", "vgg", "alex")
    rows = [columns(line, told[0]) for line in told[1 : told.index("")]]
    assert [row["backend"] for row in rows if row["backend"]] == ["lpips alex", "lpips vgg"]
    assert rows[0]["weights"] == "AlexNet of torchvision: missing"
    assert rows[1]["licence"] == "BSD-2-Clause"
    file = tmp_path / "torch" / "hub" / "checkpoints" / WEIGHTS["alex"]
    assert f"lpips alex: AlexNet of torchvision: missing: {file}; LPIPS is left out" in told
    file.parent.mkdir(parents=True)
    file.write_bytes(b"<html>not found</html>")
    told = check("alex")
    assert "AlexNet of torchvision: other SHA-256" in told[1]


def test_without_captures_no_backend_is_named(check):
    assert check() == ["the config names no backend that needs weights or a checkout"]


def test_what_is_needed_and_missing_is_told_after_the_table(check, bare, monkeypatch, capsys):
    monkeypatch.setattr(CapturesPlan, "backends", lambda plan: [bare])
    with pytest.raises(UserError, match="^echo can't be run: checkout: missing: [^\n]+; lab/echo-1B: missing: [^\n]+$"):
        check("alex")
    assert "git clone https://example.org/lab/echo" in capsys.readouterr().out
