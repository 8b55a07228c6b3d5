"""Checkpoint layouts of PyTorch code, read and written without running any of it."""
