"""What reruns after a change: exactly the rules that depend on it, over all areas."""

from __future__ import annotations

import json
import os
import re
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from areas import AREAS, TARGETS, write_project
from jobs import copied, jobs_of
from support.plans import write_stand_ins
from support.processes import run_module

ASKED = [target for target in TARGETS if target != "compare"]  # that is made anew after every run
YEAR = 365 * 86_400
Change = Callable[[Path], object]


def snakemake(folder: Path, *arguments: str, cwd: Path | None = None) -> str:
    """Run Snakemake on a project with the package that lies beside it, if one does."""
    scripts = folder.parent / "scripts"
    environment = os.environ | ({"PYTHONPATH": str(scripts)} if scripts.exists() else {})
    done = run_module("snakemake", "--cores", "2", *arguments, cwd=cwd or folder, env=environment)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def planned(folder: Path, *arguments: str, cwd: Path | None = None) -> set[str]:
    """The rules of the jobs that a run would start, targets left out."""
    return {job.rule for job in jobs_of(snakemake(folder, "-n", "-p", *ASKED, *arguments, cwd=cwd))}


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory, new_project: Callable[[Path], Path]) -> Path:
    """A project of all areas with stand-ins for its outputs, which Snakemake has noted as made."""
    folder = tmp_path_factory.mktemp("made") / "project"
    folder.mkdir()
    write_project(new_project(folder))
    said = snakemake(folder, "-n", "-p", "--forceall", *ASKED)
    write_stand_ins(folder, said)
    for measured in folder.glob("results/driving/*/*/metrics.json"):  # with a clip that is kept, which is recorded
        (measured.parent / "clip").mkdir()
        (measured.parent / "clip" / "motion.npz").touch()
    snakemake(folder, "--touch", "--forceall", *ASKED)
    return folder


@pytest.fixture
def project(made: Path, tmp_path: Path) -> Path:
    return copied(made, tmp_path / "project")


def configure(folder: Path, dotted: str, value: Any) -> None:
    """Set a key of config.yaml."""
    path = folder / "config" / "config.yaml"
    config = json.loads(path.read_text())
    *sections, key = dotted.split(".")
    section = config
    for name in sections:
        section = section.setdefault(name, {})
    section[key] = value
    path.write_text(json.dumps(config))


def edit_code(folder: Path, module: str, change: Callable[[str], str]) -> None:
    """Change a module of a copy of the package."""
    from splatdag.workflow.code_digest import _ROOT

    shutil.copytree(_ROOT.parent, folder.parent / "scripts", ignore=shutil.ignore_patterns("__pycache__"))
    path = folder.parent / "scripts" / "splatdag" / f"{module}.py"
    path.write_text(change(path.read_text()))


def edited(module: str) -> Change:
    return lambda folder: edit_code(folder, module, lambda text: text + "\nNEW = 1\n")


def configured(dotted: str, value: Any) -> Change:
    return lambda folder: configure(folder, dotted, value)


def touch_files(folder: Path) -> None:
    for path in folder.rglob("*"):
        if ".snakemake" not in path.relative_to(folder).parts:
            os.utime(path, follow_symlinks=False)


def another_clock(seconds: float, *patterns: str) -> Change:
    """Files as a machine whose clock is fast or slow writes them."""

    def change(folder: Path) -> None:
        for path in [path for pattern in patterns for path in folder.glob(pattern)]:
            time = path.stat().st_mtime + seconds
            os.utime(path, (time, time))

    return change


def edit_photo(folder: Path) -> None:
    images = folder / "data" / "apple" / "images"
    shutil.copyfile(images / "2.png", images / "1.png")


def remove(pattern: str) -> Change:
    def change(folder: Path) -> None:
        [path] = folder.glob(pattern)
        shutil.rmtree(path) if path.is_dir() else path.unlink()

    return change


def write_cells(columns: str, cells: str) -> Change:
    """Add columns to the sheet, with cells for the first capture."""

    def change(folder: Path) -> None:
        sheet = folder / "config" / "captures.tsv"
        head, first, *rest = sheet.read_text().splitlines()
        rest = [row + "\t" * len(columns.split()) for row in rest]
        sheet.write_text("\n".join([f"{head}\t{columns}", f"{first}\t{cells}", *rest, ""]))

    return change


def stray_files(folder: Path) -> None:
    (folder / "data" / "apple" / "images" / "Thumbs.db").write_text("stray")
    (folder / "data" / "apple" / "notes.txt").write_text("stray")


