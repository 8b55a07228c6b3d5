"""Batches for training: prepared records in, fixed-shape numpy batches out, the same for any number of hosts.

A batch on its way: `order` says which records stand at its positions, `rows` reads, draws and decodes them, `feed` has
Grain do that for runs of rows ahead of the reader, and here the texts are padded or packed (`batch`, `packing`).
Every position has its record and random numbers of its own, so a batch is a pure function of (seed, step), and to
continue a run is to start at its step.
"""

from __future__ import annotations

import contextlib
import itertools
from collections.abc import Callable, Generator, Mapping, Sequence
from dataclasses import replace
from types import MappingProxyType

import grain
import numpy as np

from lrsclip_jax.data.batches.augmentation import check_decoder
from lrsclip_jax.data.batches.batch import BatchShape, Texts, packed, packed_images, padded, text_lengths
from lrsclip_jax.data.batches.data_report import DataReport
from lrsclip_jax.data.batches.feed import feed
from lrsclip_jax.data.batches.global_lengths import global_lengths
from lrsclip_jax.data.batches.order import Place, endless_order, random_numbers
from lrsclip_jax.data.batches.row_reader import SENTENCES, RowReader, Rows, joined
from lrsclip_jax.data.batches.saved_features import ImageFeatures, TextFeatures
from lrsclip_jax.data.batches.sentence_draws import SentenceDraw, at, drawn_pairs, drawn_texts, numbers, shifts
from lrsclip_jax.data.batches.turns import drawn_turns, turned_texts
from lrsclip_jax.data.directions import TURNS
from lrsclip_jax.data.prepared.records import KINDS, NEGATIVE, Records
from lrsclip_jax.data.preprocessing import Preprocessing
from lrsclip_jax.data.tokenizer import Tokenizer, cut
from lrsclip_jax.errors import InputError

SHORT_TEXTS = ("short", "first_sentence", "sentences")


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
    draws: Mapping[str, SentenceDraw] = MappingProxyType({}),
    turns: Sequence[str] = (),
    image_features: Sequence[ImageFeatures] = (),
    text_features: Sequence[TextFeatures] = (),
    crop_scale: tuple[float, float] | None = None,
    decoder: str = "exact",
    threads: int = 0,
    workers: int = 0,
    rows: np.ndarray | None = None,
) -> Generator[dict[str, np.ndarray]]:
    """Yields `rows` of the global batches from `start_step` on, without end.

    A batch is {"image": uint8 [b, H, W, 3], "long": int32 [b, L], "short": int32 [b, S], "has_long": bool [b],
    "has_short": bool [b]}, without the texts of a kind that `shape.kinds` leaves out; where that names hard negatives
    also "negative", int32 [b, S], and "has_negative", bool [b], the drawn short text with one fact changed. Where
    `preprocessing` names bands its images are float32 [b, H, W, bands]. With `shape.row_length` N it has, in place of
    "long" and "short", "ids", "segments", "positions": int32 [R, N] and "long_span", "short_span": int32 [b, 2], as
    `batches.packing.pack` has them for each group of consecutive pairs. All groups have the same number of rows, which
    follows from the lengths of all texts of the global batch. Where `shape.shifted` names a kind, a batch also has by
    how many positions the tokens of its texts but the first are moved: "long_shift" or "short_shift", int32 [b], or for
    packed texts "shifts", int32 [R, N], to be added to the positions. With `turns`, from
    `batches.turns.turns_of_sources`, it has "turn", int32 [b], by which the images have yet to be turned. With
    `shape.image_keys` it has "image_key", uint32 [b, 2], equal for images that are encoded in the same bytes. With
    `image_features`, one for each source, it has "image_features", float32 [b, D], of the images as turned, in place of
    "image" and "turn", and with `text_features` also "long_features" and "short_features", float32 [b, D]; the rest of
    it is the same. With `shape.image_rows` it has the arrays of `batch.packed_images` in place of "image": images of
    any shape in rows that those of a group share, whose number follows from the shapes of all images of the global
    batch.

    `rows`, int [b], are the positions in the global batch that this host reads, in this order (None: all of them),
    so the global batches are the same for any number of hosts and any mesh. One long and one short text are drawn for
    a record by (seed, epoch, record), and those of a kind in `draws` are drawn again by (seed, step, pair); a record of
    `Pairs` has its one text alone. A record whose image can't be read keeps its place without texts, so it drops out of
    both loss terms; after `report.max_torn` of those InputError is raised. Neither `threads` nor `workers`, as
    `batches.feed` has them, changes a batch.
    """
    if short_text not in SHORT_TEXTS:
        raise InputError(f"data.short_text is '{short_text}': {', '.join(map(repr, SHORT_TEXTS))} are known")
    check_decoder(decoder)
    whole = rows is None or len(rows) == shape.batch_size
    if shape.row_length and not whole and short_text == "first_sentence":
        raise InputError("data.short_text='first_sentence' can't be packed on several hosts: set data.packed=False")

    rows = np.arange(shape.batch_size) if rows is None else rows
    lengths = None
    if shape.row_length and not whole:
        lengths = global_lengths(sources, tokenizer, shape, seed, draws, short_text)
    read = RowReader(
        sources=[records for records, _ in sources],
        order=_order(sources, seed),
        generators=random_numbers(len(sources), seed),
        tokenizer=tokenizer,
        preprocessing=preprocessing,
        kinds=shape.kinds,
        short_text=short_text,
        crop_scale=crop_scale,
        decoder=decoder,
        image_keys=shape.image_keys,
        image_features=image_features,
        text_features=text_features,
    )
    side = preprocessing.size
    image, dtype = (side, side, preprocessing.channels), preprocessing.dtype
    if shape.image_rows:
        image = (preprocessing.budget, shape.image_rows.patch**2 * preprocessing.channels)
    if image_features:
        image, dtype = (len(TURNS["all"]) if turns else 1, image_features[0].rows.width), np.float32
    feeding = {"start": start_step, "threads": threads, "workers": workers}
    runs = feed(read, rows, shape.batch_size, image, dtype=dtype, **feeding)

    def texts_of(step: int, found: Rows) -> dict[str, np.ndarray]:
        anew = {kind: (kind, seed, step, shape.batch_size) for kind in KINDS}
        texts, turn = {**found.drawn}, {}
        if whole := texts.pop(SENTENCES, None):
            taken = drawn_pairs(draws.get("short"), *anew["short"])[rows]
            texts["short"] = [
                long if drawn else own for long, own, drawn in zip(whole, texts["short"], taken, strict=True)
            ]
        texts |= {kind: drawn_texts(texts[kind], tokenizer, draws[kind], anew[kind], rows) for kind in draws}
        if turns:
            wanted = drawn_turns(turns, found.sources, seed, step, shape.batch_size, rows)
            texts, turn["turn"] = turned_texts(texts, wanted, tokenizer)
        texts, here = _kept(replace(found, drawn=texts), tokenizer, shape, report)
        lengths_of = dict(zip(texts, here.T, strict=True))
        moved = {
            kind: shifts(lengths_of[kind], draws[kind], at(numbers(*anew[kind], 0), rows)) for kind in shape.shifted
        }
        if shape.row_length is None:
            batch = padded(texts, shape, tokenizer.pad) | {f"{kind}_shift": by for kind, by in moved.items()}
        else:
            batch = packed(texts, shape, rows, lengths(step) if lengths else here[np.argsort(rows)], moved)
        return batch | turn

    def images_of(images: np.ndarray, found: Rows, turn: np.ndarray | None) -> dict[str, np.ndarray]:
        if found.grids is not None:
            return packed_images(images, found.grids, shape, rows)
        if image_features:
            return {"image_features": images[np.arange(len(images)), 0 if turn is None else turn]}
        return {"image": images} if turn is None else {"image": images, "turn": turn}

    return _assembled(runs, images_of, texts_of, start_step)


