"""Texts drawn again at every step: sentences left out, sampled and shuffled, and the text moved within the table.

A long text usually begins with a summary, and a model can lower its loss by reading no further. DeBias-CLIP (arXiv
2602.22419) trains on a second text without the summary, of some of the other sentences, behind padding; DreamLIP (arXiv
2403.17007) and FLAIR (arXiv 2412.03561) sample sentences, FLAIR one to three, half of the time consecutive ones. Here
each of these is an option of its own, in this order: the first sentence is left out, then others, some of the rest are
sampled, and they are shuffled. One sentence always stays. DeBias-CLIP's padding is seen by the tokens behind it; here
the tokens but the first have later rows of the position table instead, and nothing stands before them.

A draw is a function of (seed, step, pair): all pairs of a global batch have their random numbers from one stream, so
hosts draw alike. How long the drawn texts are follows from the lengths of their sentences alone, which is what hosts
have to know of each other's texts for packing.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from ml_collections import ConfigDict

from lrsclip_jax.config.facts import tower_fields
from lrsclip_jax.data.draws import stream
from lrsclip_jax.data.prepared.records import KINDS
from lrsclip_jax.data.sentences import split
from lrsclip_jax.data.tokenizer import Tokenizer

_PURPOSES = {"long": 101, "short": 102}  # of their streams of random numbers
_SHARES = {"long": 105, "short": 106}  # of those that say which texts are drawn


@dataclass(frozen=True)
class SentenceDraw:
    """How the texts of a kind are drawn; the fields but the last are keys of `data.long_draw` and `data.short_draw`.

    Attributes:
      share: of the texts whose sentences are drawn; the others stay as they are.
      drop_first: probability with which the first sentence, the summary, is left out.
      drop: probability with which each of the others is left out; of the first, too, where that stayed.
      sample: how many of the rest are kept at most, drawn from (least, most); None: all.
      consecutive: share of the draws in which the kept ones follow each other in the text.
      shuffle: share of the draws in which they are shuffled.
      shift: most positions by which the tokens but the first are moved.
      positions: rows of the position table, within which a text stays.
    """

    share: float = 1.0
    drop_first: float = 0.0
    drop: float = 0.0
    sample: tuple[int, int] | None = None
    consecutive: float = 0.0
    shuffle: float = 0.0
    shift: int = 0
    positions: int = 248

    @property
    def changes(self) -> bool:
        """Whether sentences are left out or change places."""
        return bool(self.drop_first or self.drop or self.sample or self.shuffle)


@dataclass(frozen=True)
class Numbers:
    """The random numbers of some pairs of a batch, float64 in [0, 1).

    Attributes:
      of_text: [6, B]: whether the first sentence goes, how many are sampled, whether consecutively, where these begin,
        whether they are shuffled, and the shift.
      of_sentence: [S, 3, B], of each sentence: whether it is dropped, sampled, and its place.
    """

    of_text: np.ndarray
    of_sentence: np.ndarray


def sentence_draws(config: ConfigDict) -> dict[str, SentenceDraw]:
    """Returns how a config's texts are drawn, without the kinds that stay as they are."""
    rows = tower_fields(config)[1]["context_length"]
    draws = {}
    for kind in KINDS:
        values = config.data[f"{kind}_draw"].to_dict()
        if (sample := values["sample"]) is not None:
            values["sample"] = (sample, sample) if isinstance(sample, int) else tuple(sample)
        draw = SentenceDraw(**values, positions=rows)
        if draw.changes or draw.shift or draw.share < 1:
            draws[kind] = draw
    return draws


def drawn_pairs(draw: SentenceDraw | None, kind: str, seed: int, step: int, pairs: int) -> np.ndarray:
    """Returns of which pairs of a global batch the text of this kind is drawn by its sentences, bool [pairs]."""
    share = draw.share if draw else 1.0
    return stream(seed, step, _SHARES[kind]).random(pairs) < share


def numbers(kind: str, seed: int, step: int, pairs: int, sentences: int) -> Numbers:
    """Returns the random numbers of all pairs of a global batch, whose texts have up to `sentences` sentences.

    A sentence's numbers do not depend on how many sentences there are.
    """
    rng = stream(seed, step, _PURPOSES[kind])
    return Numbers(rng.random((6, pairs)), rng.random((sentences, 3, pairs)))


