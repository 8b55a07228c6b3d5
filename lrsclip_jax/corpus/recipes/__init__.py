"""Recipes of corpora: lrsclip corpus build NAME:ROOT."""
