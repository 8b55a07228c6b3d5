"""Retrieval in the report: a table for each data set and kind of text, galleries of the best model."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from eval.embeddings import EmbeddingSet
from eval.errors import InputError
from eval.html import elements, galleries
from eval.html.retrieval_table import best_five, best_texts, recall_table
from eval.html.set_images import picture_of
from eval.papers.measured import cleaned_of
from eval.suite.sections.cleaned_section import spread_at_random
from eval.suite.sections.result_groups import Result, by_data, model_of, told_once, with_cleaned
from eval.suite.tasks import CAPTIONS, captions, evaluated_part

STRIPPED = "the last full stop of short texts is taken off"


def section(results: Sequence[Result], sets: Mapping[str, EmbeddingSet]) -> list[tuple[str, elements.Html]]:
    """Returns tables of recalls with chance and, where images are at hand, galleries.

    Args:
      results: of the suite.
      sets: the open set of each result's `set`.
    """
    sections = []
    for kind in CAPTIONS:
        for data, rows in by_data(results, "retrieval", kind=kind).items():
            best = max(rows, key=lambda row: row["mean_recall"])
            sections.append(
                (
                    f"Retrieval with {kind} text: {data}",
                    elements.join(
                        recall_table(with_cleaned(rows), _chances(rows)),
                        spread_at_random(rows, "mean_recall"),
                        _cut(kind, rows),
                        told_once((model_of(row), STRIPPED) for row in rows if row.get("stops") == "stripped"),
                        _gallery(sets[best["set"]], kind, best),
                    ),
                )
            )
    return sections


def _chances(rows: Sequence[Result]) -> dict[str, Mapping]:
    """Chance, once for all models that saw as many images and texts; the same for cleaned sets."""
    told = [row["chance"] for each in rows for row in (each, cleaned_of(each)) if row]
    seen = {(chance["images"], chance["texts"]): chance for chance in told}
    if len(seen) == 1:
        return {"chance": rows[0]["chance"]}
    return {f"chance, {texts:,} texts of {images:,} images": chance for (images, texts), chance in seen.items()}


def _cut(kind: str, rows: Sequence[Result]) -> elements.Html:
    return told_once(
        (model_of(row), f"{row['cut']:,} of {row['texts']:,} {kind} texts were cut to {row['context_length']} tokens")
        for row in rows
        if row.get("cut")
    )


def _gallery(embedding_set: EmbeddingSet, kind: str, best: Result) -> elements.Html:
    part = evaluated_part(embedding_set)
    if part.picture(0) is None:
        return elements.Html("")
    rows, embeddings, image_of_text = captions(part, kind)
    texts = [part.text_rows[row]["text"] for row in rows]
    about = (lambda row: picture_of(part, row), lambda row: part.image_rows[row].get("label"))
    of_set = (texts, embeddings, part.images, image_of_text, *about)
    try:
        shown = elements.join(
            galleries.gallery(best_five(*of_set, count=3)),
            elements.fold("Images and their five best texts", galleries.image_gallery(best_texts(*of_set))),
        )
    except InputError as error:
        return elements.paragraph(f"No gallery: {error}.")
    return elements.join(elements.subheading(f"Queries and their five best images, {model_of(best)}"), shown)
