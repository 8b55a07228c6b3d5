"""Prepared data sets: captioned images in ArrayRecord shards that TFDS describes and that we read at random.

A prepared set is a folder in the layout of a TFDS data set named `lrs2m`: shards of `tf.train.Example`
records with `features.json` and `dataset_info.json`, so
`tfds.builder_from_directory(folder).as_data_source("train")` reads it, and so does `tfds.data_source("lrs2m",
data_dir=PARENT)` when the folder is PARENT/lrs2m/1.0.0. Neither needs TensorFlow. Writing and reading go
through the protocol buffer itself: TFDS cannot write ragged features without TensorFlow, and parsing this way
costs some twenty microseconds a record. A file next to each shard holds the number of texts of each record and their
lengths (`lrsclip_jax.data.prepared.text_lengths`), so that these are known without reading the images.
"""

from __future__ import annotations

import bisect
import itertools
import os
from abc import abstractmethod
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple, TypedDict, TypeVar

import numpy as np
from array_record.python.array_record_module import ArrayRecordWriter
from google.protobuf.message import DecodeError
from tensorflow_datasets.proto import tf_example_pb2, tf_feature_pb2
from tqdm import tqdm

from eval.reading import read_json
from eval.whole import beginning, discard, finish, remove_leftovers
from lrsclip_jax.data.prepared.band_set import BandSet, read_band_set
from lrsclip_jax.data.prepared.shard import Shard, allow_open_files
from lrsclip_jax.data.prepared.text_lengths import TextLengths, read_lengths, write_lengths
from lrsclip_jax.data.tokenizer import Tokenizer
from lrsclip_jax.errors import InputError, nearest

Example, Feature, Features = tf_example_pb2.Example, tf_feature_pb2.Feature, tf_feature_pb2.Features
BytesList, Int64List = tf_feature_pb2.BytesList, tf_feature_pb2.Int64List
R = TypeVar("R")

NAME = "lrs2m"
KINDS = ("long", "short")
NEGATIVE = "negative"  # the kind of hard negatives, which are false of their image
# How TFDS lays out a sequence of sequences in an Example.
_FLAT, _LENGTHS = "/ragged_flat_values", "/ragged_row_lengths_0"


@dataclass(frozen=True)
class Record:
    """A captioned image: encoded `image` bytes, its texts, and their untruncated token ids by tokenizer hash.

    `tokens` is {tokenizer hash: {"long": [ids, …], "short": [ids, …]}}, with one list for each text. In a set with hard
    negatives every record has `negative`, and ids of this kind: as many as short texts, each what one becomes when a
    fact is changed in it, or "" (no ids) where there is none. In other sets it is None.
    """

    id: str
    source: str
    image: bytes
    long: tuple[str, ...] = ()
    short: tuple[str, ...] = ()
    label: str | None = None
    licence: str | None = None
    tokens: Mapping[str, Mapping[str, list[list[int]]]] = field(default_factory=dict)
    negative: tuple[str, ...] | None = None


class Tokenised(NamedTuple):
    """A record as training reads it: encoded image bytes, the untruncated ids of its texts by kind, and its id."""

    image: bytes
    ids: Mapping[str, Sequence[Sequence[int]]]
    id: str


def serialize(record: Record) -> bytes:
    """Returns the record as a `tf.train.Example`; the same record gives the same bytes."""
    features = {
        "id": _text([record.id]),
        "source": _text([record.source]),
        "image": Feature(bytes_list=BytesList(value=[record.image])),
        "long": _text(record.long),
        "short": _text(record.short),
        "label": _text([record.label or ""]),
        "licence": _text([record.licence or ""]),
    }
    if record.negative is not None:
        features[NEGATIVE] = _text(record.negative)
    for tokenizer, texts in record.tokens.items():
        for kind, rows in texts.items():
            features[f"tokens/{tokenizer}/{kind}{_FLAT}"] = _integers(itertools.chain.from_iterable(rows))
            features[f"tokens/{tokenizer}/{kind}{_LENGTHS}"] = _integers(map(len, rows))
    return Example(features=Features(feature=features)).SerializeToString(deterministic=True)


