"""Mosaics of captioned tiles, with long captions: `python -m lrsclip_jax.data.mosaic`."""
