"""Embedding sets out of images and texts: python -m lrsclip_jax.embed."""
