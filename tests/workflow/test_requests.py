"""What jobs ask for: partitions, memory, GPUs."""

import re

import pytest
from plans import SHEET, planned


def test_every_gpu_rule_has_a_class_and_threads(repository):
    for path in (repository / "rules").glob("*.smk"):
        for rule in re.split(r"^rule ", path.read_text(), flags=re.MULTILINE)[1:]:
            if "--device-count" in rule:
                assert re.search(r'\*\*site\(\s*"(any|h100)"', rule), rule[:60]
                assert "--device-count {resources.devices}" in rule, rule[:60]
                assert "--gpu-class {resources.gpu_class}" in rule, rule[:60]
                assert "threads:" in rule, rule[:60]


def test_slurm_gets_the_partition_of_the_site(snakemake, project):
    site = project / "workflow_profiles" / "slurm" / "site.yaml"
    site.write_text("gpu_classes: {any: {slurm_partition: gpu-long, gpu_model: a100}}")
    done = snakemake("-n", "--workflow-profile", "workflow_profiles/slurm", "captures")
    assert done.returncode == 0, done.stderr
    train = done.stdout.split("rule train_capture:")[1]
    for request in ("gpu=1", "slurm_partition=gpu-long", "gpu_model=a100"):
        assert request in train
    assert "mem_mb=32000" in train
    assert "runtime=720" in train


def test_a_row_may_ask_slurm_for_other_resources(snakemake, project):
    (project / SHEET).write_text(
        "capture\tdata_dir\tresources.train.mem_mb\tresources.train.runtime\tresources.pose.threads\n"
        "room\tsample:room\t64000\t60\t8\nhall\tsample:room\n"
    )
    done = snakemake("-n", "-p", "--cores", "8", "--workflow-profile", "workflow_profiles/slurm", "captures")
    asked = re.findall(r"wildcards: capture=(\w+), variant.*\n(?:.*\n)*?.*resources: (.*)", done.stdout)
    for capture, mem_mb, runtime in (("room", 64000, 60), ("hall", 32000, 720)):
        [resources] = [text for name, text in asked if name == capture]
        assert f"mem_mb={mem_mb}," in resources
        assert f"runtime={runtime}," in resources
    threads = {
        re.search(r"captures/(\w+)/", line)[1]: "--threads 8 " in line for line in planned(done.stdout)["pose_capture"]
    }
    assert threads == {"room": True, "hall": False}


@pytest.mark.parametrize("style", ["gpus", "gres"])
def test_a_row_may_ask_for_several_gpus(snakemake, project, style):
    (project / SHEET).write_text("capture\tdata_dir\tresources.train.gpus\nroom\tsample:room\t2\nhall\tsample:room\n")
    (project / "workflow_profiles" / "slurm" / "site.yaml").write_text(f"gpu_style: {style}")
    done = snakemake("-n", "--workflow-profile", "workflow_profiles/slurm", "captures")
    asked = dict(re.findall(r"wildcards: capture=(\w+), variant.*\n(?:.*\n)*?.*resources: (.*)", done.stdout))
    for capture, gpus in (("room", 2), ("hall", 1)):
        wanted = f"gres=gpu:{gpus}" if style == "gres" else f"gpu={gpus}"
        assert {f"devices={gpus}", f"gpu_slots={gpus}", wanted} <= set(asked[capture].split(", ")), asked
    for limit, devices in ((0, {"0"}), (2, {"1", "2"})):
        commands = planned(snakemake("-n", "-p", "captures", "--resources", f"gpu={limit}").stdout)["train_capture"]
        assert {re.search(r"--device-count (\d)", command)[1] for command in commands} == devices


def test_more_gpus_switch_the_device(snakemake):
    command = planned(snakemake("-n", "-p", "captures", "--resources", "gpu=1").stdout)["train_capture"][0]
    assert "--device-count 1" in command


def test_jobs_per_gpu_of_the_profile_is_read(snakemake, project):
    profile = project / "workflow_profiles" / "local" / "config.yaml"
    profile.write_text(profile.read_text().replace("jobs_per_gpu: 1 ", "jobs_per_gpu: 0 "))
    done = snakemake("-n", "captures")
    assert done.returncode != 0
    assert done.stderr.splitlines()[-1] == "splatdag: jobs_per_gpu: '0'; expected a number from 1 to 64"
