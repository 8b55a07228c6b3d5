"""How long all texts of a global batch are, which every host has to know for packing, from an index of the sources.

Grain tells of one position at a time (`batches.order`), which takes some 10 µs: nothing for the rows that a host reads,
and much for all of a global batch of thousands. Here the same order is computed for arrays of positions. The
permutation is that of `grain.experimental.index_shuffle`: a few rounds of the Simon block cipher (Beaulieu et al.,
2013) permute the numbers below a power of four; one that falls outside the length is permuted again until it falls
inside (Black and Rogaway, 2002).
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType

import numpy as np
from tqdm import tqdm

from lrsclip_jax.data.batches.batch import BatchShape
from lrsclip_jax.data.batches.order import random_numbers, shuffle_seeds
from lrsclip_jax.data.batches.row_reader import draw
from lrsclip_jax.data.batches.sentence_draws import SentenceDraw, at, drawn_lengths, drawn_pairs, numbers
from lrsclip_jax.data.prepared.records import KINDS, NEGATIVE, Records
from lrsclip_jax.data.sentences import split
from lrsclip_jax.data.tokenizer import Tokenizer

_ROUNDS = 4  # as Grain's shuffle() asks for
_LEAST_BITS = 16


def global_lengths(
    sources: Sequence[tuple[Records, float]],
    tokenizer: Tokenizer,
    shape: BatchShape,
    seed: int,
    draws: Mapping[str, SentenceDraw] = MappingProxyType({}),
    short_text: str = "short",
) -> Callable[[int], np.ndarray]:
    """Returns a function from the step, the first being 0, to the lengths of all texts of its global batch.

    They are int [B, kinds], those of the long and the short text that `batches` draws and of a wanted hard negative,
    cut, and 0 where there is none. Only how long the texts of the sets are is held in memory (`text_lengths`), so every
    host knows the batches of all. Where texts are drawn by their sentences, or have hard negatives, how long these are
    is held, too, for which all records are read once.
    """
    indices = [records.text_lengths(tokenizer) for records, _ in sources]
    drawn_anew = {kind: draw for kind, draw in draws.items() if draw.changes and kind in shape.kinds}
    sentences = [SentenceLengths.of(records, tokenizer) for records, _ in sources] if drawn_anew else []
    wrong = [negative_lengths(records, tokenizer) for records, _ in sources] if NEGATIVE in shape.kinds else []
    sizes, weights = [len(records) for records, _ in sources], [weight for _, weight in sources]
    generators = random_numbers(len(sources), seed)
    most = [shape.length(kind) if kind in shape.kinds else 0 for kind in shape.all_kinds]

    def lengths(step: int) -> np.ndarray:
        positions = step * shape.batch_size + np.arange(shape.batch_size)
        taken = {kind: drawn_pairs(draws.get(kind), kind, seed, step, shape.batch_size) for kind in KINDS}
        source, record, turn = places_at(positions, sizes, weights, seed)
        found = np.zeros((shape.batch_size, len(most)), np.int64)
        texts = np.full((shape.batch_size, len(KINDS)), -1)
        for number, index in enumerate(indices):
            (here,) = np.nonzero(source == number)
            texts[here] = index.first(record[here])
            for row in here[index.choice(record[here])].tolist():
                rng = generators[number].acquire_rng(int(turn[row]))
                drawn = draw(index.numbers(int(record[row])), rng)
                generators[number].release_rng(rng)
                texts[row] = [-1 if drawn[kind] is None else drawn[kind] for kind in KINDS]
            if short_text == "sentences":
                texts[here, 1] = np.where(taken["short"][here], texts[here, 0], texts[here, 1])
            found[here, : len(KINDS)] = index.tokens_of(texts[here])
            if wrong:
                found[here, -1] = wrong[number][texts[here, 1]]
        for kind, of_kind in drawn_anew.items():
            column = KINDS.index(kind)
            of_texts = np.where(taken[kind], texts[:, column], -1)
            found[:, column] = np.where(taken[kind], _drawn(kind, of_kind, source, of_texts, step), found[:, column])
        return np.minimum(found, most)

    def _drawn(kind: str, draw: SentenceDraw, source: np.ndarray, texts: np.ndarray, step: int) -> np.ndarray:
        (there,) = np.nonzero(texts >= 0)
        each = [sentences[source[row]][texts[row]] for row in there]
        lengths, counts = np.zeros(len(texts), np.int64), np.asarray([len(tokens) for tokens in each], np.int64)
        if len(there):
            drawn = numbers(kind, seed, step, shape.batch_size, int(counts.max()))
            lengths[there] = drawn_lengths(np.concatenate(each), counts, draw, at(drawn, there))
        return lengths

    return lengths


def negative_lengths(records: Records, tokenizer: Tokenizer) -> np.ndarray:
    """Returns how many tokens the hard negative of each text has, uint16 [texts + 1]; 0 where it has none.

    Reads all records, whose texts are numbered as `text_lengths` numbers them; the last one, −1, is of no text.
    """
    tokens: list[int] = []
    for index in tqdm(range(len(records)), "measuring hard negatives", unit=" records", leave=False, disable=None):
        ids = records.tokenised(index, tokenizer).ids
        tokens += [0] * len(ids["long"])
        tokens += map(len, ids.get(NEGATIVE) or [()] * len(ids["short"]))
    return np.asarray([*tokens, 0], np.uint16)


@dataclass(frozen=True)
class SentenceLengths(Sequence):
    """A read-only sequence over the texts of a source: the tokens of each one's sentences, int [sentences].

    Attributes:
      tokens: uint16, of the sentences of all texts.
      starts: int64, of each text in `tokens`, and the end of the last.
    """

    tokens: np.ndarray
    starts: np.ndarray

    @classmethod
    def of(cls, records: Records, tokenizer: Tokenizer) -> SentenceLengths:
        """Reads all records, whose texts are numbered as `text_lengths` numbers them."""
        tokens, counts = [np.zeros(0, np.uint16)], [np.zeros(0, np.int64)]
        for index in tqdm(range(len(records)), "measuring sentences", unit=" records", leave=False, disable=None):
            ids = records.tokenised(index, tokenizer).ids
            found = split([text for kind in KINDS for text in ids[kind]], tokenizer)
            tokens.append(found.lengths.astype(np.uint16))
            counts.append(found.counts)
        return cls(np.concatenate(tokens), np.concatenate([[0], np.cumsum(np.concatenate(counts))]))

    def __len__(self) -> int:
        return len(self.starts) - 1

    def __getitem__(self, text: int) -> np.ndarray:  # type: ignore[override]  # no slices
        return self.tokens[self.starts[text] : self.starts[text + 1]]


def places_at(
    positions: np.ndarray, lengths: Sequence[int], weights: Sequence[float], seed: int
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Returns what `endless_order` has at these positions, the fields of its `Place`: int64 arrays of their shape."""
    source, turn = _mixed(np.asarray(positions, np.int64), weights)
    epoch, index = np.divmod(turn, np.asarray(lengths)[source])
    record, seeds = np.empty_like(index), shuffle_seeds(len(lengths), seed)
    for number, of in sorted(set(zip(source.ravel().tolist(), epoch.ravel().tolist(), strict=True))):
        here = (source == number) & (epoch == of)
        record[here] = shuffled_indices(index[here], lengths[number], (seeds[number] + of) % 2**32)
    return source, record, turn


