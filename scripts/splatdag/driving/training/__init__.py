"""Training of Flux4D."""
