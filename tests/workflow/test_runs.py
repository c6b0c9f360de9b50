"""The workflow on small captures: what finishes, what fails, what reruns, what the report says."""

import base64
import csv
import json
import os
import re
import shutil
import time

import pycolmap
import pytest
from jobs import copied
from support.processes import run_module
from support.scenes import write_gaussian_scene

STEPS = 30
GOOD, BAD = ("apple", "pear"), "worm"


@pytest.fixture(scope="module")
def ran(module_project):
    """Three captures with given poses, of which one has a photo that is none, and the run that trained the others."""
    project = module_project
    for name in (*GOOD, BAD):
        write_gaussian_scene(project / "data" / name)
    (project / "data" / BAD / "images" / "3.png").write_text("no photo")
    rows = "".join(f"{name}\t../data/{name}\n" for name in (*GOOD, BAD))
    (project / "config" / "captures.tsv").write_text("capture\tdata_dir\n" + rows)
    options = {"max_steps": STEPS, "preset": "small", "checkpoint_every": 10}
    (project / "config" / "config.yaml").write_text(json.dumps({"captures": {"train": options}}))
    return project, run_module("snakemake", "captures", "--cores", "2", cwd=project)


@pytest.fixture
def project(ran, tmp_path):
    """A copy of them, after that run."""
    return copied(ran[0], tmp_path / "project")


def jobs(done) -> list[str]:
    """Names of the rules that were run, in order."""
    return re.findall(r"^(?:local)?rule (\w+):", done.stdout + done.stderr, re.MULTILINE)


def test_one_failing_capture_costs_neither_the_others_nor_the_report(ran, project, snakemake):
    assert ran[1].returncode == 1
    run = {name: project / "results" / "captures" / name / "single" for name in (*GOOD, BAD)}
    for name in GOOD:
        assert json.loads((run[name] / "manifest.json").read_text())["exit_reason"] == "finished"
        assert {path.name for path in run[name].iterdir()} == {
            "splat.ply", "metrics.json", "preview.jpg", "curves.png", "curves.json", "manifest.json",
            "cfg.yml", "ckpts", "stats", "renders", "videos",
        }  # fmt: skip
    assert not (run[BAD] / "manifest.json").exists()

    # The comparison is there although the run failed; it has the good runs and names the bad one.
    compared = project / "results" / "compare"
    with (compared / "runs.csv").open() as table:
        assert [row["scene"] for row in csv.DictReader(table)] == list(GOOD)
    reason = r"3\.png: can't be decoded"
    assert re.search(reason, (compared / "index.html").read_text())

    told = snakemake("status").stdout
    assert re.search(r"worm +done +failed", told)
    assert re.search(reason, told)
    assert "logs/captures/worm/single/train.log" in told

    done = snakemake("compare", "captures", "--report", "report.html")
    assert done.returncode == 0, done.stderr
    report = (project / "report.html").read_text()
    assert "captures__apple__single" in report
    pages = re.findall(r"data:text/html[^\"]*base64,([A-Za-z0-9+/=]+)", report)
    assert any(re.search(reason, base64.b64decode(page).decode()) for page in pages), "the failure is in the report"

    with (compared / "costs.csv").open() as table:
        used = {(row["run"], row["stage"]): row for row in csv.DictReader(table)}
    assert {key for key in used if key[1] != "shared"} == {
        *((f"captures/{name}", "pose") for name in (*GOOD, BAD)),
        *((f"captures/{name}/single", "train") for name in (*GOOD, BAD)),
    }
    assert all(float(row["cpu_hours"]) > 0 for row in used.values())
    assert {(row["gpu_hours"], row["cost"]) for row in used.values()} == {("0.00000", "")}

    # Once the photo is mended, only what was missing or depends on it is done.
    good = project / "data" / "apple" / "images" / "3.png"
    (project / "data" / BAD / "images" / "3.png").write_bytes(good.read_bytes())
    done = snakemake("captures", "--cores", "2")
    assert done.returncode == 0, done.stderr
    assert sorted(jobs(done)) == ["captures", "pose_capture", "train_capture"]
    assert jobs(snakemake("captures", "--cores", "2")) == []


