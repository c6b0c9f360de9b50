"""Pairs of runs, words in photos' names, and external datasets."""

import json

import pytest
from support.area_plans import job, write
from support.area_plans import plans as plans
from support.scenes import write_gaussian_scene
from support.sheet_rows import posed as posed
from support.sheet_rows import read as read

from splatdag.captures.config import TrainOptions
from splatdag.captures.options import FrameOptions, PoseOptions
from splatdag.captures.sheet import Stages
from splatdag.workflow.errors import UserError


@pytest.mark.parametrize(
    ("cells", "external", "combined", "filtered"),
    [
        ("", False, [], None),
        ("\t1", False, ["--eval-match-string=1"], ["--match-string=1"]),
        ("\t1\t2", False, ["--eval-match-string=2"], ["--match-string=1", "--eval-match-string=2"]),
        ('\t1\t""', False, [], ["--match-string=1", "--eval-match-string="]),
        ("\t1", True, [], ["--match-string=1", "--eval-match-string="]),
        ("\t1\t2", True, ["--eval-match-string=2"], ["--match-string=1", "--eval-match-string=2"]),
        ("\t1\t1", True, ["--eval-match-string=1"], ["--match-string=1"]),
    ],
)
def test_both_variants_are_evaluated_on_the_same_photos(read, cells, external, combined, filtered):
    """The old script for two runs: the first trains on all photos, the second on those that match."""
    header = "capture\tdata_dir\tmatch_string\teval_match_string\n"
    dog = read(f"{header}dog\tphotos{cells}\n")["dog"]
    assert dog.dual_variants == (("combined", "filtered") if filtered else ("combined",))
    assert dog.stages.train_flags("combined", external) == ["--preset=small", *combined]
    if filtered:
        assert dog.stages.train_flags("filtered", external) == ["--preset=small", *filtered]


@pytest.mark.parametrize(
    ("columns", "cells", "message"),
    [
        ("match_string", "RIGHT", "line 2: capture a: train.match_string: no photo has the word 'RIGHT'"),
        (
            "match_string\teval_match_string",
            "3\tRIGHT",
            "capture a: train.eval_match_string: no photo has the word 'RIGHT'",
        ),
        (
            "eval_dir\teval_match_string",
            "other\t3",
            "capture a: eval_dir: eval_match_string: no photo has the word '3'",
        ),
        ("train.split", "list.txt", "capture a: train.split: .*list.txt lists x9, but there is no such photo"),
        ("train.split", "nowhere.txt", "capture a: train.split: .*nowhere.txt: No such file"),
    ],
)
def test_a_word_that_no_photo_has_is_told_before_anything_runs(read, posed, tmp_path, columns, cells, message):
    (tmp_path / "left" / "list.txt").write_text("1.png\nx9\n")
    other = write_gaussian_scene(tmp_path / "other") / "images"
    (other / "3.png").rename(other / "x3x.png")
    with pytest.raises(UserError, match=message):
        read(f"capture\tdata_dir\t{columns}\na\tleft\t{cells}\n")


def test_a_match_string_of_the_config_is_that_of_all_rows(read):
    shared = Stages(FrameOptions(), PoseOptions(), TrainOptions(match_string="1"))
    rows = read('capture\tdata_dir\tmatch_string\na\tphotos\nb\tphotos\t""\n', shared)
    assert (rows["a"].dual_variants, rows["b"].dual_variants) == (("combined", "filtered"), ("combined",))


@pytest.fixture
def plan(plans, photos):
    """Plan the captures of a sheet of this text."""

    def make(text, **more):
        write("config/captures.tsv", text)
        return plans(**more)["captures"]

    return make


def test_an_external_dataset_adds_an_evaluation_to_every_run(plan, posed):
    captures = plan("capture\tdata_dir\teval_dir\tmatch_string\na\t../left\t.././eval/\t3\nb\t../photos\n")
    targets = captures.targets()
    assert (
        targets["captures"]()
        == captures.asked()
        == [
            "results/captures/a/single/manifest.json",
            "results/captures/a/single/eval_on_eval/manifest.json",
            "results/captures/b/single/manifest.json",
        ]
    )
    assert targets["captures_dual"]() == [
        "results/captures/a/combined/manifest.json",
        "results/captures/a/combined/eval_on_eval/manifest.json",
        "results/captures/a/filtered/manifest.json",
        "results/captures/a/filtered/eval_on_eval/manifest.json",
        "results/captures/b/combined/manifest.json",
    ]
    assert list(captures.lines("captures")) == []
    assert list(captures.lines("captures_dual")) == ["captures_dual: b: no match_string, so only `combined` is planned"]
    assert posed[1].samefile(captures.eval_data(job(capture="a", variant="single", eval_name="eval")))
    for capture, has in (("a", "eval_on_eval"), ("b", "no eval_dir")):
        with pytest.raises(UserError, match=f"capture {capture}: asked for eval_on_other, but the row has {has}"):
            captures.eval_data(job(capture=capture, variant="single", eval_name="other"))


def test_a_job_of_no_row_or_of_a_variant_that_the_row_has_not_is_one_line(plan):
    captures = plan("capture\tdata_dir\tmatch_string\nleft\t../photos\t1\nright\t../photos\t\n")
    flags = captures.train_flags(job(capture="left", variant="filtered"))
    assert "--match-string=1" in flags
    with pytest.raises(UserError, match=r"capture right: no match_string, so there is no variant `filtered`"):
        captures.train_flags(job(capture="right", variant="filtered"))
    with pytest.raises(UserError, match=r"config/captures.tsv: no capture 'lfet'; the nearest is left"):
        captures.train_flags(job(capture="lfet", variant="single"))


