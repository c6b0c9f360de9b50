"""Strategies that add and remove Gaussians while they are trained."""
