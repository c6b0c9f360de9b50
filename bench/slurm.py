"""Benchmark of jobs on Slurm: the DAG through Snakemake's Slurm profile, beside plain `sbatch` of the same commands.

python bench/slurm.py [--captures 100] [--ways "plain sbatch" "as shipped" …]

Needs root and Slurm's Debian packages: it starts the cluster of tests/slurm on this machine. Each capture is the same
small video of the sample room, and two jobs: extract_frames and pose_capture. `plain sbatch` submits what the dry run
prints, with the dependencies between files as `--dependency`, by one `sbatch` after the other, as a script would. Every
way has a folder of its own, and they run one after the other.
"""

from __future__ import annotations

import argparse
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import cv2
import psutil

REPOSITORY = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(REPOSITORY / "tests" / "slurm"))

from box import Box, CannotStart, running_box  # noqa: E402

from splatdag.formats.video import write_video  # noqa: E402

PROFILE = ("--workflow-profile", "workflow_profiles/slurm")
WAYS = {
    "plain sbatch": None,
    "as shipped": [],
    "each job by itself": ["--groups", "compare=none"],  # in place of the profile's groups
}
"""Arguments of Snakemake; None is sbatch alone."""
PHOTOS = 24
WITNESS = '''
"""Every Python process of a run notes at its end what it was and what it took."""
import atexit, json, os, sys, time

def _note(begin=time.time(), words=sys.orig_argv):
    what = words[words.index("-m") + 1] if "-m" in words[:-1] else ""
    if what == "snakemake":
        what = "job step" if "slurm-jobstep" in words else "job" if "SLURM_JOB_ID" in os.environ else "submits"
    elif not what.startswith("splatdag."):
        return
    note = {
        "what": what, "slurm": os.environ.get("SLURM_JOB_ID"),
        "cpu": time.process_time(), "begin": begin, "end": time.time(),
    }
    with open(f"{os.environ['WITNESS']}/{time.time_ns()}-{os.getpid()}.json", "w") as file:
        json.dump(note, file)

atexit.register(_note)
'''


HEADING = (
    "| way | jobs | in Slurm | wall s | s per job | ratio | no job runs s | CPU s per job: stages"
    " | Snakemake that submits | Snakemake of the job step | Snakemake in it | Slurm's daemons |",
    "|---" * 12 + "|",
)


@dataclass(frozen=True)
class Job:
    """One job as the dry run tells it."""

    command: str
    inputs: list[str]
    outputs: list[str]
    request: list[str] = field(default_factory=list)
    """Arguments of sbatch."""


@dataclass(frozen=True)
class Measured:
    """Measurement of one way: its jobs, and times in seconds."""

    jobs: int
    """Number of jobs of the DAG."""
    submitted: int
    """Number of jobs in Slurm."""
    wall: float
    idle: float
    """Wall time in which none of its jobs ran, start and end included."""
    cpu: dict[str, float]
    """CPU time of processes by what they are: `submits`, `job step`, `job`, `stages`, `Slurm`."""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--captures", type=int, default=100, help="two jobs each")
    parser.add_argument("--ways", nargs="+", choices=list(WAYS), default=list(WAYS))
    arguments = parser.parse_args()
    signal.signal(signal.SIGTERM, lambda *_: sys.exit("ended"))  # so that the cluster is stopped
    with tempfile.TemporaryDirectory() as folder:
        video = _video(Path(folder))
        try:
            with running_box() as box:
                print("\n".join(HEADING), flush=True)
                plain = None
                for way in arguments.ways:
                    found = _measure(box, Path(folder) / way.replace(" ", "-"), video, arguments.captures, way)
                    plain = plain or found
                    print(_row(way, found, plain), flush=True)
        except CannotStart as reason:
            raise SystemExit(f"no Slurm here: {reason}") from None


def _row(way: str, found: Measured, plain: Measured) -> str:
    parts = ("stages", "submits", "job step", "job", "Slurm")
    cpu = " | ".join(f"{found.cpu[part] / found.jobs:.2f}" for part in parts)
    ratio = (found.wall / found.jobs) / (plain.wall / plain.jobs)
    return (
        f"| {way} | {found.jobs} | {found.submitted} | {found.wall:.0f} | {found.wall / found.jobs:.2f} | {ratio:.2f} |"
        f" {found.idle:.0f} | {cpu} |"
    )


def _measure(box: Box, folder: Path, video: Path, captures: int, way: str) -> Measured:
    targets = _project(folder, video, captures)
    environment = box.environment | {"WITNESS": str(folder / "witness"), "OMP_WAIT_POLICY": "PASSIVE"}
    environment["PYTHONPATH"] = os.pathsep.join([str(folder / "inside"), str(REPOSITORY / "scripts")])
    jobs = list(_planned(folder, targets, environment))
    (folder / "witness").mkdir()  # what planning took does not count
    before, begin = _daemon_seconds(box), time.time()
    extra = WAYS[way]
    if extra is None:
        _submit_plainly(box, folder, environment, jobs)
    else:
        _snakemake(folder, environment, *PROFILE, *targets, *extra)
    end, daemons = time.time(), _daemon_seconds(box) - before
    missing = [name for job in jobs for name in job.outputs if not (folder / name).exists()]
    if missing:
        raise SystemExit(f"{way}: {len(missing)} outputs are missing, such as {missing[0]}")
    notes = [json.loads(path.read_text()) for path in (folder / "witness").glob("*.json")]
    cpu = {"stages": 0.0, "submits": 0.0, "job step": 0.0, "job": 0.0, "Slurm": daemons}
    for note in notes:
        cpu[note["what"] if note["what"] in cpu else "stages"] += note["cpu"]
    submitted = len({note["slurm"] for note in notes} - {None})
    running = [(note["begin"], note["end"]) for note in notes if note["what"] != "submits"]
    return Measured(len(jobs), submitted, end - begin, _idle(running, begin, end), cpu)


