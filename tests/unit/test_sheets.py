"""Sheets are checked before anything is planned."""

from pathlib import Path

import pytest
from support.sheet_rows import SHARED, train_flags
from support.sheet_rows import posed as posed
from support.sheet_rows import read as read

from splatdag.captures.config import TrainOptions
from splatdag.captures.options import FrameOptions, PoseOptions
from splatdag.captures.sheet import Stages, read_captures, row_notices
from splatdag.config import Config, notice_lines, notices, read_config
from splatdag.workflow.errors import UserError


def test_paths_are_relative_to_the_sheet(read, photos):
    assert read("capture\tdata_dir\ndog\tphotos\n")["dog"].data_dir == photos


def test_a_row_overrides_options_of_its_stages(read):
    rows = read(
        "# mine\ncapture\tdata_dir\ttrain.max_steps\ttrain.eval_steps\ttrain.strategy.absgrad\tpose.matching\n"
        "dog\tphotos\t7\t[1, 2]\tfalse\tsequential\ncat\tphotos\n"
    )
    dog = "--preset=small --max-steps=7 --eval-steps 1 2 --strategy.no-absgrad"
    assert (train_flags(rows["dog"]), rows["dog"].stages.pose_flags) == (dog.split(), ["--matching=sequential"])
    assert (train_flags(rows["cat"]), rows["cat"].stages.pose_flags) == (["--preset=small"], [])


def test_a_row_without_a_preset_leaves_it_to_the_device_and_keeps_what_was_given(read):
    shared = Stages(FrameOptions(), PoseOptions(), TrainOptions(max_steps=30_000))
    sheet = "capture\tdata_dir\tmatch_string\tpreset\ttrain.sh_degree\n"
    rows = read(sheet + "a\tphotos\nb\tphotos\t1\t\t3\nc\tphotos\t\tdefault\n", shared)
    given = ["--preset=auto", "--max-steps=30000"]
    assert train_flags(rows["a"]) == given
    assert train_flags(rows["b"]) == [*given, "--sh-degree=3", "--match-string=1"]
    assert train_flags(rows["b"], "combined") == [*given, "--sh-degree=3", "--eval-match-string=1"]
    assert train_flags(rows["c"]) == ["--preset=default"]


@pytest.mark.parametrize("cell", ["null", "None", "~", '""'])
def test_a_row_may_unset_what_the_config_or_its_preset_sets(read, cell):
    shared = Stages(FrameOptions(), PoseOptions(), TrainOptions(preset="small", match_string="left"))
    sheet = f"capture\tdata_dir\tmatch_string\ttrain.max_init_points\na\tphotos\t{cell}\t{cell}\n"
    assert train_flags(read(sheet, shared)["a"]) == ["--preset=small", "--max-init-points=None"]


def test_a_row_may_take_another_preset(read):
    rows = read("capture\tdata_dir\ttrain.preset\na\tphotos\tdefault\nb\tphotos\t\n")
    assert (train_flags(rows["a"]), train_flags(rows["b"])) == (["--preset=default"], ["--preset=small"])


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


@pytest.mark.parametrize("column", ["data_dir", "eval_dir", "result_dir"])
@pytest.mark.parametrize(
    ("path", "message"),
    [
        ("~nobody-of-that-name/x", "~nobody-of-that-name/x: no such user; write ./~nobody-of-that-name/x for a folder"),
        ("x" * 300, "can't read .*: File name too long"),
    ],
)
def test_a_path_that_cannot_be_is_one_line_that_names_the_place(read, posed, column, path, message):
    cells = {"capture": "a", "data_dir": "left"} | {column: path}
    with pytest.raises(UserError, match=f"line 2: capture a: {column}: {message}") as caught:
        read("\t".join(cells) + "\n" + "\t".join(cells.values()) + "\n")
    assert "\n" not in str(caught.value)


def test_a_folder_that_begins_with_a_tilde_can_be_written(read, photos):
    photos.rename(photos.parent / "~data")
    assert read("capture\tdata_dir\na\t./~data\n")["a"].data_dir == photos.parent / "~data"


