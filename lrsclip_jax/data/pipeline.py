"""Batches for training: prepared records in, fixed-shape numpy batches out, the same for any number of hosts.

Grain gives every global position of the run its record (shuffled anew each epoch, sources mixed by weight) and its
own random generator, so a batch is a pure function of (seed, step): to continue a run is to start at its step.
"""

from __future__ import annotations

import os
import threading
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

import grain
import numpy as np
from PIL import Image

from lrsclip_jax.data.images import Preprocessing, preprocess, read_image
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
    host: int = 0,
    hosts: int = 1,
) -> Iterator[dict[str, np.ndarray]]:
    """Yields this host's rows of the global batches from `start_step` on, without end.

    A batch is {"image": uint8 [b, H, W, 3], "long": int32 [b, L], "short": int32 [b, S], "has_long": bool [b],
    "has_short": bool [b]} with b = batch_size / hosts; host p holds rows p·b … (p+1)·b - 1 of the global batch, so
    the global batches are the same for any number of hosts. One long and one short text are drawn for a record by
    (seed, epoch, record). A record whose image can't be read keeps its place without texts, so it drops out of
    both loss terms; after `report.max_torn` of those InputError is raised.
    """
    if shape.batch_size % hosts:
        raise InputError(f"batch_size {shape.batch_size} does not divide among {hosts} hosts")
    if short_text not in ("short", "first_sentence"):
        raise InputError(f"data.short_text is '{short_text}': 'short' and 'first_sentence' are known")

    def load(record: Record, rng: np.random.Generator) -> dict[str, np.ndarray]:
        return _example(record, rng, tokenizer, preprocessing, shape, report, short_text, crop_scale)

    streams = [
        grain.MapDataset.source(records).seed(seed + index).shuffle().repeat().random_map(load)
        for index, (records, _) in enumerate(sources)
    ]
    stream = streams[0] if len(streams) == 1 else grain.MapDataset.mix(streams, [w for _, w in sources])
    rows = grain.MapDataset.source(_HostRows(stream, shape.batch_size, host, hosts))
    threads = threads or os.cpu_count()
    options = grain.ReadOptions(num_threads=threads, prefetch_buffer_size=2 * threads)
    return iter(rows.batch(shape.batch_size // hosts)[start_step:].to_iter_dataset(options))


@dataclass(frozen=True)
class _HostRows:
    """The rows of a global stream that one host reads: a contiguous part of every global batch."""

    stream: grain.MapDataset
    batch_size: int
    host: int
    hosts: int

    def __len__(self) -> int:
        return len(self.stream) // self.batch_size * (self.batch_size // self.hosts)

    def __getitem__(self, index: int) -> dict[str, np.ndarray]:
        rows = self.batch_size // self.hosts
        step, row = divmod(index, rows)
        return self.stream[step * self.batch_size + self.host * rows + row]


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
