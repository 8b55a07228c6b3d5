"""A training run: its folder, checkpoints, metrics, progress, clocks and report."""
