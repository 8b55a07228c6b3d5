"""Compares a model with what it was exported to on one data set: differences of embeddings and of scores."""

from __future__ import annotations

import itertools
import warnings
from collections.abc import Iterable, Sequence
from typing import Any, NamedTuple

import numpy as np
from tqdm import tqdm

from eval import retrieval
from lrsclip_jax import heldout, pretrained
from lrsclip_jax.convert.reference import ReferenceTower, Side, twin
from lrsclip_jax.convert.served import served
from lrsclip_jax.data.images import read_image
from lrsclip_jax.data.prepared.records import Record
from lrsclip_jax.errors import InputError
from lrsclip_jax.models import zoo
from lrsclip_jax.pretrained import Pretrained
from lrsclip_jax.pytorch.contract import Hints
from lrsclip_jax.sources import Fault, Item, open_source
from lrsclip_jax.sources.prepared import drawing, read_record

LIMIT = 1e-4  # rounding in float32 stays ten times below it
_BATCH = 32


class Pair(NamedTuple):
    """Unit embeddings of both models, in order, float32 [N, E], and whether their inputs were the same."""

    ours: np.ndarray
    theirs: np.ndarray
    same_input: np.ndarray

    def difference(self) -> np.ndarray:
        """The largest absolute difference in each row, float32 [N]."""
        return np.abs(self.ours - self.theirs).max(axis=1)


def compare(source: str, export: str, data: str, hints: Hints, count: int | None = None) -> int:
    """Embeds a data set with two models in float32, prints how far they are apart, and returns the exit status.

    Args:
      source: of weights, computed by us.
      export: a folder that its runtime computes (`served.served`), or its own library on PyTorch (`reference.twin`); or
        any source of weights, read back by us.
      data: captioned images, as `sources.open_source` takes them; all rows of a list must be sound.
      hints: for a source that doesn't tell all of itself.
      count: of images, the first ones; None: all.

    Returns:
      0, or 1 if a row differs by more than LIMIT.

    Raises:
      InputError: a source or the set can't be read.
    """
    model = pretrained.load(source, hints, dtype="float32", batch_size=_BATCH)
    if model.preprocessing.patch:
        print(f"note: {source} takes images of any shape, an export squares: only of these both see the same")
    held = first(heldout.of_records(data.rsplit("/", 1)[-1], _Records(data), model.tokenizer), count)
    ours, theirs = as_side("lrsclip_jax", model), _of_export(export, model)
    print(f"{source}: {ours.name}\n{export}: {theirs.name}\n", flush=True)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)  # of texts that are cut: the tables count them
        pairs = measure(held, ours, theirs)
    print("\n".join(line for what, pair in pairs.items() for line in _lines(what, pair)))
    our_rows = {what: pair.ours for what, pair in pairs.items()}
    their_rows = {what: pair.theirs for what, pair in pairs.items()}
    for name, rows in (source, our_rows), (export, their_rows):
        print(f"\n{name}: " + "\n".join(heldout.lines(_table(held, rows, model.context_length))))
    largest = max(float(pair.difference().max()) for pair in pairs.values())
    verdict = "the same function" if largest <= LIMIT else f"NOT the same function, more than {LIMIT:g}"
    print(f"\nlargest difference {largest:.1e}: {verdict}")
    return int(largest > LIMIT)


class _Records(Sequence[Record]):
    """The captioned images of a source as records, whose images are read when they are asked for."""

    def __init__(self, spec: str):
        """Raises InputError for a source that can't be read, and for a row of it that can't."""
        drawn = drawing()
        self._items: list[Item] = []
        for item in open_source(spec, folders="known"):
            if isinstance(item, Fault):
                raise InputError(f"{item.where}: {item.reason}")
            self._items.append(drawn(item))

    def __len__(self) -> int:
        return len(self._items)

    def __getitem__(self, index: int) -> Record:  # type: ignore[override]  # no slices
        return read_record(self._items[index])


