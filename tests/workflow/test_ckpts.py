"""Files of splats from anywhere, which the target `captures_ckpts` measures."""

import json

import numpy as np
import pycolmap
import pytest
from jobs import jobs_of
from support.plans import write_stand_ins
from support.scenes import gaussian_scene, write_gaussian_scene
from support.simple_trainer import OF_DATASET, in_frame, save

from splatdag.splats.normalisation import Normalisation
from splatdag.splats.ply import write_ply

TARGET = ("captures_ckpts", "--cores", "2")
ALL = {"evaluate": {"split": "all"}}


@pytest.fixture
def theirs(project):
    """A training of simple_trainer on two GPUs and its splats as PLY, to be measured on two of the photos."""
    write_gaussian_scene(project / "data")
    few = write_gaussian_scene(project / "few") / "sparse" / "0"
    model = pycolmap.Reconstruction(str(few))
    for image_id in [image.image_id for image in model.images.values() if image.name not in ("0.png", "4.png")]:
        model.deregister_frame(model.images[image_id].frame_id)
    model.write(str(few))
    truth, _ = gaussian_scene()
    splats = in_frame(truth, OF_DATASET)
    for rank in range(2):
        half = {name: tensor[rank::2] for name, tensor in splats.items()}
        save(project / "theirs" / "ckpts" / f"ckpt_9_rank{rank}.pt", half, 9)
    write_ply(project / "theirs" / "point_cloud_9.ply", truth, Normalisation(np.zeros(3), 1.0, 1.0))
    ckpt = {"ckpt": "theirs/ckpts/ckpt_9_rank0.pt", "data_dir": "few", "trained_on": "data", "out_dir": "eval"}
    ply = {"ply": "theirs/point_cloud_9.ply", "data_dir": "few"}
    config = {"captures": {"ckpts": {"ckpt": ckpt | ALL, "ply": ply | ALL}}}
    (project / "config" / "config.yaml").write_text(json.dumps(config))
    return project


def test_a_checkpoint_of_two_ranks_scores_what_its_splats_do_as_ply(theirs, snakemake):
    done = snakemake(*TARGET)
    assert done.returncode == 0, done.stderr
    ply = json.loads((theirs / "results" / "captures" / "ply" / "ckpt" / "metrics.json").read_text())
    ckpt = json.loads((theirs / "eval" / "metrics.json").read_text())
    assert ckpt["step"] == ply["step"] == 10
    assert [view["name"] for view in ckpt["views"]] == ["0.png", "4.png"]
    for view, other in zip([ckpt["mean"], *ckpt["views"]], [ply["mean"], *ply["views"]], strict=True):
        assert view["psnr"] == pytest.approx(other["psnr"], abs=0.02)
        assert view["ssim"] == pytest.approx(other["ssim"], abs=1e-5)
    assert ply["mean"]["psnr"] > 45, "half of the Gaussians or another frame would not show the photos"
    assert ckpt["baseline"] == ply["baseline"]


def test_a_changed_file_of_another_rank_is_measured_again(theirs, snakemake):
    write_stand_ins(theirs, snakemake("-n", "-p", *TARGET).stdout)
    assert snakemake("--touch", "--forceall", *TARGET).returncode == 0

    def planned():
        return {job.log for job in jobs_of(snakemake("-n", "-p", *TARGET).stdout)}

    assert planned() == set()
    rank = theirs / "theirs" / "ckpts" / "ckpt_9_rank1.pt"
    rank.write_bytes(rank.read_bytes() + b"more")
    assert planned() == {"logs/captures/ckpt/ckpt/evaluate.log", "logs/captures/ckpt/ckpt/link.log"}
