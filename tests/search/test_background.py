"""Percentiles and z: against plain formulas, and whether they tell what is there from what is not."""

import numpy as np
import pytest

from lrsclip_jax.search import background as background_module
from lrsclip_jax.search.background import ABSENT, Background
from lrsclip_jax.search.engine import ExactEngine
from lrsclip_jax.search.query import Part, direction

pytest.importorskip("faiss")
D = 128


def unit(rows):
    rows = np.asarray(rows, np.float64)
    return (rows / np.linalg.norm(rows, axis=-1, keepdims=True)).astype(np.float32)


@pytest.fixture(scope="module")
def world(tmp_path_factory):
    """Tiles and texts in two cones, as CLIP's are: 2,000 tiles, of which ten show a harbour, and none a stadium."""
    rng = np.random.default_rng(0)
    ground, speech, *things = rng.normal(size=(30, D))
    harbour, stadium, *others = things
    rows = ground * 2 + np.array(others)[rng.integers(len(others), size=2000)] + rng.normal(size=(2000, D))
    rows[:10] = ground * 2 + harbour + rng.normal(size=(10, D)) * 0.5
    rows = unit(rows)

    def text(thing, count=None):
        return unit(speech * 2 + thing + rng.normal(size=D if count is None else (count, D)) * 0.5)

    neutral, absent = text(0, 16), np.array([text(thing) for thing in rng.normal(size=(16, D))])
    path = tmp_path_factory.mktemp("rows") / "images.npy"
    np.save(path, rows)
    engine = ExactEngine(rows, path)
    made = Background(rows, lambda: engine, lambda: (neutral, absent))
    return rows, neutral, absent, made, text(harbour), text(stadium)


def test_percentiles_are_shares_of_the_index(world):
    rows, *_, made, harbour, _ = world
    scores = np.sort(rows.astype(np.float64) @ harbour)
    asked = scores[[0, 999, 1999]]
    np.testing.assert_allclose(made.percentiles(harbour, asked), [0.05, 50, 100])
    assert made.percentiles(harbour, np.array([2.0, -2.0])).tolist() == [100, 0]


def test_z_is_the_plain_formula(world):
    rows, neutral, absent, made, harbour, _ = world
    mean = neutral.mean(axis=0, dtype=np.float64)
    plain = rows.astype(np.float64)
    contrast = plain @ (harbour - mean)
    others = plain @ (absent - mean).T
    deviation = np.sqrt(((others - others.mean(axis=0)) ** 2).mean())
    stick = made.yardstick([Part(harbour, 1.0, False)])
    z = made.z(stick, harbour, np.arange(5))
    np.testing.assert_allclose(z, (contrast[:5] - contrast.mean()) / deviation, rtol=1e-4)
    np.testing.assert_allclose(
        np.sort(stick.reached), np.sort((others.max(axis=0) - others.mean(axis=0)) / deviation), rtol=1e-4
    )


def test_what_is_there_rises_above_absent_things_and_what_is_not_does_not(world):
    rows, *_, made, harbour, stadium = world
    for text, there in ((harbour, True), (stadium, False)):
        stick = made.yardstick([Part(text, 1.0, False)])
        best = np.argsort(-(rows @ text))[:50]
        assert (made.z(stick, text, best).max() > stick.reached.max()) == there


def test_queries_of_one_make_share_a_yardstick_and_others_have_their_own(world):
    rows, *_, made, harbour, stadium = world
    one = made.yardstick([Part(harbour, 1.0, False)])
    assert made.yardstick([Part(stadium, 1.0, False)]) is one
    two = made.yardstick([Part(stadium, 0.5, False), Part(harbour, 0.5, False)])
    assert two is not one and len(two.reached) == len(ABSENT)


def test_an_image_is_compared_with_tiles_and_asks_for_no_text(world):
    rows, *_, harbour, _ = world
    made = Background(rows, lambda: pytest.fail("no scores are looked for"), lambda: pytest.fail("no text is embedded"))
    parts = [Part(rows[3], 1.0, True)]
    stick = made.yardstick(parts)
    assert stick.reached is None
    z = made.z(stick, rows[3], np.arange(2000))
    assert z[:10].min() > np.sort(z[10:])[-20] and z[3] == z.max()


def test_a_text_with_an_image_has_neutral_mixtures(world):
    rows, *_, made, harbour, _ = world
    parts = [Part(harbour, 0.5, False), Part(rows[3], 0.5, True)]
    stick = made.yardstick(parts)
    query = direction(parts, made.spread)
    assert stick.reached is None and made.z(stick, query, np.arange(10)).min() > 1


def test_a_large_index_is_sampled_always_the_same(world, monkeypatch):
    rows, neutral, absent, _, harbour, _ = world
    monkeypatch.setattr(background_module, "SAMPLE", 500)
    a, b = (Background(rows, lambda: None, lambda: (neutral, absent)) for _ in range(2))
    assert len(a.sample) == 500 and np.array_equal(a.sample, b.sample)
    scores = rows.astype(np.float64) @ harbour
    exact = 100 * np.searchsorted(np.sort(scores), scores, "right") / 2000
    assert np.abs(a.percentiles(harbour, scores) - exact).max() < 9  # four standard deviations are 8


def test_an_index_of_one_tile_or_of_copies_has_numbers(world):
    _, neutral, absent, _, harbour, _ = world
    for count in (1, 5):
        rows = np.repeat(unit(np.ones((1, D))), count, axis=0)
        made = Background(rows, lambda rows=rows: _Plain(rows), lambda: (neutral, absent))
        for parts in ([Part(harbour, 1.0, False)], [Part(rows[0], 1.0, True)], [Part(harbour, 0.5, False)] * 2):
            query = direction(parts, made.spread)
            assert np.isfinite(made.z(made.yardstick(parts), query, np.arange(count))).all()


class _Plain:
    def __init__(self, rows):
        self.rows = rows

    def top(self, query, k, allowed=None):
        from lrsclip_jax.search.engine import Found

        scores = self.rows @ query
        order = np.argsort(-scores)[:k]
        return Found(order, scores[order])
