"""Which runs are recorded and published: those that are there, and those that the same command asks for."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from support.area_plans import MakePlans, job, write
from support.area_plans import plans as plans
from support.pandaset_logs import swapped

from splatdag.hub.area import SharingPlan
from splatdag.hub.layout import Scene
from splatdag.workflow.errors import UserError

MakeSharing = Callable[..., SharingPlan]


@pytest.fixture
def sharing(plans: MakePlans, tmp_path: Path) -> MakeSharing:
    """Plan recordings of two captures, and of logs 001, which is measured on, and 002."""
    write("config/captures.tsv", "capture\tdata_dir\tmatch_string\nroom\tsample:room\nhall\tsample:room\t1\n")
    for name in ("001", "002"):
        (tmp_path / "data" / name / "lidar").mkdir(parents=True)

    def make(*targets: str, driving: dict[str, Any] | None = None, **given: Any) -> SharingPlan:
        config = {"driving": {"data_root": "data", **(driving or {})}, "sharing": given}
        plan = plans(config, targets=targets or ("recordings",))["sharing"]
        assert isinstance(plan, SharingPlan)
        return plan

    return make


def trained(*captures: str) -> None:
    for run in captures:
        write(f"results/captures/{run}/manifest.json", "{}")


def measured(run: str, kept: bool) -> None:
    write(f"results/driving/{run}/metrics.json", '{"rows": {"images": []}}')
    if kept:
        write(f"results/driving/{run}/clip/motion.npz")


def recorded(plan: SharingPlan) -> list[str]:
    """Runs that are recorded, without what is the same of all."""
    return [file.removeprefix("results/").rpartition("/rerun/")[0] for file in plan.recording_files()]


# Recordings


def test_nothing_is_made_to_be_recorded_and_a_line_says_what_is_not_there(sharing: MakeSharing) -> None:
    """The target `recordings` trained bundled samples first, of one's own results too."""
    plan = sharing()
    assert recorded(plan) == []
    assert not plan.renders(plan.recording_files())
    assert list(plan.lines("recordings")) == [
        "recordings: room, hall, flux4d/001, overfit/clip_0: not there yet, so not recorded; ask for them, too, to make"
        " them first: snakemake all"
    ]


def test_what_is_there_is_recorded(sharing: MakeSharing) -> None:
    trained("room/single", "hall/filtered")
    measured("flux4d/001", kept=True)
    measured("older/003", kept=True)
    plan = sharing()
    assert recorded(plan) == [
        "captures/room/single",
        "captures/hall/filtered",
        "driving/flux4d/001",
        "driving/older/003",
    ]
    assert not plan.renders(plan.recording_files()), "a recording by itself needs no kernels"
    [line] = plan.lines("recordings")
    assert line.startswith("recordings: hall, overfit/clip_0: not there yet")


@pytest.mark.parametrize(
    ("target", "runs"),
    [
        ("all", ["captures/room/single", "captures/hall/single", "driving/flux4d/001", "driving/overfit/clip_0"]),
        ("captures", ["captures/room/single", "captures/hall/single"]),
        ("captures_dual", ["captures/room/combined", "captures/hall/combined", "captures/hall/filtered"]),
        ("driving", ["driving/flux4d/001", "driving/overfit/clip_0"]),
        ("flux4d_overfit", ["driving/overfit/clip_0"]),
        ("results/captures/hall/single/manifest.json", ["captures/hall/single"]),
        ("results/captures/hall/single/rerun/capture.rrd", ["captures/hall/single"]),
        ("results/captures/hall/filtered/manifest.json", ["captures/hall/filtered"]),
        ("results/driving/flux4d/manifest.json", ["driving/flux4d/001"]),
        ("results/driving/flux4d/001/metrics.json", ["driving/flux4d/001"]),
        ("compare", []),
    ],
)
def test_what_the_same_command_asks_for_is_made_and_recorded(
    sharing: MakeSharing, target: str, runs: list[str]
) -> None:
    plan = sharing("recordings", target)
    assert recorded(plan) == runs
    assert plan.renders(plan.recording_files()) == bool(runs)
    if target == "all":
        assert list(plan.lines("all")) == list(plan.lines("recordings")) == []


def test_all_says_nothing_of_runs_that_are_asked_for_by_name(sharing: MakeSharing) -> None:
    assert list(sharing("recordings").lines("all")) == []


def test_of_many_runs_a_few_are_named(sharing: MakeSharing) -> None:
    write("config/captures.tsv", "capture\tdata_dir\n" + "".join(f"c{i}\tsample:room\n" for i in range(7)))
    [line] = sharing(driving={"data_root": None}).lines("recordings")
    assert line.startswith("recordings: c0, c1, c2, c3, c4 and 2 more: not there yet")


def test_logs_without_clips_are_left_out_with_a_line(sharing: MakeSharing) -> None:
    for run in ("flux4d/001", "older/003"):
        measured(run, kept=False)
    plan = sharing("recordings", "all")
    assert [run for run in recorded(plan) if run.startswith("driving")] == ["driving/overfit/clip_0"]
    line = "recordings: flux4d/001, older/003: no clip was measured and kept, so nothing is recorded"
    assert list(plan.lines("recordings")) == list(plan.lines("all")) == [line]


def test_a_run_that_keeps_no_clips_is_not_recorded(sharing: MakeSharing) -> None:
    runs = {"a": {"evaluate": {"save_renders": False}}, "b": {}}
    plan = sharing("recordings", "driving", driving={"runs": runs})
    assert recorded(plan) == ["driving/b/001", "driving/overfit/clip_0"]


