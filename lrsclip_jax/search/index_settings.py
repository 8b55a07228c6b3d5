"""The settings that determine an index, and what meta.json says of them."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from eval.embeddings import META
from eval.reading import read_json
from lrsclip_jax.data.remote import is_address
from lrsclip_jax.data.stretch import STRETCH
from lrsclip_jax.errors import InputError

VERSION = 1
FOLDER = "parts"  # of an index that is being made
_MODEL = ("checkpoint", "weights", "preprocessing", "dtype")  # keys of meta.json that determine embeddings, too


@dataclass(frozen=True)
class Settings:
    """How scenes become tiles.

    Attributes:
      tile: side of a tile in pixels, at which it is read.
      overlap: share of its side by which a tile overlaps the next.
      gsd: metres on the ground that a pixel of a tile measures, at least; None for the scene's own.
      bands: 1-based numbers of one or three bands; None for the first three. Of a model that reads bands by name they
        are what thumbnails show.
      levels: how many sizes of tiles, each twice as wide as the one before.
      layout: the bands of scenes that do not name them.
    """

    tile: int
    overlap: float = 0.25
    gsd: float | None = None
    bands: tuple[int, ...] | None = None
    levels: int = 1
    layout: tuple[str, ...] = ()

    def described(self) -> dict[str, Any]:
        """Returns the field "index" of meta.json; without a layout that is what it was before there were some."""
        settings = {name: value for name, value in asdict(self).items() if value != ()}
        return {"version": VERSION, **settings, "stretch": list(STRETCH)}


def source_of(checkpoint: str) -> str:
    """Returns a source of weights as meta.json keeps it: a path becomes absolute."""
    if checkpoint.startswith("hf:") or is_address(checkpoint) or not Path(checkpoint).exists():
        return checkpoint
    return str(Path(checkpoint).absolute())


def known(out: Path) -> dict[str, Any] | None:
    """Returns meta.json of a finished index; None where there is none. InputError for an embedding set that is none."""
    if not (out / META).exists():
        return None
    meta: dict[str, Any] = read_json(out / META, dict[str, Any])
    index = meta.get("index")
    if not isinstance(index, dict) or not isinstance(index.get("tile"), int):
        raise InputError(f"{out} holds an embedding set that is no index: choose another --out")
    if index.get("version") != VERSION:
        raise InputError(f"{out} is an index of version {index.get('version')}, this program makes version {VERSION}")
    return meta


def check_same(out: Path, before: Mapping[str, Any], now: Mapping[str, Any]) -> None:
    """Raises InputError, naming what differs, where an index was made or begun with other settings or weights.

    Args:
      out: folder of the index.
      before, now: fields of meta.json; those that are not in both are passed over.
    """
    old, new = (
        json.loads(json.dumps({key: meta[key] for key in meta if key in (*_MODEL, "index")})) for meta in (before, now)
    )
    old, new = (
        {**{key: value for key, value in meta.items() if key != "index"}, **meta.get("index", {})}
        for meta in (old, new)
    )
    differ = [name for name in old if name in new and old[name] != new[name]]
    if differ:
        said = ", ".join(f"{name} ({_short(old[name])}, now {_short(new[name])})" for name in differ)
        raise InputError(f"{out} was made with another {said}: choose another --out, or delete it")


def _short(value: Any) -> str:
    return f"{json.dumps(value):.60}"
