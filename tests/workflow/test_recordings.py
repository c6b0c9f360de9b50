"""Recordings through Snakemake, of a results tree in the layout of the human trainer."""

from __future__ import annotations

import json
import os
import re
import shutil

import pytest
from support.plans import planned

from splatdag.samples.humans import make_humans
from splatdag.samples.humans_options import HUMANS_RUN, HumansOptions

SCENE, EXP = HUMANS_RUN
OTHER = "hi4d_pair01_dance"


@pytest.fixture
def results(project, tmp_path_factory):
    """Two scenes of an old results tree, and a config that names it; no captures."""
    folder = tmp_path_factory.mktemp("old")
    make_humans(folder, HumansOptions(frames=2, width=48, height=64))
    tree = folder / "results"
    shutil.copytree(tree / SCENE, tree / OTHER)
    (project / "config" / "captures.tsv").write_text("capture\tdata_dir\n")
    sharing = {"results_root": str(tree), "scenes_dir": str(folder / "scenes"), "tasks": "nvs", "epoch": "latest"}
    (project / "config" / "config.yaml").write_text(json.dumps({"sharing": sharing}))
    return tree


def recording(tree, scene):
    return tree / scene / EXP / "rerun" / "evaluation_nvs_epoch_0015.rrd"


def rules(done):
    return re.findall(r"^(?:local)?rule (\w+):", done.stdout + done.stderr, re.MULTILINE)


def test_a_scene_that_fails_costs_no_other_and_touching_reruns_nothing(results, snakemake, project):
    image = results / OTHER / EXP / "evaluation/epoch_0015/nvs/pred/cam_4/metrics_input/000001.jpg"
    whole = image.read_bytes()
    image.write_bytes(whole[:-40])
    done = snakemake("recordings", "--cores", "2")
    assert done.returncode == 1
    assert recording(results, SCENE).stat().st_size > 1000
    assert not recording(results, OTHER).exists()
    log = project / "logs" / "humans" / OTHER / EXP / "evaluation_nvs_epoch_0015.log"
    assert f"failed: {image}: can't be decoded" in log.read_text()
    told = snakemake("status").stdout
    assert re.search(rf"{SCENE}/{EXP}/epoch_0015 +done\n", told)
    assert re.search(rf"{OTHER}/{EXP}/epoch_0015 +failed\n", told)
    assert f"record nvs failed: {image}: can't be decoded" in told
    assert "upload" not in told, "nothing was uploaded yet"

    image.write_bytes(whole)
    done = snakemake("recordings", "--cores", "2")
    assert done.returncode == 0, done.stderr
    assert rules(done) == ["record_epoch", "recordings"]
    os.utime(image)
    (project / "results").mkdir(exist_ok=True)
    assert rules(snakemake("-n", "recordings", "--cores", "2")) == []
    image.write_bytes(whole + b"\0")
    assert rules(snakemake("-n", "recordings", "--cores", "2")) == ["record_epoch", "recordings"]

    only = ["--config", f'sharing={{"scene_name_includes": "{SCENE}"}}']
    assert snakemake("upload", "--cores", "2", *only).returncode == 0
    told = snakemake("status").stdout
    assert re.search(rf"^{EXP}/{SCENE} +done$", told, re.MULTILINE)
    assert re.search(rf"^{EXP}/{OTHER} +waiting$", told, re.MULTILINE)
    assert OTHER not in snakemake("status", *only).stdout


def test_what_is_there_or_asked_for_beside_it_is_recorded_and_nothing_else_is_trained(snakemake, project):
    done = snakemake("-n", "-p", "recordings")
    assert set(planned(done.stdout)) == {"make_sample", "record_epoch", "recordings"}
    assert [line for line in done.stderr.splitlines() if line.startswith("splatdag: recordings: ")] == [
        "splatdag: recordings: room, flux4d/001, overfit/clip_0: not there yet, so not recorded; ask for them, too, to"
        " make them first: snakemake all"
    ]
    run = f"results/samples/humans/results/{SCENE}/{EXP}"
    jobs = planned(snakemake("-n", "-p", "captures", "recordings").stdout)
    assert len(jobs["record_epoch"]) == 5
    [command] = [line for line in jobs["record_epoch"] if "trn_nv_generation" in line]
    assert f"--run-dir {run} --task trn_nv_generation --epoch epoch_0016" in command
    assert f"--out {run}/rerun/trn_nv_generation_epoch_0016.rrd" in command
    of_capture = [
        "exec python -m splatdag.captures.record_capture --run-dir results/captures/room/single"
        " --model results/captures/room/sparse/0/points3D.bin --out results/captures/room/single/rerun/capture.rrd"
        " --sample='room (photos of a made-up room, ray-traced)' --threads 2 --run-id captures/room/single"
        " --log logs/captures/room/single/recording.log"
    ]
    assert jobs["record_capture"] == of_capture
    assert "train_capture" in jobs
    assert "train_flux4d" not in jobs
    assert "record_drive" not in jobs
    by_file = ("results/driving/overfit/manifest.json", "recordings")
    assert len(planned(snakemake("-n", "-p", *by_file).stdout)["record_drive"]) == 1, "a run that a file asks for"
    manifest = project / "results/captures/room/single/manifest.json"
    manifest.parent.mkdir(parents=True)
    manifest.write_text("{}")
    assert planned(snakemake("-n", "-p", "recordings").stdout)["record_capture"] == of_capture, "a run that is there"


def test_options_of_pictures_are_flags_and_selection_is_none(snakemake):
    given = '{"epoch": 15, "tasks": "nvs", "recordings": {"downscale": 2, "gaussians": false}}'
    jobs = planned(snakemake("-n", "-p", "captures", "recordings", "--config", f"sharing={given}").stdout)
    [command] = jobs["record_epoch"]
    assert command.endswith("/evaluation_nvs_epoch_0015.log --downscale=2")
    assert jobs["record_capture"][0].endswith("/recording.log --downscale=2 --no-gaussians")


def test_nothing_to_record_of_people_is_no_error(snakemake):
    jobs = planned(snakemake("-n", "-p", "recordings", "--config", 'sharing={"results_root": "results/humans"}').stdout)
    assert "record_epoch" not in jobs
    done = snakemake("-n", "recordings", "--config", 'sharing={"exp_name": "x"}')
    assert done.returncode == 2
    assert "config.sharing.exp_name: there is no run of 'x'; known are flux4d, overfit, sample, single" in done.stderr
