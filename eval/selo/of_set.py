"""Semantic localisation from an embedding set: the map of a query, and the metrics of all.

A window's score is the inner product of its row and the query's, in whole 1e-7 (`eval.scores`). Sums of such scores are
exact, so that a map depends neither on the order of the windows nor on the machine.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor

import numpy as np
from tqdm import tqdm

from eval.embeddings import EmbeddingSet
from eval.errors import InputError
from eval.scores import block_scores, check_unit_rows, read_rows
from eval.selo.maps import localisation_map
from eval.selo.scenes import SceneWindows, read_scenes, scene_of_query
from eval.selo.selo_metrics import selo_metrics

METRICS = ("R_su", "R_as", "R_da", "R_mi")


def selo_of_set(embedding_set: EmbeddingSet, steps: Sequence[int] | None = None, threads: int | None = None) -> dict:
    """Returns the metrics of every query of a set, and their means over the queries.

    Args:
      embedding_set: its images are windows of scenes, whose sizes are in meta.json; a query has a scene and polygons.
      steps: sides of the windows to use, in pixels; by default all that the set has.
      threads: queries at a time, by default one a core. Each takes some ten bytes a pixel of its scene.

    Returns:
      `{"R_su", "R_as", "R_da", "R_mi", "scenes", "windows", "queries": [{"row", "text", "scene", "R_su", …, "centres",
      "mask_pixels"}, …]}`: means, counts, and the queries in the order of the set, `row` being that of their text.

    Raises:
      InputError: no query, one without polygons or without windows of its scene, or what `localisation_map` and
        `selo_metrics` refuse; it names the file and the line.
    """
    queries = embedding_set.text_rows_of("query").tolist()
    if not queries:
        raise InputError(f"{embedding_set.path}: no text of kind 'query' to localise")
    by_scene: dict[str, list[int]] = {}
    for row in queries:
        by_scene.setdefault(scene_of_query(embedding_set, row), []).append(row)
    scenes = read_scenes(embedding_set, list(by_scene), steps)
    scores = {
        row: of_query
        for name, rows in by_scene.items()
        for row, of_query in zip(rows, _scores(embedding_set, scenes[name], rows), strict=True)
    }

    def evaluate(row: int) -> dict:
        text = embedding_set.text_rows[row]
        try:
            metrics = selo_metrics(_map(scores[row], scenes[text["scene"]]), text.get("points") or [])
        except InputError as error:
            raise InputError(f"{embedding_set.path}/texts.jsonl, line {row + 1}: {error}") from None
        return {"row": row, "text": text["text"], "scene": text["scene"], **metrics}

    with ThreadPoolExecutor(threads or os.cpu_count()) as pool:
        done = pool.map(evaluate, queries)
        found = list(tqdm(done, "localising", len(queries), unit="query", leave=False, disable=None))
    return {
        **{name: float(np.mean([query[name] for query in found])) for name in METRICS},
        "scenes": len(scenes),
        "windows": sum(len(scene.windows) for scene in scenes.values()),
        "queries": found,
    }


def query_map(embedding_set: EmbeddingSet, text_row: int, steps: Sequence[int] | None = None) -> np.ndarray:
    """Returns the localisation map of one query, uint8 [H, W]; arguments and errors as for `selo_of_set`."""
    name = scene_of_query(embedding_set, text_row)
    scene = read_scenes(embedding_set, [name], steps)[name]
    return _map(_scores(embedding_set, scene, [text_row])[0], scene)


def _map(scores: np.ndarray, scene: SceneWindows) -> np.ndarray:
    return localisation_map(scores, scene.windows, scene.height, scene.width)


def _scores(embedding_set: EmbeddingSet, scene: SceneWindows, text_rows: Sequence[int]) -> np.ndarray:
    """Returns the scores of queries with the windows of their scene, float64 [Q, N], in units of 1e-7."""
    texts, windows = embedding_set.texts[text_rows], embedding_set.images[scene.rows]
    for rows, what in ((texts, "queries"), (windows, "windows")):
        check_unit_rows(rows, f"the {what} of scene {scene.name!r} in {embedding_set.path}")
    return block_scores(read_rows(texts, slice(None)), read_rows(windows, slice(None)))
