"""Rendering of Gaussians: gsplat on CUDA, our own rasteriser on the CPU, one set of conventions."""

from typing import Any, Literal

import torch
from torch import Tensor

RenderMode = Literal["RGB", "D", "ED", "RGB+D", "RGB+ED"]
RENDER_MODES = ("RGB", "D", "ED", "RGB+D", "RGB+ED")
MAX_SH_DEGREE = 3


def render(
    means: Tensor,
    quats: Tensor,
    scales: Tensor,
    opacities: Tensor,
    colors: Tensor,
    viewmats: Tensor,
    Ks: Tensor,
    width: int,
    height: int,
    *,
    sh_degree: int | None = None,
    near_plane: float = 0.01,
    far_plane: float = 1e10,
    render_mode: RenderMode = "RGB",
    backgrounds: Tensor | None = None,
    antialiased: bool = False,
    absgrad: bool = False,
    packed: bool = False,
) -> tuple[Tensor, Tensor, dict[str, Any]]:
    """Render N Gaussians into C pinhole cameras, with gradients to every tensor but Ks.

    means [N,3] in world units, or [C,N,3] where each camera has a time of its own and things move (means2d then
    carries no gradient); quats [N,4] wxyz of any length, scales [N,3] standard deviations in world units, opacities
    [N] in [0,1]; colors [N,D] channels, or [C,N,D] where cameras see different ones, or [N,K,3] harmonics when
    sh_degree is given, of which the first (sh_degree+1)² are used. viewmats [C,4,4] world to camera (x right, y down,
    z forward), Ks [C,3,3] in pixels, backgrounds [C,D]. `antialiased` scales opacities by the area that the pixel
    filter adds.

    Returns colors [C,H,W,D], alphas [C,H,W,1] and info: means2d [C,N,2] in pixels (call `.retain_grad()` on
    it for the screen-space gradient; with absgrad its `.absgrad` is set in the backward pass), radii [C,N,2]
    int32 in pixels (0: culled), depths [C,N] along z in world units, width, height, n_cameras. "D" is depth
    weighted by opacity, "ED" the same divided by alpha; with "RGB+" it is one more channel. With packed, on CUDA
    alone, means2d, radii and depths have one row per visible pair of camera and Gaussian, and info says which
    Gaussian in gaussian_ids.

    Everything is converted to float32. Raises ValueError where shapes, devices or modes do not fit. Follows
    gsplat 1.5.3's `rasterization`: Kerbl et al., 3D Gaussian Splatting (2023); Yu et al., Mip-Splatting
    (2024), eq. 9.
    """
    tensors = {
        "means": means,
        "quats": quats,
        "scales": scales,
        "opacities": opacities,
        "colors": colors,
        "viewmats": viewmats,
        "Ks": Ks,
    }
    if backgrounds is not None:
        tensors["backgrounds"] = backgrounds
    _check(tensors, width, height, sh_degree, render_mode)
    tensors = {name: x.to(torch.float32).contiguous() for name, x in tensors.items()}
    if means.dim() == 3 and not means.is_cuda:
        options = (width, height, sh_degree, near_plane, far_plane, render_mode, antialiased, absgrad)
        apart = sh_degree is None and colors.dim() == 3
        return _stacked([_render_cpu(_of_camera(tensors, number, apart), *options) for number in range(len(means))])
    shared = (tensors, width, height, sh_degree, near_plane, far_plane, render_mode, antialiased, absgrad)
    return _render_cuda(*shared, packed) if means.is_cuda else _render_cpu(*shared)


def _check(tensors: dict[str, Tensor], width: int, height: int, sh_degree: int | None, render_mode: str) -> None:
    n, c = tensors["means"].shape[-2], tensors["viewmats"].shape[0]
    of_camera = sh_degree is None and tensors["colors"].dim() == 3
    expected: dict[str, tuple[int | None, ...]] = {
        "means": (c, n, 3) if tensors["means"].dim() == 3 else (n, 3),
        "quats": (n, 4),
        "scales": (n, 3),
        "opacities": (n,),
        "colors": (n, None, 3) if sh_degree is not None else (c, n, None) if of_camera else (n, None),
        "viewmats": (c, 4, 4),
        "Ks": (c, 3, 3),
        "backgrounds": (c, None if sh_degree is None else 3),
    }
    for name, x in tensors.items():
        shape = expected[name]
        if x.dim() != len(shape) or any(want not in (None, got) for want, got in zip(shape, x.shape, strict=True)):
            raise ValueError(f"{name} has shape {tuple(x.shape)}; expected {shape}, None meaning any size")
        if not x.is_floating_point() or x.device != tensors["means"].device:
            raise ValueError(f"{name} is {x.dtype} on {x.device}; expected a float tensor on the device of means")
    if width < 1 or height < 1:
        raise ValueError(f"image size {width} x {height}; expected at least 1 x 1")
    if render_mode not in RENDER_MODES:
        raise ValueError(f"render_mode {render_mode!r}; expected one of {', '.join(RENDER_MODES)}")
    if sh_degree is not None:
        if not 0 <= sh_degree <= MAX_SH_DEGREE:
            raise ValueError(f"sh_degree {sh_degree}; expected 0 to {MAX_SH_DEGREE}")
        if tensors["colors"].shape[1] < (sh_degree + 1) ** 2:
            needed = (sh_degree + 1) ** 2
            raise ValueError(f"colors has {tensors['colors'].shape[1]} harmonics; degree {sh_degree} needs {needed}")
    elif "backgrounds" in tensors and tensors["backgrounds"].shape[1] != tensors["colors"].shape[-1]:
        have, want = tensors["backgrounds"].shape[1], tensors["colors"].shape[-1]
        raise ValueError(f"backgrounds has {have} channels, colors {want}")


