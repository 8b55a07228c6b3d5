import numpy as np
import pytest

from lrsclip_jax.data.batches.packing import best_fit, granted_rows, pack

ROW = 16


def lengths(count: int, seed: int) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, ROW + 1, count)


@pytest.mark.parametrize(("count", "seed"), [(1, 0), (7, 1), (64, 2), (501, 3)])
def test_texts_do_not_overlap_and_no_row_is_wasted(count, seed):
    texts = lengths(count, seed)
    placed = best_fit(texts, ROW)
    taken = np.zeros((placed.rows, ROW), int)
    for row, start, length in zip(placed.row, placed.start, texts, strict=True):
        taken[row, start : start + length] += 1
    assert taken.max() <= 1 and taken.sum() == texts.sum()
    filled = taken.sum(axis=1)
    # No text of a later row would have found place in an earlier one, so no two rows could be one.
    assert placed.rows < 2 or np.sort(filled)[:2].sum() > ROW
    assert placed.rows <= 11 / 9 * -(-int(texts.sum()) // ROW) + 2


def test_it_is_the_best_fit():
    # In rows of 10: 6 and 5 open rows; 5 fills the second although the first came earlier; 4 fills the first.
    assert best_fit([6, 5, 5, 4], 10).row.tolist() == [0, 1, 1, 0]
    assert best_fit([], 10).rows == 0 and best_fit([0, 0], 10).rows == 0


@pytest.mark.parametrize(
    ("needed", "pairs", "granted"), [(5, 8, 5), (19, 64, 20), (285, 512, 288), (2299, 4096, 2304), (0, 512, 8)]
)
def test_few_numbers_of_rows_are_granted(needed, pairs, granted):
    assert granted_rows(needed, pairs) == granted


def test_every_text_is_found_at_its_span():
    rng = np.random.default_rng(0)
    texts = [rng.integers(1, 1000, length) for length in lengths(30, 5)]
    texts[3] = None
    placed = best_fit([0 if text is None else len(text) for text in texts], ROW)
    packed = pack(texts, placed, ROW, placed.rows + 2)
    ids, segments, positions = (packed[name] for name in ("ids", "segments", "positions"))
    assert ids.shape == (placed.rows + 2, ROW) and ids.dtype == np.int32
    for text, (start, length) in zip(texts, [*packed["long_span"], *packed["short_span"]], strict=True):
        if text is None:
            assert (start, length) == (0, 0)
            continue
        slots = slice(start, start + length)
        np.testing.assert_array_equal(ids.ravel()[slots], text)
        np.testing.assert_array_equal(positions.ravel()[slots], np.arange(length))
        if length:
            (segment,) = set(segments.ravel()[slots])
            assert segment > 0 and np.count_nonzero(segments[start // ROW] == segment) == length
    assert np.count_nonzero(segments) == sum(len(text) for text in texts if text is not None)
