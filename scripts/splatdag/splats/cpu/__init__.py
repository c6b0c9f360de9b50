"""CPU rendering of Gaussians in numba: projection, harmonics and rasterisation, with their gradients."""

from splatdag.splats.cpu.harmonics import Harmonics
from splatdag.splats.cpu.projection import Project
from splatdag.splats.cpu.rasterize import Rasterize

__all__ = ["Harmonics", "Project", "Rasterize"]
