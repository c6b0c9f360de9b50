"""Driving: PandaSet logs to clips, and clips to Gaussians that move (Flux4D)."""
