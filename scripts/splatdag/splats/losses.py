"""The photometric training loss: L1 and structural similarity."""

import torch
from torch import Tensor
from torch.nn.functional import grid_sample

from splatdag.splats.cpu.photometric import WINDOW, Photometric


def photometric_loss(image: Tensor, target: Tensor, ssim_lambda: float, mask: Tensor | None = None) -> Tensor:
    """(1-λ)·L1 + λ·(1-SSIM), a scalar differentiable to `image`.

    image and target [C,H,W,3] float32 in [0,1]; mask [C,H,W] bool, True where a pixel counts. Pixels outside
    the mask are left out of L1 (a mean over the others) and zeroed in both images for SSIM. SSIM is the mean
    over all 11×11 windows that lie inside the image ("valid"), σ 1.5, of Wang et al., Image Quality
    Assessment (2004), eq. 13. Raises ValueError where shapes differ, or where an image is smaller than the
    window and λ is not 0.
    """
    if image.dim() != 4 or image.shape != target.shape or image.shape[-1] != 3:
        raise ValueError(f"image {tuple(image.shape)} and target {tuple(target.shape)}; expected both [C,H,W,3]")
    if mask is not None and (mask.shape != image.shape[:3] or mask.dtype != torch.bool):
        raise ValueError(f"mask {tuple(mask.shape)} {mask.dtype}; expected bool {tuple(image.shape[:3])}")
    if ssim_lambda != 0 and min(image.shape[1:3]) < WINDOW:
        raise ValueError(f"image of {image.shape[2]} x {image.shape[1]} pixels; SSIM needs {WINDOW} x {WINDOW}")
    result: Tensor = _backend(image.is_cuda).apply(image.float(), target.detach().float(), ssim_lambda, mask)
    return result


def _backend(on_cuda: bool) -> type[torch.autograd.Function]:
    if on_cuda:
        from splatdag.splats.cuda.photometric import Photometric as OnCuda  # triton is there on CUDA alone

        return OnCuda
    return Photometric


def disparity_loss(depths_CHW1: Tensor, known: list[tuple[Tensor, Tensor]]) -> Tensor:
    """Mean absolute difference of rendered and known disparity (1 / depth) at known points.

    Args:
        depths_CHW1: expected depths as rendered, along z; zero where nothing is.
        known: for each of the C views pixels [M, 2] and depths [M], all above zero.
    """
    height, width = depths_CHW1.shape[1:3]
    differences = []
    for depth, (pixels, truth) in zip(depths_CHW1.permute(0, 3, 1, 2), known, strict=True):
        grid = pixels / pixels.new_tensor([width, height]) * 2 - 1  # the first pixel's centre is at 0.5
        rendered = grid_sample(depth[None], grid[None, None], padding_mode="border", align_corners=False)[0, 0, 0]
        disparity = torch.where(rendered > 0, 1 / rendered.clamp_min(1e-10), torch.zeros_like(rendered))
        differences.append((disparity - 1 / truth).abs())
    total = torch.cat(differences)
    return total.sum() / max(len(total), 1)
