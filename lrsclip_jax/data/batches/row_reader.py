"""Some rows of a batch: their records are read, one text of each kind is drawn for each, and the images are decoded."""

from __future__ import annotations

import hashlib
import itertools
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TypeVar, cast

import grain
import numpy as np
from grain.experimental import RngPool

from lrsclip_jax.data.batches.augmentation import training_pixels
from lrsclip_jax.data.batches.batch import Texts
from lrsclip_jax.data.images import Preprocessing
from lrsclip_jax.data.prepared.records import KINDS, Record, Records, token_ids
from lrsclip_jax.data.tokenizer import Tokenizer
from lrsclip_jax.errors import InputError

T = TypeVar("T")


@dataclass(frozen=True)
class Rows:
    """What some rows of a batch hold next to their images; it travels between processes.

    Attributes:
      drawn: for each kind the untruncated ids of each row's text, None where there is none.
      torn: the rows whose image can't be read, each with the record's id and the reason.
      sources: the source of each row.
      image_keys: uint32 [rows, 2], equal for images that are encoded in the same bytes; None: not asked for.
    """

    drawn: Texts
    torn: Mapping[int, tuple[str, str]]
    sources: Sequence[int]
    image_keys: np.ndarray | None = None


def joined(runs: Sequence[Rows]) -> Rows:
    """Returns some rows and those that follow them as one."""
    drawn = {kind: [ids for rows in runs for ids in rows.drawn[kind]] for kind in KINDS}
    firsts = itertools.accumulate((len(rows.drawn["long"]) for rows in runs), initial=0)
    torn = [(first + row, why) for first, rows in zip(firsts, runs, strict=False) for row, why in rows.torn.items()]
    keys = [rows.image_keys for rows in runs if rows.image_keys is not None]
    sources = [source for rows in runs for source in rows.sources]
    return Rows(drawn, dict(torn), sources, np.concatenate(keys) if keys else None)


@dataclass(frozen=True)
class RowReader:
    """Reads the rows at any positions of a run; it can be pickled.

    Attributes:
      sources: the records of each source.
      order: which of them stands at each position, see `batches.order`.
      generators: the random numbers of each source's turns.
      tokenizer, preprocessing: of the towers.
      kinds: the texts that are wanted.
      short_text, crop_scale, decoder: as in the config.
      image_keys: whether keys of the images are wanted.
    """

    sources: Sequence[Records]
    order: grain.MapDataset
    generators: Sequence[RngPool]
    tokenizer: Tokenizer
    preprocessing: Preprocessing
    kinds: Sequence[str]
    short_text: str
    crop_scale: tuple[float, float] | None
    decoder: str
    image_keys: bool = False

    def __call__(self, positions: Sequence[int], images: np.ndarray) -> Rows:
        """Writes the pixels of the rows at n positions to `images`, uint8 [n, S, S, 3], and returns the rest."""
        torn: dict[int, tuple[str, str]] = {}
        places = [self.order[position] for position in positions]
        # All are read before the first is decoded: Python's work takes several times as long where decoding has just
        # taken the processor's caches.
        records = [self._read(*place) for place in places]
        for row, (image, _, rng) in enumerate(records):
            source, number, _ = places[row]
            try:
                drawn_by = cast(np.random.Generator, rng)  # None only where no crop is drawn
                training_pixels(image, self.preprocessing, self.crop_scale, drawn_by, self.decoder, out=images[row])
            except InputError as error:
                images[row] = 0
                torn[row] = self.sources[source][number].id, str(error)
            if rng:
                self.generators[source].release_rng(rng)
        drawn = {kind: [texts[kind] if kind in self.kinds else None for _, texts, _ in records] for kind in KINDS}
        keys = np.stack([_image_key(image) for image, *_ in records]) if self.image_keys else None
        return Rows(drawn, torn, [place.source for place in places], keys)

    def _read(self, source: int, number: int, turn: int) -> tuple[bytes, dict, np.random.Generator | None]:
        """The encoded image of a record, the ids of its drawn texts, and its random numbers where it needs any."""
        records = self.sources[source]
        if self.short_text == "first_sentence":
            record = records[number]
            image, texts = record.image, token_ids(record, self.tokenizer)
        else:
            image, texts = records.tokenised(number, self.tokenizer)
        chosen = self.crop_scale or len(texts["long"]) > 1 or len(texts["short"]) > 1
        rng = self.generators[source].acquire_rng(turn) if chosen else None
        drawn = draw(texts, rng)
        if self.short_text == "sentences":  # of which `sentence_draws` makes a text of its own
            drawn["short"] = drawn["long"]
        if self.short_text == "first_sentence":
            long = drawn["long"]
            drawn["short"] = _first_sentence(record, self.tokenizer, texts["long"].index(long)) if long else None
        return image, drawn, rng


def _image_key(image: bytes) -> np.ndarray:
    """Returns uint32 [2], equal for equal bytes; any two others share it with probability 2^-64."""
    return np.frombuffer(hashlib.blake2b(image, digest_size=8).digest(), np.uint32)


def draw(texts: Mapping[str, Sequence[T]], rng: np.random.Generator | None) -> dict[str, T | None]:
    """Draws one of the texts of each kind, in the order of `KINDS`; without random numbers the first, None of none."""
    return {kind: _one_of(texts[kind], rng) for kind in KINDS}


def _one_of(texts: Sequence[T], rng: np.random.Generator | None) -> T | None:
    # One number is drawn for any count, so that further draws don't depend on how many texts there are.
    fraction = rng.random() if rng else 0.0
    return texts[int(fraction * len(texts))] if texts else None


def _first_sentence(record: Record, tokenizer: Tokenizer, index: int) -> list[int]:
    """Returns the ids of the first sentence of a record's long text (Long-CLIP: text.split(". ")[0])."""
    return tokenizer.encode([record.long[index].split(". ")[0]])[0]
