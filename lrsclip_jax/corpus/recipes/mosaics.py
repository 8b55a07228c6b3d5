"""Captioned scenes, and mosaics of them with long texts out of theirs: a corpus of real text, without any model.

    lrsclip prepare rsicd.jsonl --image-root=AID --image-key=cls/filename --short-key=captions \\
        --label-key=cls --out=ROOT/tiles
    lrsclip mosaic ROOT/tiles --out=ROOT/mosaics
    lrsclip corpus build mosaics:ROOT --out=corpora/mosaics
    lrsclip prepare corpora/mosaics/corpus --size=384 --out=prepared/mosaics

The tiles may be any prepared set with short texts. If they have classes, as here, a mosaic's record has the class and
the place of each tile. Images become files in ROOT/images.
"""

from __future__ import annotations

from ml_collections import ConfigDict

from lrsclip_jax.corpus.recipe_config import defaults, source, subset


def get_config(root: str) -> ConfigDict:
    """Returns the recipe over the prepared sets `root`/tiles and `root`/mosaics."""
    config = defaults()
    config.subsets = tuple(
        subset(name, "as-is", source("prepared", f"{root}/{name}", extract_to=f"{root}/images"))
        for name in ("tiles", "mosaics")
    )
    config.texts.short = (5, 77)  # RSICD has captions such as "1 .", two tokens between start and end
    config.allow_unknown_licences = True
    return config
