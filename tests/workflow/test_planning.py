"""What is planned, and what is refused before anything is planned."""

import json
import re
import shutil
import subprocess
import sys

import pytest

SHEET = "config/captures.tsv"


def planned(output: str) -> dict[str, list[str]]:
    """Rule → shell commands of a dry run's output."""
    jobs: dict[str, list[str]] = {}
    for rule, command in re.findall(r"^(?:local)?rule (\w+):\n(?:.*\n)*?Shell command: (.*)$", output, re.MULTILINE):
        jobs.setdefault(rule, []).append(re.sub(r"\s+", " ", command).strip())
    return jobs


def test_planned_jobs_of_every_target_are_those_on_record(snakemake, repository, request):
    """The record is tests/workflow/planned_jobs.json; after a wanted change: `pytest --record`."""
    targets = re.findall(r"^(\w+) \(", snakemake("--list-target-rules").stdout, re.MULTILINE)
    assert {"all", "captures", "compare", "status"} <= set(targets)
    found = {target: planned(snakemake("-n", "-p", "--cores", "2", target).stdout) for target in targets}
    record = repository / "tests" / "workflow" / "planned_jobs.json"
    if request.config.getoption("--record"):
        record.write_text(json.dumps(found, indent=2) + "\n")
    assert found == json.loads(record.read_text())


def test_the_command_of_a_job_can_be_typed(snakemake):
    command = planned(snakemake("-n", "-p", "captures").stdout)["train_capture"][0]
    assert command.startswith("exec python -m splatdag.captures.train --data-dir results/samples/room")
    assert "--preset=small" in command
    assert "--device-count 0" in command