def deserialize(data: bytes) -> Record:
    """Returns the record that `serialize` wrote."""
    features = Example.FromString(data).features.feature
    tokens: dict[str, dict[str, list[list[int]]]] = {}
    for key in features:
        if key.endswith(_FLAT):
            name = key.removesuffix(_FLAT)
            _, tokenizer, kind = name.split("/")
            tokens.setdefault(tokenizer, {})[kind] = _rows(features, name)

    def texts(key: str) -> tuple[str, ...]:
        return tuple(value.decode() for value in features[key].bytes_list.value)

    return Record(
        id=texts("id")[0],
        source=texts("source")[0],
        image=features["image"].bytes_list.value[0],
        long=texts("long"),
        short=texts("short"),
        label=texts("label")[0] or None,
        licence=texts("licence")[0] or None,
        tokens=tokens,
        negative=texts(NEGATIVE) if NEGATIVE in features else None,
    )


def deserialize_tokenised(data: bytes, tokenizer: str) -> Tokenised | None:
    """Returns what training takes of a record, without decoding the rest; None without ids of this tokenizer hash."""
    features = Example.FromString(data).features.feature
    if f"tokens/{tokenizer}/long{_FLAT}" not in features:
        return None
    kinds = (*KINDS, NEGATIVE) if NEGATIVE in features else KINDS
    ids = {kind: _rows(features, f"tokens/{tokenizer}/{kind}") for kind in kinds}
    return Tokenised(features["image"].bytes_list.value[0], ids, features["id"].bytes_list.value[0].decode())


def _rows(features: Mapping[str, Any], name: str) -> list[list[int]]:
    flat, rows, start = features[name + _FLAT].int64_list.value, [], 0
    for length in features[name + _LENGTHS].int64_list.value:
        rows.append(flat[start : start + length])
        start += length
    return rows


def token_ids(record: Record, tokenizer: Tokenizer) -> Mapping[str, list[list[int]]]:
    """Returns the untruncated ids of a record's texts: the stored ones, or new ones for another tokenizer."""
    return record.tokens.get(tokenizer.hash) or encoded(tokenizer, record.long, record.short, record.negative)


def encoded(
    tokenizer: Tokenizer, long: Sequence[str], short: Sequence[str], negative: Sequence[str] | None = None
) -> dict[str, list[list[int]]]:
    """Returns the untruncated ids of a record's texts by kind; of hard negatives where they are not None."""
    ids = {"long": tokenizer.encode(long), "short": tokenizer.encode(short)}
    if negative is not None:
        there = iter(tokenizer.encode([text for text in negative if text]))
        ids[NEGATIVE] = [next(there) if text else [] for text in negative]
    return ids


class Records(Sequence[Record]):
    """Captioned images by index."""

    def band_set(self) -> BandSet | None:
        """Returns what is known of the images' bands; None of RGB images."""
        return None

    def tokenised(self, index: int, tokenizer: Tokenizer) -> Tokenised:
        """Returns what training takes of a record."""
        record = self[index]
        return Tokenised(record.image, token_ids(record, tokenizer), record.id)

    def record_of(self, index: int) -> int:
        """Returns the number of the record whose image this is."""
        return index

    def text_kinds(self) -> tuple[str, ...]:
        """Returns the kinds of text, of "long" and "short", that at least one record has.

        Records are read until both are found.
        """
        return _kinds((bool(record.long), bool(record.short)) for record in self)

    def has_negatives(self) -> bool:
        """Returns whether short texts may have hard negatives, which every record of a set says."""
        return len(self) > 0 and self[0].negative is not None

    def text_counts(self) -> np.ndarray:
        """Returns int [records]: how many texts each record has, long and short ones together."""
        return np.asarray([len(record.long) + len(record.short) for record in self], np.int64)

    @abstractmethod
    def text_lengths(self, tokenizer: Tokenizer) -> TextLengths:
        """Returns how many tokens each text has."""


