"""Options from a YAML file: of their own, or from their section of a whole config."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from support.processes import run_module

from splatdag.captures import train
from splatdag.captures.config import TrainOptions
from splatdag.config import Config
from splatdag.driving.training_options import OverfitOptions
from splatdag.recording.options import CaptureRecordingOptions, RecordingOptions
from splatdag.samples.options import StreetOptions
from splatdag.scene.options import EvaluateOptions
from splatdag.workflow import stage
from splatdag.workflow.config_file import flag_value, options_before_flags
from splatdag.workflow.errors import UserError
from splatdag.workflow.options import Options


def sections(options: Options, prefix: str = "") -> Iterator[tuple[str, type[Options]]]:
    for name in type(options).model_fields:
        value = getattr(options, name)
        if isinstance(value, Options):
            yield prefix + name, type(value)
            yield from sections(value, f"{prefix}{name}.")


def read(options: type[Options], path: Path, text: str) -> Options:
    path.write_text(text)
    return options_before_flags(options, ["--config", str(path)])


def test_all_options_of_stages_know_their_section_of_the_config() -> None:
    there = dict(sections(Config()))
    of_stages = {name: kind.section for name, kind in there.items() if name.count(".") == 1}
    asked_of_nodes = {name for name in of_stages if name.startswith("resources.")}
    assert len(asked_of_nodes) > 20
    assert of_stages == {name: "" if name in asked_of_nodes else name for name in of_stages}


@pytest.mark.parametrize("section", Config.model_fields)
def test_a_whole_config_of_any_one_section_is_known_as_one(section: str, tmp_path: Path) -> None:
    assert read(StreetOptions, tmp_path / "config.yaml", f"{section}: {{}}") == StreetOptions()


@pytest.mark.parametrize("options", [StreetOptions, TrainOptions, OverfitOptions, CaptureRecordingOptions])
@pytest.mark.parametrize("text", ["{}", "captures: {sheet: a.tsv}", "driving:", "{sharing: , samples: {street: }}"])
def test_an_absent_or_empty_section_is_all_defaults(options: type[Options], text: str, tmp_path: Path) -> None:
    assert read(options, tmp_path / "config.yaml", text) == options()


def test_a_whole_config_gives_the_section_and_a_file_of_its_own_everything(tmp_path: Path) -> None:
    for text in ("{samples: {street: {frames: 3}, room: {photos: 9}}, captures: {sheet: a.tsv}}", "frames: 3"):
        assert read(StreetOptions, tmp_path / "config.yaml", text) == StreetOptions(frames=3)


def test_recordings_of_people_take_their_part_of_the_section_that_those_of_captures_have(tmp_path: Path) -> None:
    text = "sharing: {recordings: {downscale: 2, gaussians: false}}"
    assert read(RecordingOptions, tmp_path / "config.yaml", text) == RecordingOptions(downscale=2)
    with pytest.raises(UserError, match="downscal: unknown key; the nearest is downscale"):
        read(RecordingOptions, tmp_path / "config.yaml", "sharing: {recordings: {downscal: 2}}")


@pytest.mark.parametrize(
    ("options", "text", "message"),
    [
        (StreetOptions, "samples: [street]", "samples.street: expected keys and values"),
        (StreetOptions, "samples: {street: 3}", "samples.street: expected keys and values"),
        (StreetOptions, "[frames]", "expected keys and values"),
        (StreetOptions, "samples: {street: {frame: 3}}", "frame: unknown key; the nearest is frames"),
        (TrainOptions, "strateggy: {cap_max: 3}", "strateggy: unknown key; the nearest is strategy"),
        (TrainOptions, "optimizer: {lr: 3}", "optimizer: unknown key"),
        (TrainOptions, "max_steps:\n  3: 4", "max_steps: input should be a valid integer"),
        (EvaluateOptions, "captures: {}", "has no section for this stage; write YAML with some of these keys: "),
    ],
)
def test_what_a_file_has_wrong_is_one_line(options: type[Options], text: str, message: str, tmp_path: Path) -> None:
    with pytest.raises(UserError) as error:
        read(options, tmp_path / "config.yaml", text)
    assert message in str(error.value)
    assert str(error.value).count("\n") == 0


def test_a_stage_takes_its_section_of_the_config_as_shipped(repository: Path, tmp_path: Path) -> None:
    (tmp_path / "config.yaml").write_text(
        (repository / "config" / "config.yaml").read_text().replace("humans: {}", "humans: {frames: 2, width: 48}")
    )
    done = run_module("splatdag.samples.humans", "--out", tmp_path / "humans", "--config", tmp_path / "config.yaml")
    assert done.returncode == 0, done.stderr
    assert len(list(tmp_path.glob("humans/results/*/*/input_data/train/images/28/*.jpg"))) == 2


def test_a_training_by_hand_takes_the_section_of_captures(tmp_path: Path) -> None:
    (tmp_path / "config.yaml").write_text("captures: {train: {preset: small, max_steps: 3}}\ndriving: {}")
    flags = ["--data-dir=a", "--model=b", "--result-dir=c", f"--config={tmp_path}/config.yaml", "--sh-degree=0"]
    arguments, _ = stage.parsed(train.main, flags)
    assert arguments["options"] == TrainOptions(preset="small", max_steps=3, sh_degree=0)


def test_a_stage_without_options_takes_no_file(tmp_path: Path) -> None:
    flags = ["--run-dir", "run", "--link", "link", "--receipt", "r.txt", "--config", "config.yaml"]
    done = run_module("splatdag.workflow.link", *flags, cwd=tmp_path)
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr == "command line: --config: this stage has no options that a file could hold\n"
    assert not list(tmp_path.iterdir())


def test_a_flag_is_found_among_any_number_of_words() -> None:
    assert flag_value([], "--config") is None
    assert flag_value(["--config"], "--config") == ""
    assert flag_value(["--a", "b", "--config", "c"], "--config") == "c"
    assert flag_value(["--config=c"], "--config") == "c"
