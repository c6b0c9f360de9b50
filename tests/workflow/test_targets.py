"""Every target asks for what it needs first, and every job is shown by `status`."""

from __future__ import annotations

import json
import re

import pytest
from jobs import copied
from support.plans import write_stand_ins
from support.processes import run_module
from support.scenes import write_gaussian_scene

from splatdag.areas import Plans, all_rules
from splatdag.config import read_config
from splatdag.splats.lpips_weights import OFFLINE
from splatdag.workflow.area import Context, GpuResources

MEASURES = {"compile_kernels", "fetch_lpips"}
OF_CAPTURES = MEASURES | {"extract_frames", "pose_capture", "train_capture", "evaluate_capture", "link_run"}
OF_OVERFIT = {"compile_kernels", "make_sample", "index_pandaset", "overfit_flux4d"}
MEASURED = {"compile_kernels", "make_sample", "index_split", "lift_log", "evaluate_flux4d", "merge_flux4d"}
NEEDS: dict[str, set[str]] = {
    "captures": OF_CAPTURES,
    "captures_dual": OF_CAPTURES,
    "captures_ckpts": MEASURES | {"evaluate_ckpt", "link_ckpt_evaluation"},
    "flux4d_overfit": OF_OVERFIT,
    "flux4d_flow": OF_OVERFIT | {"draw_flow"},
    "flux4d": MEASURED | {"train_flux4d"},
    "flux4d_ckpts": MEASURED | {"link_ckpt"},
    "driving": OF_OVERFIT | MEASURED | {"draw_flow", "train_flux4d", "link_ckpt"},
    "recordings": {"make_sample", "record_epoch"},
    "upload": {"make_sample", "record_epoch", "upload_scene"},
    "index_pandaset": {"make_sample", "index_pandaset"},
    "check_pandaset": {"make_sample", "check_pandaset"},
    "lift_alignment": {"make_sample", "index_pandaset", "lift_alignment"},
    "voxelization": {"make_sample", "index_pandaset", "voxelization"},
    "compile_kernels": {"compile_kernels"},
    "all": all_rules().keys() - {"check_pandaset", "lift_alignment", "voxelization", "upload_scene"},
}
"""Rules of the jobs that a target plans where nothing is there yet."""
OF_NO_SCENE = {"compare", "status", "check_checkpoints"}
"""Rules that look at all scenes."""
RENDERS = {name for name, (_, rule) in all_rules().items() if isinstance(rule.resources, GpuResources)}
CONFIG = {
    "captures": {"ckpts": {"theirs": {"ply": "theirs.ply", "data_dir": "data/eval", "out_dir": "theirs"}}},
    "driving": {"data_root": "sample:street", "ckpts": {"other": {"ckpt": "other.pt", "out_dir": "other"}}},
    "sharing": {"results_root": "sample:humans", "epoch": "latest"},
}


@pytest.fixture(scope="module")
def everything(module_project):
    """A project that uses every rule; nothing is made yet."""
    write_gaussian_scene(module_project / "data" / "eval")
    for name in ("theirs.ply", "other.pt", "data/walk.mp4"):
        (module_project / name).touch()
    rows = ["capture\tdata_dir\tmatch_string\teval_dir\tresult_dir", "walk\t../data/walk.mp4\t\t\t"]
    rows.append("garden\t../data/eval\t3\t../data/eval\tresults/garden")
    (module_project / "config" / "captures.tsv").write_text("\n".join(rows) + "\n")
    (module_project / "config" / "config.yaml").write_text(json.dumps(CONFIG))
    with pytest.MonkeyPatch.context() as patch:
        patch.delenv(OFFLINE)
        patch.setenv("TORCH_HOME", str(module_project / "torch"))
        yield module_project


def snakemake(folder, *arguments):
    done = run_module("snakemake", "--cores", "2", *arguments, cwd=folder)
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.mark.parametrize("target", NEEDS)
def test_a_target_asks_for_what_it_needs_first(everything, target):
    planned = set(re.findall(r"^(?:local)?rule (\w+):", snakemake(everything, "-n", target), re.MULTILINE))
    assert planned - {target} == NEEDS[target] - {target}
    assert "compile_kernels" in planned or not planned & RENDERS


def test_every_target_and_every_rule_is_in_the_table(everything):
    targets = set(re.findall(r"^(\w+) \(", snakemake(everything, "--list-target-rules"), re.MULTILINE))
    assert targets == {*NEEDS, *OF_NO_SCENE}
    assert set.union(*NEEDS.values()) == set(all_rules())


def test_status_shows_the_jobs_of_every_rule(everything, repository, tmp_path, monkeypatch):
    folder = copied(everything, tmp_path / "project")
    write_stand_ins(folder, snakemake(folder, "-n", "-p", *NEEDS))
    monkeypatch.chdir(folder)
    plans = Plans(read_config(CONFIG), Context("results", "logs", folder, folder / "cache"))
    shown = {stage.rule for plan in plans.values() for stage in plan.stages()}
    assert shown == set(all_rules())
    text = "".join(path.read_text() for path in (repository / "rules").glob("*.smk"))
    rules = set(re.findall(r"^rule (\w+):", text, re.MULTILINE))
    assert rules == shown | (NEEDS.keys() - {"all"}) | OF_NO_SCENE
