"""Options: one class gives flags, validation, help and docs."""

import subprocess
import sys
from pathlib import Path
from typing import ClassVar, Literal

import pytest
import tyro
from pydantic import Field
from snakemake.cli import parse_config
from snakemake.common import dict_to_key_value_args

from splatdag.commands.generate import conda_environment, generated
from splatdag.config import read_config
from splatdag.scene.options import TrainOptions
from splatdag.workflow.errors import UserError
from splatdag.workflow.options import Options, differences, documented, flags, overridden, validated, with_unset


class Inner(Options):
    """Nested."""

    rate: float = 0.5
    """A rate."""
    on: bool = False
    """A switch."""
    most: int | None = None
    """A limit."""


class Outer(Options):
    """Options with everything."""

    presets: ClassVar = {"plain": {}, "fast": {"steps": 10, "inner": {"rate": 0.9, "on": True}}}

    preset: Literal["plain", "fast"] = "plain"
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


@pytest.mark.parametrize(
    "given",
    [
        {},
        {"steps": 7, "marks": [], "cap": 3},
        {"preset": "fast"},
        {"preset": "fast", "steps": 100, "inner": {"on": False}, "marks": [5, 6, 7]},
    ],
)
def test_flags_on_a_command_line_give_the_options_back(given):
    options = Outer(**given)
    default = Outer(preset=options.preset)
    assert tyro.cli(Outer, args=flags(options), default=default) == options


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
        ({"preset": "slow"}, "config.preset: input should be 'plain' or 'fast', not 'slow'"),
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
    from splatdag.config import Config

    rows = list(documented(Config))
    assert len(rows) > 40
    assert [key for key, _, _, meaning in rows if len(meaning) < 5] == []


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
        assert read_config(given).captures.train.preset == "default"


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
    command = [sys.executable, "-m", "splatdag.scene.train", "--data_dir=a", "--model=b", "--result_dir=c", *flag]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60)
    assert done.returncode == 2
    (line,) = done.stderr.splitlines()
    assert hint in line
