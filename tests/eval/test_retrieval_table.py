"""Retrieval in a report: recalls with what ties could change, and what queries found."""

from __future__ import annotations

import numpy as np
from documents import Document, model_outputs, picture

from eval.html.galleries import ANOTHER, OTHER_CLASS, OWN, SAME_CLASS, SAME_TEXT
from eval.html.retrieval_table import best_five, best_texts, recall_table
from eval.retrieval import chance, ranks_to_metrics, retrieval_ranks


def test_recalls_stand_in_their_columns():
    images, texts, image_of_text = model_outputs()
    result = ranks_to_metrics(retrieval_ranks(images, texts, image_of_text))
    document = Document(recall_table({"long": result}, {"chance": chance(30, image_of_text)}))
    assert document.text("th")[-2:] == ["long", "chance"]
    assert [row.get("class") for row in document.all("tr")] == [None, None, None, "aside"]
    values = [*result["text_to_image"].values(), *result["image_to_text"].values(), result["mean_recall"]]
    assert document.text("td")[:8] == [*(f"{value:.2f}" for value in values), "30"]


def no_label(row):
    return None


def test_best_five_tells_the_own_image_from_others_and_where_it_is():
    images, texts, image_of_text = model_outputs(seed=3)
    shown = []
    queries = best_five(
        list("abcdefghijklmnopqrstuvwxyz1234"),
        texts,
        images,
        image_of_text,
        lambda row: shown.append(row) or picture(row),
        no_label,
        count=3,
    )
    assert [query.text for query in queries] == ["a", "o", "4"]
    scores = texts @ images.T
    for query, text, rows in zip(queries, (0, 14, 29), np.reshape(shown, (3, 5)), strict=True):
        np.testing.assert_array_equal(rows, np.argsort(-scores[text])[:5])
        assert [match.verdict for match in query.matches] == [OWN if row == text else ANOTHER for row in rows]
        assert query.matches[0].caption == f"{scores[text].max():.3f}"
        place = 1 + int((scores[text] > scores[text, text]).sum())
        assert query.note == f"Its own image is number {place} of 30."
    assert len(best_five(["a", "b"], texts[:2], images, image_of_text[:2], picture, no_label)) == 2


def test_an_image_that_may_match_as_well_is_not_called_wrong():
    rows = np.eye(5, dtype=np.float32)
    images, texts = np.ones((5, 5), np.float32) / 5**0.5, ["a pier", "a pier", "a quay", "a wood", "a hill"]
    labels = ["port", "beach", "port", "forest", None]
    (query, *_) = best_five(texts, rows, images, np.arange(5), picture, labels.__getitem__)
    assert [match.verdict for match in query.matches] == [OWN, SAME_TEXT, SAME_CLASS, OTHER_CLASS, ANOTHER]
    (query, *_) = best_texts(texts, rows, images, np.arange(5), picture, labels.__getitem__)
    assert [match.verdict for match in query.matches] == [OWN, SAME_TEXT, SAME_CLASS, OTHER_CLASS, ANOTHER]


def test_best_texts_of_images_that_have_any():
    images, texts, image_of_text = model_outputs(seed=3)
    two_texts = np.concatenate([texts[10:], texts[10:]])
    owners = np.concatenate([image_of_text[10:], image_of_text[10:]])
    said = [f"{row} of {image}" for row, image in enumerate(owners)]
    shown = []

    def pictured(row):
        return shown.append(row) or picture(row)

    queries = best_texts(said, two_texts, images, owners, pictured, no_label, count=3)
    assert shown[0] == 10 and shown[-1] == 29 and len(shown) == 3
    for query, image in zip(queries, shown, strict=True):
        scores = two_texts @ images[image]
        best = np.lexsort((np.arange(len(said)), -scores.round(6)))[:5]
        assert [match.text for match in query.matches] == [said[row] for row in best]
        assert [match.verdict for match in query.matches] == [OWN if owners[row] == image else ANOTHER for row in best]
        assert query.matches[0].caption == f"{scores.max():.3f}"


def test_ties_that_matter_are_told():
    rows = np.eye(4, dtype=np.float32)[[0, 0, 1, 2]]
    ranks = retrieval_ranks(rows, rows, np.arange(4))
    result = ranks_to_metrics(ranks)
    low, high = (result[name]["mean_recall"] for name in ("pessimistic", "optimistic"))
    assert low < high
    document = Document(recall_table({"long": result}))
    assert f"mean recall would be: long {low:.2f} to {high:.2f}." in document.text("figcaption")[0]
