"""The stage `workflow.link`: a run appears in a second place, and nothing of the user's is replaced."""

from itertools import permutations

import pytest

from splatdag.workflow.errors import UserError
from splatdag.workflow.link import main
from splatdag.workflow.result_dirs import check_result_dir, link_of
from splatdag.workflow.stage import Job


@pytest.fixture
def link(tmp_path):
    """Link the run `results/captures/dog/single` to a place in the project; gives the place."""
    run = tmp_path / "results" / "captures" / "dog" / "single"
    run.mkdir(parents=True)
    (run / "splat.ply").write_text("ply")

    def make(place, run=run):
        main(run, tmp_path / place, run.parent / f"result_dir_{run.name}.txt", Job())
        return tmp_path / place

    return make


@pytest.mark.parametrize(
    ("place", "target"),
    [("results/dog_right", "captures/dog/single"), ("a/b/dog", "../../results/captures/dog/single")],
)
def test_the_link_is_relative_so_that_a_project_can_be_moved(link, tmp_path, place, target):
    assert str(link(place).readlink()) == target
    assert (tmp_path / place / "splat.ply").read_text() == "ply"
    assert (tmp_path / "results/captures/dog/result_dir_single.txt").read_text() == f"{tmp_path / place}\n"
    assert link(place).exists(), "a second time too"


def test_a_relative_link_is_right_where_a_folder_on_the_way_is_a_link(link, tmp_path):
    (tmp_path / "disk" / "deep").mkdir(parents=True)
    (tmp_path / "scratch").symlink_to("disk/deep")
    assert (link("scratch/dog") / "splat.ply").read_text() == "ply"


def test_what_is_there_already_stays(link, tmp_path):
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "thesis.txt").write_text("years of work")
    (tmp_path / "theirs").symlink_to("mine")
    for place in ("mine", "mine/thesis.txt", "theirs"):
        with pytest.raises(UserError, match="link: .* is already there, .*; move it away"):
            link(place)
    assert (tmp_path / "theirs" / "thesis.txt").read_text() == "years of work"
    assert not (tmp_path / "results/captures/dog/result_dir_single.txt").exists()


def test_a_run_that_is_not_there_is_refused(link, tmp_path):
    with pytest.raises(UserError, match="run_dir: no such folder"):
        link("dog", run=tmp_path / "nowhere")
    assert not (tmp_path / "dog").is_symlink()


@pytest.fixture
def runs(tmp_path):
    """The three runs of a capture, each with its name in a file."""
    folder = tmp_path / "results" / "captures" / "dog"
    for variant in ("single", "combined", "filtered"):
        (folder / variant).mkdir(parents=True)
        (folder / variant / "name.txt").write_text(variant)
    return folder


@pytest.mark.parametrize("order", list(permutations(("single", "combined", "filtered"))))
def test_a_pair_and_a_single_run_appear_in_one_place_in_any_order(runs, tmp_path, order):
    place = tmp_path / "out" / "dog"
    for variant in order:
        check_result_dir(place, runs / "single", runs.parent, "row")
        main(runs / variant, link_of(place, variant), runs / f"result_dir_{variant}.txt", Job())
    check_result_dir(place, runs / "single", runs.parent, "row")
    for folder, variant in ((place, "single"), (place / "combined", "combined"), (place / "filtered", "filtered")):
        assert (folder / "name.txt").read_text() == variant


def test_the_place_of_a_pair_is_a_folder_with_their_links_alone(runs, tmp_path):
    place = tmp_path / "out" / "dog"
    main(runs / "combined", link_of(place, "combined"), runs / "result_dir_combined.txt", Job())
    assert [path.name for path in place.iterdir()] == ["combined"]
    (place / "notes.txt").touch()
    with pytest.raises(UserError, match="row: .*/dog is already there, a folder; move it away"):
        check_result_dir(place, runs / "single", runs.parent, "row")
    with pytest.raises(UserError, match="link: .*/dog is already there, a folder; move it away"):
        main(runs / "single", place, runs / "result_dir_single.txt", Job())
    assert (place / "notes.txt").exists()
