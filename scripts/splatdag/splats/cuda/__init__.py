"""What gsplat does not bring along, on CUDA."""
