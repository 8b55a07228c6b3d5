"""RSCLIP's samples: every text of a record is a pair of its own with the record's image."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from lrsclip_jax.data.prepared.band_set import BandSet
from lrsclip_jax.data.prepared.records import Record, Records, Tokenised
from lrsclip_jax.data.prepared.text_lengths import TextLengths
from lrsclip_jax.data.tokenizer import Tokenizer


class Pairs(Records):
    """A read-only sequence of records with one text each, in the place of the long text whichever it is.

    RSCLIP (arXiv 2409.07048) counts 9,686,720 pairs: two of each image that it had described, one of each of RS5M's.
    As an epoch they are 5,405 steps of 1,792 pairs; the images, each met once with texts drawn, would be 3,653.
    """

    def __init__(self, records: Records, text_counts: np.ndarray):
        """`text_counts`, int [records], are the texts of each record, long and short ones together."""
        self._records = records
        self._starts = np.concatenate([[0], np.cumsum(text_counts, dtype=np.int64)])

    def __len__(self) -> int:
        return int(self._starts[-1])

    def __getitem__(self, index: int) -> Record:  # type: ignore[override]  # no slices
        """The pairs of a record are neighbours: its long texts, then its short ones."""
        row, text = self._place(index)
        record = self._records[row]
        tokens = {
            tokenizer: {"long": [[*ids["long"], *ids["short"]][text]], "short": []}
            for tokenizer, ids in record.tokens.items()
        }
        return replace(record, long=((*record.long, *record.short)[text],), short=(), tokens=tokens, negative=None)

    def tokenised(self, index: int, tokenizer: Tokenizer) -> Tokenised:
        row, text = self._place(index)
        image, ids, name = self._records.tokenised(row, tokenizer)
        return Tokenised(image, {"long": [[*ids["long"], *ids["short"]][text]], "short": []}, name)

    def band_set(self) -> BandSet | None:
        return self._records.band_set()

    def record_of(self, index: int) -> int:
        return self._place(index)[0]

    def _place(self, index: int) -> tuple[int, int]:
        if not 0 <= index < len(self):
            raise IndexError(f"pair {index} of {len(self)}")
        row = int(np.searchsorted(self._starts, index, side="right")) - 1
        return row, index - int(self._starts[row])

    def text_kinds(self) -> tuple[str, ...]:
        """Returns ("long",), the place of every pair's text, whichever it is; () where there are no pairs."""
        return ("long",) if len(self) else ()

    def text_counts(self) -> np.ndarray:
        """Returns int64 [pairs], all 1."""
        return np.ones(len(self), np.int64)

    def text_lengths(self, tokenizer: Tokenizer) -> TextLengths:
        """Returns how many tokens the one text of each pair has."""
        counts = np.tile(np.asarray([[1, 0]], np.int32), (len(self), 1))
        return TextLengths(counts, self._records.text_lengths(tokenizer).tokens)
