"""The engine: run folder, loop, checkpoints, ranks, optimiser and curves of every training."""
