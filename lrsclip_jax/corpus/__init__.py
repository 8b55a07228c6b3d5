"""Corpora of captioned images: read, captioned, cleaned, counted: python -m lrsclip_jax.corpus."""
