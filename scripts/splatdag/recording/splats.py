"""Gaussians of a recording."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import rerun as rr

from splatdag.recording.options import CaptureRecordingOptions

SH_C0 = 0.28209479177387814
"""Value of the spherical harmonic of degree 0."""
_SH_ROWS = 15
"""Coefficients of degrees 1 to 3."""


def log_splats(stream: rr.RecordingStream, entity: str, path: Path, options: CaptureRecordingOptions) -> None:
    """Record a splat once: as Gaussians with their spherical harmonics, or as points of their colours.

    Args:
        stream: the recording.
        entity: the splat's.
        path: PLY file in Inria's layout.
        options: `gaussians` and `sh_degree`.

    Raises:
        UserError: the file is not a PLY file of Gaussians.
    """
    stream.log(entity, gaussians_of(read_splat(path), options), static=True)


def read_splat(path: Path) -> dict[str, np.ndarray]:
    """Read the arrays of a PLY file of Gaussians, by the names of `splats.ply`.

    Raises:
        UserError: the file is not a PLY file of Gaussians.
    """
    from splatdag.splats.ply import read_ply  # takes torch along, which other recordings don't need

    return {name: tensor.numpy() for name, tensor in read_ply(path).items()}


def gaussians_of(splat: dict[str, np.ndarray], options: CaptureRecordingOptions) -> rr.GaussianSplats3D | rr.Points3D:
    """Convert Gaussians for a recording: with their spherical harmonics, or as points of their colours."""
    opacity = 1 / (1 + np.exp(-splat["opacities"].astype(np.float64)))
    colors = np.clip(0.5 + SH_C0 * splat["sh0"][:, 0], 0, 1)
    rgba = np.rint(255 * np.concatenate([colors, opacity[:, None]], axis=1)).astype(np.uint8)
    if not options.gaussians:
        return rr.Points3D(splat["means"], colors=rgba[:, :3], radii=rr.Radius.ui_points(2))
    harmonics = splat["shN"][:, : (options.sh_degree + 1) ** 2 - 1]
    degree = round((harmonics.shape[1] + 1) ** 0.5) - 1
    padded = np.zeros((len(harmonics), _SH_ROWS, 3), np.float16)
    padded[:, : harmonics.shape[1]] = harmonics
    quats = splat["quats"] / np.linalg.norm(splat["quats"], axis=1, keepdims=True)
    return rr.GaussianSplats3D(
        centers=splat["means"],
        scales=np.exp(splat["scales"]),
        quaternions=quats[:, [1, 2, 3, 0]],  # wxyz in the file
        colors=rgba,
        sh_coefficients=padded if degree else None,
        spherical_harmonics_degree=degree,
    )
