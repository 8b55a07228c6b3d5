"""The filters of a recipe: the stages that every record of every subset passes, in order."""

from __future__ import annotations

import functools
import hashlib
import sys
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from types import UnionType
from typing import Any

from ml_collections import ConfigDict

from eval.embeddings import META, EmbeddingSet, check_set, open_set
from lrsclip_jax.corpus.hygiene import balance, caption_checks, clip_score, duplicates, image_checks, leakage
from lrsclip_jax.corpus.hygiene.near import checked_distance
from lrsclip_jax.corpus.records.record import CorpusRecord
from lrsclip_jax.corpus.stages.stage import Made, Planned
from lrsclip_jax.data.images import SUFFIXES
from lrsclip_jax.errors import InputError

LEAKAGE, CLIP_SCORE = "leakage", "clip_score"


def planned_filters(config: ConfigDict) -> list[Planned]:
    """Returns the filters that a recipe asks for; InputError for a bad value, or a set that is not there."""
    filters = list(_filters(config))
    for plan in filters:
        if plan.name not in (LEAKAGE, CLIP_SCORE):  # these would read their sets: they have been checked
            deque(plan.stage(iter(())), maxlen=0)
    return filters


def _filters(config: ConfigDict) -> Iterator[Planned]:
    yield Planned("images", functools.partial(image_checks.check_images, **config.images), config.images.to_dict())
    if config.duplicates == "perceptual":
        near = functools.partial(duplicates.without_duplicates, distance=config.duplicate_distance)
        yield Planned("duplicates", near, {"distance": config.duplicate_distance}, one_by_one=False)
    elif config.duplicates == "exact":
        yield Planned("duplicates", duplicates.without_copies, {}, one_by_one=False)
    elif config.duplicates is not None:
        raise InputError(f"config.duplicates is {config.duplicates!r}: expected 'perceptual', 'exact' or None")
    if config.leakage:
        yield _leakage(config.leakage.to_dict(), config.leakage_distance)
    if config.texts.short is not None or config.texts.long is not None:
        bounds: dict[str, Any] = {kind: _bounds(kind, config.texts[kind]) for kind in ("short", "long")}
        yield Planned("texts", functools.partial(caption_checks.bound_captions, **bounds), bounds)
    if config.texts.uses is not None:
        uses = {"limit": _number("texts.uses", config.texts.uses, int), "similarity": config.texts.similarity}
        yield Planned("uses", functools.partial(caption_checks.cap_captions, **uses), uses, one_by_one=False)
    if config.clip_score.embeddings is not None:
        yield _clip_score(**config.clip_score)
    if config.balance.limit is not None:
        yield _balance(**config.balance, seed=config.seed)


def _leakage(sets: dict[str, str], distance: int) -> Planned:
    checked_distance(distance)
    folders = tuple((name, str(Path(folder).expanduser().absolute())) for name, folder in sets.items())
    counts = {name: len(_images_below(folder)) for name, folder in folders}
    apart = functools.partial(_without_leaks, folders, distance)
    return Planned(LEAKAGE, apart, {"sets": sets, "images": counts, "distance": distance})


def _without_leaks(sets: tuple[tuple[str, str], ...], distance: int, records: Iterable[CorpusRecord]) -> Made:
    return leakage.without_leaks(records, _references(sets), distance)


@functools.cache  # a worker of Ray runs the stage many times
def _references(sets: tuple[tuple[str, str], ...]) -> leakage.References:
    return leakage.hash_references({name: _images_below(folder) for name, folder in sets})


def _images_below(folder: str) -> list[Path]:
    found = sorted(path for path in Path(folder).rglob("*") if path.suffix.lower() in SUFFIXES)
    if not found:
        raise InputError(f"{folder}: no images in it")
    return found


def _clip_score(embeddings: str, top: float | None, least: float | None) -> Planned:
    for name, value in {"top": top, "least": least}.items():
        if value is not None:
            _number(f"clip_score.{name}", value, int | float)
    clip_score.check_choice(top, least)
    folder = str(Path(str(embeddings)).expanduser().absolute())
    of_set = _digest(open_set(folder))
    by_score = functools.partial(_by_clip_score, folder, top, least)
    return Planned(CLIP_SCORE, by_score, {"embeddings": of_set, "top": top, "least": least})


def _by_clip_score(folder: str, top: float | None, least: float | None, records: Iterable[CorpusRecord]) -> Made:
    return clip_score.by_clip_score(records, _opened(folder), top=top, least=least)


@functools.lru_cache(1)
def _opened(folder: str) -> EmbeddingSet:
    check_set(folder)
    return open_set(folder)


def _digest(embeddings: EmbeddingSet) -> str:
    """32 hex digits of all of a set but its rows: their lengths differ wherever model, images or texts do."""
    whole = hashlib.blake2b(digest_size=16)
    for path in sorted(path for name in (META, "*.jsonl", "*_norms.npy") for path in embeddings.path.glob(name)):
        with open(path, "rb") as file:
            whole.update(hashlib.file_digest(file, "blake2b").digest())
    return whole.hexdigest()


def _balance(by: str, limit: int, edges: tuple[int, ...], seed: int) -> Planned:
    groups: dict[str, Callable[[], balance.Group]] = {
        "label": lambda: balance.by_label,
        "source": lambda: balance.by_source,
        "length": lambda: balance.by_length(edges),
    }
    if by not in groups:
        raise InputError(f"config.balance.by is {by!r}: expected {' or '.join(groups)}")
    for edge in edges:
        _number("balance.edges", edge, int)
    limit = _number("balance.limit", limit, int)
    even = functools.partial(balance.balance, group=groups[by](), limit=limit, seed=seed)
    bins = {"edges": tuple(edges)} if by == "length" else {}
    return Planned("balance", even, {"by": by, "limit": limit, "seed": seed, **bins}, one_by_one=False)


def _bounds(kind: str, bounds: Sequence[int] | None) -> tuple[int, int]:
    if bounds is None:
        return 0, sys.maxsize
    if len(bounds) != 2:
        raise InputError(f"config.texts.{kind} is {tuple(bounds)}: expected (least, most) CLIP tokens")
    least, most = (_number(f"texts.{kind}", bound, int) for bound in bounds)
    return least, most


def _number(name: str, value: Any, kind: type | UnionType) -> Any:
    if not isinstance(value, kind) or isinstance(value, bool):
        raise InputError(f"config.{name} is {value!r}: expected a number")
    return value
