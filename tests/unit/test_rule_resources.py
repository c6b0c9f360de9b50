"""What the jobs of a rule ask a node for: as their scene or run says, else as the config, else as the rule."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from snakemake.cli import parse_set_resources
from support.area_plans import MakePlans, job, write
from support.area_plans import plans as plans

from splatdag.areas import AREAS, all_rules
from splatdag.config import read_config
from splatdag.workflow.area import GpuResources
from splatdag.workflow.area_rules import AreaRules, rules_of
from splatdag.workflow.errors import UserError
from splatdag.workflow.site import read_site
from splatdag.workflow.snakefile import check_local_gpus, limit_areas, set_gpu_classes

SITE = """
slurm_account: lab
cpu: {slurm_partition: short, max_runtime: 250, max_mem_mb: 5000}
gpu_classes:
  any: {slurm_partition: gpu, constraint: fast, max_runtime: 1000, max_mem_mb: 40000}
  h100: {slurm_partition: big, gpu_model: h100, max_runtime: 2000}
"""
Rules = Callable[..., dict[str, AreaRules]]


@pytest.fixture
def rules(plans: MakePlans, tmp_path: Path) -> Rules:
    """What the rules of a config take at a site."""

    def make(
        given: dict[str, Any] | None = None,
        site: str = SITE,
        job_rules: frozenset[str] | None = None,
        one_class: frozenset[str] = frozenset(),
    ) -> dict[str, AreaRules]:
        there = read_site(write(tmp_path / "site.yaml", site))
        asked = read_config(given or {}).resources
        return rules_of(AREAS, plans(given), asked, there, "results", job_rules, one_class)

    return make


def asked(resources: dict[str, Any], attempt: int = 1, **wildcards: str) -> dict[str, Any]:
    """What one job asks for, as Snakemake evaluates it: None is left out."""
    found = {}
    for name, value in resources.items():
        if callable(value):
            value = value(job(**wildcards), attempt) if name in ("mem_mb", "runtime") else value(job(**wildcards))
        found[name] = value
    return {name: value for name, value in found.items() if value is not None}


OF_H100 = {"slurm_partition": "big", "gpu_model": "h100", "gpu_class": "h100", "h100_slots": 1}
OF_ANY = {"slurm_partition": "gpu", "constraint": "fast", "gpu_class": "any", "gpu_slots": 1}
BOTH = {"slurm_account": "lab", "slurm_extra": "--signal=TERM@120", "devices": 1, "gpu": 1}


@pytest.mark.parametrize("rule", all_rules())
def test_every_rule_asks_for_what_its_area_says(rules: Rules, rule: str) -> None:
    area, stage = all_rules()[rule]
    of_rule = rules()[area.name]
    found = asked(of_rule.resources(rule))
    expected = stage.resources
    assert of_rule.threads(rule) == expected.threads
    longest = {"cpu": 250, "any": 1000, "h100": 2000}[found.get("gpu_class", "cpu")]
    assert found["runtime"] == min(expected.runtime, int(longest * stage.share))
    assert found["mem_mb"] == min(
        expected.mem_mb, {"cpu": 5000, "any": 40000}.get(found.get("gpu_class", "cpu"), 10**9)
    )
    assert found.get(f"{area.name}_jobs") == (1 if stage.throttled else None)
    assert found.get("devices") == (expected.gpus if isinstance(expected, GpuResources) else None)


def test_a_request_grows_with_each_attempt_up_to_the_limit_of_the_site(rules: Rules) -> None:
    given = {"resources": {"check_pandaset": {"mem_mb": 2000, "runtime": 100}, "pose_capture": {"runtime": 100}}}
    of_rules = rules(given)
    check = of_rules["driving"].resources("check_pandaset")
    assert [asked(check, attempt)["mem_mb"] for attempt in (1, 2, 3)] == [2000, 4000, 5000]
    assert [asked(check, attempt)["runtime"] for attempt in (1, 2, 3)] == [100, 200, 250]
    pose = of_rules["captures"].resources("pose_capture")
    assert [asked(pose, attempt)["runtime"] for attempt in (1, 2)] == [100, 166], "two thirds: others are in its job"
    without = rules(given, site="{}")["driving"].resources("check_pandaset")
    assert [asked(without, attempt)["mem_mb"] for attempt in (1, 9)] == [2000, 18000]


def test_the_h100_of_a_training_is_a_default_and_its_class_changes_all_that_goes_with_it(rules: Rules) -> None:
    usual = asked(rules()["driving"].resources("train_flux4d"), run="flux4d")
    assert usual == BOTH | OF_H100 | {"driving_jobs": 1, "mem_mb": 48000, "runtime": 720}
    given = {"resources": {"train_flux4d": {"gpu_class": "any", "gpus": 2, "threads": 16, "runtime": 900}}}
    of_rules = rules(given)["driving"]
    assert asked(of_rules.resources("train_flux4d"), run="flux4d") == BOTH | OF_ANY | {
        "driving_jobs": 1, "mem_mb": 40000, "runtime": 900, "devices": 2, "gpu": 2, "gpu_slots": 2,
    }  # fmt: skip
    assert of_rules.threads("train_flux4d") == 16
    assert asked(of_rules.resources("evaluate_flux4d"))["runtime"] == 120, "of other rules nothing"


@pytest.mark.parametrize("word", ["any", "'any'", "h100"])
@pytest.mark.parametrize("resources", [None, {}, {"train_flux4d": None}, {"train_flux4d": {"gpus": 2}}])
def test_a_class_on_the_command_line_asks_for_its_node_too(
    rules: Rules, word: str, resources: dict[str, Any] | None
) -> None:
    """`--set-resources` by itself would change the label alone, and take `any` for Python's function."""
    overwritten = parse_set_resources([f"train_flux4d:gpu_class={word}", "train_flux4d:mem_mb=9000"])
    given = {"resources": resources}
    one_class = set_gpu_classes(given, overwritten)
    label = overwritten["train_flux4d"]["gpu_class"]
    assert (one_class, label.value, label.raw) == ({"train_flux4d"}, word.strip("'"), word.strip("'"))
    found = asked(rules(given, one_class=one_class)["driving"].resources("train_flux4d"), run="flux4d")
    assert found["gpu_class"] == label.value
    assert found["slurm_partition"] == {"any": "gpu", "h100": "big"}[label.value]
    assert found["devices"] == (2 if resources and resources.get("train_flux4d") else 1)


