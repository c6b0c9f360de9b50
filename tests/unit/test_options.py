"""Options: one class gives flags, validation, help and docs."""

import subprocess
import sys
from pathlib import Path
from typing import Any, ClassVar, Literal, Self

import pytest
import tyro
from pydantic import Field, model_validator
from snakemake.cli import parse_config
from snakemake.common import dict_to_key_value_args
from support.processes import run_module

from splatdag.commands.generate import conda_environment, generated
from splatdag.config import Config, read_config
from splatdag.scene.options import TrainOptions
from splatdag.workflow.errors import UserError
from splatdag.workflow.options import (
    Options,
    differences,
    documented,
    documented_presets,
    flags,
    notices_of,
    overridden,
    validated,
    with_presets,
    with_unset,
)


class Inner(Options):
    """Nested."""

    rate: float = 0.5
    """A rate."""
    on: bool = False
    """A switch."""
    most: int | None = None
    """A limit."""
    also: bool | None = None
    """A switch that may be unset."""


class Outer(Options):
    """Options with everything."""

    presets: ClassVar = {
        "plain": {},
        "fast": {"steps": 10, "inner": {"rate": 0.9, "on": True}},
        "tiny": {"steps": 3, "cap": 4},
    }
    preset_meanings: ClassVar = {"plain": "as it is", "fast": "soon done", "tiny": "small"}
    auto: ClassVar = {"cpu": "tiny", "gpu": "fast"}

    preset: Literal["auto", "plain", "fast", "tiny"] = "plain"
    """Preset."""
    steps: int = Field(100, gt=0)
    """Steps."""
    marks: list[int] = [1, 2]
    """Marks."""
    cap: int | None = None
    """Cap."""
    name: str | None = None
    """Name."""
    inner: Inner = Inner()
    """Inner."""

    @model_validator(mode="after")
    def _fits_together(self) -> Self:
        if not self.unresolved and self.steps > 50 and self.cap == 4:
            raise ValueError("too many steps for a cap of 4")
        return self

    def notices(self) -> list[str]:
        return [f"cap: without effect in {self.steps} steps"] if self.cap == 9 else []


@pytest.mark.parametrize(
    "given",
    [
        {},
        {"steps": 7, "marks": [], "cap": 3},
        {"preset": "fast"},
        {"preset": "fast", "steps": 100, "inner": {"on": False}, "marks": [5, 6, 7]},
        {"inner": {"on": True, "also": True}},
        {"inner": {"also": False}},
    ],
)
def test_flags_on_a_command_line_give_the_options_back(given):
    options = Outer(**given)
    default = Outer(preset=options.preset)
    assert tyro.cli(Outer, args=flags(options), default=default) == options


ON_BOTH = [
    pytest.param({}, [], (3, 4, 0.5), (10, None, 0.9), id="nothing"),
    pytest.param({"steps": 20}, ["--steps=20"], (20, 4, 0.5), (20, None, 0.9), id="another value"),
    pytest.param({"steps": 10}, ["--steps=10"], (10, 4, 0.5), (10, None, 0.9), id="that of one of them"),
    pytest.param({"cap": None}, ["--cap=None"], (3, None, 0.5), (10, None, 0.9), id="the default of the class"),
    pytest.param({"inner": {"rate": 0.5}}, ["--inner.rate=0.5"], (3, 4, 0.5), (10, None, 0.5), id="in a section"),
    pytest.param({"marks": [1, 2]}, [], (3, 4, 0.5), (10, None, 0.9), id="what none of them changes"),
]


@pytest.mark.parametrize(("given", "passed_on", "on_cpu", "on_gpu"), ON_BOTH)
def test_the_preset_auto_is_chosen_in_the_stage_and_what_is_given_wins(
    given: dict[str, Any], passed_on: list[str], on_cpu: tuple[Any, ...], on_gpu: tuple[Any, ...]
) -> None:
    """Also what equals the default of the class, from the config, from a row, and from flags made of either."""
    for options in (Outer(preset="auto", **given), overridden(Outer(**given), {"preset": "auto"}, "row")):
        assert flags(options) == ["--preset=auto", *passed_on]
        for count, values in ((0, on_cpu), (2, on_gpu)):
            resolved = options.resolved(count)
            assert resolved.preset == Outer.auto["gpu" if count else "cpu"]
            assert (resolved.steps, resolved.cap, resolved.inner.rate) == values
            assert resolved.resolved(2) == resolved
            again = tyro.cli(Outer, args=flags(options)[1:], default=Outer(preset=resolved.preset))
            assert again == resolved


def test_what_a_config_gives_beside_a_preset_is_kept_under_another() -> None:
    options = overridden(Outer(preset="fast", steps=10, inner={"on": True}), {"preset": "tiny"}, "row")
    assert (options.steps, options.inner.on, options.inner.rate, options.cap) == (10, True, 0.5, 4)
    changed = Outer(preset="auto", steps=7).model_copy(update={"cap": 5})
    assert flags(changed) == ["--preset=auto", "--steps=7", "--cap=5"]