def test_an_empty_sheet_asks_for_nothing(read):
    assert read("capture\tdata_dir\n") == {}


def test_ten_thousand_rows_are_read_in_seconds(read):
    assert len(read("capture\tdata_dir\n" + "".join(f"c{i}\tphotos\n" for i in range(10_000)))) == 10_000


# Columns that were arguments of the old scripts


def test_columns_without_a_stage_are_options_of_the_training(read, photos):
    (photos / "IMG_0012.jpg").touch()
    rows = read('capture\tdata_dir\tpreset\tmatch_string\teval_match_string\na\tphotos\ttuned\t0012\t""\nb\tphotos\n')
    assert train_flags(rows["a"]) == ["--preset=tuned", "--match-string=0012", "--eval-match-string="]
    assert rows["b"].stages is SHARED


def test_a_column_and_its_other_form_are_refused_together(read):
    with pytest.raises(UserError, match="line 2: capture a: both match_string and train.match_string"):
        read("capture\tdata_dir\tmatch_string\ttrain.match_string\na\tphotos\tx\ty\n")


def test_a_video_is_a_capture(read, tmp_path):
    (tmp_path / "walk.MP4").touch()
    rows = read("capture\tdata_dir\tframes.num_frames\na\twalk.MP4\t30\nb\tphotos\n")
    assert (rows["a"].is_video, rows["a"].stages.frames_flags, rows["b"].is_video) == (True, ["--num-frames=30"], False)
    with pytest.raises(UserError, match="capture a: data_dir: no such video: .*run.mov"):
        read("capture\tdata_dir\na\trun.mov\n")


