"""Names, selections, pages and metrics of what is published."""

import hashlib
import json

import pytest
import rerun
import yaml
from huggingface_hub import DatasetCard

from splatdag.hub.layout import Scene
from splatdag.hub.options import UploadOptions
from splatdag.hub.pages import CARD_TEXT, Place, readable_size, says_the_same, scene_page
from splatdag.hub.rrd_files import HEADER_BYTES, Recording, read_recording, rerun_version, resolved, selected
from splatdag.hub.targets import plan_lines, uploads
from splatdag.hub.tree import Content, FolderTree, text_content
from splatdag.hub.upload import metrics_of
from splatdag.humans.description import describe, metrics_table
from splatdag.humans.results_tree import source_camera
from splatdag.workflow.area import PlannedRecording, PlannedRun
from splatdag.workflow.errors import UserError


@pytest.mark.parametrize(
    "name", ["", "..", "a/b", "a b", "-x", ".git", "a..b", "a.", "é", "a\n", "x" * 151, "a?b", "C:"]
)
def test_a_name_that_is_no_folder_anywhere_is_refused(name):
    for exp, scene in ((name, "room"), ("single", name)):
        with pytest.raises(UserError, match="not a name for a folder of the Hub"):
            Scene(exp, scene)


def test_a_recording_tells_the_version_that_wrote_it(tmp_path):
    recording = rerun.RecordingStream("splatdag_test", recording_id="one")
    recording.save(tmp_path / "evaluation_nvs_epoch_0010.rrd")
    recording.log("x", rerun.Scalars(1.0))
    recording.flush()
    recording.disconnect()
    found = read_recording(tmp_path / "evaluation_nvs_epoch_0010.rrd")
    assert (found.version, found.task, found.epoch) == (rerun.__version__, "evaluation_nvs", 10)


@pytest.mark.parametrize("head", [b"", b"RRF2\x00\x29", b"PK\x03\x04abcd", b"\x00" * 8])
def test_other_files_are_no_recordings(head):
    assert rerun_version(head[:HEADER_BYTES]) is None


NAMES = [
    "capture.rrd", "evaluation_nvs_epoch_0000.rrd", "evaluation_nvs_epoch_0015.rrd", "evaluation_pose_epoch_0000.rrd",
    "trn_nv_generation_epoch_0016.rrd",
]  # fmt: skip


@pytest.mark.parametrize(
    ("selection", "rrd_glob", "left_out"),
    [
        ("eval_all", None, {4}),
        ("eval_latest", None, {1, 4}),
        ("eval_latest", "*_0000.rrd", {4}),
        ("none", None, {0, 1, 2, 3, 4}),
        ("none", "trn_*", {0, 1, 2, 3}),
    ],
)
def test_selections(selection, rrd_glob, left_out):
    assert selected(NAMES, selection, rrd_glob) == [name for i, name in enumerate(NAMES) if i not in left_out]


@pytest.mark.parametrize(
    ("selection", "rrd_glob", "epoch", "kept"),
    [
        ("eval_all", None, "15", {0, 2}),
        ("eval_all", None, "epoch_0000", {0, 1, 3}),
        ("eval_all", None, "7", {0}),
        ("eval_latest", None, "0", {0, 1, 3}),
        ("eval_latest", "trn_*", "16", {0, 4}),
        ("none", "*_0015.rrd", "0", set()),
        ("eval_latest", None, "latest", {0, 2, 3}),
    ],
)
def test_one_epoch_limits_all_that_have_epochs(selection, rrd_glob, epoch, kept):
    assert selected(NAMES, selection, rrd_glob, epoch) == [name for i, name in enumerate(NAMES) if i in kept]


TRN = "trn_nv_generation_epoch_*.rrd"


@pytest.mark.parametrize(
    ("selection", "rrd_glob", "tasks", "epoch", "expected"),
    [
        ("auto", None, ["nvs", "pose"], "all", ("eval_all", None)),
        ("auto", None, ["nvs"], "latest", ("eval_latest", None)),
        ("auto", None, ["pose", "trn_nv_generation"], "epoch_0010", ("eval_all", TRN)),
        ("auto", None, ["trn_nv_generation"], "latest", ("none", TRN)),
        ("auto", "mine*", ["trn_nv_generation"], "all", ("none", "mine*")),
        ("eval_latest", None, ["trn_nv_generation"], "all", ("eval_latest", None)),
    ],
)
def test_auto_stands_for_what_the_old_tool_chose(selection, rrd_glob, tasks, epoch, expected):
    assert resolved(selection, rrd_glob, tasks, epoch) == expected