def test_of_finished_runs_an_edit_that_is_undone_reruns_nothing_and_a_price_the_comparison(project, snakemake):
    """As `test_reruns.py`, but of results that were made."""
    (project / "config" / "captures.tsv").write_text("capture\tdata_dir\napple\t../data/apple\n")
    assert snakemake("compare").returncode == 0

    def planned(*targets):
        return sorted(set(jobs(snakemake("-n", "--cores", "2", *targets))) - {"captures"})

    assert planned("captures") == planned("compare") == []
    photo = project / "data" / "apple" / "images" / "1.png"
    original = photo.read_bytes()
    photo.write_bytes((photo.parent / "2.png").read_bytes())
    assert planned("captures") == ["pose_capture", "train_capture"]
    photo.write_bytes(original)
    assert planned("captures") == []
    site = project / "workflow_profiles" / "slurm" / "site.yaml"
    site.write_text(site.read_text().replace("    any: null\n", "    any: 1.5\n"))
    assert planned("captures") == []
    assert planned("compare") == ["compare"]
    (project / "results" / "captures" / "apple" / "single" / "manifest.json").unlink()
    assert planned("captures") == ["train_capture"]


def test_photos_from_a_clock_that_is_fast_cost_no_run_and_none_is_repeated(project, snakemake):
    """Snakemake removes, in each attempt, what is older than an input, so that the user's own files are none."""
    shutil.rmtree(project / "results" / "captures")
    (project / "config" / "captures.tsv").write_text("capture\tdata_dir\napple\t../data/apple\n")
    ahead = time.time() + 7200
    for path in (project / "data" / "apple", *(project / "data" / "apple" / "images").iterdir()):
        os.utime(path, (ahead, ahead))
    done = snakemake("captures", "--cores", "2")
    assert done.returncode == 0, done.stderr
    assert jobs(snakemake("captures", "--cores", "2")) == []


def rename_photos(data, names):
    """Give the photos of a COLMAP dataset other names, in name order."""
    model = pycolmap.Reconstruction(str(data / "sparse" / "0"))
    for image, name in zip(sorted(model.images.values(), key=lambda image: image.name), names, strict=True):
        (data / "images" / image.name).rename(data / "images" / name)
        image.name = name
    model.write(str(data / "sparse" / "0"))


@pytest.mark.slow
def test_a_pair_is_compared_on_the_same_photos_and_on_an_external_dataset(project, snakemake):
    """The old script for two runs, and the result folder of the one for a single run."""
    sides = [f"{side}_{index}.png" for side in ("LEFT", "RIGHT") for index in range(4)]
    rename_photos(write_gaussian_scene(project / "data" / "dog"), sides)
    write_gaussian_scene(project / "data" / "eval")
    (project / "config" / "captures.tsv").write_text(
        "capture\tdata_dir\tmatch_string\teval_dir\tresult_dir\n"
        "dog\t../data/dog\tright\t../data/eval\tresults/dog_right\n"
    )
    options = {"max_steps": STEPS, "preset": "small", "split": "all", "disable_video": True}
    (project / "config" / "config.yaml").write_text(json.dumps({"captures": {"train": options}}))
    done = snakemake("captures", "captures_dual", "--cores", "2")
    assert done.returncode == 0, done.stderr

    def measured(path):
        return [view["name"] for view in json.loads((project / "results" / path / "metrics.json").read_text())["views"]]

    for variant in ("combined", "filtered"):
        assert measured(f"captures/dog/{variant}") == sides, "with an external dataset, both on all photos"
        assert len(measured(f"captures/dog/{variant}/eval_on_eval")) == 8
    assert measured("captures/dog/single") == sides[4:]
    logs = [
        project / "logs" / "captures" / "dog" / variant / "train.log" for variant in ("combined", "filtered", "single")
    ]
    assert [re.search(r"(\d+) photos to train on", log.read_text())[1] for log in logs] == ["8", "4", "4"]

    link = project / "results" / "dog_right"
    assert str(link.readlink()) == "captures/dog/single"
    assert (link / "splat.ply").is_file()
    with (project / "results" / "compare" / "runs.csv").open() as table:
        variants = [row["variant"] for row in csv.DictReader(table) if row["scene"] == "dog"]
    assert variants == [
        "combined", "combined/eval_on_eval", "filtered", "filtered/eval_on_eval", "single", "single/eval_on_eval"
    ]  # fmt: skip
    assert re.search(r"dog/filtered +- +done +done", snakemake("status").stdout)

    # Another place for the link is no other training; a link in the way of a folder is refused.
    sheet = project / "config" / "captures.tsv"
    sheet.write_text(sheet.read_text().replace("dog_right", "dog_left"))
    assert sorted(jobs(snakemake("captures", "--cores", "2"))) == ["captures", "link_run"]
    assert (project / "results" / "dog_left" / "splat.ply").is_file()
