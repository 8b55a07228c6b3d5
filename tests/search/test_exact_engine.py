"""The exact engine: equal to a comparison with every row, ties included; its bound holds; its codes are kept."""

import json
import threading

import numpy as np
import pytest

from eval.scores import best_matches, pair_scores
from lrsclip_jax.errors import InputError
from lrsclip_jax.search import codes as codes_module
from lrsclip_jax.search.codes import CACHE, open_codes
from lrsclip_jax.search.engine import CANDIDATES, ExactEngine

pytest.importorskip("faiss")
N, D = 9000, 48


def unit(rows):
    rows = np.asarray(rows, np.float32)
    return rows / np.linalg.norm(rows, axis=1, keepdims=True)


def plain(rng):
    return rng.normal(size=(N, D))


def towers(rng):
    """As CLIP's: all rows lie in a narrow cone, and two dimensions are much larger than the others."""
    return rng.normal(size=(N, D)) * 0.3 + np.concatenate([[9, -5], rng.normal(size=D - 2)])


def copies(rng):
    """40 rows, each many times: thousands of scores are equal."""
    return rng.normal(size=(40, D))[rng.integers(40, size=N)]


def constant(rng):
    rows = rng.normal(size=(N, D))
    rows[:, 3:20] = 0
    return rows


def tiny_steps(rng):
    """A dimension of which all but one row lie within a ten-millionth."""
    rows = rng.normal(size=(N, D))
    rows[:, 5] = 1e-7 * rng.normal(size=N)
    rows[7, 5] = 3
    return rows


KINDS = (plain, towers, copies, constant, tiny_steps)


def saved(folder, rows):
    np.save(folder / "images.npy", rows)
    return np.load(folder / "images.npy", mmap_mode="r"), folder / "images.npy"


@pytest.fixture(scope="module", params=KINDS, ids=lambda kind: kind.__name__)
def opened(request, tmp_path_factory):
    rng = np.random.default_rng(3)
    rows, path = saved(tmp_path_factory.mktemp("rows"), unit(request.param(rng)))
    return rows, ExactEngine(rows, path)


def queries(rows, count=6):
    rng = np.random.default_rng(5)
    return [*unit(rng.normal(size=(count, rows.shape[1]))), np.asarray(rows[17]), unit(-rows[:1])[0]]


def same(found, rows, query, k, allowed=None):
    """Whether what was found is what `eval.scores` finds among the allowed rows."""
    chosen = np.arange(len(rows)) if allowed is None else np.flatnonzero(allowed)
    best, scores = best_matches(query[None], rows[chosen], k)
    return np.array_equal(chosen[best[0]], found.rows) and np.array_equal(scores[0], found.scores)


@pytest.mark.parametrize("k", [1, 50, 700])
def test_the_engine_is_equal_to_brute_force(opened, k):
    rows, engine = opened
    assert len(rows) > 8 * CANDIDATES
    for query in queries(rows):
        assert same(engine.top(query, k), rows, query, k)


@pytest.mark.parametrize("share", [0.9, 0.6, 0.01])
def test_among_allowed_rows_it_is_equal_to_brute_force(opened, share):
    rows, engine = opened
    allowed = np.random.default_rng(1).random(len(rows)) < share
    for query in queries(rows, 3):
        assert same(engine.top(query, 30, allowed), rows, query, 30, allowed)


def test_what_the_codes_say_is_within_their_bound_of_every_exact_score(opened):
    rows, engine = opened
    numbers = engine._codes.codes.astype(np.float64) - 128
    for query in queries(rows):
        question, offset, unit_, error = engine._codes.question(query)
        assert np.array_equal(question, np.rint(question)) and np.abs(question).max() <= 127
        exact = np.asarray(rows, np.float64) @ query.astype(np.float64)
        assert np.abs(exact - (offset + unit_ * (numbers @ question))).max() <= error


def test_faiss_multiplies_whole_numbers_without_rounding(opened):
    rows, engine = opened
    question = engine._codes.question(queries(rows)[0])[0]
    sums, found = engine._scan(question, slice(0, len(rows)), 300, None)
    numbers = engine._codes.codes.astype(np.int64) - 128
    assert np.array_equal(sums, (numbers @ question.astype(np.int64))[found])


def test_usual_queries_are_proven_by_the_codes_alone(tmp_path):
    rows, path = saved(tmp_path, unit(plain(np.random.default_rng(0))))
    engine = ExactEngine(rows, path)
    assert all(engine._by_codes(query, 20, CANDIDATES, None) is not None for query in queries(rows))


def test_more_than_there_are_gives_all_and_none_allowed_gives_none(opened):
    rows, engine = opened
    query = queries(rows)[0]
    assert sorted(engine.top(query, 10**6).rows) == list(range(len(rows)))
    nothing = engine.top(query, 5, np.zeros(len(rows), bool))
    assert len(nothing.rows) == len(nothing.scores) == 0
    one = np.zeros(len(rows), bool)
    one[123] = True
    assert engine.top(query, 5, one).rows.tolist() == [123]


