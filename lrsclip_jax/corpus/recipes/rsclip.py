"""RSCLIP's corpus: two descriptions of every image of eight sets, and subsets of RS5M (§II of the paper).

    lrsclip corpus build rsclip:ROOT --out=corpora/rsclip

ROOT holds a folder of images for each set (fmow/, million-aid/, dfc2019/, dfc2021/, deepglobe/, dior/, hrsc/, inria/)
and rs5m/*.tar. The paper asked InstructBLIP, which no OpenAI-compatible server runs: use any model that sees images.
Images are sent as in the paper, 512 pixels square.
"""

from __future__ import annotations

from ml_collections import ConfigDict

from lrsclip_jax.corpus.recipe_config import defaults, source, subset

SETS = {
    "fMoW": "fmow",
    "Million-AID": "million-aid",
    "DFC2019": "dfc2019",
    "DFC2021": "dfc2021",
    "DeepGlobe": "deepglobe",
    "DIOR": "dior",
    "HRSC": "hrsc",
    "Inria": "inria",
}


def get_config(root: str) -> ConfigDict:
    """Returns the recipe over the sets below `root`."""
    config = defaults()
    config.generators.captioner = ConfigDict(
        {
            "base_url": "http://localhost:8000/v1",
            "model": "Qwen/Qwen2-VL-7B-Instruct",
            "fit": {"side": 512, "crop": True},
        }
    )
    described = [
        subset(name, "describe", source("images", f"{root}/{folder}"), short="captioner", long="captioner")
        for name, folder in SETS.items()
    ]
    rs5m = source("rs5m", f"{root}/rs5m/*.tar", extract_to=f"{root}/rs5m/images")
    config.subsets = (*described, subset("RS5M", "as-is", rs5m))
    config.texts.short = (3, 512)  # BERT reads more than CLIP's 77 tokens, and short texts were kept as they came
    config.texts.long = (3, 512)
    config.allow_unknown_licences = True
    return config
