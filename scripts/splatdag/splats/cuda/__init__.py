"""CUDA code that gsplat does not bring along: its compiled module, a loss in Triton, and a warm-up."""
