"""Recipes of corpora: python -m lrsclip_jax.corpus build lrsclip_jax/corpus/recipes/NAME.py:ROOT."""
