"""Semantic localisation and heat maps: where a scene shows what a text says.

lrsclip localise scene.tif --checkpoint=SRC --text="a harbour with two piers"
"""