def test_what_fits_one_of_the_presets_alone_that_auto_stands_for_is_refused() -> None:
    with pytest.raises(UserError) as caught:
        validated(Outer, {"preset": "auto", "steps": 60}, "config")
    assert str(caught.value) == "config: too many steps for a cap of 4"
    assert validated(Outer, {"preset": "auto", "steps": 60, "cap": 5}, "config").unresolved
    with pytest.raises(UserError) as caught:
        validated(Outer, {"preset": "auto", "stepz": 60, "cap": -1, "inner": {"rate": "x"}}, "config")
    assert str(caught.value).splitlines() == [
        "config.inner.rate: input should be a valid number, unable to parse string as a number, not 'x'",
        "config.stepz: unknown key; the nearest is steps",
    ]


def test_a_notice_that_holds_on_one_device_alone_says_so() -> None:
    assert notices_of(Outer(preset="auto")) == []
    assert notices_of(Outer(preset="auto", cap=9, steps=5)) == ["cap: without effect in 5 steps"]
    assert notices_of(Outer(preset="auto", cap=9)) == [
        "cap: without effect in 3 steps (on a CPU, where preset auto is tiny)",
        "cap: without effect in 10 steps (on a GPU, where preset auto is fast)",
    ]


def test_trainings_choose_by_the_device_and_the_plan_reads_nothing_that_they_choose() -> None:
    config = read_config({})
    trainings = [config.captures.train, config.driving.train, config.driving.overfit]
    presets = [["small", "fast"], ["small", "default"], ["small", "default"]]
    for options, names in zip(trainings, presets, strict=True):
        assert [options.resolved(count) for count in (0, 1)] == [type(options)(preset=name) for name in names]
    assert [notices_of(options) for options in trainings] == [[], [], []]
    for options in trainings:
        chosen = {key for preset in options.auto.values() for key in options.presets[preset]}
        of_captures = {"split", "match_string", "eval_match_string", "image_cache"}
        of_driving = {"clip_index", "lidar_sensor_id", "max_train_clips"}
        read = of_captures | {"data_factor"} if options is trainings[0] else of_driving
        assert not chosen & read


NULLS = ["null", "~", "None", "NULL", '"null"', ""]


@pytest.mark.parametrize("null", NULLS)
def test_an_option_is_unset_from_the_command_line_in_the_main_process_and_in_jobs(null: str) -> None:
    """Snakemake's `--config` makes text of everything, and hands it to its jobs as Python writes it."""
    given = parse_config([f"captures={{train: {{max_init_points: {null}, match_string: {null}}}}}"])
    for config in (given, parse_config(dict_to_key_value_args(given, repr_obj=True))):
        config["captures"]["train"]["preset"] = "small"
        train = read_config(config).captures.train
        assert (train.max_init_points, train.match_string) == (None, None)
        assert flags(train) == ["--preset=small", "--max-init-points=None"]


@pytest.mark.parametrize("null", NULLS)
def test_a_section_without_values_is_that_of_the_defaults(null: str) -> None:
    for given in ({"driving": None}, {"captures": {"train": None}}, parse_config([f"sharing={null}"])):
        assert read_config(given) == read_config({})
    assert Outer(preset="fast", inner=None).inner == Outer(preset="fast").inner
    with pytest.raises(UserError, match=r"config\.captures\.train"):
        read_config({"captures": {"train": False}})


def test_empty_text_is_a_value_where_it_means_something() -> None:
    train = read_config({"captures": {"train": {"eval_match_string": "", "match_string": ""}}}).captures.train
    assert (train.eval_match_string, train.match_string) == ("", None)


@pytest.mark.parametrize(
    "words", [["--cap=null"], ["--cap", "~"], ["--cap=None"], ["--cap", "none"], ["--cap="], ["--cap", ""]]
)
def test_a_flag_is_unset_by_null(words: list[str]) -> None:
    default = Outer(cap=3, name="n", inner=Inner(most=4))
    assert tyro.cli(Outer, args=with_unset(words, [Inner, Outer]), default=default).cap is None
    inner = [word.replace("--cap", "--inner.most") for word in words]
    assert tyro.cli(Outer, args=with_unset(inner, [Outer]), default=default).inner.most is None
    name = [word.replace("--cap", "--name") for word in words]
    assert tyro.cli(Outer, args=with_unset(name, [Outer]), default=default).name is None


def test_only_a_flag_that_may_be_unset_is() -> None:
    words = ["--steps", "null", "--inner.rate=null", "--other=null", "null", "--no.such", "~", "--cap"]
    assert with_unset(words, [Outer]) == words


def test_an_option_of_others_may_be_switched_off_from_the_command_line() -> None:
    for off in ("false", "null", "0", "False"):
        read_config(parse_config([f"captures={{train: {{use_bilateral_grid: {off}}}}}"]))
    with pytest.raises(UserError, match="bilateral grids are not supported"):
        read_config(parse_config(["captures={train: {use_bilateral_grid: true}}"]))


def test_a_preset_fills_what_is_not_given_and_what_is_given_wins():
    options = Outer(preset="fast", inner={"rate": 0.1})
    assert (options.steps, options.inner.rate, options.inner.on) == (10, 0.1, True)


