"""Some rows of a batch: their records are read, one text of each kind is drawn for each, and the images are decoded.

Where a tower is frozen, what it gave for an image or a text may be looked up in place of that (`saved_features`).
"""

from __future__ import annotations

import hashlib
import itertools
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple, TypeVar, cast

import grain
import numpy as np
from grain.experimental import RngPool

from lrsclip_jax.data.batches.augmentation import training_pixels
from lrsclip_jax.data.batches.batch import Texts
from lrsclip_jax.data.batches.order import Place
from lrsclip_jax.data.batches.saved_features import ImageFeatures, TextFeatures
from lrsclip_jax.data.native import cut
from lrsclip_jax.data.prepared.records import KINDS, NEGATIVE, Record, Records, token_ids
from lrsclip_jax.data.preprocessing import Preprocessing
from lrsclip_jax.data.tokenizer import Tokenizer
from lrsclip_jax.errors import InputError

SENTENCES = "sentences"  # of the long text, of which `sentence_draws` makes a short one

T = TypeVar("T")


@dataclass(frozen=True)
class Rows:
    """What some rows of a batch hold next to their images; it travels between processes.

    Attributes:
      drawn: for each kind the untruncated ids of each row's text, None where there is none; and SENTENCES, the long
        texts from which short ones are to be drawn.
      torn: the rows whose image can't be read, each with the record's id and the reason.
      sources: the source of each row.
      image_keys: uint32 [rows, 2], equal for images that are encoded in the same bytes; None: not asked for.
      text_features: for each kind float32 [rows, D], zero where there is no text; none where the tower gives them.
      grids: int64 [rows, 2], rows and columns of patches of images of any shape; None: they are squares.
    """

    drawn: Texts
    torn: Mapping[int, tuple[str, str]]
    sources: Sequence[int]
    image_keys: np.ndarray | None = None
    text_features: Mapping[str, np.ndarray] = field(default_factory=dict)
    grids: np.ndarray | None = None


def joined(runs: Sequence[Rows]) -> Rows:
    """Returns some rows and those that follow them as one."""
    drawn = {kind: [ids for rows in runs for ids in rows.drawn[kind]] for kind in runs[0].drawn}
    firsts = itertools.accumulate((len(rows.drawn["long"]) for rows in runs), initial=0)
    torn = [(first + row, why) for first, rows in zip(firsts, runs, strict=False) for row, why in rows.torn.items()]
    sources = [source for rows in runs for source in rows.sources]
    features = {kind: np.concatenate([rows.text_features[kind] for rows in runs]) for kind in runs[0].text_features}
    keys, grids = _together([rows.image_keys for rows in runs]), _together([rows.grids for rows in runs])
    return Rows(drawn, dict(torn), sources, keys, features, grids)


def _together(parts: Sequence[np.ndarray | None]) -> np.ndarray | None:
    there = [part for part in parts if part is not None]
    return np.concatenate(there) if there else None


class _Read(NamedTuple):
    """A sample as it was read: the encoded image, ids and place of each drawn text, random numbers, the record's id."""

    image: bytes
    drawn: dict[str, Sequence[int] | None]
    places: dict[str, int]  # among the texts of the sample, the long ones first
    rng: np.random.Generator | None
    name: str