def _mixed(positions: np.ndarray, weights: Sequence[float]) -> tuple[np.ndarray, np.ndarray]:
    """Returns the source of each position, and how many records of that source stand before it.

    One source after the other takes its share of the positions that those before it left, evenly to within one.
    """
    shares = [int(weight * (100 / min(weights))) for weight in weights]  # as in Grain, to a per cent of the least
    source, turn = np.full_like(positions, -1), np.zeros_like(positions)
    before, after, rest = positions, positions + 1, sum(shares)
    for number, share in enumerate(shares):
        left_before, left_after = (count * (rest - share) // rest for count in (before, after))
        taken = (source < 0) & (before - left_before != after - left_after)
        source[taken], turn[taken] = number, (before - left_before)[taken]
        before, after, rest = left_before, left_after, rest - share
    return source, turn


def shuffled_indices(indices: np.ndarray, length: int, seed: int) -> np.ndarray:
    """Returns where a permutation of range(length) puts `indices`, int64 of any shape, all below `length`."""
    if length <= 1 << _LEAST_BITS:
        return _small(length, seed)[indices]
    bits = (length - 1).bit_length()
    encrypt = _simon((bits + bits % 2) // 2, _keys(seed))
    shuffled = encrypt(np.asarray(indices, np.int64))
    while (outside := shuffled >= length).any():
        shuffled[outside] = encrypt(shuffled[outside])
    return shuffled


@functools.lru_cache(maxsize=16)
def _small(length: int, seed: int) -> np.ndarray:
    """The permutation whole: from the least block it takes too many rounds to fall inside a small length."""
    following = _simon(_LEAST_BITS // 2, _keys(seed))(np.arange(1 << _LEAST_BITS))
    while (following[:length] >= length).any():  # twice as far each time
        following = np.where(following < length, following, following[following])
    return following[:length]


def _simon(width: int, keys: list[int]) -> Callable[[np.ndarray], np.ndarray]:
    """The cipher of two words of `width` bits."""
    word = (1 << width) - 1

    def mixed(x: np.ndarray) -> np.ndarray:
        by_1, by_2, by_8 = ((x << by | x >> width - by) & word for by in (1, 2, 8))
        return by_1 & by_8 ^ by_2

    def encrypt(values: np.ndarray) -> np.ndarray:
        left, right = values >> width, values & word
        for first, second in zip(keys[::2], keys[1::2], strict=True):
            left = left ^ mixed(right) ^ first & word
            right = right ^ mixed(left) ^ second & word
        return left << width | right

    return encrypt


def _keys(seed: int) -> list[int]:
    """The round keys: what C++'s std::seed_seq{seed} generates."""
    count, full = _ROUNDS, (1 << 32) - 1
    words = [0x8B8B8B8B] * count
    spread = (count - 1) // 2
    near, far = (count - spread) // 2, (count - spread) // 2 + spread

    def folded(value: int) -> int:
        return value ^ value >> 27

    for k in range(count):
        at, next_to, beyond = k % count, (k + near) % count, (k + far) % count
        first = 1664525 * folded(words[at] ^ words[next_to] ^ words[k - 1]) & full
        second = first + (1 if k == 0 else k % count + seed if k == 1 else k % count) & full
        words[next_to] = words[next_to] + first & full
        words[beyond] = words[beyond] + second & full
        words[at] = second
    for k in range(count):
        at, next_to, beyond = k % count, (k + near) % count, (k + far) % count
        first = 1566083941 * folded(words[at] + words[next_to] + words[k - 1] & full) & full
        second = first - k & full
        words[next_to] ^= first
        words[beyond] ^= second
        words[at] = second
    return words
