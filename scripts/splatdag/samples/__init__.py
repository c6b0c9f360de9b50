"""Sample inputs, made from geometry: no Gaussians, no downloads, no torch."""

from splatdag.workflow.user_cache import use_kernel_cache

use_kernel_cache()
