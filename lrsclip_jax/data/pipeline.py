"""Batches for training: prepared records in, fixed-shape numpy batches out, the same for any number of hosts.

Grain gives every global position of the run its record (shuffled anew each epoch, sources mixed by weight) and its
own random generator, so a batch is a pure function of (seed, step): to continue a run is to start at its step.
"""

from __future__ import annotations

import copy
import threading
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any, TypeVar

import grain
import numpy as np
from ml_collections import ConfigDict

from lrsclip_jax.data.batch import BatchShape, Example, drawn_lengths, packed, padded
from lrsclip_jax.data.decoding import check_decoder, training_pixels
from lrsclip_jax.data.feeding import feed
from lrsclip_jax.data.images import Preprocessing
from lrsclip_jax.data.pairs import Pairs
from lrsclip_jax.data.records import KINDS, Record, RecordReader, token_ids
from lrsclip_jax.data.scene_records import SceneRecords
from lrsclip_jax.data.tokenizer import Tokenizer, fit
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

    def count_text(self, kind: str, cut: bool) -> None:
        with self._lock:
            self.drawn[kind] += 1
            self.cut[kind] += cut

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


def open_source(source: str) -> Sequence[Record]:
    """Opens "DIR", "DIR:split" (default split: train) or the embedded scenes, "scenes:COUNT[:SEED]"."""
    if source.startswith("scenes:"):
        return SceneRecords.parse(source)
    folder, separator, split = source.rpartition(":")
    if not separator or "/" in split:
        folder, split = source, "train"
    return RecordReader(folder, split)


def weighted(sources: Sequence) -> list[tuple[str, float]]:
    """Returns `data.sources` as (source, weight) pairs; a source written alone weighs 1."""
    pairs = [(source, 1.0) if isinstance(source, str) else (source[0], float(source[1])) for source in sources]
    for source, weight in pairs:
        if not weight > 0:
            raise InputError(f"data.sources: the weight of {source} is {weight}, it must be positive")
    return pairs


