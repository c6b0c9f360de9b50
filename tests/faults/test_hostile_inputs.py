"""Sheets and configs made to do harm are refused in one line or harmless, in little time and memory."""

from __future__ import annotations

import json
import os
import shlex
import unicodedata
from collections.abc import Callable
from pathlib import Path

import pytest
import yaml
from hostile import is_refused, snakemake
from support.plans import SHEET, planned
from support.scenes import write_gaussian_scene
from support.sheet_rows import read as read

from splatdag.config import read_config
from splatdag.workflow.errors import UserError
from splatdag.workflow.small_file import LARGEST
from splatdag.workflow.yaml_text import check_config_file, read_yaml

CANARY = "CANARY"


# Sheets

NAMES = {
    "above": "../x", "root": "/x", "two dots": "..", "dot": ".", "option": "--forceall", "shell": f"$(touch {CANARY})",
    "backquotes": f"`touch {CANARY}`", "and so on": f"a;touch {CANARY}", "pipe": "a|b", "quote": "a'b", "quotes": 'a"b',
    "wildcard": "{capture}", "braces": "a{b", "star": "*", "home": "~", "variable": "$HOME", "percent": "a%2e%2e",
    "backslash": "a\\..\\b", "composed": unicodedata.normalize("NFC", "café"),
    "decomposed": unicodedata.normalize("NFD", "café"), "other digits": "scene٣", "look-alike": "rооm",
    "long": "a" * 300,
    "zero": "a\0b", "bell": "a\ab", "no width": "a\u200bb", "backwards": "a\u202eb", "line separator": "a\u2028b",
    "windows line": "a\rb", "page": "a\fb", "emoji": "a😀",
}  # fmt: skip


@pytest.mark.parametrize("kind", NAMES)
def test_a_hostile_name_is_refused_and_nothing_is_made(kind, read, tmp_path):
    before = sorted(tmp_path.rglob("*"))
    with pytest.raises(UserError) as refused:
        read(f"capture\tdata_dir\n{NAMES[kind]}\tphotos\n")
    assert "\n" not in str(refused.value)
    assert [path for path in sorted(tmp_path.rglob("*")) if path.name != "captures.tsv"] == before


CELLS = {
    "alias": "[&a 1, *a]", "object": "!!python/object/apply:os.system ['touch CANARY']", "deep": "[" * 5000,
    "no date": "2020-13-45", "many digits": "9" * 5000, "hexadecimal": "0x" + "f" * 5000, "endless": ".inf",
    "map": "{a: 1}", "expression": "?__import__('os').system('touch CANARY')", "shell": "$(touch CANARY)",
    "no base": "0b", "none": "!!float x",
}  # fmt: skip


@pytest.mark.parametrize("kind", CELLS)
def test_a_hostile_cell_is_refused_in_one_line(kind, read, tmp_path):
    with pytest.raises(UserError, match="max_steps") as refused:
        read(f"capture\tdata_dir\ttrain.max_steps\na\tphotos\t{CELLS[kind]}\n")
    assert len(str(refused.value)) < len(CELLS[kind]) + 500
    assert "\n" not in str(refused.value)
    assert not list(tmp_path.rglob(CANARY))


HOSTILE = "-a $(touch CANARY) `touch CANARY`;touch CANARY; 'b' \"c\" %s café"


def test_hostile_folders_and_words_stay_single_arguments_and_are_run_by_no_shell(project):
    data = project / "data" / unicodedata.normalize("NFD", HOSTILE)
    write_gaussian_scene(data)
    (project / SHEET).write_text(f"capture\tdata_dir\ttrain.max_steps\na\t../data/{data.name}\t3\n")
    commands = planned(snakemake(project, "-n", "-p", "captures").stdout)
    assert any(word.endswith(data.name) for word in shlex.split(commands["pose_capture"][0]))
    done = snakemake(project, "--cores", "1", "results/captures/a/sparse/0/points3D.bin")
    assert done.returncode == 0, done.stderr
    assert not list(project.rglob(CANARY))


@pytest.mark.parametrize("column", ["data_dir", "eval_dir", "result_dir"])
def test_braces_in_a_path_are_refused(column, read):
    cells = {"capture": "a", "data_dir": "photos"} | {column: "{d}"}
    with pytest.raises(UserError, match=f"line 2: capture a: {column}: braces"):
        read("\t".join(cells) + "\n" + "\t".join(cells.values()) + "\n")


def test_of_ten_thousand_rows_the_wrong_one_is_named(project):
    rows = "".join(f"c{number}\tsample:room\n" for number in range(10_000))
    (project / SHEET).write_text(f"capture\tdata_dir\n{rows}../x\tsample:room\n")
    is_refused(snakemake(project, "-n"), project, "line 10002: capture: '../x' is not a name")
    (project / SHEET).write_text(f"capture\tdata_dir\n{rows}")
    done = snakemake(project, "-n", "results/captures/c9999/sparse/0/points3D.bin")
    assert done.returncode == 0, done.stderr


# Configs


