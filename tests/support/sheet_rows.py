"""Sheets of captures, read from text."""

import pytest

from splatdag.captures.config import TrainOptions
from splatdag.captures.options import FrameOptions, PoseOptions
from splatdag.captures.sheet import Stages, read_captures
from support.scenes import write_gaussian_scene

SHARED = Stages(FrameOptions(), PoseOptions(), TrainOptions(preset="small"))


@pytest.fixture
def read(tmp_path, photos):
    """Read a sheet in a folder that is the working directory too; results are in its folder results."""

    def read(text, shared=SHARED):
        sheet = tmp_path / "captures.tsv"
        sheet.write_bytes(text.encode() if isinstance(text, str) else text)
        return read_captures(sheet, shared, tmp_path / "results")

    return read


def train_flags(capture, variant="single"):
    return capture.stages.train_flags(variant, external=capture.eval_dir is not None)


@pytest.fixture
def posed(tmp_path):
    """Two captures with COLMAP models, `left` and `eval`."""
    return [write_gaussian_scene(tmp_path / name) for name in ("left", "eval")]