def open_sources(config: ConfigDict) -> list[tuple[Sequence[Record], float]]:
    """Opens `data.sources` with their weights; their lengths together are the samples of an epoch.

    A sample is a record, or with `data.sampling="pairs"` a record with one of its texts (`lrsclip_jax.data.pairs`).
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
    sources = [(open_source(name), weight) for name, weight in weighted(config.data.sources)]
    if sampling == "pairs":
        sources = [(Pairs(records, records.text_counts()), weight) for records, weight in sources]
    return sources


def retokenised(
    config: ConfigDict, sources: Sequence[tuple[Sequence[Record], float]], tokenizer: Tokenizer
) -> list[str]:
    """Returns a line for each of the sources, those of `open_sources(config)`, that holds no ids of this tokenizer."""
    return [
        f"note: {name} has no token ids of the tokenizer '{tokenizer.name}': its texts are tokenised as they are read"
        for (name, _), (records, _) in zip(weighted(config.data.sources), sources, strict=True)
        if len(records) and tokenizer.hash not in records[0].tokens
    ]


def batches(
    sources: Sequence[tuple[Sequence[Record], float]],
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
    "positions": int32 [R, N] and "long_span", "short_span": int32 [b, 2], as `lrsclip_jax.data.packing.pack` has them
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

    def draw(record: Record, rng: np.random.Generator) -> tuple[Record, dict, np.random.Generator | None]:
        # Grain uses its generator again for the next record, before the image of this one is cropped.
        texts = _drawn_texts(record, rng, tokenizer, shape, short_text)
        return record, texts, copy.deepcopy(rng) if crop_scale else None

    rows = np.arange(shape.batch_size) if rows is None else rows
    lengths = None if whole or not shape.row_length else global_lengths(sources, tokenizer, shape, seed)

    def assemble(step: int, examples: list[Example]) -> dict[str, np.ndarray]:
        if shape.row_length is None:
            return padded(examples, shape, tokenizer.pad)
        return packed(examples, shape, rows, lengths(step) if lengths else drawn_lengths(examples, rows))

    stream = _mixed(sources, seed, draw)

    def examples(positions: range) -> list[Example]:
        steps_and_rows = [divmod(position, len(rows)) for position in positions]
        drawn = [stream[step * shape.batch_size + int(rows[row])] for step, row in steps_and_rows]
        return [_example(*each, tokenizer, preprocessing, shape, report, crop_scale, decoder) for each in drawn]

    return feed(examples, len(rows), assemble, start_step, threads)


def global_lengths(
    sources: Sequence[tuple[Sequence[Record], float]], tokenizer: Tokenizer, shape: BatchShape, seed: int
) -> Callable[[int], np.ndarray]:
    """Returns a function from the step, the first being 0, to the lengths of all texts of its global batch, int [B, 2].

    They are those of the long and the short text that `batches` draws, cut, and 0 where there is none. Only how long
    the texts of the sets are is held in memory (`text_lengths`), so every host knows the batches of all.
    """
    indices = [(records.text_lengths(tokenizer), weight) for records, weight in sources]

    def drawn(texts: dict[str, list[int]], rng: np.random.Generator | None) -> tuple[int, ...]:
        picked = {kind: _draw(texts[kind], rng) or 0 for kind in KINDS}
        return tuple(min(picked[kind], shape.length(kind)) if kind in shape.kinds else 0 for kind in KINDS)

    # Without a choice of texts nothing is drawn, and the stream is more than twice as fast.
    sure = all(index.one_each for index, _ in indices)
    stream = _mixed(indices, seed, (lambda texts: drawn(texts, None)) if sure else drawn, random=not sure)

    def lengths(step: int) -> np.ndarray:
        first = step * shape.batch_size
        return np.asarray([stream[first + row] for row in range(shape.batch_size)])

    return lengths


def record_ids(sources: Sequence[tuple[Sequence[Record], float]], batch_size: int, seed: int, step: int) -> list[str]:
    """Returns "SOURCE: record id" for every row of the global batch of training step `step`, the first being 1.

    Only the records of this batch are read, and no image is decoded.
    """
    stream = _mixed(sources, seed, lambda record: f"{record.source}: {record.id}", random=False)
    return [stream[(step - 1) * batch_size + row] for row in range(batch_size)]


def _mixed(
    sources: Sequence[tuple[Sequence, float]], seed: int, load: Callable[..., Any], random: bool = True
) -> grain.MapDataset:
    """The run's endless stream of `load(record, rng)`, or if not `random` of `load(record)`.

    Each source is shuffled anew every epoch, and they are mixed by weight.
    """

    def stream(index: int, records: Sequence) -> grain.MapDataset:
        # Numbers, not records, go through the shuffle: Grain measures the size of every element that it hands on.
        numbers = grain.MapDataset.source(range(len(records))).seed(seed + index).shuffle().repeat()
        if random:
            return numbers.random_map(lambda number, rng: load(records[number], rng))
        return numbers.map(lambda number: load(records[number]))

    streams = [stream(index, records) for index, (records, _) in enumerate(sources)]
    return streams[0] if len(streams) == 1 else grain.MapDataset.mix(streams, [weight for _, weight in sources])


def _drawn_texts(record, rng, tokenizer, shape, short_text) -> dict[str, list[int] | None]:
    texts = token_ids(record, tokenizer)
    # In this order: the draws of a record are part of what a seed means.
    drawn = {kind: _draw(texts[kind], rng) for kind in KINDS}
    if short_text == "first_sentence":
        long = drawn["long"]
        drawn["short"] = first_sentence(record, tokenizer, texts["long"].index(long)) if long else None
    return {kind: ids if kind in shape.kinds else None for kind, ids in drawn.items()}


def _example(record, drawn, rng, tokenizer, preprocessing, shape, report, crop_scale, decoder) -> Example:
    lengths = {kind: min(len(ids or ()), shape.length(kind)) for kind, ids in drawn.items()}
    try:
        pixels = training_pixels(record.image, preprocessing, crop_scale, rng, decoder)
    except InputError as error:
        report.count_torn(record.id, error)
        pixels, drawn = np.zeros((preprocessing.size, preprocessing.size, 3), np.uint8), dict.fromkeys(KINDS)
    for kind, ids in drawn.items():
        if ids is not None:
            report.count_text(kind, len(ids) > shape.length(kind))
            drawn[kind] = fit(ids, lengths[kind], tokenizer.end, tokenizer.pad)
    return Example(pixels, drawn, lengths)


def first_sentence(record: Record, tokenizer: Tokenizer, index: int = 0) -> list[int]:
    """Returns the ids of the first sentence of a record's long text (Long-CLIP: text.split(". ")[0])."""
    return tokenizer.encode([record.long[index].split(". ")[0]])[0]


def _draw(texts: list[T], rng: np.random.Generator | None) -> T | None:
    # One number is drawn whatever the count, so that further draws don't depend on how many texts there are.
    fraction = rng.random() if rng else 0.0
    return texts[int(fraction * len(texts))] if texts else None