def test_an_override_of_the_preset_keeps_what_was_set_beside_it():
    options = overridden(Outer(preset="fast", marks=[9]), {"preset": "plain"}, "row")
    assert (options.steps, options.marks) == (100, [9])
    assert differences(options) == {"preset": "plain", "marks": [9]}


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"stepz": 1}, "config.stepz: unknown key; the nearest is steps"),
        ({"inner": {"ratte": 1}}, "config.inner.ratte: unknown key; the nearest is rate"),
        (
            {"steps": "many"},
            "config.steps: input should be a valid integer, unable to parse string as an integer, not 'many'",
        ),
        ({"steps": 0}, "config.steps: input should be greater than 0, not 0"),
        ({"preset": "slow"}, "config.preset: input should be 'auto', 'plain', 'fast' or 'tiny', not 'slow'"),
        ({"inner": {"rate": "\0"}}, "config.inner.rate: a NUL, which no text can have here, not '\\x00'"),
        ([1], "config: input should be a valid dictionary or instance of Outer, not [1]"),
    ],
)
def test_a_wrong_value_is_one_line_that_names_the_key(given, message):
    with pytest.raises(UserError) as caught:
        validated(Outer, given, "config")
    assert str(caught.value) == message


def test_every_problem_has_its_own_line():
    with pytest.raises(UserError) as caught:
        read_config({"captures": {"train": {"max_stepz": 1, "seed": -1}}, "capture": {}})
    assert str(caught.value).splitlines() == [
        "config.captures.train.seed: input should be greater than or equal to 0, not -1",
        "config.captures.train.max_stepz: unknown key; the nearest is max_steps",
        "config.capture: unknown key; the nearest is captures",
    ]


def test_every_option_has_its_meaning_written_down():
    rows = list(documented(Config))
    assert len(rows) > 40
    assert [key for key, _, _, meaning in rows if len(meaning) < 5] == []


def test_every_preset_is_described_and_listed_with_all_that_it_sets() -> None:
    found = dict(with_presets(Config))
    assert found.keys() >= {"captures.train", "driving.train", "driving.overfit"}
    for options in found.values():
        assert options.preset_meanings.keys() == options.presets.keys()
    assert list(documented_presets(Outer)) == [
        ("auto", "`tiny` on a CPU, `fast` on a GPU", ""),
        ("plain", "as it is", ""),
        ("fast", "soon done", "steps 10, inner.rate 0.9, inner.on true"),
        ("tiny", "small", "steps 3, cap 4"),
    ]


def test_the_small_preset_is_a_set_of_valid_training_options():
    assert TrainOptions(preset="small").strategy.cap_max == 16_000


def test_generated_files_are_up_to_date(repository):
    stale = [str(path) for path, text in generated(repository).items() if path.read_text(encoding="utf-8") != text]
    assert stale == [], "run `make generate`"


def test_the_conda_environment_has_every_pin(repository):
    pins = (repository / "envs" / "core.txt").read_text()
    environment = conda_environment(pins)
    for line in pins.splitlines():
        assert line.startswith("#") or line in environment


def test_the_preset_does_not_depend_on_what_else_is_given():
    for given in ({}, {"captures": {}}, {"captures": {"train": {"seed": 1}}}):
        assert read_config(given).captures.train.preset == "auto"


@pytest.mark.parametrize(
    "given", [{"preset": ["small"]}, {"preset": {"a": 1}}, {"means_lr": float("inf")}, {"eval_steps": [0]}]
)
def test_values_of_odd_kinds_are_refused(given):
    with pytest.raises(UserError, match=r"config\.captures\.train\."):
        read_config({"captures": {"train": given}})


def test_reading_the_config_imports_neither_torch_nor_numba():
    code = "import sys, splatdag.config, splatdag.captures.sheet, splatdag.workflow.snakefile; "
    code += "print(sorted({'torch', 'numba', 'cv2', 'pycolmap'} & set(sys.modules)))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_the_schema_refuses_unknown_keys(repository: Path):
    import json

    import jsonschema
    import yaml

    schema = json.loads((repository / "config" / "config.schema.json").read_text())
    config = yaml.safe_load((repository / "config" / "config.yaml").read_text())
    jsonschema.validate(config, schema)
    with pytest.raises(jsonschema.ValidationError):
        jsonschema.validate({"captures": {"trane": {}}}, schema)


@pytest.mark.parametrize(
    ("flag", "hint"),
    [
        (["--eval_list", "a.txt"], "--eval_list: give the file as split"),
        (["--load-exposure"], "app_opt evens it out"),
        (["--post_processing", "ppisp"], "app_opt evens out exposure"),
        (["--bogus", "3"], "command line: Unrecognized options: --bogus, 3 "),
    ],
)
def test_a_flag_of_other_trainers_is_one_line_with_what_to_do(flag: list[str], hint: str) -> None:
    done = run_module("splatdag.scene.train", "--data_dir=a", "--model=b", "--result_dir=c", *flag)
    assert done.returncode == 2
    (line,) = done.stderr.splitlines()
    assert hint in line
