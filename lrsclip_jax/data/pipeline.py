"""Batches for training: prepared records in, fixed-shape numpy batches out, the same for any number of hosts.

Grain gives every global position of the run its record (shuffled anew each epoch, sources mixed by weight) and its
own random generator, so a batch is a pure function of (seed, step): to continue a run is to start at its step.
"""

from __future__ import annotations

import os
import threading
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

import grain
import numpy as np
from ml_collections import ConfigDict
from PIL import Image

from lrsclip_jax.data.images import Preprocessing, preprocess, read_image
from lrsclip_jax.data.pairs import Pairs
from lrsclip_jax.data.records import Record, RecordReader
from lrsclip_jax.data.scene_records import SceneRecords
from lrsclip_jax.data.tokenizer import Tokenizer, fit
from lrsclip_jax.errors import InputError


@dataclass(frozen=True)
class BatchShape:
    """What a batch looks like: pairs of the global batch, and the static lengths of its texts in tokens."""

    batch_size: int
    long_length: int
    short_length: int


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
    threads: int = 0,
    rows: np.ndarray | None = None,
) -> Iterator[dict[str, np.ndarray]]:
    """Yields `rows` of the global batches from `start_step` on, without end.

    A batch is {"image": uint8 [b, H, W, 3], "long": int32 [b, L], "short": int32 [b, S], "has_long": bool [b],
    "has_short": bool [b]}. `rows`, int [b], are the positions in the global batch that this host wants, in the order
    it wants them (None: all), so the global batches are the same for any number of hosts and any mesh. One long and
    one short text are drawn for a record by (seed, epoch, record); a record of `Pairs` has its one text alone. A record
    whose image can't be read keeps its place without texts, so it drops out of both loss terms; after `report.max_torn`
    of those InputError is raised.
    """
    if short_text not in ("short", "first_sentence"):
        raise InputError(f"data.short_text is '{short_text}': 'short' and 'first_sentence' are known")

    def load(record: Record, rng: np.random.Generator) -> dict[str, np.ndarray]:
        return _example(record, rng, tokenizer, preprocessing, shape, report, short_text, crop_scale)

    rows = np.arange(shape.batch_size) if rows is None else rows
    local = grain.MapDataset.source(_HostRows(_mixed(sources, seed, load), shape.batch_size, rows))
    threads = threads or os.cpu_count()
    options = grain.ReadOptions(num_threads=threads, prefetch_buffer_size=2 * threads)
    return iter(local.batch(len(rows))[start_step:].to_iter_dataset(options))


def record_ids(sources: Sequence[tuple[Sequence[Record], float]], batch_size: int, seed: int, step: int) -> list[str]:
    """Returns "SOURCE: record id" for every row of the global batch of training step `step`, the first being 1.

    Only the records of this batch are read, and no image is decoded.
    """
    stream = _mixed(sources, seed, lambda record, _: f"{record.source}: {record.id}")
    return [stream[(step - 1) * batch_size + row] for row in range(batch_size)]


def _mixed(
    sources: Sequence[tuple[Sequence[Record], float]], seed: int, load: Callable[[Record, np.random.Generator], Any]
) -> grain.MapDataset:
    """The run's endless stream of `load(record, rng)`: each source shuffled anew every epoch, mixed by weight."""
    streams = [
        grain.MapDataset.source(records).seed(seed + index).shuffle().repeat().random_map(load)
        for index, (records, _) in enumerate(sources)
    ]
    return streams[0] if len(streams) == 1 else grain.MapDataset.mix(streams, [weight for _, weight in sources])


@dataclass(frozen=True)
class _HostRows:
    """The rows of a global stream that one host reads: the same `rows` of every global batch."""

    stream: grain.MapDataset
    batch_size: int
    rows: np.ndarray

    def __len__(self) -> int:
        return len(self.stream) // self.batch_size * len(self.rows)

    def __getitem__(self, index: int) -> dict[str, np.ndarray]:
        step, row = divmod(index, len(self.rows))
        return self.stream[step * self.batch_size + int(self.rows[row])]


def _example(record, rng, tokenizer, preprocessing, shape, report, short_text, crop_scale) -> dict[str, np.ndarray]:
    texts = token_ids(record, tokenizer)
    long, short = (_draw(texts[kind], rng) for kind in ("long", "short"))
    if short_text == "first_sentence":
        short = first_sentence(record, tokenizer, texts["long"].index(long)) if long else None
    try:
        image = read_image(record.image)
        pixels = (
            random_resized_crop(image, preprocessing.size, crop_scale, rng)
            if crop_scale
            else preprocess(image, preprocessing)
        )
    except InputError as error:
        report.count_torn(record.id, error)
        pixels, long, short = np.zeros((preprocessing.size, preprocessing.size, 3), np.uint8), None, None
    example = {"image": pixels}
    for kind, ids, length in (("long", long, shape.long_length), ("short", short, shape.short_length)):
        if ids is not None:
            report.count_text(kind, len(ids) > length)
        example[kind] = fit(ids or (), length, tokenizer.end, tokenizer.pad)
        example[f"has_{kind}"] = np.bool_(ids is not None)
    return example


def token_ids(record: Record, tokenizer: Tokenizer) -> dict[str, list[list[int]]]:
    """Returns the untruncated ids of a record's texts: the stored ones, or made anew for another tokenizer."""
    stored = record.tokens.get(tokenizer.hash)
    return stored or {"long": tokenizer.encode(record.long), "short": tokenizer.encode(record.short)}


def first_sentence(record: Record, tokenizer: Tokenizer, index: int = 0) -> list[int]:
    """Returns the ids of the first sentence of a record's long text (Long-CLIP: text.split(". ")[0])."""
    return tokenizer.encode([record.long[index].split(". ")[0]])[0]


def _draw(texts: list[list[int]], rng: np.random.Generator) -> list[int] | None:
    # One number is drawn whatever the count, so that further draws don't depend on how many texts there are.
    fraction = rng.random()
    return texts[int(fraction * len(texts))] if texts else None


def random_resized_crop(
    image: Image.Image, size: int, scale: tuple[float, float], rng: np.random.Generator
) -> np.ndarray:
    """Returns a random crop of `scale` of the area and aspect 3:4 to 4:3, resized to uint8 [size, size, 3].

    The rule of torchvision's RandomResizedCrop: ten tries, then the largest central crop within the aspect range.
    """
    width, height = image.size
    for _ in range(10):
        area = width * height * rng.uniform(*scale)
        aspect = np.exp(rng.uniform(np.log(3 / 4), np.log(4 / 3)))
        w, h = round(float(np.sqrt(area * aspect))), round(float(np.sqrt(area / aspect)))
        if 0 < w <= width and 0 < h <= height:
            left, top = int(rng.integers(0, width - w + 1)), int(rng.integers(0, height - h + 1))
            break
    else:
        w, h = min(width, round(height * 4 / 3)), min(height, round(width * 4 / 3))
        left, top = (width - w) // 2, (height - h) // 2
    box = (left, top, left + w, top + h)
    return np.asarray(image.resize((size, size), Image.Resampling.BICUBIC, box=box))
