"""RSITMD-L or RSICD-L: a long text for every image of a captioned set, from the image and its five short ones (§V-B).

    lrsclip corpus build rsitmd_l:rsitmd/dataset_rsitmd.json --out=rsitmd_l

The images are in the folder `images` next to the list.
"""

from __future__ import annotations

from pathlib import Path

from ml_collections import ConfigDict

from lrsclip_jax.corpus.recipe_config import defaults, source, subset


def get_config(captions: str) -> ConfigDict:
    """Returns the recipe over a list of captions, in Karpathy's form or as JSON lines."""
    config = defaults()
    config.generators.captioner = ConfigDict(
        {"base_url": "http://localhost:8000/v1", "model": "Qwen/Qwen2-VL-7B-Instruct"}
    )
    path = Path(captions)
    read = source("captions", str(path), image_root=str(path.parent / "images"))
    config.subsets = (subset(f"{path.stem}-L", "expand", read, long="captioner"),)
    config.duplicates = None  # an evaluation set stays as it is
    config.texts.short = (1, 512)
    config.allow_unknown_licences = True
    return config
