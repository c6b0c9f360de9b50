"""A profile that is not there stops the run; Snakemake would ignore it. What a site calls what rules ask for."""

import pytest

from splatdag.workflow.errors import UserError
from splatdag.workflow.profiles import allowed_rules, profile_folder, requested_profile
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


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        (["--target-jobs", "a:x=1", "--allowed-rules", "a", "--cores", "all"], {"a"}),
        (["--allowed-rules", "a", "b"], {"a", "b"}),
        (["captures"], set()),
    ],
)
def test_the_rules_of_a_job_are_found_on_its_command_line(arguments, expected):
    assert allowed_rules(arguments) == expected


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


@pytest.fixture
def site(tmp_path):
    """Read a site file of this text."""

    def read(text):
        (tmp_path / "site.yaml").write_text(text)
        return read_site(tmp_path / "site.yaml")

    return read


def test_the_site_says_what_a_gpu_class_is_called(repository):
    site = read_site(repository / "workflow_profiles" / "slurm" / "site.yaml")
    warned = {"slurm_extra": "--signal=TERM@120"}
    of_gpu = warned | {"devices": 1, "gpu": 1}
    of_h100 = {"slurm_partition": "h100", "gpu_model": "h100", "gpu_class": "h100", "h100_slots": 1}
    assert request(site, "h100") == of_gpu | of_h100
    assert request(site, "any") == of_gpu | {"slurm_partition": "gpu", "gpu_class": "any", "gpu_slots": 1}
    assert request(site, "cpu") == warned | {"slurm_partition": "cpu"}


@pytest.mark.parametrize(("model", "gres"), [("a100", "gpu:a100:1"), ("null", "gpu:1")])
def test_a_gpu_may_be_asked_for_as_gres(site, model, gres):
    asked = request(site(f"{{gpu_style: gres, gpu_classes: {{any: {{gpu_model: {model}}}}}}}"), "any")
    assert asked["gres"] == gres
    assert asked["devices"] == 1
    assert not {"gpu", "gpu_model"} & set(asked)


def test_account_constraint_and_bad_nodes_are_asked_for_everywhere(site):
    here = site("{slurm_account: lab, bad_nodes: [n1, 'n[3-5]'], cpu: {constraint: fast, qos: short}}")
    assert request(here, "cpu") == {
        "slurm_account": "lab",
        "slurm_extra": "--signal=TERM@120 --exclude=n1,n[3-5]",
        "constraint": "fast",
        "qos": "short",
    }
    assert request(here, "h100")["slurm_extra"].endswith("--exclude=n1,n[3-5]")


@pytest.mark.parametrize("text", ["bad_nodes: ['n1; rm x']", "gpu_classes: {any: {gpu_model: '$(x)'}}"])
def test_what_a_shell_would_run_is_refused(site, text):
    with pytest.raises(UserError, match="string should match"):
        site(text)


def test_an_unknown_key_in_the_site_file_is_named(tmp_path):
    path = tmp_path / "site.yaml"
    path.write_text("gpu_classes: {any: {slurm_partiton: gpu}}")
    with pytest.raises(UserError, match="gpu_classes.any.slurm_partiton: unknown key; the nearest is slurm_partition"):
        read_site(path)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("prices: {gpu_hour: {h100: cheap}}", "prices.gpu_hour.h100: input should be a valid number.*not 'cheap'$"),
        ("prices: {gpu_hour: {any: -1}}", "prices.gpu_hour.any: input should be greater than or equal to 0, not -1$"),
        ("prices: {cpu_hour: .nan}", "prices.cpu_hour: input should be a finite number, not nan$"),
        ("prices: {gpu_hour: {gpu: 1}}", "prices.gpu_hour.gpu: unknown key; known are any, h100$"),
        ("prices: {currency: '<b>'}", "prices.currency: string should match pattern"),
    ],
)
def test_a_wrong_price_is_one_line(site, text, message):
    with pytest.raises(UserError, match=message) as error:
        site(text)
    assert "\n" not in str(error.value)