def _of_camera(tensors: dict[str, Tensor], number: int, colors_differ: bool) -> dict[str, Tensor]:
    """Select the tensors of one of several cameras."""
    cameras = [name for name in ("viewmats", "Ks", "backgrounds") if name in tensors]
    own: dict[str, Tensor] = {name: tensors[name][number : number + 1] for name in cameras}
    if colors_differ:
        own["colors"] = tensors["colors"][number]
    return tensors | own | {"means": tensors["means"][number]}


def _stacked(drawn: list[tuple[Tensor, Tensor, dict[str, Any]]]) -> tuple[Tensor, Tensor, dict[str, Any]]:
    """Join several renderings of one camera each into one of all."""
    images, alphas, infos = zip(*drawn, strict=True)
    info = {name: torch.cat([one[name] for one in infos]) for name in ("means2d", "radii", "depths")}
    shared = {"width": infos[0]["width"], "height": infos[0]["height"], "n_cameras": len(infos)}
    return torch.cat(images), torch.cat(alphas), info | shared


def _render_cpu(
    tensors: dict[str, Tensor],
    width: int,
    height: int,
    sh_degree: int | None,
    near_plane: float,
    far_plane: float,
    render_mode: str,
    antialiased: bool,
    absgrad: bool,
) -> tuple[Tensor, Tensor, dict[str, Any]]:
    from splatdag.splats.cpu import Harmonics, Project, Rasterize

    means, opacities, colors, viewmats = (tensors[k] for k in ("means", "opacities", "colors", "viewmats"))
    geometry = (means, tensors["quats"], tensors["scales"], opacities, viewmats, tensors["Ks"])
    means2d, depths, factors, compensations, radii = Project.apply(
        *geometry, width, height, near_plane, far_plane, antialiased
    )
    cameras, count = depths.shape
    opacities = opacities * compensations if antialiased else opacities.expand(cameras, count)
    if not render_mode.startswith("RGB"):
        colors = depths[..., None]
    elif sh_degree is None:
        colors = colors.expand(cameras, *colors.shape[-2:])
    else:
        centres = torch.linalg.inv(viewmats)[:, :3, 3].contiguous()
        colors = Harmonics.apply(sh_degree, means, colors, centres, radii)
    backgrounds = tensors.get("backgrounds")
    if backgrounds is None or not render_mode.startswith("RGB"):
        backgrounds = colors.new_zeros(cameras, colors.shape[-1])
    if render_mode.startswith("RGB+"):
        colors = torch.cat((colors, depths[..., None]), -1)
        backgrounds = torch.nn.functional.pad(backgrounds, (0, 1))
    images, alphas = Rasterize.apply(
        means2d, depths, factors, opacities, radii, colors, backgrounds, width, height, absgrad
    )
    alphas = alphas[..., None]
    if render_mode.endswith("ED"):
        images = torch.cat((images[..., :-1], images[..., -1:] / alphas.clamp_min(1e-10)), -1)
    info = {
        "means2d": means2d,
        "radii": radii,
        "depths": depths,
        "width": width,
        "height": height,
        "n_cameras": cameras,
    }
    return images, alphas, info


def _render_cuda(
    tensors: dict[str, Tensor],
    width: int,
    height: int,
    sh_degree: int | None,
    near_plane: float,
    far_plane: float,
    render_mode: str,
    antialiased: bool,
    absgrad: bool,
    packed: bool,
) -> tuple[Tensor, Tensor, dict[str, Any]]:
    from gsplat import rasterization

    # gsplat 1.5.3 refuses a background where it packs; there it is added afterwards.
    behind = tensors.pop("backgrounds", None) if packed else None
    batched = tensors["means"].dim() == 3
    images, alphas, meta = rasterization(
        **(_batched(tensors, sh_degree) if batched else tensors),
        width=width,
        height=height,
        sh_degree=sh_degree,
        near_plane=near_plane,
        far_plane=far_plane,
        render_mode=render_mode,
        rasterize_mode="antialiased" if antialiased else "classic",
        absgrad=absgrad,
        packed=packed,
    )
    if batched:  # one camera for each of the batch
        images, alphas = images[:, 0], alphas[:, 0]
        meta |= {name: meta[name][:, 0] for name in ("means2d", "radii", "depths")} if not packed else {}
        meta["n_cameras"] = len(images)
    if behind is not None and render_mode.startswith("RGB"):
        channels = behind.shape[-1]
        colors = images[..., :channels] + (1 - alphas) * behind[:, None, None]
        images = torch.cat((colors, images[..., channels:]), -1)
    kept = ("means2d", "radii", "depths", "width", "height", "n_cameras", *(("gaussian_ids",) if packed else ()))
    return images, alphas, {name: meta[name] for name in kept}


def _batched(tensors: dict[str, Tensor], sh_degree: int | None) -> dict[str, Tensor]:
    """Tensors whose means differ between cameras, as a batch of one camera each."""
    count = len(tensors["means"])
    shared = ["quats", "scales", "opacities"]
    if sh_degree is not None or tensors["colors"].dim() == 2:
        shared.append("colors")
    own = {name: tensors[name].expand(count, *tensors[name].shape) for name in shared}
    cameras = {name: tensors[name][:, None] for name in ("viewmats", "Ks", "backgrounds") if name in tensors}
    return tensors | own | cameras
