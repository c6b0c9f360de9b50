"""Benchmark of planning: the default config, and 1,000 captures of four stages each beside a bare Snakefile with the
same declared files."""

from __future__ import annotations

import argparse
import os
import re
import resource
import shutil
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path

REPOSITORY = Path(__file__).resolve().parent.parent
PHOTOS = 4
"""Photos per capture: files of a few bytes, since planning never decodes one."""

BARE = """
ROWS = [line.split() for line in open("rows.txt")]
DATA = {capture: data for capture, data, _ in ROWS}
EVAL = {capture: dataset for capture, _, dataset in ROWS}
LINKS = [f"results/captures/{capture}/result_dir_single.txt" for capture, _, _ in ROWS]
RUNS = [f"results/captures/{capture}/single/manifest.json" for capture, _, _ in ROWS]
EVALUATED = [capture for capture, dataset in EVAL.items() if dataset != "-"]
EVALUATIONS = [f"results/captures/{capture}/single/eval_on_{capture}/manifest.json" for capture in EVALUATED]

def photos(wildcards):
    data = DATA[wildcards.capture]
    return f"results/captures/{wildcards.capture}/images/frames.json" if data.endswith(".mp4") else ancient(data)

rule captures:
    input:
        "results/kernels/any.json", RUNS, EVALUATIONS, LINKS

rule compile_kernels:
    output: receipt="results/kernels/any.json"
    log: "logs/kernels/any.log"
    benchmark: "benchmarks/kernels/any.tsv"
    shell: "true"

rule extract_frames:
    input: video=lambda wildcards: ancient(DATA[wildcards.capture])
    output: receipt="results/captures/{capture}/images/frames.json"
    log: "logs/captures/{capture}/frames.log"
    benchmark: "benchmarks/captures/{capture}/frames.tsv"
    shell: "true"

rule pose_capture:
    input: data=photos
    output:
        cameras="results/captures/{capture}/sparse/0/cameras.bin",
        images="results/captures/{capture}/sparse/0/images.bin",
        points="results/captures/{capture}/sparse/0/points3D.bin",
        text="results/captures/{capture}/registration.txt",
        report="results/captures/{capture}/registration.json",
    log: "logs/captures/{capture}/pose.log"
    benchmark: "benchmarks/captures/{capture}/pose.tsv"
    shell: "true"

rule train_capture:
    input:
        data=photos,
        cameras=rules.pose_capture.output.cameras,
        images=rules.pose_capture.output.images,
        points=rules.pose_capture.output.points,
    output:
        splat="results/captures/{capture}/single/splat.ply",
        metrics="results/captures/{capture}/single/metrics.json",
        preview="results/captures/{capture}/single/preview.jpg",
        curves="results/captures/{capture}/single/curves.png",
        manifest="results/captures/{capture}/single/manifest.json",
    log: "logs/captures/{capture}/single/train.log"
    benchmark: "benchmarks/captures/{capture}/single/train.tsv"
    shell: "true"

rule evaluate_capture:
    input:
        data=lambda wildcards: ancient(EVAL[wildcards.capture]),
        manifest=rules.train_capture.output.manifest,
    output:
        metrics="results/captures/{capture}/single/eval_on_{eval_name}/metrics.json",
        preview="results/captures/{capture}/single/eval_on_{eval_name}/preview.jpg",
        manifest="results/captures/{capture}/single/eval_on_{eval_name}/manifest.json",
    log: "logs/captures/{capture}/single/eval_on_{eval_name}/evaluate.log"
    benchmark: "benchmarks/captures/{capture}/single/eval_on_{eval_name}/evaluate.tsv"
    shell: "true"

rule link_run:
    input: manifest="results/captures/{capture}/single/manifest.json"
    output: receipt="results/captures/{capture}/result_dir_single.txt"
    log: "logs/captures/{capture}/link.log"
    shell: "true"
"""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--captures", type=int, default=1000)
    parser.add_argument("--runs", type=int, default=7)
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        ours, bare = Path(folder) / "ours", Path(folder) / "bare"
        _copy_workflow(ours)
        default = [_dry_run(ours)[0] for _ in range(arguments.runs)]
        version = [_timed(ours, "--version")[0] for _ in range(arguments.runs)]
        _fill(ours, bare, arguments.captures)
        _dry_run(ours)  # the first reads every photo once
        pairs = [(_dry_run(ours), _dry_run(bare)) for _ in range(arguments.runs)]
    ratios = [first[0] / second[0] for first, second in pairs]
    jobs = pairs[0][0][1]
    assert jobs == pairs[0][1][1], "the two plans differ"
    print("CPU seconds (user and system), medians; the pairs ran in turn\n")
    print("| what | CPU s | beside it |")
    print("|---|---|---|")
    print(f"| parse and dry run, default config | {_middle(default)} | `snakemake --version` {_middle(version)} |")
    print(
        f"| dry run, {arguments.captures} captures, {jobs} jobs | {_middle([a[0] for a, _ in pairs])} |"
        f" bare Snakefile {_middle([b[0] for _, b in pairs])}: ratio {statistics.median(ratios):.2f}"
        f" ({min(ratios):.2f} to {max(ratios):.2f}) |"
    )


