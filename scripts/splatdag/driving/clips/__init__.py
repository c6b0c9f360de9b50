"""Clips of driving logs: index, lifted points, initial Gaussians."""
