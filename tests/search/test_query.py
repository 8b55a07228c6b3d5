"""A query of several parts, and Rocchio's refinement, as pure functions of vectors."""

import numpy as np
import pytest

from lrsclip_jax.errors import InputError
from lrsclip_jax.search.query import NEGATIVE, Part, direction, parts_of, refined

E = np.eye(8, dtype=np.float32)


def even(vectors):
    return np.ones(len(vectors))


def test_one_text_is_its_own_embedding():
    text = np.array([0.6, 0.8], np.float32)
    found = direction(parts_of(text[None], text[:0].reshape(0, 2), text[:0].reshape(0, 2)), even)
    assert found.dtype == np.float32 and np.array_equal(found, text)


def test_texts_and_images_weigh_the_same_and_negatives_half_of_them():
    found = direction(parts_of(E[:2], E[2:3], E[3:5]), even)
    expected = np.array([1 / 3, 1 / 3, 1 / 3, -NEGATIVE / 2, -NEGATIVE / 2, 0, 0, 0])
    np.testing.assert_allclose(found, expected / np.linalg.norm(expected), rtol=1e-6)


def test_a_part_counts_by_how_much_its_scores_vary():
    """Of two parts whose scores vary by 1 and by 4, each moves the ranking by the same."""
    rng = np.random.default_rng(0)
    rows = rng.normal(size=(5000, 8)) * np.array([1, 4, 1, 1, 1, 1, 1, 1])
    found = direction(parts_of(E[:1], E[1:2], E[:0]), lambda vectors: (vectors @ rows.T).std(axis=1))
    scores = rows @ found
    text, image = (np.corrcoef(scores, rows[:, axis])[0, 1] for axis in (0, 1))
    assert text == pytest.approx(image, abs=0.02) and text > 0.6


def test_rocchio_is_the_formula():
    more, less = E[2:4], E[4:5]
    found = direction(refined([Part(E[0], 1.0, False)], more, less, (1.0, 0.75, 0.25)), even)
    expected = E[0] + 0.75 * (E[2] + E[3]) / np.sqrt(2) - 0.25 * E[4]
    np.testing.assert_allclose(found, expected / np.linalg.norm(expected), rtol=1e-6)


def test_refining_by_nothing_changes_nothing_and_tiles_alone_are_a_query():
    asked = [Part(E[0], 1.0, False)]
    assert np.array_equal(direction(refined(asked, E[:0], E[:0]), even), E[0])
    assert np.array_equal(direction(refined([], E[3:4], E[:0]), even), E[3])


def test_refining_moves_towards_liked_tiles_and_away_from_others():
    rng = np.random.default_rng(1)
    rows = rng.normal(size=(60, 8))
    rows = (rows / np.linalg.norm(rows, axis=1, keepdims=True)).astype(np.float32)
    before = direction([Part(E[0], 1.0, False)], even)
    after = direction(refined([Part(E[0], 1.0, False)], rows[:3], rows[3:6]), even)
    assert (rows[:3] @ after).mean() > (rows[:3] @ before).mean()
    assert (rows[3:6] @ after).mean() < (rows[3:6] @ before).mean()


def test_nothing_wanted_is_refused_and_so_is_what_cancels_out():
    with pytest.raises(InputError, match="say what to look for"):
        direction(parts_of(E[:0], E[:0], E[:1]), even)
    with pytest.raises(InputError, match="cancel each other out"):
        direction([Part(E[0], 1.0, False), Part(E[0], -1.0, False)], even)