def _copy_workflow(folder: Path) -> None:
    folder.mkdir()
    shutil.copy(REPOSITORY / "Snakefile", folder)
    for name in ("rules", "config", "workflow_profiles", "envs"):
        shutil.copytree(REPOSITORY / name, folder / name, symlinks=True)
    (folder / "profiles").symlink_to("workflow_profiles")


def _fill(ours: Path, bare: Path, count: int) -> None:
    """Captures of four stages each: every other one a video, the others datasets that are evaluated on one more."""
    bare.mkdir()
    rows = []
    for index in range(count):
        name = f"capture{index:05}"
        if index % 2:
            data, dataset = f"data/{name}.mp4", "-"
            (ours / "data").mkdir(exist_ok=True)
            (ours / data).write_text(name)
        else:
            data, dataset = f"data/{name}", f"evaluation/{name}"
            for folder in (data, dataset):
                _write_dataset(ours / folder)
        rows.append((name, data, dataset))
    lines = [
        f"{name}\t../{data}\t{'' if dataset == '-' else f'../{dataset}'}\tshown/{name}\n"
        for name, data, dataset in rows
    ]
    (ours / "config" / "captures.tsv").write_text("capture\tdata_dir\teval_dir\tresult_dir\n" + "".join(lines))
    for name in ("data", "evaluation"):
        (bare / name).symlink_to(ours / name)
    (bare / "rows.txt").write_text("".join(" ".join(row) + "\n" for row in rows))
    (bare / "Snakefile").write_text(BARE)


def _write_dataset(folder: Path) -> None:
    """Photos and a model that have no content: planning never decodes one."""
    for index in range(PHOTOS):
        (folder / "images").mkdir(parents=True, exist_ok=True)
        (folder / "images" / f"{index}.jpg").write_text(f"{folder.name} {index}")
    (folder / "sparse").mkdir()
    for part in ("cameras", "images", "points3D"):
        (folder / "sparse" / f"{part}.bin").touch()


def _dry_run(folder: Path) -> tuple[float, int]:
    seconds, output = _timed(folder, "-n", "--quiet", "rules", "--cores", "2", "captures")
    total = re.search(r"^total +(\d+)", output, re.MULTILINE)
    return seconds, int(total.group(1)) if total else 0


def _timed(folder: Path, *arguments: str) -> tuple[float, str]:
    """CPU seconds, which other work on the machine disturbs less than wall time, and what was printed."""
    before = _children_seconds()
    command = [sys.executable, "-m", "snakemake", *arguments]
    offline = {**os.environ, "SPLATDAG_OFFLINE": "1"}  # the bare Snakefile fetches no weights
    done = subprocess.run(command, cwd=folder, env=offline, capture_output=True, text=True, check=True)
    return _children_seconds() - before, done.stdout + done.stderr


def _children_seconds() -> float:
    usage = resource.getrusage(resource.RUSAGE_CHILDREN)
    return usage.ru_utime + usage.ru_stime


def _middle(values: list[float]) -> str:
    return f"{statistics.median(values):.2f}"


if __name__ == "__main__":
    main()
