"""Semantic localisation and heat maps: where a scene shows what a text says.

python -m lrsclip_jax.localise --checkpoint=SRC --image=scene.tif --text="a harbour with two piers"
"""
