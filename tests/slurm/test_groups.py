"""A video's frames and poses, which the profile makes one job of."""

from __future__ import annotations

import subprocess
import sys

import numpy as np
from PIL import Image

from splatdag.formats.video import write_video
from splatdag.workflow.attempts import State, stage_status

PHOTOS = 24
SHEET = """\
capture,data_dir,resources.frames.mem_mb,resources.pose.mem_mb
walk,../walk.mp4,1000,2000
noise,../noise.mp4,1000,2000
"""


def write_videos(folder):
    """One of the sample room, and one that shows nothing."""
    size = ["--photos", str(PHOTOS), "--width", "200", "--height", "150", "--threads", "2"]
    subprocess.run([sys.executable, "-m", "splatdag.samples.room", "--out", folder / "room", *size], check=True)
    photos = sorted((folder / "room" / "images").iterdir())
    write_video(folder / "walk.mp4", (np.asarray(Image.open(photo)) for photo in photos), fps=8)
    random = np.random.default_rng(0)
    write_video(folder / "noise.mp4", (random.integers(0, 255, (96, 128, 3), np.uint8) for _ in range(PHOTOS)), fps=8)


def test_a_group_is_repeated_when_one_of_its_stages_fails_and_costs_no_other(slurm_project, box):
    """The poses of `walk` once take more memory than they may; those of `noise` can't be found."""
    folder = slurm_project.folder
    write_videos(folder)
    slurm_project.configure(SHEET, captures={"frames": {"num_frames": PHOTOS}})
    (slurm_project.witness / "take-results_captures_walk_registration.json").write_text("2500")
    files = [f"results/captures/{name}/registration.json" for name in ("walk", "noise")]
    run = slurm_project.start(*files, "--retries", "1")
    box.wait("the jobs", lambda: len(box.jobs(folder)) == 2)
    advice = slurm_project.doctor()
    done = slurm_project.end(run)
    assert "frames_and_poses_walk" in advice
    assert "frames_and_poses_noise" in advice

    assert done.returncode != 0
    first, second = box.history(folder, "rule_frames_and_poses_walk_extract_frames_pose_capture")
    assert first["state"] in ("FAILED", "OUT_OF_MEMORY")
    assert second["state"] == "COMPLETED"
    assert (first["memory"], second["memory"]) == ("2000M", "4000M"), "as the stage that needs most"
    assert (first["time"], second["time"]) == ("6:00:00", "12:00:00"), "both stages, one after the other"
    failed = box.history(folder, "rule_frames_and_poses_noise_extract_frames_pose_capture")
    assert [job["state"] for job in failed] == ["FAILED", "FAILED"]

    logs = folder / "logs" / "captures"
    assert (folder / files[0]).exists()
    assert not (folder / files[1]).exists()
    for capture, stage, state in (
        ("walk", "frames", State.DONE), ("walk", "pose", State.DONE), ("noise", "pose", State.FAILED),
    ):  # fmt: skip
        assert stage_status(logs / capture / f"{stage}.log").state is state
    assert "no two of the 24 photos could be placed together" in done.stdout

    status = slurm_project.run("status").stdout
    walk, noise = (
        next(line for line in status.splitlines() if line.split()[:1] == [name]) for name in ("walk", "noise")
    )
    assert walk.count("done") == 2
    assert "failed" in noise
    assert not box.jobs(folder)
