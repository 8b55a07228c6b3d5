"""Mosaics of captioned tiles, with long captions: `lrsclip mosaic`."""