@dataclass(frozen=True)
class RowReader:
    """Reads the rows at any positions of a run; it can be pickled.

    Attributes:
      sources: the records of each source.
      order: which of them stands at each position, see `batches.order`.
      generators: the random numbers of each source's turns.
      tokenizer, preprocessing: of the towers.
      kinds: the texts that are wanted, NEGATIVE among them for the hard negatives of the drawn short texts.
      short_text, crop_scale, decoder: as in the config.
      image_keys: whether keys of the images are wanted.
      image_features: of each source, to be written in place of pixels; none: pixels.
      text_features: of each source; none: they are not wanted.
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
    image_features: Sequence[ImageFeatures] = ()
    text_features: Sequence[TextFeatures] = ()

    def __call__(self, positions: Sequence[int], images: np.ndarray) -> Rows:
        """Writes the images of the rows at n positions to `images`, and returns the rest.

        They are pixels, [n, S, S, C] as `Preprocessing` has them, or features, float32 [n, turns, D]; where these have
        one turn alone and `images` has room for more, it stands for all. Of images of any shape they are patches,
        [n, budget, patch·patch·C], the first ones of each as many as its grid has.
        """
        torn: dict[int, tuple[str, str]] = {}
        grids = np.ones((len(positions), 2), np.int64) if self.preprocessing.patch else None
        places = [self.order[position] for position in positions]
        # All are read before the first is decoded: Python's work takes several times as long where decoding has just
        # taken the processor's caches.
        records = [self._read(*place) for place in places]
        for row, (image, _, _, rng, name) in enumerate(records):
            source, number, _ = places[row]
            if self.image_features:
                record = self.sources[source].record_of(number)
                images[row] = self.image_features[source].of(record, name, rng)[: images.shape[1]]
            else:
                try:
                    drawn_by = cast(np.random.Generator, rng)  # None only where no crop is drawn
                    how = self.preprocessing, self.crop_scale, drawn_by, self.decoder
                    if grids is None:
                        training_pixels(image, *how, out=images[row])
                    else:
                        grids[row] = self._write_patches(training_pixels(image, *how), images[row])
                except InputError as error:
                    images[row] = 0
                    torn[row] = name, str(error)
            if rng:
                self.generators[source].release_rng(rng)
        wanted = (*self.kinds, *((SENTENCES,) if self.short_text == "sentences" else ()))
        all_kinds = dict.fromkeys((*KINDS, *wanted))
        drawn = {kind: [read.drawn[kind] if kind in wanted else None for read in records] for kind in all_kinds}
        keys = np.stack([_image_key(read.image) for read in records]) if self.image_keys else None
        features = {kind: self._texts(kind, places, records) for kind in (self.kinds if self.text_features else ())}
        return Rows(drawn, torn, [place.source for place in places], keys, features, grids)

    def _write_patches(self, pixels: np.ndarray, out: np.ndarray) -> tuple[int, int]:
        """Writes the patches of an image of any shape, and returns its grid."""
        patch = cast(int, self.preprocessing.patch)
        patches = cut(pixels, patch)
        out[: len(patches)] = patches
        return pixels.shape[0] // patch, pixels.shape[1] // patch

    def _read(self, source: int, number: int, turn: int) -> _Read:
        records = self.sources[source]
        if self.short_text == "first_sentence":
            record = records[number]
            image, texts, name = record.image, token_ids(record, self.tokenizer), record.id
        else:
            image, texts, name = records.tokenised(number, self.tokenizer)
        chosen = self.crop_scale or len(texts["long"]) > 1 or len(texts["short"]) > 1
        rng = self.generators[source].acquire_rng(turn) if chosen else None
        which = draw({kind: range(len(texts[kind])) for kind in KINDS}, rng)
        drawn = {kind: None if text is None else texts[kind][text] for kind, text in which.items()}
        places = {kind: (which[kind] or 0) + (len(texts["long"]) if kind == "short" else 0) for kind in KINDS}
        if NEGATIVE in self.kinds:
            short, negatives = which["short"], texts.get(NEGATIVE)
            drawn[NEGATIVE] = (negatives[short] or None) if negatives and short is not None else None
        if self.short_text == "sentences":
            drawn[SENTENCES] = drawn["long"]
        if self.short_text == "first_sentence":
            long = which["long"]
            drawn["short"] = None if long is None else _first_sentence(record, self.tokenizer, long)
        return _Read(image, drawn, places, rng, name)

    def _texts(self, kind: str, places: Sequence[Place], records: Sequence[_Read]) -> np.ndarray:
        """The features of the drawn texts of a kind."""
        found = np.zeros((len(places), self.text_features[0].rows.width), np.float32)
        for row, (place, read) in enumerate(zip(places, records, strict=True)):
            if (ids := read.drawn[kind]) is not None:
                of_source = self.text_features[place.source]
                found[row] = of_source.of(place.record, read.places[kind], read.name, len(ids))
        return found


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