def test_other_resources_of_the_command_line_are_snakemakes_own() -> None:
    given: dict[str, Any] = {}
    assert set_gpu_classes(given, parse_set_resources(["train_capture:mem_mb=9000"])) == frozenset()
    assert given == {}


@pytest.mark.parametrize(
    ("word", "message"),
    [
        ("train_flux4d:gpu_class=a100", "config.resources.train_flux4d.gpu_class: input should be 'any' or 'h100'"),
        ("train_flux:gpu_class=any", "config.resources.train_flux: unknown key; the nearest is train_flux4d"),
        ("pose_capture:gpu_class=any", "config.resources.pose_capture.gpu_class: unknown key; known are mem_mb"),
    ],
)
def test_a_wrong_class_on_the_command_line_is_one_line(word: str, message: str) -> None:
    given: dict[str, Any] = {}
    set_gpu_classes(given, parse_set_resources([word]))
    with pytest.raises(UserError, match=message):
        read_config(given)
    for odd in ({"resources": 3}, {"resources": {"train_flux4d": 3}}):
        set_gpu_classes(odd, parse_set_resources(["train_flux4d:gpu_class=any"]))
        with pytest.raises(UserError, match="config.resources.*: input should be a valid dictionary"):
            read_config(odd)


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"train_flux": {}}, "config.resources.train_flux: unknown key; the nearest is train_flux4d"),
        ({"pose_capture": {"gpus": 1}}, "config.resources.pose_capture.gpus: unknown key"),
        ({"train_flux4d": {"mem_mb": 10}}, "mem_mb: input should be greater than or equal to 1000, not 10"),
        ({"train_flux4d": {"gpus": 0}}, "gpus: input should be greater than or equal to 1, not 0"),
        ({"train_flux4d": {"gpu_class": "a100"}}, "gpu_class: input should be 'any' or 'h100', not 'a100'"),
    ],
)
def test_what_is_wrong_with_resources_is_one_line(given: dict[str, Any], message: str) -> None:
    with pytest.raises(UserError, match=message) as error:
        read_config({"resources": given})
    assert "\n" not in str(error.value)


