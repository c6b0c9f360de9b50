"""Gaussians that move, drawn."""
