"""Which recordings are asked for."""

import os

import pytest
from splatdag.humans.targets import human_results, wanted
from splatdag.workflow.plan import RunRecording

from splatdag.humans.results_tree import Recording, inputs_digest, names_and_sizes
from splatdag.recording.options import RunSelection
from splatdag.workflow.errors import UserError
from splatdag.workflow.options import validated

EPOCHS = {"nvs": "evaluation/{}/nvs", "pose": "evaluation/{}/pose_smplx"}
GENERATED = "input_data/train/misc/nv_generation/pose_state/epoch_0006"


@pytest.fixture
def tree(tmp_path):
    """Two scenes of one experiment and one of another; the second has no poses in its last epoch."""
    for run, epochs in (
        ("hi4d_pair16_jump/old", ("epoch_0000", "epoch_0010")),
        ("hi4d_pair17_dance/old", ("epoch_0000", "epoch_0010")),
        ("hi4d_pair16_jump/new", ("epoch_0000",)),
    ):
        for epoch in epochs:
            for task, folder in EPOCHS.items():
                if (run, task, epoch) != ("hi4d_pair17_dance/old", "pose", "epoch_0010"):
                    (tmp_path / run / folder.format(epoch)).mkdir(parents=True)
        (tmp_path / run / GENERATED).mkdir(parents=True)
    (tmp_path / "hi4d_pair16_jump" / "notes").mkdir()
    (tmp_path / "README.txt").touch()
    return tmp_path


def files(tree, **selection):
    options = validated(RunSelection, {"results_root": str(tree), **selection}, "config.sharing")
    return {recording.file for recording in found(options)[1]}


def found(options):
    runs = [
        RunRecording("room", variant, f"captures/room/{variant}/rerun/capture.rrd")
        for variant in ("single", "filtered")
    ]
    return wanted(options, runs, human_results(options, "results"), ("s", "e"), {})


def test_all_tasks_and_epochs_of_all_runs_are_asked_for(tree):
    assert len(files(tree)) == 4 + 3 + 2 + 3
    assert "hi4d_pair16_jump/old/rerun/evaluation_nvs_epoch_0010.rrd" in files(tree)
    assert "hi4d_pair16_jump/new/rerun/trn_nv_generation_epoch_0006.rrd" in files(tree)


@pytest.mark.parametrize(
    ("selection", "captures", "people"),
    [
        ({}, ["room/single", "room/filtered"], 12),
        ({"exp_name": "single"}, ["room/single"], 0),
        ({"exp_name": "new"}, [], 3),
        ({"scene_name_includes": "oo"}, ["room/single", "room/filtered"], 0),
        ({"exp_name": "old", "scene_name_includes": "pair17"}, [], 4),
    ],
)
def test_experiment_and_scene_are_selected_of_every_area(tree, selection, captures, people):
    of_captures, of_people = found(validated(RunSelection, {"results_root": str(tree), **selection}, "config.sharing"))
    assert of_captures == [f"captures/{run}/rerun/capture.rrd" for run in captures]
    assert len(of_people) == people


@pytest.mark.parametrize("epoch", ["epoch_0010", "10", 10])
def test_one_epoch_may_be_named_in_three_ways(tree, epoch):
    asked = files(tree, epoch=epoch, tasks="nvs", exp_name="old")
    assert asked == {f"hi4d_{pair}/old/rerun/evaluation_nvs_epoch_0010.rrd" for pair in ("pair16_jump", "pair17_dance")}


def test_the_latest_epoch_is_each_runs_and_tasks_own(tree):
    assert files(tree, epoch="latest", scene_name_includes="pair17") == {
        "hi4d_pair17_dance/old/rerun/evaluation_nvs_epoch_0010.rrd",
        "hi4d_pair17_dance/old/rerun/evaluation_pose_epoch_0000.rrd",
        "hi4d_pair17_dance/old/rerun/trn_nv_generation_epoch_0006.rrd",
    }