def _idle(intervals: list[tuple[float, float]], begin: float, end: float) -> float:
    """Seconds between `begin` and `end` that no interval covers."""
    idle, at = 0.0, begin
    for first, last in sorted(intervals):
        idle += max(0.0, first - at)
        at = max(at, last)
    return idle + end - at


def _video(folder: Path) -> Path:
    photos, video = folder / "room", folder / "room.mp4"
    command = f"-m splatdag.samples.room --photos {PHOTOS} --width 200 --height 150 --threads 2 --out".split()
    subprocess.run([sys.executable, *command, str(photos)], check=True, capture_output=True)
    names = sorted((photos / "images").iterdir())
    write_video(video, (cv2.imread(str(name))[:, :, ::-1].copy() for name in names), fps=8)
    return video


def _project(folder: Path, video: Path, captures: int) -> list[str]:
    """A copy of the workflow with so many captures; the files to ask for."""
    folder.mkdir()
    shutil.copy(REPOSITORY / "Snakefile", folder)
    for name in ("rules", "config", "workflow_profiles", "envs", "report"):
        shutil.copytree(REPOSITORY / name, folder / name, symlinks=True)
    (folder / "inside").mkdir()
    (folder / "inside" / "sitecustomize.py").write_text(WITNESS)
    names = [f"c{index:03}" for index in range(captures)]
    sheet = "".join(f"{name}\t{video}\n" for name in names)
    (folder / "config" / "captures.tsv").write_text(f"capture\tdata_dir\n{sheet}")
    (folder / "config" / "config.yaml").write_text(json.dumps({"captures": {"frames": {"num_frames": PHOTOS}}}))
    return [f"results/captures/{name}/registration.json" for name in names]


def _planned(folder: Path, targets: list[str], environment: dict[str, str]) -> Iterator[Job]:
    """The jobs that Snakemake would run, in an order in which they could be submitted."""
    environment = environment | {"WITNESS": str(folder)}
    said = _snakemake(folder, environment, *PROFILE, "--dry-run", "--printshellcmds", "--cores", "64", *targets)
    jobs = []
    for block in re.findall(r"^ *rule \w+:\n.*?^ *Shell command: .*?$", said, re.MULTILINE | re.DOTALL):
        told = dict(re.findall(r"^ +(\w+): (.*)$", block, re.MULTILINE))
        asked = dict(pair.split("=", 1) for pair in told["resources"].split(", "))
        request = [f"--cpus-per-task={told['threads']}", f"--mem={asked['mem_mb']}", f"--time={asked['runtime']}"]
        request += [f"--partition={asked['slurm_partition']}", asked["slurm_extra"]]
        command = block.rpartition("Shell command: ")[2].strip()
        jobs.append(Job(command, told.get("input", "").split(", "), told["output"].split(", "), request))
    made = {name: job for job in jobs for name in job.outputs}
    while jobs:
        ready = [job for job in jobs if not any(name in made for name in job.inputs)]
        yield from ready
        jobs = [job for job in jobs if job not in ready]
        made = {name: job for job in jobs for name in job.outputs}


def _submit_plainly(box: Box, folder: Path, environment: dict[str, str], jobs: list[Job]) -> None:
    made: dict[str, str] = {}
    for job in jobs:
        for name in [*job.outputs, *re.findall(r"--log (\S+)", job.command)]:
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
        after = sorted({made[name] for name in job.inputs if name in made})
        dependency = [f"--dependency=afterok:{':'.join(after)}"] if after else []
        command = ["sbatch", "--parsable", "--output=/dev/null", *dependency, *job.request, f"--wrap={job.command}"]
        done = subprocess.run(command, cwd=folder, env=environment, check=True, capture_output=True, text=True)
        made |= dict.fromkeys(job.outputs, done.stdout.strip())
    while box.jobs(folder):
        time.sleep(1)


def _snakemake(folder: Path, environment: dict[str, str], *arguments: str) -> str:
    command = [sys.executable, "-m", "snakemake", *arguments]
    done = subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True)
    if done.returncode:
        raise SystemExit(f"{' '.join(command)}\n{done.stdout}\n{done.stderr}")
    return done.stdout + done.stderr


def _daemon_seconds(box: Box) -> float:
    times = [psutil.Process(process.pid).cpu_times() for process in box.processes.values()]
    return sum(time.user + time.system for time in times)


if __name__ == "__main__":
    main()
