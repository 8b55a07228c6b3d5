"""What frozen towers gave for a source's images and texts, read from embedding sets in place of the towers' work.

`lrsclip embed SOURCE --features=encoder` writes such a set: the tower's output before its projection, as unit rows and
their lengths. Row i is of record i of the source; of a set with views, rows K·i to K·i + K − 1 are K drawn crops of it.
In a set with turns eight rows, in the order of the turns, stand for each of these. A set of texts has those of each
record, the long ones first, as `text_counts` numbers them. The matrices are mapped into memory: what the page cache
holds is read from there.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from eval.embeddings import SIDES, EmbeddingSet
from eval.reading import read_array
from lrsclip_jax.data.directions import TURNS
from lrsclip_jax.data.prepared.records import KINDS, Records
from lrsclip_jax.errors import InputError

_TRIED = 16  # records that are compared with a set before training; all others are as they are met


class SavedRows:
    """The rows of one side of an embedding set, as the tower gave them; threads may share it, and it can be pickled."""

    def __init__(self, folder: Path, side: str):
        """`side` is "images" or "texts"; InputError where its files are missing or torn."""
        self.folder, self.side = folder, side
        self._units = read_array(folder / f"{side}.npy", np.float32, 2)
        self._lengths = read_array(folder / f"{SIDES[side]}_norms.npy", np.float32, 1)

    @property
    def width(self) -> int:
        """The numbers of a row."""
        return self._units.shape[1]

    def __getitem__(self, row: int) -> np.ndarray:
        """Returns a row, float32 [D]; InputError where it is not finite."""
        found = self._units[row] * self._lengths[row]
        if not np.isfinite(found).all():
            raise InputError(f"{self.folder}/{self.side}.npy, row {row}: NaN or infinite, embed again")
        return found

    def __getstate__(self) -> tuple[Path, str]:
        return self.folder, self.side

    def __setstate__(self, state: tuple[Path, str]) -> None:
        self.__init__(*state)  # type: ignore[misc]  # the files are mapped again, not sent


@dataclass(frozen=True)
class ImageFeatures:
    """The image tower's features of one source's records.

    Attributes:
      rows: of the set.
      views: drawn crops of each record, or 1.
      turns: rows of each of them, 8 in a set with turns, or 1.
      names: uint64 [records], a hash of each record's id.
      source: its name, for messages.
    """

    rows: SavedRows
    views: int
    turns: int
    names: np.ndarray
    source: str

    def of(self, record: int, name: str, rng: np.random.Generator | None) -> np.ndarray:
        """Returns the features of a record's image, float32 [turns, D]: of several views one that `rng` draws.

        Raises InputError where the set has another image in its place, whose id is not `name`.
        """
        _check_name(self.rows, self.names, record, name, self.source)
        view = int(rng.random() * self.views) if rng and self.views > 1 else 0
        first = (record * self.views + view) * self.turns
        return np.stack([self.rows[first + turn] for turn in range(self.turns)])


@dataclass(frozen=True)
class TextFeatures:
    """The text tower's features of one source's texts.

    Attributes:
      rows: of the set.
      row_of: int64 [texts], the row of each text.
      starts: int64 [samples], the first text of each sample.
      names: uint64 [texts], a hash of the id of each text's record.
      lengths: int64 [texts], the tokens of each, before any cut.
      source: its name, for messages.
    """

    rows: SavedRows
    row_of: np.ndarray
    starts: np.ndarray
    names: np.ndarray
    lengths: np.ndarray
    source: str

    def of(self, sample: int, place: int, name: str, length: int) -> np.ndarray:
        """Returns the features of a text, float32 [D].

        Args:
          sample: a record or pair of the source.
          place: of the text among those of the sample, the long ones first.
          name: id of the record.
          length: of the text in tokens.

        Raises:
          InputError: the set has another text in its place.
        """
        text = int(self.starts[sample]) + place
        _check_name(self.rows, self.names, text, name, self.source)
        if self.lengths[text] != length:
            raise InputError(
                f"{self.rows.folder}: text {text} has {self.lengths[text]} tokens, and in {self.source} {length}: "
                f"embed {self.source} with the tokenizer of the run"
            )
        return self.rows[int(self.row_of[text])]


def image_features(found: EmbeddingSet, records: Records, source: str) -> ImageFeatures:
    """Returns the features of a source's images; InputError where they are of other images, or in another order.

    Args:
      found: the set.
      records: of the source, or pairs of them.
      source: its name.
    """
    count = records.record_of(len(records) - 1) + 1
    views, turns = int(found.meta.get("views") or 1), len(TURNS["all"]) if found.meta.get("turns") else 1
    each = views * turns
    if len(found.images) != count * each:
        many = f" with {each} views each" if each > 1 else ""
        raise InputError(_misfit(found, source, f"{len(found.images) // each:,} images{many}", f"{count:,} records"))
    ids = [row["image"] if each > 1 else row["id"] for row in found.image_rows[::each]]
    features = ImageFeatures(SavedRows(found.path, "images"), views, turns, _hashes(ids), source)
    for sample in _some(len(records)):
        features.of(records.record_of(sample), records[sample].id, None)
    return features


def text_features(
    found: EmbeddingSet, records: Records, source: str, limits: Mapping[str, tuple[str, int]]
) -> TextFeatures:
    """Returns the features of a source's texts; InputError where they are of other texts, or cut at another length.

    Args:
      found: the set.
      records: of the source, or pairs of them.
      source: its name.
      limits: of each kind the key that says at how many tokens training cuts its texts, and this number.
    """
    starts = np.cumsum([0, *records.text_counts()])
    whole = np.sort(np.concatenate([found.text_rows_of(kind) for kind in KINDS]))
    texts = [found.text_rows[row] for row in whole]
    if len(texts) != starts[-1]:
        raise InputError(_misfit(found, source, f"{len(texts):,} texts", f"{starts[-1]:,}"))
    kinds, lengths = np.asarray([text["kind"] for text in texts]), [text.get("length", 0) for text in texts]
    row_of, context = whole.copy(), int(found.meta.get("context_length") or 0)
    for kind, (key, limit) in limits.items():
        (of_kind,) = np.nonzero(kinds == kind)
        cut = found.text_rows_of(kind, tokens=limit)
        longer = sum(lengths[text] > limit for text in of_kind)
        if len(cut) and len(cut) == len(of_kind):
            row_of[of_kind] = cut
        elif longer and limit != context:
            swept = kind == "long" or not len(found.text_rows_of("long"))
            raise InputError(
                f"{found.path}: {longer:,} {kind} texts are longer than {key}={limit}, and not cut there: raise {key}"
                + (f", or embed them with --text-lengths={limit}" if swept else "")
            )
    rows, names = SavedRows(found.path, "texts"), _hashes(text.get("image") or "" for text in texts)
    features = TextFeatures(rows, row_of, starts[:-1], names, np.asarray(lengths, np.int64), source)
    for sample in _some(len(records)):
        record = records[sample]
        for place, text in enumerate((*record.long, *record.short)):
            there = texts[starts[sample] + place]
            if (there.get("image"), there["text"]) != (record.id, text):
                raise InputError(_misfit(found, source, repr(there["text"])[:60], f"{text!r:.60} in its place"))
    return features


def _some(count: int) -> Sequence[int]:
    return np.unique(np.linspace(0, count - 1, _TRIED).astype(int)).tolist()


def _misfit(found: EmbeddingSet, source: str, there: str, here: str) -> str:
    return f"{found.path} holds {there}, and {source} {here}: embed {source} as data.sources names it"


def _check_name(rows: SavedRows, names: np.ndarray, number: int, name: str, source: str) -> None:
    if number >= len(names) or names[number] != _hash(name):
        one = rows.side.removesuffix("s")
        raise InputError(f"{rows.folder}: {one} {number} is not of record {name!r} of {source}: embed {source} again")


def _hash(name: str) -> int:
    return int.from_bytes(hashlib.blake2b(name.encode("utf-8", "surrogateescape"), digest_size=8).digest(), "little")


def _hashes(names: Iterable[str]) -> np.ndarray:
    return np.fromiter(map(_hash, names), np.uint64)