def test_the_card_is_valid():
    front = yaml.safe_load(CARD_TEXT.split("---\n")[1])
    assert front["viewer"] is False
    assert front["license"] == "other"
    card = DatasetCard(CARD_TEXT)
    assert card.data.pretty_name == front["pretty_name"]
    assert card.data.tags == front["tags"]


def test_two_pages_that_differ_in_the_revision_alone_say_the_same():
    scene, recording = Scene("a", "b"), Recording("x.rrd", 1, "0.41.0")
    pages = [scene_page(scene, [recording], Place(None), revision=revision) for revision in (None, "123", "456")]
    assert "`456`" in pages[2]
    assert says_the_same(pages[0], pages[1])
    assert says_the_same(pages[1], pages[2])
    assert not says_the_same(pages[0], scene_page(scene, [recording], Place(None), described={"source camera": "4"}))


def test_tasks_and_epochs_are_in_order():
    names = ["other.rrd", "trn_nv_generation_epoch_0016.rrd", "evaluation_pose_epoch_0000.rrd",
             "evaluation_nvs_epoch_0100.rrd", "evaluation_nvs_epoch_0015.rrd"]  # fmt: skip
    page = scene_page(Scene("a", "b"), [Recording(name, 10, "0.9.0") for name in names], Place(None))
    places = [page.index(name) for name in (*names[4:2:-1], names[2], names[1], names[0])]
    assert places == sorted(places)


def test_sizes_are_readable():
    assert [readable_size(n) for n in (0, 999, 1_000, 3_640_000, 2 * 10**9)] == [
        "0 B", "999 B", "1.0 kB", "3.6 MB", "2.0 GB",
    ]  # fmt: skip


def test_metrics_of_epochs_leave_the_source_camera_out(tmp_path):
    for epoch, psnr in (("epoch_0000", 20.0), ("epoch_0015", 24.5)):
        nvs = tmp_path / "evaluation" / epoch / "nvs" / "metrics"
        pose = tmp_path / "evaluation" / epoch / "pose_smplx" / "metrics"
        nvs.mkdir(parents=True)
        pose.mkdir(parents=True)
        rows = f"28,1,99,1.0,0\n4,1,{psnr},0.8,0.2\n16,1,{psnr + 1},0.9,\n"
        (nvs / "metrics_all_cams_per_frame.csv").write_text("camera_id,frame_id,psnr,ssim,lpips\n" + rows)
        (pose / "smplx_pose_estimation_overall_results.txt").write_text("Results\nrr_mpjpe_mm: 41.5\npcdr: 0.9\n")
    (tmp_path / "evaluation" / "epoch_0030").mkdir()
    values = {"ssim": pytest.approx(0.85), "lpips": 0.2, "rr_mpjpe_mm": 41.5, "pcdr": 0.9}
    assert metrics_table(tmp_path, "28") == [
        ("epoch 0", {"psnr": 20.5, **values}), ("epoch 15", {"psnr": 25.0, **values}),
    ]  # fmt: skip


def test_epochs_are_in_the_order_of_their_numbers(tmp_path):
    for name in ("epoch_10000", "epoch_9999", "epoch_0500", "epoch_last"):
        folder = tmp_path / "evaluation" / name / "pose_smplx" / "metrics"
        folder.mkdir(parents=True)
        (folder / "smplx_pose_estimation_overall_results.txt").write_text("pcdr: 0.9\n")
    assert [row for row, _ in metrics_table(tmp_path, None)] == ["epoch 500", "epoch 9999", "epoch 10000", "epoch last"]


def test_pose_metrics_per_frame_stand_in_for_a_missing_overall_file(tmp_path):
    folder = tmp_path / "evaluation/epoch_0000/pose_smplx/metrics"
    folder.mkdir(parents=True)
    (folder / "smplx_pose_estimation_metrics_per_frame.csv").write_text("frame_id,rr_mpjpe_mm\n1,40\n2,60\n")
    assert metrics_table(tmp_path, None) == [("epoch 0", {"rr_mpjpe_mm": 50.0})]
    (folder / "smplx_pose_estimation_metrics_per_frame.csv").write_text("frame_id,rr_mpjpe_mm\n1,forty\n")
    with pytest.raises(UserError, match="'forty' is not a number"):
        metrics_table(tmp_path, None)


