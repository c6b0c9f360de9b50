"""Evaluation of a trained Flux4D."""
