"""RSICD, RSITMD and UCM to be trained on together (RET-3; without UCM RET-2), and not on each other's test images.

    lrsclip corpus build ret:DATA --out=DATA/ret_corpus

DATA holds prepared sets rsicd, rsitmd and, if wanted, ucm, and the images of their test splits in
test_images/rsicd, …; configs/ret2.py has the commands. RSITMD took images from RSICD, so that the training images of
one are test images of the other. Near images go, whichever set they are of; leakage.json lists them.
"""

from __future__ import annotations

from pathlib import Path

from ml_collections import ConfigDict

from lrsclip_jax.corpus.recipe_config import defaults, source, subset
from lrsclip_jax.errors import InputError

SETS = ("rsicd", "rsitmd", "ucm")


def get_config(root: str) -> ConfigDict:
    """Returns the recipe over the prepared sets below `root`; InputError where there is none, or no test images."""
    config = defaults()
    sets = [name for name in SETS if (Path(root) / name).is_dir()]
    if not sets:
        raise InputError(f"{root} holds none of the prepared sets {', '.join(SETS)}")
    config.subsets = tuple(
        subset(
            name,
            "as-is",
            source("prepared", f"{root}/{name}", only="train", extract_to=f"{root}/train_images/{name}"),
        )
        for name in sets
    )
    config.leakage = ConfigDict({name: f"{root}/test_images/{name}" for name in sets})
    config.allow_unknown_licences = True
    return config
