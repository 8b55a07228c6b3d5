"""Weights on the line between two checkpoints, scored and drawn (WiSE-FT, arXiv 2109.01903)."""
