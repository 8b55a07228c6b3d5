"""Curves against text length from a written set, beside rankings by sorting; histograms beside NumPy's."""

from __future__ import annotations

import numpy as np
import pytest

from eval.embeddings import open_set, write_set
from eval.errors import InputError
from eval.text_length import length_curve, length_histogram

META = {"model": "m", "dataset": "d", "features": "projected"}
IMAGES, DIM = 30, 8
CUTS = (60, 20, 120)


def sweep(path, drop=None, add=(), **changes):
    """A set of 45 long texts, whole and cut, in disorder: the more tokens are kept, the nearer its image a text is."""
    rng = np.random.default_rng(0)
    images = rng.normal(size=(IMAGES, DIM))
    owners = np.r_[np.arange(IMAGES), rng.integers(IMAGES, size=15)]
    lengths = rng.integers(15, 200, size=len(owners)).tolist()
    texts, rows = [], []
    for tokens in (*CUTS, None):
        for number, owner in enumerate(owners):
            noise = rng.normal(size=DIM) * 40 / min(tokens or 999, lengths[number])
            row = {"text": f"text {number // 2}", "kind": "long", "image": f"i{owner}", "length": lengths[number]}
            rows.append(row | ({"tokens": tokens} if tokens else {}) | changes)
            texts.append(images[owner] + noise)
    order = [row for row in rng.permutation(len(rows)) if row != drop]
    rows = [rows[row] for row in order] + list(add)
    texts = np.array([texts[row] for row in order] + [images[0]] * len(add))
    write_set(path, META, images, texts, [{"id": f"i{row}"} for row in range(IMAGES)], rows)
    return open_set(path)


def recall_at_1(images, texts, owners):
    scores = texts @ images.T
    text_to_image = 100 * np.mean(scores.argmax(axis=1) == owners)
    return text_to_image, 100 * np.mean([owners[found] == image for image, found in enumerate(scores.argmax(axis=0))])


def test_curve_is_the_retrieval_of_each_cut(tmp_path):
    embedding_set = sweep(tmp_path)
    curve = length_curve(embedding_set, ks=(1, 3))
    assert (curve["kind"], curve["tokens"]) == ("long", [20, 60, 120])
    for place, tokens in enumerate((20, 60, 120, None)):
        rows = [row for row, text in enumerate(embedding_set.text_rows) if text.get("tokens") == tokens]
        owners = np.array([int(embedding_set.text_rows[row]["image"][1:]) for row in rows])
        expected = recall_at_1(embedding_set.images, embedding_set.texts[rows], owners)
        if tokens is None:
            found = [curve["whole"][side]["R@1"] for side in ("text_to_image", "image_to_text")]
        else:
            found = [curve[side]["R@1"][place] for side in ("text_to_image", "image_to_text")]
            recalls = [curve[side][name][place] for side in ("text_to_image", "image_to_text") for name in curve[side]]
            assert len(recalls) == 4 and curve["mean_recall"][place] == pytest.approx(np.mean(recalls))
            longer = [embedding_set.text_rows[row]["length"] > tokens for row in rows]
            assert curve["cut"][place] == sum(longer) > 0
        assert found == pytest.approx(expected)
    assert curve["mean_recall"][0] < curve["mean_recall"][-1] < curve["whole"]["mean_recall"]


def test_how_many_are_cut_is_left_out_where_no_text_tells_its_length(tmp_path):
    embedding_set = sweep(tmp_path)
    for row in embedding_set.text_rows:
        del row["length"]
    assert "cut" not in length_curve(embedding_set)


def test_a_cut_must_have_the_texts_that_the_whole_ones_are(tmp_path):
    missing = sweep(tmp_path / "missing", drop=7)  # of the first cut, 60
    with pytest.raises(InputError, match=r"missing: 'text 3' of image 'i7' is not there cut to 60 tokens"):
        length_curve(missing)
    more = sweep(tmp_path / "more", add=[{"text": "new", "kind": "long", "image": "i2", "length": 9, "tokens": 20}])
    with pytest.raises(InputError, match=r"more: 'new' of image 'i2' is there cut to 20 tokens only"):
        length_curve(more)
    moved = sweep(tmp_path / "moved")
    next(row for row in moved.text_rows if row.get("tokens") == 120)["image"] = "i29"
    with pytest.raises(InputError, match="of image 'i.*' is not there cut to 120 tokens"):
        length_curve(moved)


def test_sets_without_a_curve_say_so(tmp_path):
    embedding_set = sweep(tmp_path / "long")
    with pytest.raises(InputError, match="no whole short texts"):
        length_curve(embedding_set, "short")
    with pytest.raises(InputError, match="no long texts cut to fewer tokens: embed with --text-lengths"):
        length_curve(sweep(tmp_path / "whole", tokens=None))


def test_histogram_counts_whole_texts_alone(tmp_path):
    rng = np.random.default_rng(1)
    lengths = {"long": rng.integers(60, 300, size=200), "short": rng.integers(5, 80, size=300)}
    rows = [
        {"text": "t", "kind": kind, "image": "i", "length": int(length), **cut}
        for kind in lengths
        for length in lengths[kind]
        for cut in ({}, {"tokens": 20})
    ] + [{"text": "a class", "kind": "class", "label": "x"}]
    write_set(tmp_path, META, texts=np.ones((len(rows), 2)), text_rows=rows)
    found = length_histogram(open_set(tmp_path))
    assert found.keys() == {"bin", "long", "short"}
    for kind, wanted in lengths.items():
        edges = np.arange(0, wanted.max() + found["bin"] + 1, found["bin"])
        assert found[kind]["counts"] == np.histogram(wanted, edges)[0][: len(found[kind]["counts"])].tolist()
        assert sum(found[kind]["counts"]) == found[kind]["texts"] == len(wanted)
        assert (found[kind]["max"], found[kind]["median"]) == (wanted.max(), np.median(wanted))
        assert found[kind]["mean"] == pytest.approx(wanted.mean())
        assert found[kind]["above"] == {str(n): pytest.approx(100 * np.mean(wanted > n)) for n in (77, 248)}


def test_histogram_needs_lengths(tmp_path):
    rows = [{"text": "t", "kind": "long", "image": "i", "length": 9}, {"text": "t", "kind": "long", "image": "i"}]
    write_set(tmp_path / "some", META, texts=np.ones((2, 2)), text_rows=rows)
    with pytest.raises(InputError, match="line 2: no length, other texts tell theirs"):
        length_histogram(open_set(tmp_path / "some"))
    write_set(tmp_path / "none", META, texts=np.ones((1, 2)), text_rows=[{"text": "a", "kind": "class", "label": "x"}])
    with pytest.raises(InputError, match="no long or short texts"):
        length_histogram(open_set(tmp_path / "none"))