def test_equal_scores_come_in_the_order_of_rows(tmp_path):
    rows, path = saved(tmp_path, unit(np.ones((N, D))))
    found = ExactEngine(rows, path).top(np.asarray(rows[0]), 60)
    assert found.rows.tolist() == list(range(60))


def test_scores_are_exact_sums_of_float32_rows(opened):
    rows, engine = opened
    query = queries(rows)[1]
    found = engine.top(query, 40)
    exact = pair_scores(np.broadcast_to(query.astype(np.float64), (40, D)), rows[found.rows].astype(np.float64))
    assert np.array_equal(found.scores, exact / 1e7)


def test_twenty_threads_get_what_one_gets(opened):
    rows, engine = opened
    asked = queries(rows, 18)
    alone = [engine.top(query, 25) for query in asked]
    together = [None] * len(asked)

    def ask(place):
        together[place] = engine.top(asked[place], 25)

    threads = [threading.Thread(target=ask, args=(place,)) for place in range(len(asked))]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    for a, b in zip(alone, together, strict=True):
        assert np.array_equal(a.rows, b.rows) and np.array_equal(a.scores, b.scores)


@pytest.fixture
def kept(tmp_path, monkeypatch):
    """Rows whose codes are kept in the folder."""
    monkeypatch.setattr(codes_module, "SMALL", 1)
    return saved(tmp_path, unit(plain(np.random.default_rng(2))))


def test_codes_of_a_large_index_are_kept_and_read_again(kept):
    rows, path = kept
    made = open_codes(rows, path)
    files = sorted(path.parent.joinpath(CACHE).iterdir())
    assert [file.suffix for file in files] == [".json", ".npy"]
    times = [file.stat().st_mtime_ns for file in files]
    again = open_codes(rows, path)
    assert [file.stat().st_mtime_ns for file in files] == times
    assert isinstance(again.codes, np.memmap) and np.array_equal(again.codes, made.codes)
    assert again.bounds == made.bounds


def test_codes_of_rows_that_have_changed_are_made_again(kept):
    rows, path = kept
    open_codes(rows, path)
    before = {file.name for file in path.parent.joinpath(CACHE).iterdir()}
    rows, path = saved(path.parent, unit(towers(np.random.default_rng(9))))
    engine = ExactEngine(rows, path)
    after = {file.name for file in path.parent.joinpath(CACHE).iterdir()}
    assert len(after) == 2 and not before & after
    assert same(engine.top(queries(rows)[0], 9), rows, queries(rows)[0], 9)


@pytest.mark.parametrize("damage", ["torn codes", "torn bounds", "other bounds", "no bounds"])
def test_damaged_codes_are_made_again(kept, damage):
    rows, path = kept
    open_codes(rows, path)
    bounds, codes = sorted(path.parent.joinpath(CACHE).iterdir())
    if damage == "torn codes":
        codes.write_bytes(codes.read_bytes()[:-100])
    elif damage == "torn bounds":
        bounds.write_text(bounds.read_text()[:50])
    elif damage == "other bounds":
        bounds.write_text(json.dumps({**json.loads(bounds.read_text()), "centre": [0.0]}))
    else:
        bounds.unlink()
    assert same(ExactEngine(rows, path).top(queries(rows)[0], 9), rows, queries(rows)[0], 9)
    assert len(json.loads(bounds.read_text())["centre"]) == D


def test_codes_are_made_in_memory_where_the_folder_cannot_be_written(kept, monkeypatch):
    rows, path = kept
    path.parent.joinpath(CACHE).write_text("a file where the folder would be")
    assert same(ExactEngine(rows, path).top(queries(rows)[0], 9), rows, queries(rows)[0], 9)


@pytest.mark.parametrize("value, said", [(np.nan, "nan"), (np.inf, "inf"), (3.0, "instead of 1")])
def test_a_row_that_is_no_unit_row_is_named(tmp_path, value, said):
    rows = unit(plain(np.random.default_rng(0)))
    rows[4321, 7] = value
    rows, path = saved(tmp_path, rows)
    with pytest.raises(InputError, match=f"row 4321 of images.npy .*{said}"):
        ExactEngine(rows, path)


def test_codes_that_are_of_other_rows_are_not_believed(tmp_path):
    rows, path = saved(tmp_path, unit(plain(np.random.default_rng(0))))
    engine = ExactEngine(rows, path)
    engine._codes.codes[:] = engine._codes.codes[::-1].copy()
    for query in queries(rows):
        assert engine._by_codes(query, 20, CANDIDATES, None) is None
        assert same(engine.top(query, 20), rows, query, 20)
