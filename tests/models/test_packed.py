"""Texts that share rows have the embeddings, and give the gradients, that they would alone."""

import dataclasses
import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from lrsclip_jax import losses
from lrsclip_jax.data.batches.packing import best_fit, pack
from lrsclip_jax.models.bert_tower import Bert
from lrsclip_jax.models.packed import Packed
from lrsclip_jax.models.text import TextTransformer

SMALL = {"vocab_size": 50, "context_length": 12, "width": 16, "layers": 2, "heads": 2, "embed_dim": 8}
TOWERS = {
    "transformer": TextTransformer(**SMALL, end_token=49, frozen_positions=3),
    "bert": Bert(**SMALL, norm_eps=1e-3, frozen_positions=3),
}
PAIRS, ROW, GROUPS = 8, 16, 2


def texts() -> list[np.ndarray]:
    """Long ones and short ones; the last pair has no short text."""
    rng = np.random.default_rng(0)
    drawn = [rng.integers(1, 49, length) for length in (*rng.integers(6, 12, PAIRS), *rng.integers(2, 5, PAIRS))]
    return [np.append(text, 49) for text in drawn[:-1]] + [np.zeros(0, int)]


def padded(rows: list[np.ndarray]) -> np.ndarray:
    return np.stack([np.pad(row, (0, 12 - len(row))) for row in rows]).astype(np.int32)


def packed(rows: list[np.ndarray], shifts: np.ndarray | None = None):
    """The texts in shared rows; with `shifts` of the texts also those of the slots."""
    size = PAIRS // GROUPS
    groups = []
    for start in range(0, PAIRS, size):
        long, short = rows[start : start + size], rows[PAIRS + start : PAIRS + start + size]
        placed = best_fit([len(text) for text in (*long, *short)], ROW)
        by = None if shifts is None else shifts.reshape(2, GROUPS, size)[:, start // size].ravel()
        groups.append(pack([*long, *short], placed, ROW, 6, by))
    ids, segments, positions = (
        np.concatenate([group[name] for group in groups]) for name in ("ids", "segments", "positions")
    )
    spans = np.stack([np.concatenate([group["long_span"], group["short_span"]]) for group in groups])
    found = Packed(ids, segments, positions, spans)
    return found if shifts is None else (found, np.concatenate([group["shifts"] for group in groups]))


def in_order(grouped):
    """[G, T, …] to the order of `texts`: all long ones, then all short ones."""
    long, short = jnp.split(grouped, 2, axis=1)
    return jnp.concatenate([part.reshape(PAIRS, *part.shape[2:]) for part in (long, short)])


@pytest.mark.parametrize("kind", TOWERS)
def test_embeddings_and_gradients_are_those_of_texts_alone(kind):
    tower, rows = TOWERS[kind], texts()
    params = jax.jit(lambda: tower.init(jax.random.key(0), jnp.ones((1, 1), jnp.int32))["params"])()
    params = jax.tree.map(lambda leaf: leaf + 0.1 * jax.random.normal(jax.random.key(1), leaf.shape), params)
    weights = np.random.default_rng(1).normal(size=(2 * PAIRS, 8)).astype(np.float32)
    weights[-1] = 0

    def alone(tower, ids):
        return tower.projection(tower.features(ids))

    def together(tower, packed):
        return in_order(tower.projection(tower.packed_features(packed)))

    def run(method, argument, dtype=jnp.float32):
        def total(params):
            found = dataclasses.replace(tower, dtype=dtype).apply({"params": params}, argument, method=method)
            return jnp.sum(found * weights), found

        (_, found), gradient = jax.jit(jax.value_and_grad(total, has_aux=True))(params)
        return found[:-1], gradient

    expected, expected_gradient = run(alone, padded(rows))
    found, gradient = run(together, packed(rows))
    np.testing.assert_allclose(found, expected, rtol=0, atol=2e-6 * np.abs(expected).max())
    for (path, ours), theirs in zip(
        jax.tree.leaves_with_path(gradient), jax.tree.leaves(expected_gradient), strict=True
    ):
        np.testing.assert_allclose(ours, theirs, atol=1e-5 * np.abs(theirs).max(), err_msg=jax.tree_util.keystr(path))
    assert not np.any(gradient["position_embedding"][:3])


def test_other_texts_of_a_row_have_no_influence():
    tower, rows = TOWERS["transformer"], texts()
    params = tower.init(jax.random.key(0), jnp.ones((1, 1), jnp.int32))
    encode = jax.jit(lambda rows: in_order(tower.apply(params, rows, method="packed_features")))
    changed = [row if index == 2 else np.where(row == 49, 49, 50 - row) for index, row in enumerate(rows)]
    before, after = encode(packed(rows)), encode(packed(changed))
    np.testing.assert_array_equal(before[2], after[2])
    assert not np.any(np.all(before[:-1] == after[:-1], axis=1) & (np.arange(2 * PAIRS - 1) != 2))


def test_keys_are_equal_for_equal_texts_alone():
    rows = texts()
    rows[5], rows[PAIRS + 1] = rows[2], rows[PAIRS]
    laid = packed(rows)
    keys = np.asarray(in_order(losses.packed_text_keys(laid.ids, laid.positions, laid.spans)))
    equal = (keys[:, None] == keys[None]).all(-1)
    expected = np.array([[np.array_equal(a, b) for b in rows] for a in rows])
    np.testing.assert_array_equal(equal, expected)


@pytest.mark.parametrize("kind", TOWERS)
def test_shifted_texts_have_later_rows_of_the_table_padded_and_packed(kind):
    """The twin: each text by itself, with a table whose rows but the first are those further on."""
    tower, rows = dataclasses.replace(TOWERS[kind], context_length=20), texts()
    params = tower.init(jax.random.key(0), jnp.ones((1, 1), jnp.int32))["params"]
    table = jax.random.normal(jax.random.key(1), (20, 16))
    rng = np.random.default_rng(2)
    shifts = np.asarray([rng.integers(0, 21 - len(row)) for row in rows])
    assert len(set(shifts.tolist())) > 4 and 20 in shifts + np.asarray([len(row) for row in rows])

    @functools.partial(jax.jit, static_argnames="method")
    def encode(table, *arguments, method):
        return tower.apply({"params": params | {"position_embedding": table}}, *arguments, method=method)

    def alone(tower, ids, shifts=None):
        return tower.pooled(tower.hidden(ids, shifts), ids)

    expected = [
        encode(jnp.concatenate([table[:1], table[shift + 1 :], table[:shift]]), row[None], method=alone)
        for row, shift in zip(padded(rows)[:-1], shifts, strict=False)
    ]
    found = encode(table, padded(rows), shifts, method=alone)[:-1]
    np.testing.assert_allclose(found, np.concatenate(expected), atol=2e-6 * np.abs(found).max())
    shared, by = packed(rows, shifts)
    moved = shared._replace(positions=shared.positions + by)
    found = in_order(encode(table, moved, method="packed_features"))[:-1]
    np.testing.assert_allclose(found, np.concatenate(expected), atol=2e-6 * np.abs(found).max())
    np.testing.assert_array_equal(shared.positions, packed(rows).positions)
