"""Grain's `index_shuffle` for whole arrays: a random permutation of any length, without holding it in memory.

A few rounds of the Simon block cipher (Beaulieu et al., 2013) permute the numbers below a power of four; what falls
outside the length is permuted again until it falls inside (Black and Rogaway, 2002). Grain takes one index a call.
"""

from __future__ import annotations

import functools
from collections.abc import Callable

import numpy as np

_ROUNDS = 4  # as Grain's shuffle() asks for
_LEAST_BITS = 16


def index_shuffle(indices: np.ndarray, length: int, seed: int) -> np.ndarray:
    """Returns where a permutation of range(length) puts `indices`, int64 of any shape, all below `length`."""
    if length <= 1 << _LEAST_BITS:
        return _small(length, seed)[indices]
    # Grain takes a bit too few where length - 1 is a power of four from 4^8 on: it leaves the last record out there.
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
        at, beside, beyond = k % count, (k + near) % count, (k + far) % count
        first = 1664525 * folded(words[at] ^ words[beside] ^ words[k - 1]) & full
        second = first + (1 if k == 0 else k % count + seed if k == 1 else k % count) & full
        words[beside] = words[beside] + first & full
        words[beyond] = words[beyond] + second & full
        words[at] = second
    for k in range(count):
        at, beside, beyond = k % count, (k + near) % count, (k + far) % count
        first = 1566083941 * folded(words[at] + words[beside] + words[k - 1] & full) & full
        second = first - k & full
        words[beside] ^= first
        words[beyond] ^= second
        words[at] = second
    return words