def _bomb(first: str, repeated: Callable[[str], str]) -> str:
    lines = [f"a: &a {first}"]
    lines += [f"{name}: &{name} {repeated(of)}" for of, name in zip("abcdefgh", "bcdefghi", strict=True)]
    return "\n".join(lines)


CONFIGS = {
    "lists of lists": (_bomb("[x]", lambda of: f"[{', '.join([f'*{of}'] * 10)}]"), "more than 100000 values"),
    "maps of maps": (
        _bomb("{x: 1}", lambda of: f"{{{', '.join(f'k{i}: *{of}' for i in range(10))}}}"),
        "more than 100000 values",
    ),
    "itself": ("captures: &a {train: {max_steps: *a}}", "more than 100000 values"),
    "a list in itself": ("captures: &a [*a]", "more than 100000 values"),
    "deep": ("captures: " + "[" * 5000 + "]" * 5000, "nested too deeply"),
    "deep JSON": ('{"captures": ' + "[" * 99_999 + "]" * 99_999 + "}", "nested too deeply"),
    "expressions": ('__use_yte__: true\nx: \'?__import__("os").system("touch CANARY")\'', "expressions"),
    "an object": ("captures: !!python/object/apply:os.system ['touch CANARY']", "no YAML"),
    "no date": ("captures: 2020-13-45", "no YAML"),
    "many digits": ("captures: {train: {max_steps: " + "9" * 5000 + "}}", "no YAML"),
    "hexadecimal": ("captures: {train: {max_steps: 0x" + "f" * 5000 + "}}", "a number of 20000 bits"),
    "zeros": ("captures: \0", "no YAML"),
    "no text": (b"\xff\xfe\x00", "no YAML"),
    "a word": ("captures", "expected keys and values"),
    "nothing": ("", "expected keys and values"),
    "a leading dash": ("driving: {run: '-rf'}", "driving.run"),
    "a folder above": ("driving: {run: '../x'}", "driving.run"),
    "shell": ("driving: {run: '$(touch CANARY)'}", "driving.run"),
}


@pytest.mark.parametrize("kind", CONFIGS)
def test_a_hostile_config_is_refused_in_one_line(kind, tmp_path):
    text, message = CONFIGS[kind]
    path = tmp_path / "config.yaml"
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    with pytest.raises(UserError, match=message) as refused:
        read_config(read_yaml(Path(check_config_file(path)), "config"))
    assert "\n" not in str(refused.value)
    assert len(str(refused.value)) < 500


def test_a_huge_config_is_refused_in_one_line(tmp_path):
    path = tmp_path / "config.yaml"
    with path.open("wb") as file:
        file.truncate(LARGEST + 1)
    with pytest.raises(UserError, match="more than 256 MB"):
        check_config_file(path)


@pytest.mark.parametrize("kind", ["maps of maps", "deep", "expressions"])
def test_a_hostile_config_stops_a_run_before_anything_is_made(kind, project):
    text, message = CONFIGS[kind]
    (project / "config" / "config.yaml").write_text(str(text))
    is_refused(snakemake(project, "-n"), project, message)
    assert not list(project.rglob(CANARY))


@pytest.mark.parametrize(
    ("name", "kind"),
    [("config/config.yaml", "pipe"), (SHEET, "device"), ("workflow_profiles/slurm/site.yaml", "pipe")],
)
def test_a_pipe_or_device_stops_a_run_that_would_wait_for_it(name, kind, project):
    (project / name).unlink()
    if kind == "pipe":
        os.mkfifo(project / name)
    else:
        (project / name).symlink_to("/dev/zero")
    is_refused(snakemake(project, "-n"), project, f"{name}: .*not a regular file")


LONG = "x" * 300
NO_FILES = {
    "NUL": ({"captures": {"sheet": "\0"}}, "captures", "config.captures.sheet: a NUL"),
    "long sheet": ({"captures": {"sheet": LONG}}, "captures", "File name too long"),
    "long list": ({"captures": {"train": {"split": LONG}}}, "captures", "File name too long"),
    "long logs": ({"driving": {"data_root": LONG}}, "captures", "File name too long"),
    "long people": ({"sharing": {"results_root": LONG}}, "recordings", "File name too long"),
}


@pytest.mark.parametrize("kind", NO_FILES)
def test_a_path_in_the_config_that_no_file_can_have_stops_a_run(kind, project):
    config, target, message = NO_FILES[kind]
    given = [f"{section}={json.dumps(values)}" for section, values in config.items()]
    is_refused(snakemake(project, "-n", target, "--config", *given), project, message)


def test_aliases_that_spare_words_are_fine(tmp_path):
    path = tmp_path / "config.yaml"
    path.write_text("captures: {train: &train {max_steps: 7}}\n")
    text = yaml.safe_load(path.read_text())
    path.write_text("captures: {train: {eval_steps: &a [7, 9], save_steps: *a}}\n")
    assert read_config(text).captures.train.max_steps == 7
    assert read_config(read_yaml(path, "config")).captures.train.save_steps == [7, 9]
