"""What is measured of a trained Flux4D."""
