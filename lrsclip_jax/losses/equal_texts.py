"""Keys of texts: equal for equal texts, and far smaller than their token ids."""

from __future__ import annotations

import jax
import jax.numpy as jnp


def text_keys(ids: jax.Array) -> jax.Array:
    """Returns a 64-bit key of each text: keys are compared, and sent between devices, instead of all token ids.

    Every (position, token) becomes a random-looking word, and the words of a text are added up. This is done with two
    hash functions (the finaliser of MurmurHash3, and `lowbias32` of C. Wellons' hash-prospector). Equal
    texts have equal keys, different ones share a key with probability 2^-64: 5e-10 for any two of 131,072.

    Args:
        ids: int32 [B, L] token ids below 2^17, with L below 2^15.

    Returns:
        uint32 [B, 2].
    """
    return _words(ids, jnp.arange(ids.shape[1])).sum(axis=1, dtype=jnp.uint32)


def packed_text_keys(ids: jax.Array, positions: jax.Array, spans: jax.Array) -> jax.Array:
    """Returns keys of texts that share rows (`models.packed.Packed`): equal for equal texts, other than `text_keys`.

    Args:
        ids, positions: int32 [R, N].
        spans: int32 [G, T, 2].

    Returns:
        uint32 [G, T, 2].
    """
    words = _words(ids, positions).reshape(len(spans), -1, 2)
    # The sum over a span is the difference of two running sums, modulo 2^32.
    sums = jnp.pad(jnp.cumsum(words, axis=1, dtype=jnp.uint32), ((0, 0), (1, 0), (0, 0)))
    first, last = (jnp.take_along_axis(sums, at[..., None], axis=1) for at in (spans[..., 0], spans.sum(axis=-1)))
    return last - first


def _words(ids: jax.Array, positions: jax.Array) -> jax.Array:
    """Returns two words for each (position, token): uint32 [..., 2]."""
    places = ids.astype(jnp.uint32) | positions.astype(jnp.uint32) << 17
    murmur = _mix(places, (16, 0x85EBCA6B, 13, 0xC2B2AE35, 16))
    lowbias = _mix(places, (16, 0x7FEB352D, 15, 0x846CA68B, 16))
    return jnp.stack([murmur, lowbias], axis=-1)


def _mix(word: jax.Array, constants: tuple[int, int, int, int, int]) -> jax.Array:
    """Maps 32-bit words one to one, so that each bit of the input changes about half the bits of the output."""
    shift_1, factor_1, shift_2, factor_2, shift_3 = constants
    word = (word ^ (word >> shift_1)) * jnp.uint32(factor_1)
    word = (word ^ (word >> shift_2)) * jnp.uint32(factor_2)
    return word ^ (word >> shift_3)