def test_planning_needs_no_torch(project):
    """A login node may have Snakemake and this package alone."""
    blocked = project / "blocked"
    blocked.mkdir()
    for name in ("torch", "numba", "cv2", "pycolmap", "gsplat"):
        (blocked / f"{name}.py").write_text("raise ImportError('not here')\n")
    done = subprocess.run(
        [sys.executable, "-m", "snakemake", "-n"],
        cwd=project,
        env={"PYTHONPATH": str(blocked), "PATH": "/usr/bin:/bin"},
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert done.returncode == 0, done.stderr
    assert "train_capture" in done.stdout


def test_every_rule_has_a_docstring_and_a_log(repository):
    text = "".join(path.read_text() for path in (repository / "rules").glob("*.smk"))
    rules = re.split(r"^rule ", text, flags=re.MULTILINE)[1:]
    assert len(rules) >= 6
    for rule in rules:
        assert re.match(r'\w+:\n    """[A-Z]', rule), rule[:60]
        if "shell:" in rule:
            assert "log:" in rule, rule[:60]
            assert '"exec ' in rule, rule[:60]


def test_every_gpu_rule_has_a_class_and_threads(repository):
    for path in (repository / "rules").glob("*.smk"):
        for rule in re.split(r"^rule ", path.read_text(), flags=re.MULTILINE)[1:]:
            if re.search(r"\bgpu=", rule):
                assert "**site(" in rule, rule[:60]
                assert "threads:" in rule, rule[:60]


def test_rules_named_in_profiles_exist(repository):
    import yaml

    rules = set(re.findall(r"^rule (\w+):", "".join(p.read_text() for p in (repository / "rules").glob("*.smk")), re.M))
    for profile in (repository / "workflow_profiles").glob("*/config.yaml"):
        settings = yaml.safe_load(profile.read_text())
        for key in ("set-resources", "set-threads"):
            assert set(settings.get(key, {})) <= rules, profile


REFUSED = {
    "unknown key": (
        "--config",
        'captures={"trian": {}}',
        "config.captures.trian: unknown key; the nearest is train",
    ),
    "wrong type": (
        "--config",
        'captures={"train": {"max_steps": "x"}}',
        "config.captures.train.max_steps: input should",
    ),
    "out of range": (
        "--config",
        'captures={"train": {"max_steps": 0}}',
        "max_steps: input should be greater than 0",
    ),
    "unknown section": ("--config", "capturs=3", "config.capturs: unknown key; the nearest is captures"),
    "missing profile": (
        "--workflow-profile",
        "slurmm",
        "--workflow-profile slurmm: no such profile; the nearest is slurm",
    ),
}


@pytest.mark.parametrize("case", REFUSED)
def test_a_wrong_config_stops_with_one_line(snakemake, project, case):
    *arguments, message = REFUSED[case]
    _is_refused(snakemake("captures", *arguments), project, message)


def test_a_mistyped_profile_stops_the_run_beside_config_on_the_command_line(snakemake, project):
    done = snakemake("captures", "--config", "samples={}", "--workflow-profile", "slurmm")
    _is_refused(done, project, "--workflow-profile slurmm: no such profile")


ROWS = {
    "missing folder": ("dog\tnowhere", "capture dog: data_dir: no such folder"),
    "empty folder": ("dog\tempty", "capture dog: data_dir: no photos"),
    "duplicate": ("room\tsample:room", "capture 'room' is there twice"),
    "slash": ("a/b\tsample:room", "'a/b' is not a name"),
    "dots": ("..\tsample:room", "'..' is not a name"),
    "space": ("a b\tsample:room", "'a b' is not a name"),
    "quote": ("a'b\tsample:room", "is not a name"),
    "leading dash": ("-n\tsample:room", "'-n' is not a name"),
}


@pytest.mark.parametrize("case", ROWS)
def test_a_wrong_row_stops_with_one_line(snakemake, project, case):
    row, message = ROWS[case]
    (project / "config" / "empty").mkdir()
    with (project / SHEET).open("a") as sheet:
        sheet.write(row + "\n")
    _is_refused(snakemake("captures"), project, message)


SNAKEMAKE_SAYS = ("Using workflow specific profile", "Config file config/config.yaml is extended")


def _is_refused(done, project, message):
    assert done.returncode == 2
    lines = [line for line in done.stderr.splitlines() if not line.startswith(SNAKEMAKE_SAYS)]
    assert len(lines) == 1, done.stderr
    assert lines[0].startswith("splatdag: ")
    assert message in lines[0]
    assert not (project / "results").exists()
    assert not (project / "logs").exists()


def test_another_working_directory_uses_its_own_config_and_results(snakemake, project, tmp_path):
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    done = snakemake("-n", "-s", str(project / "Snakefile"), "--cores", "1", cwd=elsewhere)
    assert done.returncode == 0, done.stderr
    (elsewhere / "config").mkdir()
    shutil.copy(project / "config" / "config.yaml", elsewhere / "config")
    (elsewhere / SHEET).write_text("capture\tdata_dir\nmine\tsample:room\n")
    done = snakemake("-n", "-s", str(project / "Snakefile"), "--cores", "1", cwd=elsewhere)
    assert "results/captures/mine/single/manifest.json" in done.stdout


def test_the_workflow_is_a_module_of_another(snakemake, project):
    other = project / "other"
    other.mkdir()
    (other / "Snakefile").write_text(
        f"""
module splats:
    snakefile: "{project}/Snakefile"
    config: {{"captures": {{"train": {{"max_steps": 5}}}}}}
    pathvars:
        results="out",

use rule * from splats as splats_*

rule mine:
    input: rules.splats_captures.input
    default_target: True
"""
    )
    done = snakemake("-n", "-p", "--cores", "1", cwd=other)
    assert done.returncode == 0, done.stderr
    command = planned(done.stdout)["splats_train_capture"][0]
    assert "--result-dir out/captures/room/single" in command
    assert "--max-steps=5" in command


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


def test_more_gpus_switch_the_device(snakemake):
    command = planned(snakemake("-n", "-p", "captures", "--resources", "gpu=1").stdout)["train_capture"][0]
    assert "--device-count 1" in command
