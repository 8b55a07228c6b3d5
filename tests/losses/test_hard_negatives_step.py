"""The train step with terms of an image's own texts: padded, packed, accumulated; a pair without one does not count."""

from __future__ import annotations

import functools

import jax
import numpy as np
import pytest
from test_sigmoid_step import PAIRS, setup, start, texts

from lrsclip_jax import forward
from lrsclip_jax.data.batches.batch import packed, padded, text_lengths
from lrsclip_jax.data.preprocessing import Preprocessing
from lrsclip_jax.sharding import to_devices
from lrsclip_jax.step import initial_state

WITHOUT = 5  # a pair that has a short text and no hard negative; pair 3 has it the other way


@pytest.mark.parametrize("in_rows", [False, True])
def test_texts_are_as_long_as_their_tokens(in_rows):
    of, rows = setup(f"data.packed={in_rows}"), texts()
    batch = packed(rows, of.layout, np.arange(PAIRS), text_lengths(rows)) if in_rows else padded(rows, of.layout, 0)
    for kind, found in forward.text_lengths(batch, of.model, ("long", "short")).items():
        np.testing.assert_array_equal(found, [len(ids or ()) for ids in rows[kind]])


@functools.cache
def compiled(*overrides):
    of = setup("loss.hard_negatives=0.7", *overrides)
    return of, of.step(Preprocessing(size=16, mean=(0.5,) * 3, std=(0.2,) * 3))


def update(*overrides, change=lambda batch: batch):
    """The metrics of one update, and by how much the parameters moved."""
    of, step = compiled(*overrides)
    rng, rows = np.random.default_rng(2), texts()
    rows["negative"] = [[58, *rng.integers(1, 58, rng.integers(1, 6)).tolist(), 59] for _ in range(PAIRS)]
    rows["negative"][WITHOUT] = None
    if of.layout.row_length:
        batch = packed(rows, of.layout, np.arange(PAIRS), text_lengths(rows))
    else:
        batch = padded(rows, of.layout, 0)
    batch["image"] = np.random.default_rng(1).integers(0, 256, (PAIRS, 16, 16, 3), np.uint8)
    spec = of.batch_specs(len(batch["ids"]) if of.layout.row_length else None)
    assert {key: (each.shape, each.dtype) for key, each in spec.items()} == {
        key: (each.shape, each.dtype) for key, each in batch.items()
    }
    before = start(of.model)
    state, metrics = step(initial_state(before, of.optimizer, of.shapes), to_devices(change(batch), of.mesh))
    return jax.device_get(metrics), jax.tree.map(lambda new, old: np.asarray(new) - old, state.params, before)


@pytest.mark.exhaustive
def test_packed_and_accumulated_batches_have_the_update_of_padded_ones():
    metrics, moved = update("loss.rising=0.5")
    assert metrics["loss_hard_negatives"] > 0 and 0 <= metrics["accuracy_hard_negatives"] <= 1
    expected = 0.8 * metrics["loss_long"] + 0.2 * metrics["loss_short"] + 0.7 * metrics["loss_hard_negatives"]
    np.testing.assert_allclose(metrics["loss"], expected + 0.5 * metrics["loss_rising"], rtol=1e-6)
    other, there = update("loss.rising=0.5", "data.packed=True", "train.microbatches=2", "loss.form=ring")
    for name in ("loss", "loss_rising", "loss_hard_negatives", "accuracy_hard_negatives", "text_tokens"):
        np.testing.assert_allclose(other[name], metrics[name], rtol=1e-6, err_msg=name)
    errors = jax.tree.map(lambda a, b: float(np.abs(a - b).max() / max(np.abs(b).max(), 1e-3)), there, moved)
    assert max(jax.tree.leaves(errors)) <= 1e-5, errors

    def elsewhere(batch):
        negative = batch["negative"].copy()
        negative[[3, WITHOUT]] = negative[[0, 1]]
        return batch | {"negative": negative}

    same, there = update("loss.rising=0.5", change=elsewhere)
    assert same["loss"] == metrics["loss"]
    jax.tree.map(np.testing.assert_array_equal, there, moved)


@pytest.mark.parametrize("packed", [False, True])
def test_a_teacher_encodes_no_negatives(packed):
    of, step = compiled("loss.preserve=1.0", f"data.packed={packed}")
    _, metrics = jax.eval_shape(step, of.shapes, of.batch_specs(6 if packed else None))
    assert {"loss_preserve", "loss_hard_negatives"} <= metrics.keys()
