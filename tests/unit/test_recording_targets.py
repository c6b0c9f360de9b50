"""Which recordings of people are asked for, and what each is made from."""

import os
import subprocess
from pathlib import Path

import pytest
from support.area_plans import job, write
from support.area_plans import plans as plans
from support.pandaset_logs import swapped

from splatdag.humans import results_tree
from splatdag.humans.results_tree import Recording, inputs_digest
from splatdag.workflow.errors import UserError

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


@pytest.fixture
def planned(plans, tree):
    """Plan recordings of the tree, beside two runs of a capture that are there."""
    write("config/captures.tsv", "capture\tdata_dir\nroom\tsample:room\n")
    for variant in ("single", "filtered"):
        write(f"results/captures/room/{variant}/manifest.json")

    def make(**selection):
        return plans({"sharing": {"results_root": str(tree), **selection}}, targets=["recordings"])

    return make


@pytest.fixture
def files(planned, tree):
    """Recordings of people that are made, relative to the tree."""

    def make(**selection):
        found = planned(**selection)["sharing"].recording_files()
        return {str(Path(file).relative_to(tree)) for file in found if Path(file).is_relative_to(tree)}

    return make


def test_all_tasks_and_epochs_of_all_runs_are_asked_for(files):
    assert len(files()) == 4 + 3 + 2 + 3
    assert "hi4d_pair16_jump/old/rerun/evaluation_nvs_epoch_0010.rrd" in files()
    assert "hi4d_pair16_jump/new/rerun/trn_nv_generation_epoch_0006.rrd" in files()


def test_recordings_of_results_that_may_only_be_read_lie_elsewhere_and_are_published_from_there(planned, tree):
    given = {"output_dir": "mine/", "exp_name": "new"}
    made = planned(**given)["sharing"].recording_files()
    run = "mine/hi4d_pair16_jump/new/rerun"
    assert sorted(made) == [
        f"{run}/{name}.rrd"
        for name in ("evaluation_nvs_epoch_0000", "evaluation_pose_epoch_0000", "trn_nv_generation_epoch_0006")
    ]
    write(f"{run}/by_hand.rrd")
    write(str(tree / "hi4d_pair16_jump/new/rerun/old.rrd"))
    [upload] = planned(**given, upload={"rrd_glob": "*"})["sharing"].uploads[0].values()
    assert upload.run == tree / "hi4d_pair16_jump/new"
    assert [str(path) for path in upload.recordings] == sorted([*made, f"{run}/by_hand.rrd"])


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
def test_experiment_and_scene_are_selected_of_every_area(planned, files, selection, captures, people):
    found = planned(**selection)["sharing"].recording_files()
    of_captures = [f"results/captures/{run}/rerun/capture.rrd" for run in captures]
    assert [file for file in found if file.startswith("results")] == of_captures
    assert len(files(**selection)) == people == len(found) - len(captures)


@pytest.mark.parametrize("epoch", ["epoch_0010", "10", 10])
def test_one_epoch_may_be_named_in_three_ways(files, epoch):
    asked = files(epoch=epoch, tasks="nvs", exp_name="old")
    assert asked == {f"hi4d_{pair}/old/rerun/evaluation_nvs_epoch_0010.rrd" for pair in ("pair16_jump", "pair17_dance")}


def test_the_latest_epoch_is_each_runs_and_tasks_own(files):
    assert files(epoch="latest", scene_name_includes="pair17") == {
        "hi4d_pair17_dance/old/rerun/evaluation_nvs_epoch_0010.rrd",
        "hi4d_pair17_dance/old/rerun/evaluation_pose_epoch_0000.rrd",
        "hi4d_pair17_dance/old/rerun/trn_nv_generation_epoch_0006.rrd",
    }


def test_epochs_count_by_number(tree, files):
    for epoch in ("epoch_9999", "epoch_10000"):
        (tree / "hi4d_pair16_jump/new/evaluation" / epoch / "nvs").mkdir(parents=True)
    latest = files(epoch="latest", tasks="nvs", exp_name="new")
    assert latest == {"hi4d_pair16_jump/new/rerun/evaluation_nvs_epoch_10000.rrd"}


