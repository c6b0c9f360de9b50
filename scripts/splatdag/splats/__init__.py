"""Gaussians: parameters, PLY files, rendering, losses, metrics, densification and the training loop."""

import os

from splatdag.workflow.user_cache import use_kernel_cache

# numba and torch each bring a pool of OpenMP threads. A pool that spins while the other works makes every
# step five to ten times slower, and the choice is read once, when the first of them is loaded.
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
use_kernel_cache()
