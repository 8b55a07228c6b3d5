"""Embedding sets out of images and texts: lrsclip embed."""
