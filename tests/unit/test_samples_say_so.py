"""What is made from bundled samples says so in its first line, and stays off the Hub unless that is asked for."""

from __future__ import annotations

import numpy as np
import pytest
import rerun.blueprint as rrb
from support.rrd import entities, views
from test_compare import page_data, write_run

from splatdag.areas import AREAS
from splatdag.commands.compare import compare
from splatdag.hub.layout import Scene
from splatdag.hub.options import UploadOptions
from splatdag.hub.pages import CARD_TEXT, Place, card_with_sample, licensed_card, scene_page
from splatdag.hub.rrd_files import Recording
from splatdag.hub.targets import uploads
from splatdag.recording.recording import Layout, recording
from splatdag.workflow.area import PlannedRecording, PlannedRun, sample_of
from splatdag.workflow.site import Prices
from splatdag.workflow.weights import Weights

ROOM = "room (photos of a made-up room, ray-traced)"
LINE = f"Bundled sample, not real data: {ROOM}."
NON_COMMERCIAL = Weights(
    name="vggt",
    source="https://huggingface.co/a/b",
    revision="1",
    licence="CC-BY-NC-4.0",
    licence_url="https://creativecommons.org/licenses/by-nc/4.0/",
    commercial=False,
    used_for="results",
)


def test_every_sample_of_every_area_says_how_it_is_made():
    told = {name: area.sample(name) for area in AREAS for name in area.samples}
    assert told["room"] == ROOM
    assert all(text.startswith(f"{name} (") and "made-up" in text for name, text in told.items())
    assert {area.sample(None) for area in AREAS} == {""}


def test_a_page_begins_with_the_sample():
    recordings = [Recording("x.rrd", 1, "0.41.0")]
    page = scene_page(Scene("single", "room"), recordings, Place(None), sample=ROOM)
    assert page.startswith(f"> {LINE}\n\n# single / room\n")
    assert scene_page(Scene("single", "room"), recordings, Place(None)).startswith("# single / room\n")


def test_the_card_names_each_scene_of_a_sample_once_before_all_else_that_is_read():
    card = card_with_sample(CARD_TEXT, Scene("single", "room"), ROOM)
    front = CARD_TEXT[: CARD_TEXT.index("# Recordings")].rstrip()
    assert card.startswith(f"{front}\n\n> `single/room`: {LINE}\n\n# Recordings")
    assert card_with_sample(card, Scene("single", "room"), ROOM) == card
    both = card_with_sample(card, Scene("flux4d", "001"), "street (x)")
    assert [line for line in both.splitlines() if line.startswith("> ")] == [
        "> `flux4d/001`: Bundled sample, not real data: street (x).",
        f"> `single/room`: {LINE}",
    ]
    licensed = licensed_card(both, [NON_COMMERCIAL])
    assert card_with_sample(licensed, Scene("single", "room"), ROOM) == licensed
    assert card_with_sample("Ours.\n", Scene("a", "b"), ROOM) == f"\n> `a/b`: {LINE}\n\nOurs.\n"


@pytest.mark.parametrize("sample", [ROOM, ""])
def test_a_recording_begins_with_the_sample(tmp_path, sample):
    path = tmp_path / "x.rrd"
    view = rrb.Spatial3DView(origin="world", name="world")
    with recording(path, "test", "single-room", Layout(view), 1, sample) as stream:
        stream.log("world/points", rr_points(), static=True)
    found, shown = entities(path), views(path)
    assert ("about" in found) == bool(sample)
    assert sorted(shown) == (["bundled sample", "world"] if sample else ["world"])
    if sample:
        assert found["about"]["TextDocument:text"] == [[LINE]]
        assert shown["bundled sample"] == ("about", True)


def rr_points():
    import rerun as rr

    return rr.Points3D(np.zeros((1, 3)))


def test_the_page_of_all_runs_begins_with_the_samples_among_them(tmp_path):
    results = tmp_path / "results"

    def line():
        compare(results, tmp_path / "logs", tmp_path / "out", Prices())
        return page_data(tmp_path / "out")["samples"]

    write_run(results / "captures/mine/single")
    assert line() == ""
    write_run(results / "captures/room/single", sample=ROOM)
    write_run(results / "captures/room/other", sample=ROOM)
    assert line() == f"2 of 3 runs are of bundled samples, not of real data: {ROOM}."
    text = (tmp_path / "out/index.html").read_text()
    assert text.index('<p id="samples"') < text.index("<h1>"), "it is the first line"
    assert sample_of(results / "captures/room/single") == ROOM
    assert [sample_of(results / name) for name in ("captures/mine/single", "none")] == ["", ""]


@pytest.mark.parametrize(
    ("options", "published"),
    [
        ({"repo_id": "a/b"}, ["single/mine"]),
        ({"repo_id": "a/b", "include_samples": True}, ["single/mine", "single/room"]),
        ({}, ["single/mine", "single/room"]),
    ],
)
def test_samples_stay_off_the_hub_unless_told(options, published):
    def run(scene, sample):
        folder = f"results/captures/{scene}/single"
        recordings = (PlannedRecording(f"{folder}/rerun/capture.rrd", "x.log", "record"),)
        return PlannedRun("captures", scene, "single", folder, folder, recordings=recordings, sample=sample)

    runs = [run("mine", ""), run("room", ROOM)]
    made = {recording.file for one in runs for recording in one.recordings}
    found, lines = uploads(runs, made, UploadOptions(selection="eval_all", **options), "all")
    assert list(map(str, found)) == published
    told = "upload: bundled samples are left out: single/room; sharing.upload.include_samples publishes them"
    assert lines == ([] if "single/room" in published else [told])