class RecordReader(Records):
    """The records of one split of a prepared set, by index; safe to share between threads and to pickle."""

    def __init__(self, folder: str | os.PathLike, split: str = "train"):
        """Raises InputError when the folder is no finished prepared set, or a shard is missing or torn."""
        self.folder, self.split = Path(folder), split
        lengths = _shard_lengths(self.folder)
        if split not in lengths:
            known = ", ".join(sorted(lengths))
            raise InputError(f"{folder} has no split '{split}', it has {known}{nearest(split, lengths)}")
        paths = [shard_path(self.folder, split, i, len(lengths[split])) for i in range(len(lengths[split]))]
        allow_open_files(len(paths))
        self._shards = [Shard(path) for path in paths]
        for shard, length in zip(self._shards, lengths[split], strict=True):
            if len(shard) != length:
                raise InputError(f"{shard.path} holds {len(shard)} records instead of {length}: prepare the set again")
        self._starts = [0, *itertools.accumulate(lengths[split])]
        self._band_set = read_band_set(self.folder, split)

    def __len__(self) -> int:
        return self._starts[-1]

    def __getitem__(self, index: int) -> Record:  # type: ignore[override]  # no slices
        return self._read(index, deserialize)

    def band_set(self) -> BandSet | None:
        return self._band_set

    def tokenised(self, index: int, tokenizer: Tokenizer) -> Tokenised:
        stored = self._read(index, lambda data: deserialize_tokenised(data, tokenizer.hash))
        return stored or super().tokenised(index, tokenizer)

    def text_kinds(self) -> tuple[str, ...]:
        """As of all records; they are read only where the files next to the shards are missing or unsound."""
        described = f"looking for long and short texts in {self.folder.name}"

        def found() -> Iterator[tuple[bool, bool]]:
            with tqdm(total=len(self), desc=described, unit=" records", leave=False, disable=None, delay=1) as bar:
                for shard, start, end in zip(self._shards, self._starts, self._starts[1:], strict=False):
                    if kept := read_lengths(lengths_path(shard.path), end - start, None):
                        yield bool(kept[0][:, 0].any()), bool(kept[0][:, 1].any())
                        bar.update(end - start)
                        continue
                    for index in range(start, end):
                        record = self[index]
                        yield bool(record.long), bool(record.short)
                        bar.update()

        return _kinds(found())

    def text_counts(self) -> np.ndarray:
        """Returns int64 [records]: how many texts each record has, long and short ones together.

        The records are read where the files next to the shards are missing or unsound.
        """
        return self._gathered(None).counts.sum(axis=1)

    def text_lengths(self, tokenizer: Tokenizer) -> TextLengths:
        """Returns how many tokens each text has, from the files next to the shards.

        The records are read where the files next to the shards are missing, unsound or of another tokenizer.
        """
        return self._gathered(tokenizer)

    def _gathered(self, tokenizer: Tokenizer | None) -> TextLengths:
        counts, tokens = [np.zeros((0, 2), np.int32)], [np.zeros(0, np.uint16)]
        name = tokenizer.hash if tokenizer else None
        described = f"measuring the texts of {self.folder.name}"
        with tqdm(total=len(self), desc=described, unit=" records", leave=False, disable=None, delay=1) as bar:
            for shard, start, end in zip(self._shards, self._starts, self._starts[1:], strict=False):
                if kept := read_lengths(lengths_path(shard.path), end - start, name):
                    counts.append(kept[0])
                    tokens.append(kept[1])
                    bar.update(end - start)
                    continue
                for index in range(start, end):
                    record = self[index]
                    counts.append(np.asarray([[len(record.long), len(record.short)]], np.int32))
                    ids = token_ids(record, tokenizer) if tokenizer else {kind: () for kind in KINDS}
                    tokens.append(np.asarray([*map(len, ids["long"]), *map(len, ids["short"])], np.uint16))
                    bar.update()
        return TextLengths(np.concatenate(counts), np.concatenate(tokens))

    def _read(self, index: int, decode: Callable[[bytes], R]) -> R:
        if not 0 <= index < len(self):
            raise IndexError(f"record {index} of {len(self)}")
        number = bisect.bisect_right(self._starts, index) - 1
        shard, position = self._shards[number], index - self._starts[number]
        data = shard[position]
        try:
            return decode(data)
        except (DecodeError, IndexError, KeyError, ValueError) as error:
            raise InputError(f"{shard.path}, record {position}: torn ({error}); prepare the set again") from None

    def __repr__(self) -> str:
        return f"RecordReader({str(self.folder)!r}, {self.split!r})"


