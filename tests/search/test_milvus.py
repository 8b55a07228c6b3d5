"""Milvus as the engine, in a Milvus Lite file: filled once, filtered, its recall against the exact engine said."""

import numpy as np
import pytest

from lrsclip_jax.errors import InputError
from lrsclip_jax.search.engine import ExactEngine, engine_of

pytest.importorskip("faiss")
pytest.importorskip("pymilvus")
pytest.importorskip("milvus_lite")
milvus = pytest.importorskip("lrsclip_jax.search.milvus")
N, D = 3000, 16


@pytest.fixture(scope="module")
def rows(tmp_path_factory):
    folder = tmp_path_factory.mktemp("rows")
    made = np.random.default_rng(0).normal(size=(N, D))
    np.save(folder / "images.npy", (made / np.linalg.norm(made, axis=1, keepdims=True)).astype(np.float32))
    return np.load(folder / "images.npy", mmap_mode="r"), folder / "images.npy"


@pytest.fixture(scope="module")
def engines(rows, tmp_path_factory):
    uri = tmp_path_factory.mktemp("milvus") / "archive.db"
    return engine_of(f"milvus:{uri}", *rows), ExactEngine(*rows), uri


def queries(rows, count=5):
    return np.asarray(rows[0][np.random.default_rng(1).integers(N, size=count)])


def test_it_finds_what_the_exact_engine_finds_with_the_same_scores(rows, engines):
    engine, exact, _ = engines
    for query in queries(rows):
        found, best = engine.top(query, 20), exact.top(query, 20)
        scores = dict(zip(best.rows.tolist(), best.scores, strict=True))
        shared = [row for row in found.rows.tolist() if row in scores]
        assert len(shared) >= 19
        assert all(
            scores[row] == score for row, score in zip(found.rows.tolist(), found.scores, strict=True) if row in scores
        )


def test_recall_is_measured_and_said(rows, engines):
    engine, exact, _ = engines
    assert milvus.recall(exact, exact, queries(rows), 10) == 1
    assert milvus.recall(engine, exact, queries(rows), 10) > 0.9
    (note,) = engine.notes
    assert note.startswith("Milvus finds ") and note.endswith(
        " of what the exact engine finds, 50 tiles for 100 queries"
    )


@pytest.mark.parametrize("share", [0.5, 0.01])
@pytest.mark.parametrize("few", [0, 10_000])
def test_filters_hold(rows, engines, share, few, monkeypatch):
    monkeypatch.setattr(milvus, "_FEW", few)
    engine, exact, _ = engines
    allowed = np.random.default_rng(2).random(N) < share
    query = queries(rows)[0]
    found = engine.top(query, 10, allowed)
    right = len(np.intersect1d(found.rows, exact.top(query, 10, allowed).rows))
    assert allowed[found.rows].all() and len(found.rows) == 10 and right >= (10 if few else 8)
    assert len(engine.top(query, 10, np.zeros(N, bool)).rows) == 0


def test_a_filled_collection_is_used_again_and_one_of_changed_rows_is_new(rows, engines, monkeypatch, tmp_path):
    engine, _, uri = engines
    with monkeypatch.context() as patched:
        patched.setattr(milvus.MilvusEngine, "_create", lambda self: pytest.fail("it is filled once more"))
        assert engine_of(f"milvus:{uri}", *rows).collection == engine.collection
    changed = np.asarray(rows[0][::-1][:100])
    np.save(tmp_path / "images.npy", changed)
    other = engine_of(f"milvus:{uri}", changed, tmp_path / "images.npy")
    assert other.collection != engine.collection and other.top(changed[7], 1).rows.tolist() == [7]


def test_a_collection_that_was_filled_in_part_is_filled_anew(rows, tmp_path, monkeypatch):
    made = np.asarray(rows[0][:50])
    np.save(tmp_path / "images.npy", made)
    uri = f"milvus:{tmp_path / 'archive.db'}"
    engine = engine_of(uri, made, tmp_path / "images.npy")
    engine._client.delete(engine.collection, filter="row >= 20")
    engine._client.flush(engine.collection)
    again = engine_of(uri, made, tmp_path / "images.npy")
    assert again.top(made[30], 1).rows.tolist() == [30]


@pytest.mark.parametrize(
    "uri, said", [("", "lacks its URI"), ("/none/there/archive.db", "Milvus, /none/there/archive.db")]
)
def test_no_milvus_is_one_line(rows, uri, said):
    with pytest.raises(InputError, match=said) as caught:
        engine_of(f"milvus:{uri}", *rows)
    assert "\n" not in str(caught.value)
