"""How often texts score above their hard negatives, against a plain count; as a task of the suite and in its report."""

import json

import numpy as np
import pytest

from eval.embeddings import open_set, write_set
from eval.errors import InputError
from eval.hard_negatives import negative_accuracy
from eval.suite.__main__ import main
from eval.suite.tasks import EvalTask, tasks_of
from lrsclip_jax.embed.material import material_of
from lrsclip_jax.sources import Keys, open_source

META = {"model": "m", "dataset": "d", "features": "projected"}


def embeddings(folder, change=lambda rows: rows, pairs=12, split=None):
    """Images with a long and two short texts each, of which the first has a negative; two images share all texts."""
    rng = np.random.default_rng(0)
    images = rng.normal(size=(pairs, 4))
    image_rows = [{"id": str(n)} | ({"split": split[n % len(split)]} if split else {}) for n in range(pairs)]
    rows, vectors = [], []
    for n in range(pairs):
        text = f"{max(n, 1)} planes"
        of_image = [("long", {}), ("short", {}), ("short", {"text": "a road"}), ("negative", {"whole": text})]
        for kind, more in of_image:
            rows.append({"text": text if kind == "short" else kind, "kind": kind, "image": str(n)} | more)
            vectors.append(0.4 * images[n] + rng.normal(size=4))
    return write_set(folder, META, images, np.array(vectors), image_rows, change(rows))


@pytest.mark.parametrize("split", [None, ("train", "test")])
def test_texts_above_their_negatives_are_counted(tmp_path, split):
    found = open_set(embeddings(tmp_path / "set", split=split))
    images, texts = np.float64(found.images), np.float64(found.texts)
    chosen = [n for n in range(12) if not split or split[n % 2] == "test"]
    above = [images[n] @ texts[4 * n + 1] > images[n] @ texts[4 * n + 3] for n in chosen]
    assert EvalTask("negatives") in tasks_of(found) and 0 < sum(above) < len(above)
    assert main([str(tmp_path / "set"), f"--out={tmp_path / 'out'}", "--only=negatives", "--processes=1"]) == 0
    result = json.loads((tmp_path / "out/results/m/d/negatives.json").read_text())
    assert result["texts"] == len(chosen) and result["accuracy"] == pytest.approx(100 * np.mean(above))
    page = (tmp_path / "out/report.html").read_text()
    assert "Hard negatives: d" in page and f"{100 * np.mean(above):.2f}" in page


def test_equal_scores_are_wrong_and_sets_that_lack_texts_are_told(tmp_path):
    one = np.ones((1, 4))
    rows = [{"text": text, "kind": kind, "image": "a"} for text, kind in (("x", "short"), ("y", "negative"))]
    rows[1]["whole"] = "x"
    found = open_set(write_set(tmp_path / "equal", META, one, np.ones((2, 4)), [{"id": "a"}], rows))
    assert negative_accuracy(found) == {"texts": 1, "accuracy": 0.0}
    odd = embeddings(tmp_path / "odd", lambda rows: [row | ({"whole": "z"} if "whole" in row else {}) for row in rows])
    with pytest.raises(InputError, match="texts.jsonl, line 4: a negative of 'z', a text that its image"):
        negative_accuracy(open_set(odd))
    none = embeddings(tmp_path / "none", lambda rows: [row | {"kind": "long"} for row in rows])
    with pytest.raises(InputError, match="no hard negatives: embed with --negatives"):
        negative_accuracy(open_set(none))


def test_what_is_embedded_has_the_negatives_of_scenes_and_of_lists_with_a_key(tmp_path):
    material = material_of(open_source("scenes:3:5"), strip_stops=True, negatives=True)
    wrong = [row for row in material.texts if row["kind"] == "negative"]
    short = {(row["text"], row["image"]) for row in material.texts if row["kind"] == "short"}
    assert len(wrong) > 3 and all((row["whole"], row["image"]) in short for row in wrong)
    assert not any(row["text"].endswith(".") or row["text"] == row["whole"] for row in wrong)
    assert all(row["kind"] != "negative" for row in material_of(open_source("scenes:3:5")).texts)
    (tmp_path / "a.jsonl").write_text('{"image": "a.png", "short": "a road", "wrong": "two roads"}\n')
    items = open_source(str(tmp_path / "a.jsonl"), Keys(negative="wrong"))
    assert [row["text"] for row in material_of(items, negatives=True).texts] == ["a road", "two roads"]
    with pytest.raises(InputError, match="--negatives: no text has a hard negative"):
        material_of(open_source(str(tmp_path / "a.jsonl")), negatives=True)