def test_a_part_of_a_rules_resources_leaves_the_rest_as_the_rule_says() -> None:
    own = read_config({"resources": {"train_flux4d": {"gpu_class": "any"}}}).resources.train_flux4d
    usual = all_rules()["train_flux4d"][1].resources
    assert own.model_dump() == usual.model_dump() | {"gpu_class": "any"}


# Of one scene or run


@pytest.fixture
def rows(rules: Rules, photos: Path) -> Rules:
    """The rules of a sheet: `big` asks for another node than `usual`."""
    columns = ("capture", "data_dir", "resources.train.gpu_class", "resources.train.gpus", "resources.train.runtime",
               "resources.train.threads", "resources.pose.mem_mb", "resources.frames.runtime")  # fmt: skip
    big = ("big", "../photos", "h100", "2", "1500", "12", "3000", "77")
    usual = ("usual", "../photos", *[""] * 6)

    def make(**more: Any) -> dict[str, AreaRules]:
        write("config/captures.tsv", "\n".join("\t".join(row) for row in (columns, big, usual)) + "\n")
        return rules(**more)

    return make


def test_a_row_may_ask_for_another_node_than_the_others(rows: Rules) -> None:
    captures = rows()["captures"]
    train = captures.resources("train_capture", times=captures.train_times)
    rest = {"captures_jobs": 1}
    assert asked(train, capture="usual", variant="single") == BOTH | OF_ANY | rest | {"mem_mb": 32000, "runtime": 720}
    big = BOTH | OF_H100 | rest | {"devices": 2, "gpu": 2, "h100_slots": 2, "mem_mb": 32000, "runtime": 1500}
    assert asked(train, capture="big", variant="single") == big
    threads = captures.threads("train_capture")
    assert callable(threads)
    assert [threads(job(capture=name, variant="single")) for name in ("big", "usual")] == [12, 2]
    pose = captures.resources("pose_capture")
    assert [asked(pose, attempt, capture="big")["mem_mb"] for attempt in (1, 2)] == [3000, 5000]
    assert asked(pose, capture="usual")["mem_mb"] == 5000


def test_each_of_a_pair_has_twice_the_time_unless_its_row_says_how_much(rows: Rules) -> None:
    captures = rows(site="{}")["captures"]
    train = captures.resources("train_capture", times=captures.train_times)
    minutes = {
        (name, variant): [asked(train, attempt, capture=name, variant=variant)["runtime"] for attempt in (1, 2)]
        for name in ("big", "usual")
        for variant in ("single", "filtered")
    }
    assert minutes == {
        ("big", "single"): [1500, 3000], ("big", "filtered"): [1500, 3000],
        ("usual", "single"): [720, 1440], ("usual", "filtered"): [1440, 2880],
    }  # fmt: skip


def test_a_class_on_the_command_line_is_that_of_all_rows(rows: Rules) -> None:
    train = rows(one_class=frozenset({"train_capture"}))["captures"].resources("train_capture")
    found = [asked(train, capture=name, variant="single") for name in ("big", "usual")]
    assert [(one["gpu_class"], one["slurm_partition"], one["devices"]) for one in found] == [
        ("any", "gpu", 2), ("any", "gpu", 1),
    ]  # fmt: skip


