"""Text lengths of a set, read without reading its images.

Next to each shard of a prepared set lies a small file, `texts-train-00000-of-00002.npz`: "counts", int32 [records, 2],
how many long and short texts each record has, and for each tokenizer "tokens/HASH", uint16 [texts], how many tokens
each text has, record by record, the long ones first.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from eval.reading import read_arrays
from eval.whole import whole
from lrsclip_jax.errors import InputError


@dataclass(frozen=True)
class TextLengths(Sequence):
    """A read-only sequence over records: {"long": [tokens, …], "short": [tokens, …]}, a number for each text.

    Attributes:
      counts: int32 [records, 2], as in the file.
      tokens: int [texts], as in the file, for one tokenizer; texts are not cut.
    """

    counts: np.ndarray
    tokens: np.ndarray
    _starts: np.ndarray = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        starts = np.concatenate([[0], np.cumsum(self.counts.sum(axis=1), dtype=np.int64)])
        object.__setattr__(self, "_starts", starts)

    def __len__(self) -> int:
        return len(self.counts)

    def __getitem__(self, index: int) -> dict[str, list[int]]:  # type: ignore[override]  # no slices
        if not 0 <= index < len(self):
            raise IndexError(f"record {index} of {len(self)}")
        texts = self.tokens[self._starts[index] : self._starts[index + 1]].tolist()
        longs = int(self.counts[index, 0])
        return {"long": texts[:longs], "short": texts[longs:]}

    def choice(self, indices: np.ndarray) -> np.ndarray:
        """Returns whether these records leave a choice between texts of a kind, bool of the shape of `indices`."""
        return (self.counts[indices] > 1).any(axis=-1)

    def first(self, indices: np.ndarray) -> np.ndarray:
        """Returns the number of the first text of each kind among all texts, int64 [..., 2], −1 where there is none."""
        counts = self.counts[indices]
        long = self._starts[indices]
        return np.where(counts > 0, np.stack([long, long + counts[..., 0]], axis=-1), -1)

    def numbers(self, index: int) -> dict[str, range]:
        """Returns the numbers of a record's texts among all texts, by kind."""
        first, longs, end = self._starts[index], self.counts[index, 0], self._starts[index + 1]
        return {"long": range(first, first + longs), "short": range(first + longs, end)}

    def tokens_of(self, texts: np.ndarray) -> np.ndarray:
        """Returns how many tokens texts have by their numbers, int64 of the same shape; 0 for −1."""
        found = np.zeros(texts.shape, np.int64)
        found[texts >= 0] = self.tokens[texts[texts >= 0]]
        return found


def write_lengths(path: Path, counts: Sequence[Sequence[int]], tokens: Mapping[str, Sequence[int]]) -> None:
    """Writes the file of one shard, whole or not at all; `tokens` by tokenizer hash, those of all its records."""
    arrays: dict[str, Any] = {f"tokens/{name}": np.asarray(flat, np.uint16) for name, flat in tokens.items()}
    with whole(path) as partial, partial.open("wb") as file:
        np.savez(file, counts=np.asarray(counts, np.int32).reshape(-1, 2), **arrays)


def read_lengths(path: Path, records: int, tokenizer: str | None) -> tuple[np.ndarray, np.ndarray] | None:
    """Returns (counts, tokens) of a shard of `records` records; None where the file is damaged or lacks them.

    `tokenizer` is the hash of the one whose tokens are wanted; for None the tokens are an empty array.
    """
    schema: dict[str, tuple[Any, int]] = {"counts": ("i4", 2)}
    if tokenizer:
        schema[f"tokens/{tokenizer}"] = ("u2", 1)
    try:
        counts, *others = read_arrays(path, schema).values()
    except InputError:
        return None
    tokens = others[0] if others else np.zeros(0, np.uint16)
    sound = counts.shape == (records, 2) and (not tokenizer or tokens.shape == (counts.sum(),))
    return (counts, tokens) if sound else None
