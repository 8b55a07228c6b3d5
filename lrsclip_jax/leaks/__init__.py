"""Leaks: which images of evaluation sets are near images that a model was trained on."""
