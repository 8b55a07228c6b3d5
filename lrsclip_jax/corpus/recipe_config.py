"""Recipes of corpora: sources, the way to texts of each, the models that write them, and the filters.

A recipe is a Python file with `get_config(root)` that starts from `defaults()` and sets `config.subsets`, and
`config.generators` for the ways that ask models.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from ml_collections import ConfigDict

from lrsclip_jax.corpus.generators.encoded_images import Fit
from lrsclip_jax.corpus.generators.protocol import Server
from lrsclip_jax.errors import InputError, nearest
from lrsclip_jax.sources.named_kinds import NAMED_KINDS

RECIPES = Path(__file__).with_name("recipes")  # the recipes that `lrsclip corpus build` finds by name

# The steps of each way, and the kind of text that each step writes ("" for none).
WAYS: dict[str, tuple[tuple[str, str], ...]] = {
    "as-is": (),
    "merge": (("merge", ""),),
    "summarise": (("summarise", "short"),),
    "expand": (("expand", "long"),),
    "anchor": (("anchor", "long"), ("summarise", "short")),
    "describe": (("describe", "short"), ("describe", "long")),
    "rules": (("rules", ""),),
}


def defaults() -> ConfigDict:
    """Returns the config with every key that exists, at its default; None switches a filter off."""
    config = ConfigDict()
    config.seed = 0
    config.subsets = ()  # made by `subset`, in order of preference: of duplicates the first stays
    config.generators = ConfigDict()  # name -> fields of corpus/generators/server.py

    config.images = ConfigDict({"min_side": 32, "uniform": 0.98})
    config.duplicates = "perceptual"  # or "exact"
    config.duplicate_distance = 4  # bits between perceptual hashes
    config.leakage = ConfigDict()  # evaluation set -> folder of its images; near ones are left out
    config.leakage_distance = 8
    # CLIP tokens, or None for any number; images that one caption may stand at, where captions are one that share so
    # much of their words.
    config.texts = ConfigDict({"short": (3, 77), "long": (20, 248), "uses": None, "similarity": 1.0})
    # By an embedding set of this corpus: the share `top` of its images with the best scores stays, or scores ≥ `least`.
    config.clip_score = ConfigDict({"embeddings": None, "top": None, "least": None})
    # At most `limit` of each label, "source" or "length" of the longest text: bins of CLIP tokens [edge, next edge).
    config.balance = ConfigDict({"by": "label", "limit": None, "edges": (20, 40, 77, 128, 248)})
    config.allow_unknown_licences = False
    return config


def source(kind: str, path: str, **options: Any) -> dict[str, Any]:
    """Returns a source for `subset`: a kind of NAMED_KINDS, its path, and the arguments of `read_source`."""
    if kind not in NAMED_KINDS:
        raise InputError(
            f"source kind '{kind}' is unknown; known: {', '.join(NAMED_KINDS)}{nearest(kind, NAMED_KINDS)}"
        )
    return {"kind": kind, "path": path, **options}


def subset(
    name: str,
    way: str,
    *sources: Mapping[str, Any],
    others: Sequence[Mapping[str, Any]] = (),
    key: str = "stem",
    tile: int | None = None,
    long: str | None = None,
    short: str | None = None,
) -> dict[str, Any]:
    """Returns a row of a corpus's table.

    Args:
      name: of the subset.
      way: how its records get their texts, one of `WAYS`.
      sources: made by `source`.
      others: of the way "merge", the sources with the other texts.
      key: of the way "merge", what both sides share, see `corpus.merging`.
      tile: side in pixels of the tiles that images are cut into first; None: they stay whole.
      long, short: names of the generators that write such texts.

    Raises:
      InputError: an unknown way, or a way without what it needs.
    """
    if way not in WAYS:
        raise InputError(f"subset {name}: the way '{way}' is unknown{nearest(way, WAYS)}; known: {', '.join(WAYS)}")
    if not sources or (way == "merge") != bool(others):
        raise InputError(f"subset {name}: sources are needed, and others for the way 'merge' alone")
    writers = {"long": long, "short": short}
    for kind in {kind for _, kind in WAYS[way]} - {""}:
        if not writers[kind]:
            raise InputError(f"subset {name}: the way '{way}' needs a generator of {kind} texts: {kind}=NAME")
    return {
        "name": name,
        "way": way,
        "sources": tuple(map(dict, sources)),
        "others": tuple(map(dict, others)),
        "key": key,
        "tile": tile,
        **writers,
    }


def server_of(config: ConfigDict, name: str) -> Server:
    """Returns a generator of a recipe; InputError where there is none of this name or a field of it is unknown."""
    if name not in config.generators:
        raise InputError(f"config.generators has no '{name}'{nearest(name, config.generators)}")
    fields = config.generators[name].to_dict()
    try:
        return Server(**fields | ({"fit": Fit(**fields["fit"])} if "fit" in fields else {}))
    except TypeError as error:
        raise InputError(f"config.generators.{name}: {error}") from None
