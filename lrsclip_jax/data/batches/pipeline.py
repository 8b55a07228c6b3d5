"""Batches for training: prepared records in, fixed-shape numpy batches out, the same for any number of hosts.

Every position of the run has its record (each source shuffled anew every epoch, all mixed by weight) and random numbers
of its own, as Grain gives them (`batches.order`). So a batch is a pure function of (seed, step), and to
continue a run is to start at its step.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import TypeVar

import numpy as np
from ml_collections import ConfigDict

from lrsclip_jax.data.batches.augmentation import check_decoder, training_pixels
from lrsclip_jax.data.batches.batch import BatchShape, packed, padded, text_lengths
from lrsclip_jax.data.batches.feeding import feed
from lrsclip_jax.data.batches.order import Order
from lrsclip_jax.data.batches.recycling import recycled
from lrsclip_jax.data.images import Preprocessing
from lrsclip_jax.data.prepared.opening import open_records
from lrsclip_jax.data.prepared.pairs import Pairs
from lrsclip_jax.data.prepared.records import KINDS, Record, Records, token_ids
from lrsclip_jax.data.tokenizer import Tokenizer, cut
from lrsclip_jax.errors import InputError

T = TypeVar("T")


@dataclass
class DataReport:
    """What happened to the records so far: texts drawn and cut by kind, and records left out as unreadable."""

    max_torn: int
    drawn: dict[str, int] = field(default_factory=lambda: {"long": 0, "short": 0})
    cut: dict[str, int] = field(default_factory=lambda: {"long": 0, "short": 0})
    torn: list[str] = field(default_factory=list)
    _lock: threading.Lock = field(default_factory=threading.Lock)

    def count_texts(self, kind: str, drawn: Sequence, kept: Sequence) -> None:
        """Counts the texts of a batch as they were drawn and as they were kept, None where there is none."""
        pairs = [(before, after) for before, after in zip(drawn, kept, strict=True) if after is not None]
        with self._lock:
            self.drawn[kind] += len(pairs)
            self.cut[kind] += sum(len(before) > len(after) for before, after in pairs)

    def count_torn(self, record: str, error: InputError) -> None:
        with self._lock:
            self.torn.append(record)
            if len(self.torn) > self.max_torn:
                raise InputError(
                    f"{len(self.torn)} unreadable records, the last one {record} ({error}): "
                    "prepare the set again, or raise data.max_torn"
                )

    def warnings(self, lengths: dict[str, int]) -> list[str]:
        """Returns a line for each kind of text that was cut, and one for records left out."""
        lines = [
            f"warning: {self.cut[kind]:,} of {self.drawn[kind]:,} {kind} texts were cut to {length} tokens"
            for kind, length in lengths.items()
            if self.cut[kind]
        ]
        if self.torn:
            lines.append(
                f"warning: {len(self.torn)} records could not be read and were left out, such as {self.torn[0]}"
            )
        return lines


def weighted(sources: Sequence) -> list[tuple[str, float]]:
    """Returns `data.sources` as (source, weight) pairs; a source written alone weighs 1."""
    pairs = [(source, 1.0) if isinstance(source, str) else (source[0], float(source[1])) for source in sources]
    for source, weight in pairs:
        if not weight > 0:
            raise InputError(f"data.sources: the weight of {source} is {weight}, it must be positive")
    return pairs


def open_sources(config: ConfigDict) -> list[tuple[Records, float]]:
    """Opens `data.sources` with their weights; their lengths together are the samples of an epoch.

    A sample is a record, or with `data.sampling="pairs"` a record with one of its texts (`data.prepared.pairs`).
    Any other sampling is an InputError, and so is "pairs" where `loss.long_weight` is not 1: the texts of pairs are
    all in the long slot, so that the loss is one InfoNCE over the pairs of a batch.
    """
    sampling, long_weight = config.data.sampling, config.loss.long_weight
    if sampling not in ("draw", "pairs"):
        raise InputError(f"data.sampling is '{sampling}': 'draw' and 'pairs' are known")
    if sampling == "pairs" and long_weight != 1:
        raise InputError(
            f"loss.long_weight is {long_weight}: data.sampling='pairs' has all texts in the long slot, set it to 1.0"
        )
    sources = [(open_records(name), weight) for name, weight in weighted(config.data.sources)]
    if sampling == "pairs":
        sources = [(Pairs(records, records.text_counts()), weight) for records, weight in sources]
    for (name, _), (records, _) in zip(weighted(config.data.sources), sources, strict=True):
        if not len(records):
            raise InputError(f"data.sources: {name} holds no {'pairs' if sampling == 'pairs' else 'records'}")
    return sources


def retokenised(config: ConfigDict, sources: Sequence[tuple[Records, float]], tokenizer: Tokenizer) -> list[str]:
    """Returns a line for each of the sources, those of `open_sources(config)`, that holds no ids of this tokenizer."""
    return [
        f"note: {name} has no token ids of the tokenizer '{tokenizer.name}': its texts are tokenised as they are read"
        for (name, _), (records, _) in zip(weighted(config.data.sources), sources, strict=True)
        if len(records) and tokenizer.hash not in records[0].tokens
    ]


def batches(
    sources: Sequence[tuple[Records, float]],
    tokenizer: Tokenizer,
    preprocessing: Preprocessing,
    shape: BatchShape,
    report: DataReport,
    *,
    seed: int,
    start_step: int = 0,
    short_text: str = "short",
    crop_scale: tuple[float, float] | None = None,
    decoder: str = "exact",
    threads: int = 0,
    rows: np.ndarray | None = None,
) -> Iterator[dict[str, np.ndarray]]:
    """Yields `rows` of the global batches from `start_step` on, without end.

    A batch is {"image": uint8 [b, H, W, 3], "long": int32 [b, L], "short": int32 [b, S], "has_long": bool [b],
    "has_short": bool [b]}; or with `shape.row_length` N, in place of "long" and "short", "ids", "segments",
    "positions": int32 [R, N] and "long_span", "short_span": int32 [b, 2], as `batches.packing.pack` has them
    for each group of consecutive pairs. All groups have as many rows; how many follows from the global batch's lengths.

    `rows`, int [b], are the positions in the global batch that this host wants, in the order it wants them (None: all),
    so the global batches are the same for any number of hosts and any mesh. One long and one short text are drawn for
    a record by (seed, epoch, record); a record of `Pairs` has its one text alone. A record whose image can't be read
    keeps its place without texts, so it drops out of both loss terms; after `report.max_torn` of those InputError is
    raised.
    """
    if short_text not in ("short", "first_sentence"):
        raise InputError(f"data.short_text is '{short_text}': 'short' and 'first_sentence' are known")
    check_decoder(decoder)
    whole = rows is None or len(rows) == shape.batch_size
    if shape.row_length and not whole and short_text != "short":
        raise InputError("data.short_text='first_sentence' can't be packed on several hosts: set data.packed=False")

    rows = np.arange(shape.batch_size) if rows is None else rows
    lengths = None if whole or not shape.row_length else global_lengths(sources, tokenizer, shape, seed)
    order, side = _order(sources, seed), preprocessing.size
    images_of_batch = recycled((len(rows), side, side, 3), np.uint8)

    def draw(source: int, number: int, turn: int) -> tuple[bytes, dict, np.random.Generator | None]:
        records = sources[source][0]
        if short_text == "first_sentence":
            record = records[number]
            image, texts = record.image, token_ids(record, tokenizer)
        else:
            image, texts = records.tokenised(number, tokenizer)
        chosen = crop_scale or len(texts["long"]) > 1 or len(texts["short"]) > 1
        rng = order.generator(source, turn) if chosen else None
        # In this order: the draws of a record are part of what a seed means.
        drawn = {kind: _draw(texts[kind], rng) for kind in KINDS}
        if short_text == "first_sentence":
            long = drawn["long"]
            drawn["short"] = first_sentence(record, tokenizer, texts["long"].index(long)) if long else None
        return image, drawn, rng

    def begin(step: int) -> tuple[Callable[[range], None], Callable[[], dict[str, np.ndarray]]]:
        places = np.stack(order.places(step * shape.batch_size + rows), axis=-1).tolist()
        images, torn = images_of_batch(), []
        drawn = {kind: [None] * len(rows) for kind in KINDS}

        def fill(part: range) -> None:
            # All are read before the first is decoded: Python's work takes several times as long where decoding has
            # just taken the processor's caches.
            for row, (image, texts, rng) in zip(part, [draw(*places[row]) for row in part], strict=True):
                for kind in shape.kinds:
                    drawn[kind][row] = texts[kind]
                try:
                    training_pixels(image, preprocessing, crop_scale, rng, decoder, out=images[row])
                except InputError as error:
                    source, number, _ = places[row]
                    report.count_torn(sources[source][0][number].id, error)
                    images[row] = 0
                    torn.append(row)

        def finish() -> dict[str, np.ndarray]:
            texts = {
                kind: [ids and cut(ids, shape.length(kind), tokenizer.end) for ids in drawn[kind]] for kind in KINDS
            }
            here = text_lengths(texts)  # also of those whose image is torn: all hosts count them
            for kind in KINDS:
                for row in torn:
                    texts[kind][row] = None
                report.count_texts(kind, drawn[kind], texts[kind])
            if shape.row_length is None:
                return {"image": images} | padded(texts, shape, tokenizer.pad)
            return {"image": images} | packed(texts, shape, rows, lengths(step) if lengths else here[np.argsort(rows)])

        return fill, finish

    return feed(begin, len(rows), start_step, threads)


def global_lengths(
    sources: Sequence[tuple[Records, float]], tokenizer: Tokenizer, shape: BatchShape, seed: int
) -> Callable[[int], np.ndarray]:
    """Returns a function from the step, the first being 0, to the lengths of all texts of its global batch, int [B, 2].

    They are those of the long and the short text that `batches` draws, cut, and 0 where there is none. Only how long
    the texts of the sets are is held in memory (`text_lengths`), so every host knows the batches of all.
    """
    indices = [records.text_lengths(tokenizer) for records, _ in sources]
    order = _order(sources, seed)
    most = [shape.length(kind) if kind in shape.kinds else 0 for kind in KINDS]

    def lengths(step: int) -> np.ndarray:
        places = order.places(step * shape.batch_size + np.arange(shape.batch_size))
        found = np.zeros((shape.batch_size, len(KINDS)), np.int64)
        for source, index in enumerate(indices):
            (here,) = np.nonzero(places.source == source)
            found[here] = index.first(places.record[here])
            for row in here[index.choice(places.record[here])].tolist():
                texts, rng = index[int(places.record[row])], order.generator(source, int(places.turn[row]))
                found[row] = [_draw(texts[kind], rng) or 0 for kind in KINDS]
        return np.minimum(found, most)

    return lengths


def record_ids(sources: Sequence[tuple[Records, float]], batch_size: int, seed: int, step: int) -> list[str]:
    """Returns "SOURCE: record id" for every row of the global batch of training step `step`, the first being 1.

    Only the records of this batch are read, and no image is decoded.
    """
    places = _order(sources, seed).places((step - 1) * batch_size + np.arange(batch_size))
    found = [sources[source][0][number] for source, number, _ in np.stack(places, axis=-1).tolist()]
    return [f"{record.source}: {record.id}" for record in found]


def _order(sources: Sequence[tuple[Records, float]], seed: int) -> Order:
    return Order([len(records) for records, _ in sources], [weight for _, weight in sources], seed)


def first_sentence(record: Record, tokenizer: Tokenizer, index: int = 0) -> list[int]:
    """Returns the ids of the first sentence of a record's long text (Long-CLIP: text.split(". ")[0])."""
    return tokenizer.encode([record.long[index].split(". ")[0]])[0]


def _draw(texts: list[T], rng: np.random.Generator | None) -> T | None:
    # One number is drawn whatever the count, so that further draws don't depend on how many texts there are.
    fraction = rng.random() if rng else 0.0
    return texts[int(fraction * len(texts))] if texts else None
