"""The demo capture and sample logs, trained through sbatch in one run."""

import pytest
from box import PARTITIONS
from projects import on_cluster

STEPS = 40
NETWORK = {"num_image_points": 600, "num_sky_points": 200, "voxel_size": 2.0, "channels": [8, 8], "blocks": 1,
           "features": 8, "iterations": 1, "iters": 4}  # fmt: skip


@pytest.fixture(scope="module")
def trained(module_project, box):
    """The project after its run; the stages by name."""
    for project in on_cluster(module_project, box):
        project.configure(
            "capture,data_dir\nroom,sample:room\n",
            captures={"train": {"preset": "small", "max_steps": STEPS}},
            driving={"data_root": "sample:street", "train": {"preset": "small", **NETWORK}},
            samples={
                "room": {"photos": 16, "width": 200, "height": 150},
                "street": {"width": 96, "points": 1500, "cameras": ["front_camera"]},
            },
        )
        done = project.run("captures", "flux4d")
        assert done.returncode == 0, done.stdout
        project.ran = {stage["stage"].removeprefix("splatdag."): stage for stage in project.stages()}
        yield project


def test_the_demo_capture_is_trained_through_sbatch(trained):
    """Each stage runs where its rule asks, sees the GPU that it was given, and no other."""
    stages = [trained.ran[name] for name in ("splats.kernels", "samples.room", "captures.pose", "scene.train")]
    kernels, room, pose, train = stages
    assert [stage["gpus"] for stage in stages] == ["0", None, None, "0"]
    assert {room["node"], pose["node"]} == {"cpu-1"}
    assert {kernels["node"], train["node"]} <= set(PARTITIONS["gpu"])
    arguments = train["arguments"]
    assert arguments[arguments.index("--device-count") + 1] == "1", "the command that users see asks for the GPU"
    manifest = trained.manifest("room")
    assert manifest["exit_reason"] == "finished"
    assert manifest["options"]["max_steps"] == STEPS
    assert "room" in (trained.folder / "results" / "compare" / "runs.csv").read_text()


def test_flux4d_is_trained_on_an_h100_node_and_measured_on_another(trained):
    """The chain over sample logs: lists and lidar on the CPU, the training on the large GPUs, the rest on any."""
    stages = {name.rpartition(".")[2]: stage for name, stage in trained.ran.items() if name.startswith("driving.")}
    assert set(stages) == {"index_split", "lift_logs", "train", "evaluate", "merge"}
    assert stages["train"]["node"] in PARTITIONS["h100"]
    assert stages["evaluate"]["node"] in PARTITIONS["gpu"]
    assert {stages[name]["node"] for name in ("index_split", "lift_logs", "merge")} == {"cpu-1"}
    assert trained.ran["samples.street"]["node"] == "cpu-1"
    assert [stages[name]["gpus"] for name in ("train", "evaluate", "merge")] == ["0", "0", None]
    assert (trained.folder / "results" / "driving" / "flux4d" / "manifest.json").is_file()


def test_each_stage_is_a_job_whose_log_is_kept(trained):
    jobs = [stage["job"] for stage in trained.stages()]
    assert len(set(jobs)) == len(jobs)
    assert {path.stem for path in (trained.folder / "slurm_logs").rglob("*.log")} == set(jobs)