class RecordWriter:
    """Writes one shard of a split; the file has its name only once it is whole.

    Used as a context manager, it closes the shard, or removes it when an exception leaves the block. When all
    shards are written, `tfds_metadata.write_metadata` makes the folder a data set.
    """

    def __init__(self, folder: str | os.PathLike, split: str = "train", shard: int = 0, shards: int = 1):
        self.path = shard_path(Path(folder), split, shard, shards)
        remove_leftovers(self.path)
        self._partial = beginning(self.path)
        self._counts: list[tuple[int, int]] = []
        self._tokens: dict[str, list[int]] = {}
        # One record a group, as Grain wants it for reading at random.
        self._writer = self._attempt(ArrayRecordWriter, os.fsencode(self._partial), "group_size:1")

    def write(self, record: Record | bytes) -> None:
        """Appends a record, or one that `serialize` has made."""
        data = record if isinstance(record, bytes) else serialize(record)
        self._attempt(self._writer.write, data)
        self._measure(deserialize(record) if isinstance(record, bytes) else record)

    def _measure(self, record: Record) -> None:
        first = not self._counts
        self._counts.append((len(record.long), len(record.short)))
        if first:
            self._tokens = {name: [] for name in record.tokens}
        # Lengths are kept for the tokenizers that all records know.
        self._tokens = {name: flat for name, flat in self._tokens.items() if name in record.tokens}
        for name, flat in self._tokens.items():
            flat += [len(ids) for kind in KINDS for ids in record.tokens[name][kind]]

    def close(self) -> None:
        """Makes the shard durable under its final name."""
        self._attempt(self._writer.close)
        write_lengths(lengths_path(self.path), self._counts, self._tokens)
        finish(self._partial, self.path)

    def discard(self) -> None:
        """Removes the unfinished shard."""
        discard(self._partial)

    def _attempt(self, action, *arguments):
        try:
            return action(*arguments)
        except RuntimeError as error:  # riegeli's, for a full disk and an unwritable folder alike
            raise InputError(f"can't write {self.path}: {str(error).split(';')[0]}") from None

    def __enter__(self) -> RecordWriter:
        return self

    def __exit__(self, kind, error, traceback) -> None:
        self.close() if kind is None else self.discard()


def _kinds(found: Iterable[tuple[bool, bool]]) -> tuple[str, ...]:
    """The kinds of text that are there, by whether some records have long and short ones; stops at both."""
    long, short = False, False
    for has_long, has_short in found:
        long, short = long or has_long, short or has_short
        if long and short:
            break
    return tuple(kind for kind, there in zip(KINDS, (long, short), strict=True) if there)


def shard_path(folder: Path, split: str, shard: int, shards: int) -> Path:
    """Returns where TFDS expects shard number `shard` of `shards`."""
    return folder / f"{NAME}-{split}.array_record-{shard:05d}-of-{shards:05d}"


def lengths_path(shard: Path) -> Path:
    """Returns where the lengths of a shard's texts are kept."""
    name = shard.name.removeprefix(f"{NAME}-").replace(".array_record", "")
    return shard.with_name(f"texts-{name}.npz")


def split_names(folder: str | os.PathLike) -> list[str]:
    """Returns the names of a prepared set's splits; InputError when the folder is no finished prepared set."""
    return list(_shard_lengths(Path(folder)))


def _shard_lengths(folder: Path) -> dict[str, list[int]]:
    path = folder / "dataset_info.json"
    if not path.exists():
        raise InputError(
            f"{folder} is not a finished prepared set (it has no dataset_info.json): make it with lrsclip prepare"
        )
    try:
        found: _Info = read_json(path, _Info)
        return {split["name"]: [int(length) for length in split["shardLengths"]] for split in found["splits"]}
    except ValueError as error:  # InputError is one, too
        raise InputError(f"{path} can't be read ({error}): prepare the set again") from None


class _Split(TypedDict):
    name: str
    shardLengths: list[str | int]


class _Info(TypedDict):
    splits: list[_Split]


def _text(values: Iterable[str]) -> Any:
    return Feature(bytes_list=BytesList(value=[value.encode() for value in values]))


def _integers(values: Iterable[int]) -> Any:
    return Feature(int64_list=Int64List(value=values))