def _assembled(
    runs: Generator[tuple[np.ndarray, list[Rows]]],
    images_of: Callable[[np.ndarray, Rows, np.ndarray | None], dict[str, np.ndarray]],
    texts_of: Callable[[int, Rows], dict[str, np.ndarray]],
    start_step: int,
) -> Generator[dict[str, np.ndarray]]:
    # A function, so that no name here holds the images of a batch while its reader has it.
    def batch(step: int, images: np.ndarray, found: list[Rows]) -> dict[str, np.ndarray]:
        rows = joined(found)
        keys = {} if rows.image_keys is None else {"image_key": rows.image_keys}
        features = {f"{kind}_features": found for kind, found in rows.text_features.items()}
        texts = texts_of(step, rows)
        return images_of(images, rows, texts.pop("turn", None)) | keys | features | texts

    with contextlib.closing(runs):
        for step in itertools.count(start_step):
            yield batch(step, *next(runs))


def _kept(found: Rows, tokenizer: Tokenizer, shape: BatchShape, report: DataReport) -> tuple[Texts, np.ndarray]:
    """Cuts the drawn texts and leaves out those of torn records; also returns the lengths of all, int [b, kinds].

    A hard negative that is its short text, once both are cut, is left out, too. All of these count in the lengths:
    other hosts, which have to know the lengths for packing, can't know what was left out.
    """
    texts = {
        kind: [ids and cut(ids, shape.length(kind), tokenizer.end) for ids in drawn]
        for kind, drawn in found.drawn.items()
    }
    lengths = text_lengths(texts)
    for row, (record, reason) in found.torn.items():
        report.count_torn(record, reason)
        for of_kind in texts.values():
            of_kind[row] = None
    if NEGATIVE in texts:
        both = zip(texts["short"], texts[NEGATIVE], strict=True)
        texts[NEGATIVE] = [None if short is None or [*short] == [*(wrong or ())] else wrong for short, wrong in both]
    for kind in KINDS:
        report.count_texts(kind, found.drawn[kind], texts[kind])
    return texts, lengths


def record_ids(sources: Sequence[tuple[Records, float]], batch_size: int, seed: int, step: int) -> list[str]:
    """Returns "SOURCE: record id" for every row of the global batch of training step `step`, the first being 1.

    Only the records of this batch are read, and no image is decoded.
    """
    order, first = _order(sources, seed), (step - 1) * batch_size
    places = [order[position] for position in range(first, first + batch_size)]
    found = [sources[place.source][0][place.record] for place in places]
    return [f"{record.source}: {record.id}" for record in found]


def _order(sources: Sequence[tuple[Records, float]], seed: int) -> grain.MapDataset[Place]:
    return endless_order([len(records) for records, _ in sources], [weight for _, weight in sources], seed)
