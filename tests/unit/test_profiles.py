"""A profile that is not there stops the run; Snakemake would ignore it."""

import pytest

from splatdag.workflow.errors import UserError
from splatdag.workflow.profiles import profile_folder, requested_profile
from splatdag.workflow.site import read_site, request


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        (["snakemake", "captures"], None),
        (["snakemake", "--workflow-profile", "slurm", "captures"], "slurm"),
        (["snakemake", "--workflow-profile=slurm"], "slurm"),
        (["snakemake", "--workflow-prof", "slurm"], "slurm"),
        (["snakemake", "--workflow-profile", "none"], None),
        (["snakemake", "--profile", "mine"], None),
    ],
)
def test_the_profile_is_found_on_the_command_line(arguments, expected):
    assert requested_profile(arguments) == expected


@pytest.mark.parametrize("name", ["slurm", "workflow_profiles/slurm", "profiles/slurm", "default"])
def test_profiles_of_the_repository_are_found(repository, name):
    assert profile_folder(name, repository, repository).name == name.rpartition("/")[2]


def test_short_names_work_from_anywhere(repository, tmp_path):
    assert profile_folder("slurm", tmp_path, repository) == repository / "profiles" / "slurm"


@pytest.mark.parametrize("name", ["slrm", "workflow_profiles/slurmm", "rules"])
def test_a_profile_that_is_not_there_is_an_error(repository, name):
    with pytest.raises(UserError, match=f"--workflow-profile {name}: no such profile"):
        profile_folder(name, repository, repository)


def test_the_nearest_profile_is_named(repository):
    with pytest.raises(UserError, match="the nearest is slurm"):
        profile_folder("slurmm", repository, repository)


def test_the_site_says_what_a_gpu_class_is_called(repository):
    site = read_site(repository / "workflow_profiles" / "slurm" / "site.yaml")
    assert request(site, "h100") == {"slurm_partition": "h100", "gpu_model": "h100"}
    assert request(site, "any") == {"slurm_partition": "gpu"}


def test_an_unknown_key_in_the_site_file_is_named(tmp_path):
    path = tmp_path / "site.yaml"
    path.write_text("gpu_classes: {any: {slurm_partiton: gpu}}")
    with pytest.raises(UserError, match="gpu_classes.any.slurm_partiton: unknown key; the nearest is slurm_partition"):
        read_site(path)
