"""What jobs ask for: partitions, memory, GPUs."""

import ast
import os
import re

import pytest
from support.plans import SHEET, planned

from splatdag.areas import all_rules
from splatdag.workflow.area import GpuResources


def can_use_gpus(repository, module):
    """Whether a stage takes `--device-count`."""
    tree = ast.parse((repository / "scripts" / "splatdag" / f"{module.replace('.', '/')}.py").read_text())
    [main] = [node for node in tree.body if isinstance(node, ast.FunctionDef) and node.name == "main"]
    return "device_count" in {argument.arg for argument in main.args.args}


def test_rules_take_what_the_list_of_areas_says_of_them(repository):
    """What a stage that can use GPUs is asked for, too: else it would stay on the CPU."""
    texts = [path.read_text() for path in (repository / "rules").glob("*.smk")]
    bodies = {
        text.partition(":")[0]: text for rules in texts for text in re.split(r"^rule ", rules, flags=re.MULTILINE)[1:]
    }
    with_gpus = set()
    for name, (_, rule) in all_rules().items():
        body = bodies[name]
        named = re.findall(r'\.(log|benchmark|output|threads|resources|code)\(\s*"(\w+)"', body)
        assert {what for _, what in named} == {name}, name
        assert ("resources", name) in named or rule.module == "workflow.link", name
        if "{" in rule.module:
            continue
        assert f"python -m splatdag.{rule.module} " in body
        asked = "--device-count {resources.devices}" in body, "--gpu-class {resources.gpu_class}" in body
        if can_use_gpus(repository, rule.module):
            assert isinstance(rule.resources, GpuResources), name
            assert asked == (True, True), name
            with_gpus.add(name)
        else:
            assert asked == (False, False), name
    assert {"compile_kernels", "train_capture", "train_flux4d", "evaluate_flux4d"} <= with_gpus


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


def test_more_gpus_switch_the_device_and_nothing_else_that_is_asked_of_a_training(snakemake):
    targets = ("captures", "flux4d_overfit", "flux4d")
    on_cpu, on_gpu = (planned(snakemake("-n", "-p", *targets, "--resources", f"gpu={gpu}").stdout) for gpu in (0, 1))
    for rule in ("train_capture", "overfit_flux4d", "train_flux4d"):
        assert "--device-count 1 " in on_gpu[rule][0]
        assert on_gpu[rule][0].replace("--device-count 1 ", "--device-count 0 ") == on_cpu[rule][0]


def test_jobs_per_gpu_of_the_profile_is_read(snakemake, project):
    profile = project / "workflow_profiles" / "local" / "config.yaml"
    profile.write_text(profile.read_text().replace("jobs_per_gpu: 1 ", "jobs_per_gpu: 0 "))
    done = snakemake("-n", "captures")
    assert done.returncode != 0
    assert done.stderr.splitlines()[-1] == "splatdag: jobs_per_gpu: '0'; expected a number from 1 to 64"


@pytest.mark.parametrize(
    ("devices", "reason"),
    [("", "CUDA_VISIBLE_DEVICES="), (None, "nvidia-smi: Driver/library version mismatch; after an update of the")],
)
def test_a_gpu_that_is_not_there_stops_the_run_before_any_job(snakemake, project, devices, reason):
    smi = project / "bin" / "nvidia-smi"
    smi.parent.mkdir()
    smi.write_text("#!/bin/sh\necho Driver/library version mismatch\nexit 18\n")
    smi.chmod(0o755)
    environment = {k: v for k, v in os.environ.items() if k not in ("CUDA_VISIBLE_DEVICES", "SLURM_JOB_ID")}
    environment["PATH"] = f"{smi.parent}:{environment['PATH']}"
    if devices is not None:
        environment["CUDA_VISIBLE_DEVICES"] = devices
    done = snakemake("captures", "--cores", "2", "--resources", "gpu=1", env=environment)
    assert done.returncode == 2, done.stderr
    [line] = [line for line in done.stderr.splitlines() if line.startswith("splatdag: ")]
    assert line.startswith(f"splatdag: 1 GPUs asked for, but there are 0 ({reason}")
    assert "lower --resources gpu=, 0 is the CPU" in line
    assert not (project / "results").exists()
    assert not list((project / ".snakemake" / "locks").glob("*"))
    done = snakemake(
        "results/samples/room/sample.json", "--touch", "--cores", "2", "--resources", "gpu=1", env=environment
    )
    assert "GPUs asked for" not in done.stderr


def test_a_torch_for_the_cpu_stops_a_run_on_gpus_before_any_job(snakemake, project):
    (project / "other").mkdir()
    (project / "other" / "torch.py").write_text("class version:\n    cuda = None\n")
    environment = {k: v for k, v in os.environ.items() if k != "SLURM_JOB_ID"}
    environment |= {
        "CUDA_VISIBLE_DEVICES": "0",
        "PYTHONPATH": f"{project / 'other'}:{os.environ.get('PYTHONPATH', '')}",
    }
    done = snakemake("captures", "--cores", "2", "--resources", "gpu=1", env=environment)
    assert done.returncode == 2, done.stderr
    [line] = [line for line in done.stderr.splitlines() if line.startswith("splatdag: ")]
    assert "this torch is a CPU build; `make demo TORCH=cuda`, or --resources gpu=0" in line
    assert not (project / "results").exists()


def test_backends_are_listed_with_their_weights_and_licences(snakemake, tmp_path):
    done = snakemake("check_checkpoints", env={**os.environ, "TORCH_HOME": str(tmp_path / "torch")})
    assert done.returncode == 0
    row = (
        r"^train_capture +lpips alex +embedded +embedded +AlexNet of torchvision: missing +none stated by torchvision, "
    )
    assert re.search(row, done.stdout, re.MULTILINE)


def test_a_backend_that_is_not_installed_stops_a_run_of_its_jobs_before_the_first(snakemake, project):
    snakefile = project / "Snakefile"
    snakefile.write_text(f"""
from splatdag.captures.plan import CapturesPlan
from splatdag.workflow.backend import Backend, Installation, Upstream

upstream = Upstream("https://example.org/x", "0123456", Path("entry.py"), "3.10", (), (), "upstreams.x", Installation())
CapturesPlan.backends = lambda plan: [Backend("x", ("train_capture",), upstream=upstream)]
{snakefile.read_text()}""")
    message = "splatdag: x can't be run: checkout: not set (upstreams.x.checkout); interpreter: not set"
    done = snakemake("captures", "--cores", "2")
    assert done.returncode == 2
    assert [line for line in done.stderr.splitlines() if line.startswith("splatdag: ") and message in line]
    assert not (project / "results").exists()
    assert snakemake("-n", "captures").returncode == 0
    small = ("--config", "samples={room: {width: 48, height: 36, photos: 8}}")
    assert snakemake("results/samples/room/sample.json", "--cores", "2", *small).returncode == 0, "needs no backend"
