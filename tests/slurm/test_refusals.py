"""What a cluster does not have is said before anything is submitted."""

from __future__ import annotations

import pytest

RUN = "splatdag_01234567-89ab-cdef-0123-456789abcdef"
REFUSED = {
    "a GPU rule without a partition": (
        "gpu_classes: {any: {slurm_partition: null}}",
        "gpu_classes.any.slurm_partition: not set, but rule compile_kernels needs a GPU; set it to one of this"
        " cluster's partitions: cpu, gpu, h100",
    ),
    "an unknown GPU partition": (
        "gpu_classes: {any: {slurm_partition: gpus}}",
        "gpu_classes.any.slurm_partition: this cluster has no partition 'gpus', which rule compile_kernels asks for;"
        " the nearest is gpu",
    ),
    "an unknown CPU partition": (
        "cpu: {slurm_partition: long}",
        "cpu.slurm_partition: this cluster has no partition 'long', which rule",
    ),
    "an unknown account": ("slurm_account: labb", "slurm_account: you have no account 'labb'; the nearest is lab"),
}


@pytest.mark.parametrize("case", REFUSED)
def test_what_the_cluster_does_not_have_is_refused_before_anything_is_submitted(project, fake_slurm, case):
    site, message = REFUSED[case]
    (project / "workflow_profiles" / "slurm" / "site.yaml").write_text(site)
    done, calls = fake_slurm("captures")
    assert done.returncode == 2
    [line] = [line for line in done.stderr.splitlines() if line.startswith("splatdag: ")]
    assert line.startswith(f"splatdag: {project}/workflow_profiles/slurm/site.yaml: {message}")
    assert "Traceback" not in done.stderr
    assert "sbatch" not in {name for name, *_ in calls}
    assert not list((project / ".snakemake" / "locks").glob("*"))


def test_a_cluster_without_accounts_takes_any(project, fake_slurm):
    (project / "workflow_profiles" / "slurm" / "site.yaml").write_text("slurm_account: mine")
    _, calls = fake_slurm("captures", sacctmgr=None)
    assert "sbatch" in {name for name, *_ in calls} or "sshare" in {name for name, *_ in calls}


def test_a_gpu_class_that_no_planned_job_asks_for_may_be_missing(project, fake_slurm):
    (project / "workflow_profiles" / "slurm" / "site.yaml").write_text("gpu_classes: {any: {slurm_partition: null}}")
    _, calls = fake_slurm("results/samples/room/sample.json")
    assert "sbatch" in {name for name, *_ in calls}


def test_without_slurm_one_line_says_so(project, fake_slurm):
    done, _ = fake_slurm("captures", squeue=None)
    assert done.returncode == 2
    assert "splatdag: squeue: only noted" in done.stderr


def test_jobs_of_this_folder_that_an_earlier_run_left_stop_the_next_one(project, fake_slurm):
    """Of other folders, and this user's other jobs here, there may be any number."""
    others = [
        f"1|RUNNING|{RUN}|{project}/other|rule_x",
        f"2|RUNNING|bash|{project}|(null)",
        f"3|RUNNING|{RUN}|/|rule_x",
    ]
    mine = [f"4|PENDING|{RUN}|{project}|rule_train_capture_wildcards_room_single"]
    done, calls = fake_slurm("captures", squeue="\n".join(others + mine))
    assert done.returncode == 2
    assert (
        "splatdag: 1 of this folder's jobs are still in Slurm (4 train_capture room_single) and would be run a second"
        " time; wait for them, or cancel them: `python -m splatdag.commands.doctor --cancel`"
    ) in done.stderr
    assert not {"sbatch", "scancel"} & {name for name, *_ in calls}
    _, calls = fake_slurm("captures", squeue="\n".join(others))
    assert "sbatch" in {name for name, *_ in calls}


def test_a_dry_run_asks_slurm_nothing(project, fake_slurm):
    done, calls = fake_slurm("captures", "-n")
    assert done.returncode == 0
    assert not {"squeue", "sinfo", "sacctmgr", "sbatch"} & {name for name, *_ in calls}


def test_a_results_folder_elsewhere_takes_the_profile_from_here(project, fake_slurm):
    (project / "elsewhere").mkdir()
    _, calls = fake_slurm("captures", "--directory", "elsewhere")
    [line] = [call for call in calls if call[0] == "sbatch"][:1]
    assert line[line.index("-D") + 1] == f"{project}/elsewhere"
