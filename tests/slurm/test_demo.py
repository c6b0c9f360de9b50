"""The demo capture, trained through sbatch."""

from box import PARTITIONS

STEPS = 40


def test_the_demo_capture_is_trained_through_sbatch(slurm_project):
    """Each stage runs where its rule asks, sees the GPU that it was given, and no other."""
    slurm_project.configure(
        "capture,data_dir\nroom,sample:room\n",
        captures={"train": {"preset": "small", "max_steps": STEPS}},
        samples={"room": {"photos": 16, "width": 200, "height": 150}},
    )
    done = slurm_project.run("captures")
    assert done.returncode == 0, done.stdout

    stages = slurm_project.stages()
    (kernels,) = [stage for stage in stages if stage["stage"] == "splatdag.splats.kernels"]
    assert kernels["node"] in PARTITIONS["gpu"]
    assert kernels["gpus"] == "0"
    first, second, third = [stage for stage in stages if stage is not kernels]
    assert (first["stage"], first["node"], first["gpus"]) == ("splatdag.samples.room", "cpu-1", None)
    assert (second["stage"], second["node"], second["gpus"]) == ("splatdag.captures.pose", "cpu-1", None)
    assert third["stage"] == "splatdag.scene.train"
    assert third["node"] in PARTITIONS["gpu"]
    assert third["gpus"] == "0"
    arguments = third["arguments"]
    assert arguments[arguments.index("--device-count") + 1] == "1", "the command that users see asks for the GPU"
    assert len({stage["job"] for stage in stages}) == 4

    manifest = slurm_project.manifest("room")
    assert manifest["exit_reason"] == "finished"
    assert manifest["options"]["max_steps"] == STEPS
    assert len(list((slurm_project.folder / "slurm_logs").rglob("*.log"))) == 4, "logs of good jobs are kept"
    assert "room" in (slurm_project.folder / "results" / "compare" / "runs.csv").read_text()


def test_flux4d_is_trained_on_an_h100_node_and_measured_on_another(slurm_project):
    """The chain over sample logs: lists and lidar on the CPU, the training on the large GPUs, the rest on any."""
    network = {"num_image_points": 600, "num_sky_points": 200, "voxel_size": 2.0, "channels": [8, 8], "blocks": 1,
               "features": 8, "iterations": 1, "iters": 4}  # fmt: skip
    slurm_project.configure(
        "capture,data_dir\n",
        driving={"data_root": "sample:street", "train": {"preset": "small", **network}},
        samples={"street": {"width": 96, "points": 1500, "cameras": ["front_camera"]}},
    )
    done = slurm_project.run("flux4d", seconds=600)
    assert done.returncode == 0, done.stdout
    stages = {stage["stage"].rpartition(".")[2]: stage for stage in slurm_project.stages()}
    assert set(stages) == {"kernels", "street", "index_split", "lift_logs", "train", "evaluate", "merge"}
    assert stages["train"]["node"] in PARTITIONS["h100"]
    assert stages["evaluate"]["node"] in PARTITIONS["gpu"]
    assert {stages[name]["node"] for name in ("street", "index_split", "lift_logs", "merge")} == {"cpu-1"}
    assert [stages[name]["gpus"] for name in ("train", "evaluate", "merge")] == ["0", "0", None]
    assert (slurm_project.folder / "results" / "driving" / "flux4d" / "manifest.json").is_file()