def test_an_epoch_that_a_run_lacks_is_asked_for_so_that_its_job_says_so(files):
    asked = files(epoch="10", tasks=["pose", "trn_nv_generation"], scene_name_includes="pair17")
    assert asked == {"hi4d_pair17_dance/old/rerun/evaluation_pose_epoch_0010.rrd"}
    alone = files(epoch="10", tasks="trn_nv_generation", scene_name_includes="pair17")
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
def test_a_selection_of_nothing_is_refused(files, selection, message):
    with pytest.raises(UserError, match=message):
        files(**selection)


def test_without_results_nothing_is_asked_for(plans):
    assert plans()["sharing"].recording_files() == []


def test_an_absent_folder_of_the_users_is_an_error_of_its_area_alone(plans):
    made = plans({"sharing": {"results_root": "nowhere"}})
    with pytest.raises(UserError, match=r"config\.sharing\.results_root: no such folder: nowhere"):
        made["sharing"].recording_files()
    assert made["captures"].asked() == []


def test_the_bundled_tree_is_recorded_before_it_is_there(plans):
    """A recording makes it, and needs no kernels."""
    made = plans({"sharing": {"results_root": "sample:humans"}}, targets=["recordings"])
    humans, sharing = made["humans"], made["sharing"]
    found = sharing.recording_files()
    assert len(found) == 5
    assert all(file.startswith("results/samples/humans/results/") for file in found)
    assert (sharing.renders(found), list(sharing.lines("recordings"))) == (False, [])
    one = job(scene="s", exp="e", recording="evaluation_nvs", epoch="epoch_0000")
    assert humans.run(one) == "<results>/samples/humans/sample.json"
    assert humans.sample(one).startswith("humans (")
    assert humans.scenes(one) == ("results/samples/humans/scenes")
    digest = humans.digest(one)
    other = plans({"sharing": {"results_root": "sample:humans"}, "samples": {"humans": {"frames": 5}}})["humans"]
    assert other.digest(one) != digest


def test_a_row_of_status_is_an_epoch_and_a_column_a_task(planned):
    stages = [stage for stage in planned(exp_name="new")["sharing"].stages() if stage.area == "humans"]
    assert [(stage.scene, stage.stage) for stage in stages] == [
        ("hi4d_pair16_jump/new/epoch_0000", "record nvs"),
        ("hi4d_pair16_jump/new/epoch_0000", "record pose"),
        ("hi4d_pair16_jump/new/epoch_0006", "record trn_nv_generation"),
    ]
    assert stages[0].log == "humans/hi4d_pair16_jump/new/evaluation_nvs_epoch_0000.log"


@pytest.mark.parametrize("odd", ["people/", "./people", "people/."])
def test_an_oddly_written_folder_is_the_same(plans, odd):
    """Snakemake compares names of files as they are written."""
    Path("people/s/e/evaluation/epoch_0000/nvs").mkdir(parents=True)
    sharing = plans({"sharing": {"results_root": odd}}, targets=["upload"])["sharing"]
    recording = "people/s/e/rerun/evaluation_nvs_epoch_0000.rrd"
    assert sharing.recording_files() == sharing.scene_made(job(exp="e", scene="s")) == [recording]


def test_runs_of_which_only_recordings_are_left_are_published(plans):
    for run in ("a/old", "a/.trash", "b c/old"):
        write(f"people/{run}/rerun/x.rrd")
    write("people/a/new/rerun/.x.rrd")
    sharing = plans({"sharing": {"results_root": "people"}}, targets=["upload"])["sharing"]
    found, troubles = sharing.uploads
    assert [str(scene) for scene in found] == ["old/a"]
    assert [line.split(": ")[1] for line in troubles] == ["people/a/.trash", "people/b c/old"]
    assert (sharing.recording_files(), sharing.scene_made(job(exp="old", scene="a"))) == ([], [])


# One epoch is published