def edit_docstring(folder: Path) -> None:
    edit_code(folder, "scene/train", lambda text: text.replace('"""Train', '"""Learn', 1))


def test_no_file_of_the_users_is_an_input(made: Path) -> None:
    """Snakemake would refuse what is made of one whose time lies ahead; its digest is a parameter."""
    said = snakemake(made, "-n", "--forceall", *ASKED)
    inputs = {name for names in re.findall(r"^    input: (.*)$", said, re.MULTILINE) for name in names.split(", ")}
    assert len(inputs) > 30
    assert not [name for name in inputs if not name.startswith("results/")]


HARMLESS: dict[str, Change] = {
    "touched files and folders: photos, sheets, config, rules, results": touch_files,
    "stray files among the photos": stray_files,
    "the learning rate as it is, written out": configured("captures.train.means_lr", 4.8e-4),
    "where photos are kept": configured("captures.train.image_cache", "disk"),
    "what a row asks a cluster for": write_cells("resources.train.mem_mb\tresources.train.threads", "64000\t1"),
    "an intermediate deleted": remove("results/captures/walk/images"),
    "inputs from a clock that is a year fast": another_clock(YEAR, "data/**/*", "config/*", "rules/*"),
    "results from a clock that is an hour fast": another_clock(3600, "*/captures/**/*"),
    "a new clone with another docstring": edit_docstring,
}
SINGLE = {"train_capture", "evaluate_capture", "link_run", "record_capture", "upload_scene"}
MEASURED = {"evaluate_flux4d", "merge_flux4d", "record_drive", "upload_scene"}
CASES: dict[str, tuple[Change, set[str]]] = {
    "an edited photo": (edit_photo, SINGLE | {"pose_capture"}),
    "code of a sample": (
        edited("samples/street"),
        {*AREAS["driving"].rules, "make_sample", "compile_kernels", "record_drive", "upload_scene"},
    ),
    "a sample's option": (
        configured("samples.humans.width", 50),
        {"make_sample", "record_epoch", "upload_scene"},
    ),
    "code of a first stage": (
        edited("captures/frames"),
        {"extract_frames", "pose_capture", "train_capture", "record_capture", "upload_scene"},
    ),
    "code of a last stage": (edited("driving/evaluation/flow"), {"draw_flow"}),
    "code of recordings": (edited("driving/record_drive"), {"record_drive", "upload_scene"}),
    "code of what a page says": (edited("humans/description"), {"upload_scene"}),
    "code of splats": (
        edited("splats/losses"),
        SINGLE | MEASURED | {"compile_kernels", "overfit_flux4d", "draw_flow", "train_flux4d"},
    ),
    "code of the engine": (edited("workflow/publish"), set()),
    "a learning rate of captures": (configured("captures.train.means_lr", 1e-4), SINGLE),
    "a learning rate of driving": (
        configured("driving.overfit.lr", 0.02),
        {"overfit_flux4d", "draw_flow", "record_drive", "upload_scene"},
    ),
    "another repository to upload to": (configured("sharing.upload.repo_id", "lab/other"), {"upload_scene"}),
    "smaller pictures in recordings": (
        configured("sharing.recordings.downscale", 2),
        {"record_capture", "record_drive", "record_epoch", "upload_scene"},
    ),
    "a result deleted": (remove("results/driving/overfit/flow/summary.json"), {"draw_flow"}),
    "results from a clock that is an hour slow": (another_clock(-3600, "*/captures/**/*"), set()),
}


@pytest.mark.parametrize("case", CASES)
def test_a_change_reruns_exactly_what_depends_on_it(case: str, project: Path) -> None:
    change, rules = CASES[case]
    change(project)
    assert planned(project) == rules


def test_what_changes_no_result_reruns_nothing(made: Path, tmp_path: Path) -> None:
    """All of it together; the one that would be to blame is looked for."""
    folder = copied(made, tmp_path / "renamed home" / "project")
    assert planned(folder) == set(), "a copy of the tree"
    assert planned(folder, "-s", str(folder / "Snakefile"), "--directory", str(folder), cwd=tmp_path) == set()
    for change in HARMLESS.values():
        change(folder)
    if planned(folder):
        for name, change in HARMLESS.items():
            alone = copied(made, tmp_path / name / "project")
            change(alone)
            assert planned(alone) == set(), name
        pytest.fail("one of them alone reruns nothing, all together do")