def test_epochs_count_by_number(tree):
    for epoch in ("epoch_9999", "epoch_10000"):
        (tree / "hi4d_pair16_jump/new/evaluation" / epoch / "nvs").mkdir(parents=True)
    latest = files(tree, epoch="latest", tasks="nvs", exp_name="new")
    assert latest == {"hi4d_pair16_jump/new/rerun/evaluation_nvs_epoch_10000.rrd"}


def test_an_epoch_that_a_run_lacks_is_asked_for_so_that_its_job_says_so(tree):
    asked = files(tree, epoch="10", tasks=["pose", "trn_nv_generation"], scene_name_includes="pair17")
    assert asked == {"hi4d_pair17_dance/old/rerun/evaluation_pose_epoch_0010.rrd"}
    alone = files(tree, epoch="10", tasks="trn_nv_generation", scene_name_includes="pair17")
    assert alone == {"hi4d_pair17_dance/old/rerun/trn_nv_generation_epoch_0010.rrd"}


@pytest.mark.parametrize(
    ("selection", "message"),
    [
        ({"exp_name": "odl"}, "config.sharing.exp_name: there is no run of 'odl'; the nearest is old"),
        ({"scene_name_includes": "x"}, "no scene with 'x'; there are room, hi4d_pair16_jump, hi4d_pair17_dance"),
        ({"results_root": "nowhere"}, "config.sharing.results_root: no such folder: nowhere"),
        ({"tasks": "nvs,poes"}, "config.sharing.tasks.1: input should be 'nvs', 'pose' or"),
        ({"tasks": []}, "config.sharing.tasks: list should have at least 1 item"),
        ({"epoch": "last"}, "config.sharing.epoch: string should match pattern"),
        ({"epoch": True}, "config.sharing.epoch: input should be a valid string"),
    ],
)
def test_a_selection_of_nothing_is_refused(tree, selection, message):
    with pytest.raises(UserError, match=message):
        files(tree, **selection)


def test_without_results_nothing_is_asked_for(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert files("results/humans") == set()


def digest(tree, recording):
    names_and_sizes.cache_clear()  # as in the next run of Snakemake
    return inputs_digest(tree, recording, tree / "scenes")


def test_the_digest_is_of_names_sizes_and_the_source_camera(tree):
    recording = Recording("hi4d_pair16_jump", "old", "nvs", "epoch_0010")
    image = tree / recording.run / "evaluation/epoch_0010/nvs/pred/000001.jpg"
    seen = [digest(tree, recording)]
    image.parent.mkdir()
    image.write_text("one")
    seen.append(digest(tree, recording))
    image.write_text("two")
    assert digest(tree, recording) == seen[-1], "same size"
    (tree / recording.run / "evaluation/epoch_0000/nvs/other.jpg").touch()
    assert digest(tree, recording) == seen[-1], "another epoch"
    image.write_text("three")
    seen.append(digest(tree, recording))
    (tree / "scenes").mkdir()
    (tree / "scenes" / "hi4d_pair16_jump.json").write_text('{"cam_id": 4}')
    seen.append(digest(tree, recording))
    assert len(set(seen)) == len(seen)


def test_a_link_to_nothing_hides_no_other_file(tree):
    recording = Recording("hi4d_pair16_jump", "old", "nvs", "epoch_0010")
    folder = tree / recording.run / "evaluation/epoch_0010/nvs"
    (folder / "000001.jpg").symlink_to(tree / "gone.jpg")
    (folder / "000002.jpg").write_text("one")
    seen = digest(tree, recording)
    (folder / "000002.jpg").write_text("three")
    changed = digest(tree, recording)
    (tree / "gone.jpg").write_text("back")
    assert len({seen, changed, digest(tree, recording)}) == 3


def test_what_several_epochs_are_made_from_is_looked_at_once(tree, monkeypatch):
    names_and_sizes.cache_clear()
    looked, scandir = [], os.scandir
    monkeypatch.setattr(os, "scandir", lambda folder: looked.append(str(folder)) or scandir(folder))
    for epoch in ("epoch_0006", "epoch_0007"):
        inputs_digest(tree, Recording("hi4d_pair16_jump", "old", "trn_nv_generation", epoch), tree)
    assert sum(folder.endswith("input_data/train/images") for folder in looked) == 1