@pytest.fixture
def in_project(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    return tmp_path


def test_a_result_folder_is_relative_to_the_working_directory(read, in_project):
    rows = read("capture\tdata_dir\tresult_dir\na\tphotos\tresults/a_tuned\nb\tphotos\n")
    assert [rows[name].result_dir for name in "ab"] == [Path("results/a_tuned"), None]
    run = in_project / "results" / "captures" / "a" / "single"
    run.mkdir(parents=True)
    (in_project / "results" / "a_tuned").symlink_to("captures/a/single")
    assert read("capture\tdata_dir\tresult_dir\na\tphotos\tresults/a_tuned\n"), "our link may be there already"


@pytest.mark.parametrize(
    ("rows", "message"),
    [
        ("a\tphotos\tphotos", "line 2: capture a: result_dir: photos is already there, a folder; move it away"),
        ("a\tphotos\tcaptures.tsv", "captures.tsv is already there, a file"),
        ("a\tphotos\telsewhere", "elsewhere is already there, a link to elsewhere"),
        ("a\tphotos\tresults/captures/a/single", "can't be a link, since the runs themselves are in .*captures"),
        ("a\tphotos\tresults/captures/x", "can't be a link"),
        ("a\tphotos\tresults/x/../captures/a", "can't be a link"),
        ("a\tphotos\tresults", "can't be a link"),
        ("a\tphotos\tx\nb\tphotos\t./x/", "line 3: capture b: result_dir: x is that of capture a too"),
        ("a\tphotos\tx/y\nb\tphotos\tx", "line 2: capture a: result_dir: x/y is inside that of capture b"),
    ],
)
def test_a_result_folder_takes_nothing_of_the_users_place(read, in_project, rows, message):
    (in_project / "elsewhere").symlink_to(in_project / "photos")
    with pytest.raises(UserError, match=message) as caught:
        read(f"capture\tdata_dir\tresult_dir\n{rows}\n")
    assert "\n" not in str(caught.value)


# Notices


def test_the_config_as_shipped_and_every_preset_but_tuned_say_nothing():
    assert list(notices(Config())) == []
    for preset in ("default", "mcmc", "small"):
        assert list(notices(read_config({"captures": {"train": {"preset": preset}}}))) == []


def test_settings_without_effect_are_told_with_their_section():
    lines = notice_lines(list(notices(read_config({"captures": {"train": {"preset": "tuned"}}}))))
    assert len(lines) == 1
    assert lines[0].startswith(
        "config: captures.train: strategy.prune_scale3d and strategy.prune_scale2d: without effect"
    )


def test_a_row_tells_only_what_its_own_options_add(read):
    shared = Stages(FrameOptions(), PoseOptions(), TrainOptions(preset="tuned"))
    rows = read("capture\tdata_dir\ttrain.depth_lambda\na\tphotos\t0.1\nb\tphotos\n", shared)
    [(where, line)] = row_notices(rows, shared)
    assert where.endswith("captures.tsv, line 2: capture a: train")
    assert line == "depth_lambda: without effect without depth_loss"


def test_a_thousand_rows_with_one_notice_are_one_line_and_with_many_twenty(read):
    same = "capture\tdata_dir\ttrain.depth_lambda\n" + "".join(f"c{i}\tphotos\t0.1\n" for i in range(1000))
    [line] = notice_lines(row_notices(read(same), SHARED))
    assert "line 2: capture c0: train: depth_lambda" in line
    assert line.endswith("(and 999 more rows)")
    other = "capture\tdata_dir\ttrain.eval_steps\n" + "".join(f"c{i}\tphotos\t[{i + 2000}]\n" for i in range(50))
    lines = notice_lines(row_notices(read(other), SHARED))
    assert (len(lines), lines[-1]) == (21, "and 30 more notices of this kind")


# What a row asks a cluster for


def test_a_row_may_ask_a_cluster_for_other_resources_without_changing_its_options(read):
    columns = "capture\tdata_dir\tresources.train.mem_mb\tresources.pose.runtime\tresources.train.gpu_class\n"
    dog = read(f"{columns}dog\tphotos\t64000\t90\th100\n")["dog"]
    assert (dog.resources.train.mem_mb, dog.resources.train.runtime, dog.resources.pose.runtime) == (64000, None, 90)
    assert (dog.resources.train.gpu_class, dog.resources.evaluate.gpu_class) == ("h100", None)
    assert dog.stages is SHARED


@pytest.mark.parametrize(
    ("column", "cell", "message"),
    [
        ("train.mem_mb", "200", "resources.train.mem_mb: input should be greater than or equal to 1000, not 200"),
        ("train.memory", "2000", "resources.train.memory: unknown key"),
        ("trian.mem_mb", "2000", "resources.trian: unknown key; the nearest is train"),
        ("train.gpu_class", "a100", "resources.train.gpu_class: input should be 'any' or 'h100', not 'a100'"),
        ("pose.gpu_class", "h100", "resources.pose.gpu_class: unknown key"),
    ],
)
def test_wrong_resources_are_refused(read, column, cell, message):
    with pytest.raises(UserError, match=f"line 2: capture dog: {message}"):
        read(f"capture\tdata_dir\tresources.{column}\ndog\tphotos\t{cell}\n")


def test_a_job_reads_the_sheet_without_looking_at_files(tmp_path):
    """What has been checked is not looked at again by each of thousands of jobs; the words of a row still are."""
    sheet = tmp_path / "captures.tsv"
    columns = "capture\tdata_dir\teval_dir\tresult_dir\ttrain.max_steps\n"
    sheet.write_text(columns + "dog\tgone\tgone_too\tresults\t7\ncat\tvanished\t\t\t\n")
    found = read_captures(sheet, SHARED, tmp_path / "results", files=False)
    assert (found["dog"].data_dir, found["dog"].eval_name) == (tmp_path / "gone", "gone_too")
    assert found["dog"].stages.train.max_steps == 7
    with pytest.raises(UserError, match="gone"):
        read_captures(sheet, SHARED, tmp_path / "results")
    sheet.write_text(columns + "dog\tgone\t\t\tmany\n")
    with pytest.raises(UserError, match="max_steps"):
        read_captures(sheet, SHARED, tmp_path / "results", files=False)
