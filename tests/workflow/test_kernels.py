"""What is compiled ahead of the trainings: when that is planned again, and that no training is for that reason."""

import json
import os
import re

import pytest
from support.plans import write_stand_ins
from support.scenes import write_gaussian_scene


@pytest.fixture
def finished(project, snakemake):
    """A capture that Snakemake has noted as made on the CPU; a function that writes the rows of the sheet."""
    for name in ("apple", "pear"):
        write_gaussian_scene(project / "data" / name)

    def sheet(*names):
        rows = "".join(f"{name}\t../data/{name}\t../data/apple\n" for name in names)
        (project / "config" / "captures.tsv").write_text("capture\tdata_dir\teval_dir\n" + rows)

    sheet("apple")
    (project / "config" / "config.yaml").write_text(json.dumps({"captures": {"train": {"preset": "small"}}}))
    done = snakemake("compile_kernels", "--cores", "2")
    assert done.returncode == 0, done.stderr
    write_stand_ins(project, snakemake("-n", "-p", "captures").stdout)
    assert snakemake("--touch", "captures", "--cores", "2").returncode == 0
    return project, sheet


def test_kernels_are_made_ready_anew_without_a_training_and_never_hide_one(finished, snakemake):
    """One table of change and planned rules; a dry run each."""
    project, sheet = finished
    receipt = project / "results" / "kernels" / "any.json"
    config = project / "config" / "config.yaml"
    assert json.loads(receipt.read_text())["backend"] == "cpu"

    def planned(*arguments):
        done = snakemake("-n", "captures", "--cores", "2", *arguments)
        assert done.returncode == 0, done.stderr
        found = re.findall(r"^(?:local)?rule (\w+):\n((?:    .*\n)*)", done.stdout, re.MULTILINE)
        return sorted(rule if "pear" not in about else f"{rule} pear" for rule, about in found if rule != "captures")

    gpu = ("--resources", "gpu=1")
    of_pear = ["evaluate_capture pear", "pose_capture pear", "train_capture pear"]
    assert planned() == []
    os.utime(receipt)
    assert planned() == [], "a touched receipt"
    assert planned(*gpu) == ["compile_kernels"], "a GPU"
    assert planned("--forcerun", "compile_kernels") == ["compile_kernels"]
    sheet("apple", "pear")
    assert planned() == of_pear, "a new capture"
    assert planned(*gpu) == sorted(["compile_kernels", *of_pear]), "a new capture and a GPU"
    text = receipt.read_text()
    receipt.unlink()
    assert planned() == sorted(["compile_kernels", *of_pear]), "a new capture, the receipt deleted"
    sheet("apple")
    assert planned() == ["compile_kernels"], "the receipt deleted"
    receipt.write_text(text)
    given = json.loads(config.read_text())
    given["captures"]["train"]["means_lr"] = 1e-4
    config.write_text(json.dumps(given))
    assert planned(*gpu) == ["compile_kernels", "evaluate_capture", "train_capture"], "an option and a GPU"


def test_a_training_that_is_asked_for_by_its_file_needs_no_receipt(snakemake):
    done = snakemake("-n", "results/captures/room/single/manifest.json")
    assert done.returncode == 0, done.stderr
    assert "compile_kernels" not in done.stdout


def test_kernels_come_first_and_on_slurm_get_a_gpu_of_the_site(snakemake, project):
    site = project / "workflow_profiles" / "slurm" / "site.yaml"
    site.write_text("gpu_classes: {any: {slurm_partition: gpu-long, gpu_model: a100}}")
    done = snakemake("-n", "-p", "--workflow-profile", "workflow_profiles/slurm", "compile_kernels")
    assert done.returncode == 0, done.stderr
    for words in ("priority: 100", "gpu=1", "slurm_partition=gpu-long", "gpu_model=a100", "--device-count 1"):
        assert words in done.stdout
