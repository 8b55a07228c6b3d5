"""Semantic localisation in the report: the four metrics of each model, and maps over their scenes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from eval.embeddings import EmbeddingSet
from eval.errors import InputError
from eval.html import elements, galleries
from eval.html.set_images import marked, scene_of
from eval.selo.maps import overlay
from eval.selo.of_set import query_map
from eval.suite.sections.result_groups import Result, by_data, model_of

METRICS = {"R_su": "R_su ↑", "R_as": "R_as ↓", "R_da": "R_da ↑", "R_mi": "R_mi ↑"}

CROPS = {"reference": "256-pixel JPEG", "direct": "as they are"}


def section(results: Sequence[Result], sets: Mapping[str, EmbeddingSet]) -> list[tuple[str, elements.Html]]:
    """Returns a table for each data set and, where scenes are at hand, the best model's best, median and worst map.

    Args:
      results: of the suite.
      sets: the open set of each result's `set`.
    """
    sections = []
    for data, rows in by_data(results, "selo").items():
        cells = [_row(row) for row in rows]
        caption = (
            "Means over the queries, between 0 and 1. R_su: attention inside the regions; R_as: its shift from their "
            "centres; R_da: its discreteness; R_mi = 0.4 R_su + 0.35 (1 − R_as) + 0.25 R_da."
        )
        table = elements.table(cells, ["", *METRICS.values(), "Windows", "Queries", "Scenes"], caption, digits=4)
        best = max(rows, key=lambda row: row["R_mi"])
        sections.append((f"Semantic localisation: {data}", elements.join(table, _maps(sets[best["set"]], best))))
    return sections


def _row(row: Result) -> list:
    name = model_of(row) + (", SeLo v2" if row["version"] == "v2" else "")
    metrics, windows = (row[key] for key in METRICS), CROPS.get(row["crops"], "not stated")
    return [name, *metrics, windows, len(row["queries"]), row["scenes"]]


def _maps(embedding_set: EmbeddingSet, result: Result) -> elements.Html:
    shown = []
    for heading, query in _examples(result["queries"]).items():
        try:
            scene = scene_of(embedding_set, query["scene"])
        except InputError as error:
            return elements.paragraph(f"No maps: {error}.")
        if scene is None:
            return elements.Html("")
        polygons = embedding_set.text_rows[query["row"]]["points"]
        picture = marked(
            overlay(scene, query_map(embedding_set, query["row"], version=result["version"])),
            polygons,
            query["centres"],
        )
        metrics = ", ".join(f"{key} {query[key]:.3f}" for key in METRICS)
        shown.append(galleries.Picture(picture, f"{heading}:", f"“{query['text']}” ({query['scene']}). {metrics}."))
    explained = (
        f"{_row(result)[0]}: the best, the median and the worst query by R_mi. Red is where the map is high, outlines "
        "are the true regions, crosses the attention centres."
    )
    return elements.join(elements.paragraph(explained), galleries.pictures(shown))


def _examples(queries: Sequence[Mapping]) -> dict[str, Mapping]:
    ranked = sorted(queries, key=lambda query: -query["R_mi"])
    if len(ranked) < 3:
        return {f"Query {number}": query for number, query in enumerate(ranked, 1)}
    return {"Best": ranked[0], "Median": ranked[len(ranked) // 2], "Worst": ranked[-1]}