def test_of_many_rows_without_a_match_string_a_few_are_named(plan):
    captures = plan("capture\tdata_dir\n" + "".join(f"c{i}\t../photos\n" for i in range(8)))
    assert list(captures.lines("captures_dual")) == [
        "captures_dual: c0, c1, c2, c3, c4 and 3 more: no match_string, so only `combined` is planned"
    ]


@pytest.mark.parametrize(
    ("row", "message"),
    [
        ("photos\teval", "capture a: eval_dir: needs a capture that comes with its cameras .* a frame of their own"),
        ("sample:room\teval", "capture a: eval_dir: needs a capture that comes with its cameras"),
        ("left\tnowhere", "capture a: eval_dir: no such folder: "),
        ("left\tphotos", "capture a: eval_dir: no folder images in "),
        ("left\tposeless", "capture a: eval_dir: no COLMAP model in "),
        ("left\thalf", "capture a: eval_dir: .*sparse: no COLMAP model in it"),
        ("left\tno photos", "capture a: eval_dir: no photos"),
        ("left\todd name", "eval_dir: the last part, which names the folder eval_on_…: 'odd name' is not a name"),
    ],
)
def test_an_external_dataset_without_cameras_in_the_same_frame_is_refused(read, posed, tmp_path, row, message):
    (tmp_path / "poseless" / "images").mkdir(parents=True)
    (tmp_path / "poseless" / "images" / "1.png").touch()
    (tmp_path / "half" / "images").mkdir(parents=True)
    (tmp_path / "half" / "images" / "1.png").touch()
    (tmp_path / "half" / "sparse").mkdir()
    (tmp_path / "no photos" / "images").mkdir(parents=True)
    (tmp_path / "odd name").symlink_to(posed[1])
    with pytest.raises(UserError, match=message) as caught:
        read(f"capture\tdata_dir\teval_dir\na\t{row}\n")
    assert "\n" not in str(caught.value)


def test_cameras_in_a_transforms_json_are_a_world_frame_too(read, posed, tmp_path, photos):
    frame = {"file_path": "0.jpg", "transform_matrix": [[1, 0, 0, 0], [0, 1, 0, 0], [0, 0, 1, 0], [0, 0, 0, 1]]}
    (photos / "transforms.json").write_text(json.dumps({"fl_x": 30, "frames": [frame]}))
    assert read("capture\tdata_dir\teval_dir\na\tphotos\teval\n")["a"].eval_name == "eval"


def test_status_has_the_stages_of_a_pair_once_one_was_begun(plan, posed, tmp_path):
    (tmp_path / "walk.mp4").touch()
    sheet = "capture\tdata_dir\teval_dir\tresult_dir\na\t../left\t../eval\tmine\nb\t../walk.mp4\n"

    def planned():
        return [f"{stage.scene} {stage.stage}" for stage in plan(sheet).stages()]

    single = ["a pose", "a train", "a evaluate", "a link", "b frames", "b pose", "b train"]
    assert planned() == single
    write("logs/captures/a/filtered/train.log")
    of_pair = ["a/filtered train", "a/filtered evaluate", "a/filtered link"]
    assert planned() == [*single[:4], *of_pair, *single[4:]]
    write("results/captures/b/combined/manifest.json")
    assert planned() == [*single[:4], *of_pair, *single[4:], "b/combined train"]


def test_a_link_is_asked_for_beside_each_run(plan):
    captures = plan("capture\tdata_dir\tmatch_string\tresult_dir\na\t../photos\t1\tresults/mine\nb\t../photos\t\t\n")
    assert captures.single_files() == [
        "results/captures/a/single/manifest.json",
        "results/captures/a/result_dir_single.txt",
        "results/captures/b/single/manifest.json",
    ]
    assert [file for file in captures.dual_files() if file.endswith(".txt")] == [
        "results/captures/a/result_dir_combined.txt",
        "results/captures/a/result_dir_filtered.txt",
    ]
    links = [captures.result_link(job(capture="a", variant=name)) for name in ("single", "combined", "filtered")]
    assert links == ["results/mine", "results/mine/combined", "results/mine/filtered"]
    with pytest.raises(UserError, match="capture b: no result_dir, so there is no link to make"):
        captures.result_link(job(capture="b", variant="single"))


def test_a_row_may_ask_for_one_variant_of_a_pair(read):
    given = [("a", "filtered"), ("b", "combined"), ("c", "")]
    lines = [f"{name}\tphotos\t1\t{variant}" for name, variant in given]
    rows = read("\n".join(["capture\tdata_dir\tmatch_string\tvariant", *lines]))
    assert [rows[name].dual_variants for name in "abc"] == [("filtered",), ("combined",), ("combined", "filtered")]
    with pytest.raises(UserError, match="capture a: variant: combined or filtered, not 'filter'.*filtered"):
        read("capture\tdata_dir\tvariant\na\tphotos\tfilter\n")
    with pytest.raises(UserError, match="capture a: variant filtered needs a match_string"):
        read("capture\tdata_dir\tvariant\na\tphotos\tfiltered\n")
