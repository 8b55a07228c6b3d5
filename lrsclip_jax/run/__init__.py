"""A training run: the loop and its owners, the folder with checkpoints, metrics and report, progress and clocks."""