def test_metrics_of_a_capture_come_with_the_baseline(tmp_path):
    (tmp_path / "metrics.json").write_text(
        json.dumps({"mean": {"psnr": 30.5, "lpips": None}, "baseline": {"psnr": 12.0}, "views": {}})
    )
    assert list(metrics_of(tmp_path)) == [
        ("held-out views", {"psnr": 30.5}), ("one-colour image", {"psnr": 12.0}),
    ]  # fmt: skip


def test_the_source_camera_is_that_of_the_scene_file_before_the_manifests(tmp_path):
    run, scenes = tmp_path / "run", tmp_path / "scenes"
    run.mkdir()
    scenes.mkdir()
    assert source_camera(run, "pair16", scenes) is None
    (run / "manifest.json").write_text('{"source_camera_id": 4}')
    assert source_camera(run, "pair16", scenes) == "4"
    (scenes / "pair16.json").write_text('{"cam_id": 28}')
    assert source_camera(run, "pair16", scenes) == "28"
    assert describe(run, "pair16", scenes).facts == {"source camera": "28"}
    assert describe(run, "pair17", scenes).facts == {"source camera": "4"}
    (scenes / "pair16.json").write_text("{}")
    with pytest.raises(UserError, match="pair16.json: no cam_id"):
        source_camera(run, "pair16", scenes)


def run(folder, scene="pair16", variant="debug", recordings=()):
    files = tuple(PlannedRecording(f"{folder}/rerun/{name}", "x.log", "record") for name in recordings)
    return PlannedRun("humans", scene, variant, str(folder), str(folder), recordings=files)


def uploaded(*runs, made=()):
    return uploads(runs, made, UploadOptions(selection="eval_all"), "all")


def test_one_run_by_two_ways_is_published_once(tmp_path):
    path = tmp_path / "results/humans/pair16/debug/rerun/x.rrd"
    path.parent.mkdir(parents=True)
    path.write_bytes(b"RRF2")
    (tmp_path / "old").symlink_to("results/humans")
    again = tmp_path / "old/pair16/debug"
    found, troubles = uploaded(run(path.parent.parent), run(again))
    assert list(map(str, found)) == ["debug/pair16"]
    assert troubles == []


def test_two_runs_with_one_place_are_refused(tmp_path):
    for name in ("a", "b"):
        (tmp_path / name / "rerun").mkdir(parents=True)
        (tmp_path / name / "rerun" / "x.rrd").touch()
    with pytest.raises(UserError, match="a and .*b would both be experiments/debug/pair16; rename one of them"):
        uploaded(run(tmp_path / "a"), run(tmp_path / "b"))


def test_a_run_whose_name_is_no_folder_of_the_hub_is_left_out_with_a_line(tmp_path):
    (tmp_path / "rerun").mkdir()
    (tmp_path / "rerun" / "x.rrd").touch()
    found, troubles = uploaded(run(tmp_path, scene="x" * 200))
    assert (found, len(troubles)) == ({}, 1)
    assert "not a name for a folder of the Hub" in troubles[0]
    assert troubles[0].endswith("; left out")


def test_the_plan_names_what_is_still_to_be_recorded():
    room = run("results/captures/room/single", "room", "single", ["capture.rrd", "other.rrd"])
    found, _ = uploaded(room, made=["results/captures/room/single/rerun/capture.rrd"])
    assert list(plan_lines(found, UploadOptions(repo_id="a/b", branch="x"), "hub")) == [
        "upload: 1 recording of 1 scene, 0 B, to a/b (dataset), branch x",
        "  experiments/single/room: capture.rrd (to be recorded)",
    ]
    assert list(plan_lines({}, UploadOptions(), "hub")) == [
        "upload: nothing to publish: no run has recordings that are selected"
    ]


def test_a_folder_gets_links_to_the_same_data(tmp_path):
    source, scene = tmp_path / "x.rrd", Scene("a", "b")
    source.write_bytes(b"recording")
    content = Content(source, 9, hashlib.sha256(b"recording").hexdigest())
    tree, path = FolderTree(tmp_path / "hub"), f"{scene.recordings}/x.rrd"
    there = tmp_path / "hub" / path
    there.parent.mkdir(parents=True)
    (there.parent / ".being_written.rrd").touch()
    assert tree.sizes(scene.recordings) == {}
    assert not tree.has(path, content)
    tree.write({path: content, scene.page: text_content("# A\n")}, scene)
    assert there.samefile(source)
    assert tree.text(scene.page) == "# A\n"
    there.unlink()
    there.write_bytes(b"recording")
    assert tree.has(path, content), "a copy is the same"
    there.write_bytes(b"recordinG")
    assert not tree.has(path, content)
