"""The config's section `driving`: any number of runs, each as the section says unless it says otherwise."""

from __future__ import annotations

from typing import Any

import pytest
from snakemake.cli import parse_config
from support.area_plans import MakePlans, job
from support.area_plans import plans as plans

from splatdag.config import read_config
from splatdag.driving.training_options import EvaluateOptions, FlowOptions, OverfitOptions, TrainOptions
from splatdag.workflow.errors import UserError


def driving(**given: Any) -> Any:
    return read_config({"driving": given}).driving


def test_without_runs_there_is_one_of_each_kind_as_the_section_says() -> None:
    config = driving(train={"iters": 7}, overfit={"preset": "small"}, flow={"mode": "fixed_pose"}, ckpt="ckpt_last.pt")
    assert (list(config.runs), list(config.overfits)) == (["flux4d"], ["overfit"])
    assert config.runs["flux4d"].train == config.train == TrainOptions(iters=7)
    assert config.overfits["overfit"].overfit == OverfitOptions(preset="small")
    assert config.runs["flux4d"].flow == config.overfits["overfit"].flow == FlowOptions(mode="fixed_pose")


def test_a_run_keeps_what_it_does_not_say_itself() -> None:
    config = driving(
        train={"preset": "small", "iters": 9, "lr": 0.1},
        evaluate={"max_eval_clips": 3, "strict": True},
        ckpt="ckpt_step_000005.pt",
        runs={
            "flux4d": None,
            "still": {"train": {"flow_lambda": 0}},
            "long": {
                "train": {"preset": "default", "iters": 50},
                "evaluate": {"strict": False},
                "ckpt": "ckpt_last.pt",
            },
        },
    )
    assert config.runs["flux4d"].train == TrainOptions(preset="small", iters=9, lr=0.1)
    assert config.runs["still"].train == TrainOptions(preset="small", iters=9, lr=0.1, flow_lambda=0)
    assert config.runs["long"].train == TrainOptions(preset="default", iters=50, lr=0.1)
    evaluated = {name: (run.evaluate.max_eval_clips, run.evaluate.strict) for name, run in config.runs.items()}
    assert evaluated == {"flux4d": (3, True), "still": (3, True), "long": (3, False)}
    assert [run.ckpt for run in config.runs.values()] == ["ckpt_step_000005.pt", "ckpt_step_000005.pt", "ckpt_last.pt"]
    assert config.train.flow_lambda == TrainOptions().flow_lambda, "the section itself stays as it is"


def test_what_a_run_says_wins_where_it_is_the_default_of_all_too() -> None:
    usual = TrainOptions()
    config = driving(
        train={"iters": 9, "seed": 4, "max_train_clips": 2, "strict": True},
        runs={"usual": {"train": {"iters": usual.iters, "seed": 0, "max_train_clips": None, "strict": False}}},
        overfit={"clip_index": 3},
        overfits={"first": {"overfit": {"clip_index": 0}}, "fourth": {}},
    )
    assert config.runs["usual"].train == usual
    assert [run.overfit.clip_index for run in config.overfits.values()] == [0, 3]


def test_runs_are_given_on_the_command_line_too() -> None:
    given = parse_config(["driving={train: {iters: 9}, runs: {a: {train: {seed: 1}}, b: {}}, evaluate: null}"])
    runs = read_config(given).driving.runs
    assert {name: (run.train.iters, run.train.seed) for name, run in runs.items()} == {"a": (9, 1), "b": (9, 0)}


