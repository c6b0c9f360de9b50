"""Splat files: Inria's layout, the input's world frame, and no loss of precision far from the origin."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from plyfile import PlyData, PlyElement
from support.scenes import SIZE, arc, intrinsics, random_gaussians

from splatdag.scene.views import View, camera_tensors
from splatdag.splats.normalisation import Normalisation
from splatdag.splats.ply import read_ply, write_ply
from splatdag.splats.render import render
from splatdag.workflow.errors import UserError

STILL = Normalisation(np.zeros(3), 1.0, 1.1)


def table(path: Path) -> np.ndarray:
    return PlyData.read(str(path))["vertex"].data


def columns(vertices: np.ndarray, names: list[str]) -> np.ndarray:
    return np.stack([vertices[name] for name in names], axis=1)


def numbered(name: str, count: int) -> list[str]:
    return [f"{name}_{i}" for i in range(count)]


@pytest.mark.parametrize("degree", [0, 1, 2, 3])
def test_the_properties_are_inria_s_in_inria_s_order(tmp_path: Path, degree: int) -> None:
    write_ply(tmp_path / "a.ply", random_gaussians(4, degree), STILL)
    header = (tmp_path / "a.ply").read_bytes().split(b"end_header\n")[0].decode()
    rest = 3 * ((degree + 1) ** 2 - 1)
    names = ["x", "y", "z", "nx", "ny", "nz", *numbered("f_dc", 3), *numbered("f_rest", rest), "opacity"]
    names += [*numbered("scale", 3), *numbered("rot", 4)]
    assert header.splitlines() == [
        "ply",
        "format binary_little_endian 1.0",
        "comment splatdag",
        "comment antialiased 0",
        "comment offset 0 0 0",
        "element vertex 4",
        *(f"property float {name}" for name in names),
    ]
    assert (columns(table(tmp_path / "a.ply"), ["nx", "ny", "nz"]) == 0).all()


def test_higher_harmonics_are_written_channel_by_channel(tmp_path: Path) -> None:
    parameters = random_gaussians(2, 3)
    coefficient, channel = torch.arange(15)[:, None], torch.arange(3)[None]
    parameters["shN"] = torch.stack([1000 * n + 10 * coefficient + channel for n in (1, 2)]).float()
    parameters["sh0"] = torch.tensor([[[1.0, 2, 3]], [[4.0, 5, 6]]])
    write_ply(tmp_path / "a.ply", parameters, STILL)
    rest = columns(table(tmp_path / "a.ply"), numbered("f_rest", 45))
    expected = [[1000 * n + 10 * k + c for c in range(3) for k in range(15)] for n in (1, 2)]
    np.testing.assert_array_equal(rest, expected)
    np.testing.assert_array_equal(columns(table(tmp_path / "a.ply"), numbered("f_dc", 3)), [[1, 2, 3], [4, 5, 6]])


def world_gaussians(path: Path) -> dict[str, torch.Tensor]:
    """What a viewer makes of the file, by Inria's conventions."""
    vertices = table(path)
    rest = sum(name.startswith("f_rest_") for name in vertices.dtype.names)
    harmonics = columns(vertices, numbered("f_rest", rest)) if rest else np.zeros((len(vertices), 0), np.float32)
    harmonics = harmonics.reshape(len(vertices), 3, rest // 3).transpose(0, 2, 1)
    base = columns(vertices, numbered("f_dc", 3))[:, None]
    values = {
        "means": columns(vertices, ["x", "y", "z"]),
        "quats": columns(vertices, numbered("rot", 4)),
        "scales": np.exp(columns(vertices, numbered("scale", 3))),
        "opacities": 1 / (1 + np.exp(-vertices["opacity"])),
        "colors": np.concatenate([base, harmonics], axis=1),
    }
    return {name: torch.tensor(np.ascontiguousarray(value)) for name, value in values.items()}


@pytest.mark.parametrize("degree", [0, 1, 3])
def test_the_file_looks_the_same_to_the_world_s_camera_as_the_training_to_its_own(tmp_path: Path, degree: int) -> None:
    frame = Normalisation(np.array([3.0, -20.0, 7.5]), 2.5, 1.3)
    parameters = random_gaussians(200, degree)
    write_ply(tmp_path / "a.ply", parameters, frame)
    world = world_gaussians(tmp_path / "a.ply")
    for pose in arc(3):
        pose[:3, 3] = frame.scale * pose[:3, 3] - pose[:3, :3] @ frame.center
        view = View("a", torch.zeros(1), pose, intrinsics())
        viewmats, Ks = camera_tensors(view, frame, torch.device("cpu"))
        trained, _, _ = render(
            parameters["means"],
            parameters["quats"],
            parameters["scales"].exp(),
            parameters["opacities"].sigmoid(),
            torch.cat([parameters["sh0"], parameters["shN"]], dim=1),
            viewmats,
            Ks,
            *SIZE,
            sh_degree=degree,
        )
        seen, _, _ = render(**world, viewmats=torch.tensor(pose)[None], Ks=Ks, width=48, height=32, sh_degree=degree)
        assert trained.std() > 0.05
        np.testing.assert_allclose(seen.numpy(), trained.numpy(), atol=1e-4)


@pytest.mark.parametrize("scale", [2.0, 40.0, 300.0])
@pytest.mark.parametrize("center", [(512_345.678, 4_123_456.789, 231.5), (-5e5 + 0.25, 0.0, 0.0)])
def test_georeferenced_positions_keep_their_millimetres(
    tmp_path: Path, center: tuple[float, ...], scale: float
) -> None:
    frame = Normalisation(np.array(center), scale, 1.1)
    parameters = random_gaussians(300)
    write_ply(tmp_path / "a.ply", parameters, frame)
    stored = columns(table(tmp_path / "a.ply"), ["x", "y", "z"]).astype(np.float64)
    exact = parameters["means"].double().numpy() * scale + np.array(center)
    assert np.abs(stored + frame.offset() - exact).max() < 1e-3


def test_what_was_written_is_read_back(tmp_path: Path) -> None:
    parameters = random_gaussians(20, 2)
    parameters["quats"] = torch.nn.functional.normalize(parameters["quats"])
    write_ply(tmp_path / "a.ply", parameters, STILL)
    read = read_ply(tmp_path / "a.ply")
    assert read.keys() == parameters.keys()
    for name, value in parameters.items():
        torch.testing.assert_close(read[name], value, rtol=1e-6, atol=1e-6)


def plain_points(path: Path) -> None:
    vertices = np.zeros(3, dtype=[("x", "<f4"), ("y", "<f4"), ("z", "<f4")])
    PlyData([PlyElement.describe(vertices, "vertex")]).write(str(path))


def faces_only(path: Path) -> None:
    PlyData([PlyElement.describe(np.zeros(3, dtype=[("a", "<f4")]), "face")]).write(str(path))


def truncated(path: Path) -> None:
    write_ply(path, random_gaussians(50), STILL)
    path.write_bytes(path.read_bytes()[:-100])


@pytest.mark.parametrize(
    "spoil",
    [
        pytest.param(lambda path: None, id="missing"),
        pytest.param(lambda path: path.write_bytes(b""), id="empty"),
        pytest.param(lambda path: path.write_text("no ply at all\n"), id="text"),
        pytest.param(lambda path: path.write_bytes(bytes(range(256)) * 4), id="binary"),
        pytest.param(lambda path: path.write_text("ply\nformat ascii 1.0\n"), id="half a header"),
        pytest.param(plain_points, id="plain points"),
        pytest.param(faces_only, id="no vertices"),
        pytest.param(truncated, id="truncated"),
    ],
)
def test_a_file_that_is_not_a_splat_is_named_in_one_line(tmp_path: Path, spoil) -> None:
    path = tmp_path / "a.ply"
    spoil(path)
    with pytest.raises(UserError, match=r"a\.ply: not a PLY file of Gaussians") as caught:
        read_ply(path)
    assert "\n" not in str(caught.value)
