"""Captions as they are published, read as records of a corpus."""
