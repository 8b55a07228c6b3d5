"""Annotated scenes, without any model: tiles with captions by rules.

    lrsclip corpus build boxes:annotations.csv --out=corpora/boxes

The argument is a CSV file with image_path, xmin, ymin, xmax, ymax and label, or a folder of XML files in the form of
Pascal VOC, HRSC2016 or FAIR1M; the images are next to them. Give classes other names for captions after a comma:

    … build "boxes:xml,Alive=living tree,Dead=dead tree" --out=corpora/trees
"""

from __future__ import annotations

from pathlib import Path

from ml_collections import ConfigDict

from lrsclip_jax.corpus.reading.reading_options import pairs
from lrsclip_jax.corpus.recipe_config import defaults, source, subset


def get_config(annotations: str) -> ConfigDict:
    """Returns the recipe over one file or folder of annotations, "PATH" or "PATH,CLASS=NAME,CLASS=NAME"."""
    config = defaults()
    place, *classes = annotations.split(",")
    path = Path(place)
    kind = "boxes-csv" if path.suffix == ".csv" else "voc"
    config.subsets = (subset(path.stem, "rules", source(kind, place, rename=pairs(classes)), tile=400),)
    config.allow_unknown_licences = True
    return config