def test_a_run_may_ask_for_another_node_than_the_others(rules: Rules) -> None:
    own = {"train": {"gpu_class": "any", "gpus": 3}, "evaluate": {"mem_mb": 64000}, "flow": {"gpu_class": "h100"}}
    given = {"driving": {"data_root": "sample:street", "runs": {"wide": {"resources": own}, "usual": {}}}}
    driving = rules(given, site="{gpu_style: gres, gpu_classes: {h100: {gpu_model: h100}}}")["driving"]
    train = driving.resources("train_flux4d")
    wide, usual = (asked(train, run=name) for name in ("wide", "usual"))
    assert (wide["gpu_class"], wide["gres"], wide["devices"], wide["gpu_slots"]) == ("any", "gpu:3", 3, 3)
    assert (usual["gpu_class"], usual["gres"], usual["devices"], usual["h100_slots"]) == ("h100", "gpu:h100:1", 1, 1)
    assert ("h100_slots" in wide, "gpu_slots" in usual) == (False, False)
    evaluate = driving.resources("evaluate_flux4d")
    assert [asked(evaluate, run=name, scene="001")["mem_mb"] for name in ("wide", "usual")] == [64000, 32000]
    flow = driving.resources("draw_flow")
    assert [asked(flow, run=name)["gpu_class"] for name in ("wide", "usual", "overfit")] == ["h100", "any", "any"]
    assert asked(driving.resources("overfit_flux4d"), overfit="overfit")["gpu_class"] == "any"


# What a process looks at


def test_a_job_of_another_area_does_not_read_the_sheet(rules: Rules) -> None:
    write("config/captures.tsv", "no sheet")
    of_rules = rules(job_rules=frozenset({"train_flux4d"}))
    assert asked(of_rules["captures"].resources("train_capture"))["gpu_class"] == "any"
    assert not of_rules["captures"].runs("train_capture")
    assert of_rules["driving"].runs("train_flux4d")
    with pytest.raises(SystemExit):
        rules()["captures"].resources("train_capture")


def test_an_error_of_a_plan_ends_snakemake_with_its_line(rows: Rules, capsys: pytest.CaptureFixture[str]) -> None:
    captures = rows()["captures"]
    with pytest.raises(SystemExit) as stopped:
        captures.train_flags(job(capture="bgi", variant="single"))
    assert stopped.value.code == 2
    assert capsys.readouterr().err == "splatdag: config/captures.tsv: no capture 'bgi'; the nearest is big\n"


def test_a_rules_files_are_those_of_its_templates(rules: Rules) -> None:
    captures = rules()["captures"]
    assert captures.log("train_capture") == "<logs>/captures/{capture}/{variant}/train.log"
    assert captures.benchmark("train_capture", variant="single") == "<benchmarks>/captures/{capture}/single/train.tsv"
    assert captures.output("pose_capture", capture="a") == "<results>/captures/a/registration.json"


def test_each_area_with_throttled_rules_has_its_limit_unless_the_user_says_otherwise() -> None:
    limits: dict[str, Any] = {"driving_jobs": 7}
    limit_areas(limits, AREAS)
    assert limits.pop("driving_jobs") == 7
    assert {name: limit.value for name, limit in limits.items()} == {"captures_jobs": 100}
    assert {rule.throttled for rule in AREAS[1].rules.values()} == {True, False}


@pytest.mark.parametrize(("rule", "stops"), [("compile_kernels", False), ("train_capture", True)])
def test_kernels_are_compiled_for_gpus_of_other_machines_too(
    rule: str, stops: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("SLURM_JOB_ID", raising=False)
    planned = SimpleNamespace(rule=SimpleNamespace(name=rule), resources={"devices": 4096})
    dag = SimpleNamespace(needrun_jobs=lambda: [planned])
    workflow = SimpleNamespace(local_exec=True, touch=False, dag=dag)
    if stops:
        with pytest.raises(UserError, match="GPUs asked for"):
            check_local_gpus(workflow)
    else:
        check_local_gpus(workflow)
