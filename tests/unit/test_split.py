"""Which photos are trained on and which held out: the rules of the old scripts' users."""

import re

import pytest

from splatdag.scene.split import check_split, split_photos
from splatdag.workflow.errors import UserError

DOG = [f"{side}_{index:02}.jpg" for side in ("LEFT", "RIGHT") for index in range(8)]
"""16 photos, two words."""


@pytest.fixture
def split(tmp_path):
    """Split the dog's photos, or others, with some options; a list file is written from `lines`."""

    def run(names=DOG, *, lines=None, **options):
        if lines is not None:
            (tmp_path / "held_out.txt").write_text(lines)
            options["split"] = "held_out.txt"
        defaults = {"split": "test_every", "test_every": 8, "match_string": None, "eval_match_string": None}
        return split_photos(names, **{**defaults, **options}, data_dir=tmp_path)

    return run


def test_every_eighth_photo_from_the_first_is_held_out(split):
    train, held_out = split()
    assert held_out == ["LEFT_00.jpg", "RIGHT_00.jpg"]
    assert sorted(train + held_out) == DOG


@pytest.mark.parametrize("options", [{"split": "all"}, {"test_every": 1}])
def test_all_trains_on_what_it_evaluates(split, options):
    assert split(**options) == (DOG, DOG)


def test_the_split_is_made_before_the_word_filters_each_side(split):
    """Filtered first, RIGHT_00 and RIGHT_05 would be held out."""
    train, held_out = split(test_every=5, match_string="right")
    assert held_out == ["RIGHT_02.jpg", "RIGHT_07.jpg"]  # 10 and 15 of all
    assert train == [f"RIGHT_{index:02}.jpg" for index in (0, 1, 3, 4, 5, 6)]


@pytest.mark.parametrize(
    ("word", "name", "same"),
    [
        ("right", "a/RIGHT.png", True),
        ("right", "upright_1.png", False),
        ("right", "right2.png", False),
        ("right", "x-right_2.png", True),
        ("right", "RIGHT/1.png", True),
        ("a.b", "1_a.b.png", True),
        ("a.b", "1_axb.png", False),
        ("cam 1", "my cam 1.png", True),
        ("(x)", "photo(x).png", False),
        ("_x", "a_x.png", False),
        ("_x", "-_x-.png", True),
    ],
)
def test_a_word_matches_whole_and_in_any_case(split, word, name, same):
    """The oracle is the old rule (?<![A-Za-z0-9])TOKEN(?![A-Za-z0-9]), worked out by hand."""
    if same:
        assert split([name], split="all", match_string=word) == ([name], [name])
    else:
        with pytest.raises(UserError, match="no photo has the word"):
            split([name], split="all", match_string=word)


def test_the_evaluation_has_a_word_of_its_own(split):
    train, held_out = split(match_string="RIGHT", eval_match_string="LEFT")
    assert (len(train), held_out) == (7, ["LEFT_00.jpg"])
    assert split(match_string="RIGHT")[1] == ["RIGHT_00.jpg"], "unset: as match_string"
    assert split(match_string="RIGHT", eval_match_string="")[1] == ["LEFT_00.jpg", "RIGHT_00.jpg"], "empty: all"
    assert split(eval_match_string="LEFT")[1] == ["LEFT_00.jpg"], "for combined"


def test_an_empty_word_is_none(split):
    assert split(match_string="") == split()


def test_a_list_file_names_what_is_held_out(split):
    train, held_out = split(lines="\ufeff# mine\n\nRIGHT_03.jpg\n  LEFT_01 \n")
    assert held_out == ["LEFT_01.jpg", "RIGHT_03.jpg"], "in the photos' order; a stem will do"
    assert sorted(train + held_out) == DOG


def test_a_list_file_may_lie_anywhere(split, tmp_path):
    elsewhere = tmp_path / "elsewhere" / "list.txt"
    elsewhere.parent.mkdir()
    elsewhere.write_text("LEFT_02.jpg")
    assert split(split=str(elsewhere))[1] == ["LEFT_02.jpg"]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"match_string": "RIHGT"}, "train.match_string: no photo has the word .* the nearest is RIGHT"),
        ({"match_string": "top"}, "no photo has the word 'top' in its name; known are LEFT, RIGHT"),
        ({"names": ["1.jpg", "2.jpg"], "match_string": "top"}, "photos that are there: 1.jpg, 2.jpg"),
        ({"names": [f"{c}_.jpg" for c in "abcdefghijklm"], "match_string": "0"}, "words that are there: a, b, .* h …$"),
        ({"eval_match_string": "up"}, "train.eval_match_string: no photo has the word 'up'"),
        ({"names": ["a.jpg"]}, "test_every 8 leaves none of 1 photos to train on"),
        ({"lines": "\n".join(DOG)}, "split held_out.txt leaves none of 16 photos to train on"),
        ({"lines": "LEFT_00\nLEFT_0x.jpg\n"}, "lists LEFT_0x.jpg, but .* no such photo; the nearest is LEFT_0"),
        ({"lines": "\n".join(f"x{i}" for i in range(50))}, "lists x0, .* and 42 more, but"),
        ({"lines": "# nothing\n\n"}, "held_out.txt lists no photo"),
        ({"names": ["a.jpg", "a.png", "b.png"], "lines": "a"}, "'a' may be a.jpg or a.png; write the suffix too"),
        ({"split": "test_evry"}, "test_evry: No such file or directory; give test_every, all, or a file"),
        ({"test_every": 2, "names": ["R_0.jpg", "x_1.jpg"], "match_string": "r"}, "all 1 photos with 'r' are held"),
        (
            {"test_every": 2, "names": ["x_0.jpg", "R_1.jpg"], "match_string": "r"},
            "train.match_string: none of the 1 photos held out by test_every 2 has 'r'; lower test_every",
        ),
    ],
)  # fmt: skip
def test_what_cannot_be_split_is_one_line_that_says_what_to_change(split, options, message):
    with pytest.raises(UserError, match=message) as caught:
        split(**options)
    assert "\n" not in str(caught.value)


def test_a_list_that_is_no_text_is_refused(split, tmp_path):
    (tmp_path / "x.bin").write_bytes(b"\xff\xfe\x00")
    with pytest.raises(UserError, match=re.escape("x.bin: not a text file")):
        split(split="x.bin")


def test_a_list_of_all_photos_is_known_before_cameras_are_found(tmp_path):
    (tmp_path / "all.txt").write_text("\n".join(DOG))
    options = {"split": "all.txt", "match_string": None, "eval_match_string": None}
    with pytest.raises(UserError, match="split all.txt leaves none of 16 photos to train on; hold out fewer"):
        check_split(DOG, **options, data_dir=tmp_path, where="capture dog: train")