def chosen(counts: np.ndarray, draw: SentenceDraw, drawn: Numbers) -> tuple[np.ndarray, np.ndarray]:
    """Returns which sentences are kept of texts that have `counts` of them, int [B]: (order, kept).

    `order` is int64 [B, S]: the first `kept` of a row, int64 [B], are the sentences of the new text in their order.
    """
    first, many, consecutive, start, shuffled, _ = drawn.of_text
    dropped, sampled, place = (values.T for values in drawn.of_sentence.swapaxes(0, 1))
    number = np.arange(dropped.shape[1])
    there = number < counts[:, None]
    there &= (number > 0) | ((first >= draw.drop_first) | (counts < 2))[:, None]
    stays = there & (dropped >= draw.drop)
    last = np.argmax(np.where(there, dropped, -1.0), axis=1)  # the one that the least probability would have kept
    stays |= there & ~stays.any(axis=1)[:, None] & (number == last[:, None])
    if draw.sample:
        least, most = draw.sample
        size = least + (many * (most - least + 1)).astype(np.int64)
        left = stays.sum(axis=1)
        rank = np.cumsum(stays, axis=1) - 1
        begin = (start * np.maximum(left - size + 1, 1)).astype(np.int64)
        run = (rank >= begin[:, None]) & (rank < (begin + size)[:, None])
        scattered = _rank(np.where(stays, sampled, 2.0)) < size[:, None]
        stays &= np.where((consecutive < draw.consecutive)[:, None], run, scattered)
    key = np.where((shuffled < draw.shuffle)[:, None], place, number)
    return np.argsort(np.where(stays, key, np.inf), axis=1, kind="stable"), stays.sum(axis=1)


def _rank(keys: np.ndarray) -> np.ndarray:
    """Returns the place of each key in its sorted row, int64 of the shape of `keys`."""
    return np.argsort(np.argsort(keys, axis=1, kind="stable"), axis=1, kind="stable")


def drawn_lengths(sentences: np.ndarray, counts: np.ndarray, draw: SentenceDraw, drawn: Numbers) -> np.ndarray:
    """Returns how many tokens the drawn texts have, int64 [B], with start and end token.

    Args:
      sentences: int [S in all], the tokens of each sentence, text by text.
      counts: int [B], sentences of each text.
      draw, drawn: as in `chosen`.
    """
    order, kept = chosen(counts, draw, drawn)
    lengths = np.zeros(order.shape, np.int64)
    lengths[np.arange(order.shape[1]) < counts[:, None]] = sentences
    lengths = np.take_along_axis(lengths, order, axis=1)
    return np.where(np.arange(order.shape[1]) < kept[:, None], lengths, 0).sum(axis=1) + 2


def drawn_texts(
    texts: Sequence[Sequence[int] | None],
    tokenizer: Tokenizer,
    draw: SentenceDraw,
    drawn: tuple[str, int, int, int],
    rows: np.ndarray,
) -> list[Sequence[int] | None]:
    """Returns the texts of some pairs of a global batch as they are drawn at a step.

    Args:
      texts: ids of each pair's text with start and end token, or None.
      tokenizer: of the ids.
      draw: how texts are drawn.
      drawn: kind, seed, step and pairs of the global batch, as `numbers` takes them.
      rows: int [b], which pairs of the global batch these are.
    """
    taken = drawn_pairs(draw, *drawn)[rows]
    there = [row for row, ids in enumerate(texts) if ids is not None and taken[row]]
    if not (draw.changes and there):
        return list(texts)
    found = split([texts[row] for row in there], tokenizer)  # type: ignore[misc]
    most = int(found.counts.max())
    order, kept = chosen(found.counts, draw, at(numbers(*drawn, most), rows[there]))
    firsts = np.cumsum(found.counts) - found.counts
    sentence = (firsts[:, None] + order)[np.arange(most) < kept[:, None]]
    lengths = found.lengths[sentence]
    within = np.arange(lengths.sum()) - np.repeat(np.cumsum(lengths) - lengths, lengths)
    ids = found.ids[np.repeat(found.starts[sentence], lengths) + within].tolist()
    tokens = np.bincount(np.repeat(np.arange(len(there)), kept), lengths, len(there)).astype(np.int64)
    new, start = list(texts), 0
    for row, size in zip(there, tokens.tolist(), strict=True):
        new[row] = tokenizer.framed(ids[start : start + size])
        start += size
    return new


def at(drawn: Numbers, rows: np.ndarray) -> Numbers:
    """Returns the numbers of some pairs."""
    return Numbers(drawn.of_text[:, rows], drawn.of_sentence[..., rows])


def shifts(lengths: np.ndarray, draw: SentenceDraw, drawn: Numbers) -> np.ndarray:
    """Returns by how many positions texts are moved, int32 [B]; `lengths`, int [B], are those of the texts as cut."""
    room = np.clip(draw.positions - lengths, 0, draw.shift)
    return (drawn.of_text[5] * (room + 1)).astype(np.int32)