def test_there_may_be_no_run_of_a_kind(plans: MakePlans) -> None:
    plan = plans({"driving": {"data_root": "sample:street", "runs": {}, "overfits": {"one": {}}}})["driving"]
    assert plan.asked() == ["results/driving/one/manifest.json", "results/driving/one/flow/summary.json"]
    assert plan.targets()["flux4d"]() == []


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"run": "mine"}, "config.driving: run: runs have their names in driving.runs"),
        ({"overfit_run": "mine"}, "config.driving: overfit_run: runs on one clip have their names in driving.overfits"),
        ({"flow_run": "mine"}, "config.driving: flow_run: name the runs whose motion is drawn in driving.flow_runs"),
        ({"gpus": 2}, "config.driving: gpus: GPUs are asked for in resources.train_flux4d.gpus"),
        ({"runs": {"a": {}, "b": {}}, "overfits": {"b": {}}}, "config.driving: runs and overfits both have 'b'"),
        (
            {"runs": {"lift": {}}},
            "config.driving: 'lift' is no name for a run: results/driving/lift holds something else",
        ),
        ({"overfits": {"check": {}}}, "config.driving: 'check' is no name for a run"),
        (
            {"flow_runs": ["flux4", "overfit"]},
            "config.driving: flow_runs names 'flux4', but the runs are flux4d, overfit",
        ),
        ({"runs": {"a/b": {}}}, r"config.driving.runs.a/b.\[key\]: string should match pattern"),
        ({"runs": {"-a": {}}}, "config.driving.runs.-a"),
        ({"runs": {"a": {"trian": {}}}}, "config.driving.runs.a.trian: unknown key; the nearest is train"),
        (
            {"runs": {"a": {"train": {"itres": 3}}}},
            "config.driving.runs.a.train.itres: unknown key; the nearest is iters",
        ),
        ({"runs": {"a": {"train": {"iters": 0}}}}, "config.driving.runs.a.train.iters: input should be greater than"),
        ({"runs": {"a": {"ckpt": "../x.pt"}}}, "config.driving.runs.a.ckpt: string should match pattern"),
        ({"runs": {"a": {"run": "x"}}}, "config.driving.runs.a.run: unknown key"),
        ({"runs": {"a": 3}}, "config.driving.runs.a: input should be a valid dictionary"),
        ({"runs": ["a"]}, "config.driving.runs: input should be a valid dictionary"),
        (
            {"runs": {"a": {"resources": {"merge": {}}}}},
            "config.driving.runs.a.resources.merge: unknown key; known are evaluate, flow, train",
        ),
        ({"out_full": "a.pkl", "out_tiny": "a.pkl"}, "config.driving: out_full and out_tiny are the same file"),
    ],
)
def test_what_is_wrong_with_runs_is_one_line(given: dict[str, Any], message: str) -> None:
    with pytest.raises(UserError, match=message) as error:
        driving(**given)
    assert "\n" not in str(error.value)


def test_keys_of_before_that_are_switched_off_are_no_hindrance() -> None:
    assert driving(flow_run=None, gpus=False) == driving()


def test_each_run_has_its_own_flags_checkpoint_and_name(plans: MakePlans) -> None:
    config = {
        "data_root": "sample:street",
        "train": {"iters": 9},
        "runs": {"flux4d": {}, "still": {"train": {"flow_lambda": 0}, "evaluate": {"strict": True}}},
        "overfit": {"iters": 5},
        "overfits": {"overfit": {}, "fourth": {"overfit": {"clip_index": 3}, "ckpt": "ckpt_step_000005.pt"}},
        "flow_runs": ["still", "fourth"],
        "flow": {"frame_ref": 2},
    }
    plan = plans({"driving": config})["driving"]
    assert plan.train_flags(job(run="flux4d")) == ["--preset=auto", "--iters=9"]
    assert set(plan.train_flags(job(run="still"))) == {"--preset=auto", "--iters=9", "--flow-lambda=0.0"}
    assert (plan.evaluate_flags(job(run="flux4d")), plan.evaluate_flags(job(run="still"))) == ([], ["--strict"])
    assert set(plan.overfit_flags(job(overfit="fourth"))) == {"--preset=auto", "--iters=5", "--clip-index=3"}
    assert plan.flow_flags(job(run="still")) == plan.flow_flags(job(run="fourth")) == ["--frame-ref=2"]
    assert (plan.ckpt(job(run="still")), plan.ckpt(job(run="fourth"))) == ("ckpt_last.pt", "ckpt_step_000005.pt")
    assert plan.run_id(job(run="still")) == "driving/logs/still"
    assert plan.run_id(job(overfit="fourth")) == "driving/clip_3/fourth"
    assert plan.targets()["flux4d"]() == [f"results/driving/{name}/manifest.json" for name in ("flux4d", "still")]
    assert plan.targets()["flux4d_overfit"]() == [
        f"results/driving/{name}/manifest.json" for name in ("overfit", "fourth")
    ]
    flows = [f"results/driving/{name}/flow/summary.json" for name in ("still", "fourth")]
    assert plan.targets()["flux4d_flow"]() == flows
    assert set(plan.targets()["driving"]()) == {file for target in plan.targets().values() for file in target()}


def test_keeping_every_clip_is_told_with_its_size() -> None:
    assert EvaluateOptions().notices() == []
    assert "16 GB" in EvaluateOptions(save_max_clips=None).notices()[0]
    assert EvaluateOptions(save_renders=False).notices() == []
    off = EvaluateOptions(save_renders=False, save_max_clips=2).notices()
    assert off == ["save_max_clips: without effect, since save_renders is off"]
