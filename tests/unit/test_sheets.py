"""Sheets are checked before anything is planned."""

import pytest

from splatdag.captures.options import PoseOptions, TrainOptions
from splatdag.captures.sheet import read_captures
from splatdag.workflow.errors import UserError


@pytest.fixture
def read(tmp_path, photos):
    def read(text):
        sheet = tmp_path / "captures.tsv"
        sheet.write_bytes(text.encode() if isinstance(text, str) else text)
        return read_captures(sheet, PoseOptions(), TrainOptions(preset="small"))

    return read


def test_paths_are_relative_to_the_sheet(read, photos):
    assert read("capture\tdata_dir\ndog\tphotos\n")["dog"].data_dir == photos


def test_a_row_overrides_options_of_its_stages(read):
    rows = read(
        "# mine\ncapture\tdata_dir\ttrain.max_steps\ttrain.eval_steps\ttrain.strategy.absgrad\tpose.matching\n"
        "dog\tphotos\t7\t[1, 2]\tfalse\tsequential\ncat\tphotos\n"
    )
    dog = "--preset=small --max-steps=7 --eval-steps 1 2 --strategy.no-absgrad"
    assert (rows["dog"].train_flags, rows["dog"].pose_flags) == (dog.split(), ["--matching=sequential"])
    assert (rows["cat"].train_flags, rows["cat"].pose_flags) == (["--preset=small"], [])


def test_a_row_may_take_another_preset(read):
    rows = read("capture\tdata_dir\ttrain.preset\na\tphotos\tdefault\nb\tphotos\t\n")
    assert (rows["a"].train_flags, rows["b"].train_flags) == (["--preset=default"], ["--preset=small"])


@pytest.mark.parametrize(
    "name",
    ["a/b", "..", ".hidden", "-rf", "a b", "a'b", 'a"b', "a;b", "$(x)", "ünï", "a..b", "x" * 101, "a\u202eb"],
)
def test_a_name_that_could_do_harm_is_refused(read, name):
    with pytest.raises(UserError, match=r"captures.tsv, line 2: capture: .* is not a name"):
        read(f"capture\tdata_dir\n{name}\tphotos\n")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("capture\tdata_dir\na\tphotos\na\tphotos\n", "capture 'a' is there twice, first in .*, line 2"),
        ("capture\tdata_dirr\na\tphotos\n", "line 1: unknown column 'data_dirr'; the nearest is data_dir"),
        ("capture data_dir\na photos\n", "line 1: unknown column 'capture data_dir'.*tab-separated"),
        ("data_dir\nphotos\n", "line 1: no column 'capture'"),
        ("capture\tdata_dir\na\n", "line 2: capture a: no data_dir"),
        ("capture\tdata_dir\na\tphotos\tx\n", "line 2: 3 cells, but the header has 2"),
        ("capture\tdata_dir\na\tnowhere\n", "line 2: capture a: data_dir: no such folder"),
        ("capture\tdata_dir\na\tsample:rooom\n", "data_dir: no sample 'rooom'; the nearest is room"),
        (
            "capture\tdata_dir\ttrain.max_step\na\tphotos\t3\n",
            "capture a: train.max_step: unknown key; the nearest is max_steps",
        ),
        (
            "capture\tdata_dir\ttrain.max_steps\na\tphotos\t-3\n",
            "train.max_steps: input should be greater than 0, not -3",
        ),
        ("capture\tdata_dir\ttrain.max_steps\na\tphotos\t[1\n", "train.max_steps: can't read '\\[1'"),
        ("capture\tcapture\na\ta\n", "column 'capture' is there twice"),
        (b"\xff\xfe\x00c", "not a text file"),
    ],
)
def test_a_wrong_sheet_is_one_line_that_names_the_place(read, text, message):
    with pytest.raises(UserError, match=message) as caught:
        read(text)
    assert "\n" not in str(caught.value)


def test_an_empty_sheet_asks_for_nothing(read):
    assert read("capture\tdata_dir\n") == {}


def test_ten_thousand_rows_are_read_in_seconds(read):
    assert len(read("capture\tdata_dir\n" + "".join(f"c{i}\tphotos\n" for i in range(10_000)))) == 10_000