def test_without_a_folder_of_logs_nothing_of_driving_is_looked_at(sharing: MakeSharing) -> None:
    plan = sharing("recordings", "driving", driving={"data_root": None, "index_path": "nowhere.jsonl"})
    measured("older/003", kept=True)
    assert recorded(plan) == []


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"exp_name": "singl"}, "config.sharing.exp_name: there is no run of 'singl'; the nearest is single"),
        ({"scene_name_includes": "x"}, "no scene with 'x'; there are room, hall, 001, clip_0"),
        ({"exp_name": "single", "scene_name_includes": "001"}, "no scene with '001'; there are room, hall"),
    ],
)
def test_a_selection_of_nothing_is_refused(sharing: MakeSharing, given: dict[str, str], message: str) -> None:
    with pytest.raises(UserError, match=message):
        sharing(**given).recording_files()


# Uploads


def uploaded(plan: SharingPlan) -> dict[str, list[str]]:
    found, troubles = plan.uploads
    assert troubles == []
    return {str(scene): [path.name for path in upload.recordings] for scene, upload in found.items()}


def test_an_upload_makes_what_recordings_makes_and_takes_what_is_there(sharing: MakeSharing) -> None:
    trained("room/single")
    write("results/captures/room/single/rerun/notes.rrd")
    write("results/captures/old/single/rerun/capture.rrd")
    write("results/captures/old/single/rerun/.capture.rrd")
    plan = sharing("upload")
    assert uploaded(plan) == {"single/old": ["capture.rrd"], "single/room": ["capture.rrd", "notes.rrd"]}
    room = job(exp="single", scene="room")
    assert plan.scene_run(room) == "results/captures/room/single"
    assert plan.scene_made(room) == ["results/captures/room/single/rerun/capture.rrd"]
    assert [Path(path).name for path in plan.scene_recordings(room)] == ["capture.rrd", "notes.rrd"]
    assert plan.scene_made(job(exp="single", scene="old")) == [], "no row of the sheet makes it"
    assert not plan.renders(plan.receipts())
    assert uploaded(sharing("upload", export=False)) == {"single/old": ["capture.rrd"], "single/room": ["notes.rrd"]}
    assert sharing("upload", "captures").renders(plan.receipts()), "the other capture is trained first"


def test_what_was_recorded_earlier_is_published_where_it_cannot_be_made_again(sharing: MakeSharing) -> None:
    for run in ("captures/old/single", "driving/flux4d/001", "driving/older/003", "driving/gone/004"):
        write(f"results/{run}/rerun/{'driving' if run.startswith('driving') else 'capture'}.rrd")
    write("results/captures/hall/combined/rerun/notes.rrd")
    for run in ("flux4d/001", "older/003"):
        measured(run, kept=False)
    plan = sharing("upload", driving={"evaluate": {"save_renders": False}})
    assert sorted(uploaded(plan)) == ["combined/hall", "flux4d/001", "gone/004", "older/003", "single/old"]
    for scene in plan.uploads[0]:
        assert plan.scene_made(job(exp=scene.exp, scene=scene.name)) == []
    assert recorded(plan) == []
    said = " ".join(plan.lines("recordings"))
    assert not any(run in said for run in ("old ", "old,", "gone/004", "hall/combined")), "these are not to be made"


def test_an_upload_asks_for_a_receipt_and_without_a_repository_for_a_page(sharing: MakeSharing) -> None:
    trained("room/single")
    receipt, page = "results/sharing/single/room.json", "results/hub/experiments/single/room/README.md"
    assert sharing("upload").receipts() == [receipt, page]
    assert sharing("upload", upload={"repo_id": "a/b", "include_samples": True}).receipts() == [receipt]
    assert sharing("upload", upload={"repo_id": "a/b"}).receipts() == [], "it is a bundled sample"
    for scene in (Scene("single", "hall"), Scene("x", "room")):
        with pytest.raises(UserError, match=f"upload: {scene}: no run of that experiment and scene has recordings"):
            sharing("upload").scene_run(job(exp=scene.exp, scene=scene.name))


@pytest.mark.parametrize("name", ["notes é.rrd", "-x.rrd"])
def test_a_recording_whose_name_the_hub_does_not_take_is_left_out_with_a_line(sharing: MakeSharing, name: str) -> None:
    trained("room/single", "hall/single")
    write(f"results/captures/room/single/rerun/{name}")
    plan = sharing("upload")
    assert [str(scene) for scene in plan.uploads[0]] == ["single/hall"]
    first, *rest = plan.lines("upload")
    assert first.startswith(f"upload: results/captures/room/single/rerun/{name}: ")
    assert first.endswith("not a name for a file of the Hub; letters, digits, _, - and . only; left out")
    assert rest[0].startswith("upload: 1 recording of 1 scene")


def test_recordings_that_are_taken_as_they_are_count_by_contents(sharing: MakeSharing) -> None:
    trained("room/single")
    notes = write("results/captures/room/single/rerun/notes.rrd", "ab")
    room = job(exp="single", scene="room")
    before = sharing("upload").scene_given(room)
    notes.touch()
    assert sharing("upload").scene_given(room) == before, "touched"
    swapped(notes)
    after = sharing("upload").scene_given(room)
    assert after != before, "of equal size and time"
    notes.rename(notes.with_name("more.rrd"))
    assert sharing("upload").scene_given(room) not in (before, after)
    notes.with_name("more.rrd").unlink()
    assert sharing("upload").scene_given(room) == ""
