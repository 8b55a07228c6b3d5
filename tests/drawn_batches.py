"""Batches of small images for tests of the pipeline, always of seed 3, and whether two of them are equal."""

import numpy as np

from lrsclip_jax.data.batches import pipeline
from lrsclip_jax.data.preprocessing import CLIP_PREPROCESSING, Preprocessing
from lrsclip_jax.data.tokenizer import clip_tokenizer

SMALL = Preprocessing(size=8, mean=CLIP_PREPROCESSING.mean, std=CLIP_PREPROCESSING.std)


def drawn(steps, sources, shape, start=0, tokenizer=None, report=None, **keys):
    """The batches of `steps` steps of (records, weight) pairs, from step `start` on."""
    report = report or pipeline.DataReport(0)
    batches = pipeline.batches(
        sources, tokenizer or clip_tokenizer(), SMALL, shape, report, seed=3, start_step=start, threads=2, **keys
    )
    return [next(batches) for _ in range(steps)]


def same(one, other):
    assert one.keys() == other.keys()
    for key in one:
        np.testing.assert_array_equal(one[key], other[key], err_msg=key)
