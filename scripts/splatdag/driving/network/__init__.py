"""Flux4D's network."""