def measure(held: heldout.HeldOut, ours: Side, theirs: Side) -> dict[str, Pair]:
    """Returns what both sides make of a set's "images", and of its "long" and "short" texts, as far as it has them."""
    decoded = (read_image(record.image, name=record.id) for record in held.records)
    shown = tqdm(decoded, "images", len(held.records), leave=False, disable=None)
    pairs = {"images": _pair(shown, ours.images, theirs.images)}
    for kind, texts in held.texts.items():
        shown = tqdm(texts.text, f"{kind} texts", leave=False, disable=None)
        pairs[kind] = _pair(shown, ours.texts, theirs.texts)
    return pairs


def _pair(things: Iterable[Any], ours: ReferenceTower, theirs: ReferenceTower) -> Pair:
    things = iter(things)
    rows: list[tuple[np.ndarray, np.ndarray]] = []
    same: list[bool] = []
    while batch := list(itertools.islice(things, _BATCH)):
        rows.append((ours.embed(batch), theirs.embed(batch)))
        both = zip(ours.inputs(batch), theirs.inputs(batch), strict=True)
        same += [np.array_equal(mine, other) for mine, other in both]
    our_rows, their_rows = (np.concatenate(side) for side in zip(*rows, strict=True))
    if our_rows.shape[1] != their_rows.shape[1]:
        raise InputError(f"the two embed in {our_rows.shape[1]} and {their_rows.shape[1]} dimensions: another model")
    return Pair(our_rows, their_rows, np.array(same))


def as_side(name: str, model: Pretrained) -> Side:
    """Returns a loaded model as one side of a comparison."""

    def ids(texts: Sequence[str]) -> list[list[int]]:
        end = model.tokenizer.end
        return [row[: row.index(end) + 1] for row in model.tokenize(texts).tolist()]

    return Side(
        name,
        ReferenceTower(model.images, lambda images: map(model.preprocess, images)),
        ReferenceTower(model.texts, ids),
    )


def _of_export(export: str, model: Pretrained) -> Side:
    if theirs := served(export) or twin(export):
        return theirs
    image, text = model.clip.image, model.clip.text
    # A file of weights alone does not say what its source said.
    hints = Hints(activation=zoo.activation(image, text), image_heads=image.heads, text_heads=text.heads)
    back = "read back by lrsclip_jax, not computed by PyTorch"
    return as_side(back, pretrained.load(export, hints, dtype="float32", batch_size=_BATCH))


def first(held: heldout.HeldOut, count: int | None) -> heldout.HeldOut:
    """The first `count` images of a set, and their texts."""
    if count is None or count >= len(held.records):
        return held
    texts = {}
    for kind, its in held.texts.items():
        if kept := np.flatnonzero(its.image < count).tolist():
            texts[kind] = heldout.Texts([its.ids[i] for i in kept], its.image[kept], [its.text[i] for i in kept])
    if not texts:
        raise InputError(f"--count={count}: the first images of {held.name} have no text")
    return heldout.HeldOut(held.name, [held.records[row] for row in range(count)], texts)


def _table(held: heldout.HeldOut, rows: dict[str, np.ndarray], context_length: int) -> heldout.Table:
    """The retrieval scores of one side."""
    scored = []
    for kind, texts in held.texts.items():
        ranks = retrieval.retrieval_ranks(rows["images"], rows[kind], texts.image)
        cut = sum(len(ids) > context_length for ids in texts.ids)
        scored.append(heldout.Row(kind, texts, cut, rows[kind], ranks, retrieval.ranks_to_metrics(ranks)))
    return heldout.Table(held, rows["images"], scored)


def _lines(what: str, pair: Pair) -> list[str]:
    name, inputs = ("images", "pixels") if what == "images" else (f"{what} texts", "tokens")
    difference, other = pair.difference(), ~pair.same_input
    lines = [f"{name:12} {len(difference):6,}   largest difference {difference.max():.1e}"]
    if other.any():
        rest = f", the others {difference[~other].max():.1e}" if not other.all() else ""
        lines.append(f"{'':12} {other.sum():6,}   from other {inputs} than ours: {difference[other].max():.1e}{rest}")
    return lines