def test_one_epoch_is_published_where_one_is_chosen(planned, tree):
    """All epochs that were recorded earlier were sent."""
    for epoch in ("0000", "0010"):
        write(tree / f"hi4d_pair16_jump/old/rerun/evaluation_nvs_epoch_{epoch}.rrd")
    write(tree / "hi4d_pair16_jump/old/rerun/trn_nv_generation_epoch_0006.rrd")
    write(tree / "hi4d_pair16_jump/old/rerun/notes.rrd")
    write("results/captures/room/single/rerun/capture.rrd")

    def published(epoch, **more):
        found, _ = planned(epoch=epoch, **more)["sharing"].uploads
        return {str(scene): {path.name for path in upload.recordings} for scene, upload in found.items()}

    of_tenth = {"evaluation_nvs_epoch_0010.rrd", "evaluation_pose_epoch_0010.rrd"}
    for epoch in (10, "10", "epoch_0010"):
        assert published(epoch)["old/hi4d_pair16_jump"] == of_tenth | {"notes.rrd"}
        assert published(epoch)["single/room"] == {"capture.rrd"}
        assert published(epoch, export=False)["old/hi4d_pair16_jump"] == {"evaluation_nvs_epoch_0010.rrd", "notes.rrd"}
    assert len(published("all", export=False)["old/hi4d_pair16_jump"]) == 4


# What a recording is made from


@pytest.fixture
def digest(tree, tmp_path):
    """As the next run of Snakemake finds it."""

    def make(recording):
        results_tree._digest_below.cache_clear()
        return inputs_digest(tree, recording, tree / "scenes", tmp_path / "cache")

    return make


def test_the_digest_is_of_contents_and_the_source_camera(tree, digest):
    recording = Recording("hi4d_pair16_jump", "old", "nvs", "epoch_0010")
    image = tree / recording.run / "evaluation/epoch_0010/nvs/pred/000001.jpg"
    seen = [digest(recording)]
    write(image, "one")
    seen.append(digest(recording))
    os.utime(image, (0, 0))
    assert digest(recording) == seen[-1], "touched"
    (tree / recording.run / "evaluation/epoch_0000/nvs/other.jpg").touch()
    assert digest(recording) == seen[-1], "another epoch"
    swapped(image)
    seen.append(digest(recording))
    image.rename(image.with_name("000002.jpg"))
    seen.append(digest(recording))
    write(tree / "scenes" / "hi4d_pair16_jump.json", '{"cam_id": 4}')
    seen.append(digest(recording))
    write(tree / recording.run / "manifest.json", '{"source_camera_id": 4}')
    seen.append(digest(recording))
    assert len(set(seen)) == len(seen)


def test_files_are_read_once(tree, digest, monkeypatch):
    recording = Recording("hi4d_pair16_jump", "old", "nvs", "epoch_0010")
    write(tree / recording.run / "evaluation/epoch_0010/nvs/pred/000001.jpg", "one")
    before = digest(recording)
    monkeypatch.setattr("splatdag.workflow.digests.file_digest", None)
    assert digest(recording) == before


def test_a_link_to_nothing_hides_no_other_file(tree, digest):
    recording = Recording("hi4d_pair16_jump", "old", "nvs", "epoch_0010")
    folder = tree / recording.run / "evaluation/epoch_0010/nvs"
    (folder / "000001.jpg").symlink_to(tree / "gone.jpg")
    write(folder / "000002.jpg", "one")
    seen = digest(recording)
    write(folder / "000002.jpg", "three")
    changed = digest(recording)
    (tree / "gone.jpg").write_text("back")
    assert len({seen, changed, digest(recording)}) == 3


def test_folders_without_end_are_one_line(tree, digest):
    recording = Recording("hi4d_pair16_jump", "old", "nvs", "epoch_0010")
    top = folder = tree / recording.run / "evaluation/epoch_0010/nvs/d"
    try:
        for _ in range(1100):
            folder.mkdir()
            folder = Path(f"{folder}/d")
        with pytest.raises(UserError, match="nvs: its folders are nested too deeply"):
            digest(recording)
    finally:
        subprocess.run(["rm", "-rf", str(top)], check=True)  # Python would nest as deeply
    top.symlink_to(top.parent)
    with pytest.raises(OSError, match="Too many levels of symbolic links"):
        digest(recording)


def test_what_several_epochs_are_made_from_is_looked_at_once(tree, tmp_path, monkeypatch):
    results_tree._digest_below.cache_clear()
    looked, scandir = [], os.scandir
    monkeypatch.setattr(os, "scandir", lambda folder: looked.append(str(folder)) or scandir(folder))
    for epoch in ("epoch_0006", "epoch_0007"):
        inputs_digest(tree, Recording("hi4d_pair16_jump", "old", "trn_nv_generation", epoch), tree, tmp_path / "cache")
    assert sum(folder.endswith("input_data/train/images") for folder in looked) == 1
