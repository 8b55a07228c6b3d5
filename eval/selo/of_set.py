"""Semantic localisation from an embedding set: the map of a query, and the metrics of all, in both versions.

A window's score is the inner product of its row and the query's, in whole 1e-7 (`eval.scores`). Sums of such scores are
exact, so that a map depends neither on the order of the windows nor on the machine. In the second version the query is
the mean of its text's row and those of its words in other orders, and the first scores decide which windows come next;
the set holds all that can.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor

import numpy as np
from tqdm import tqdm

from eval.embeddings import EmbeddingSet
from eval.errors import InputError
from eval.scores import block_scores, check_unit_rows, read_rows
from eval.selo.maps import localisation_map
from eval.selo.scenes import SceneWindows, read_scenes, scene_of_query
from eval.selo.selo_metrics import selo_metrics
from eval.selo.v2 import second_map

METRICS = ("R_su", "R_as", "R_da", "R_mi")
VERSIONS = ("v1", "v2")


def selo_of_set(
    embedding_set: EmbeddingSet, steps: Sequence[int] | None = None, threads: int | None = None, version: str = "v1"
) -> dict:
    """Returns the metrics of every query of a set, and their means over the queries.

    Args:
      embedding_set: its images are windows of scenes, whose sizes are in meta.json; a query has a scene and polygons.
      steps: sides of the windows to use in the first version, in pixels; by default all that the set has.
      threads: queries at a time, by default one a core. Each takes some ten bytes a pixel of its scene.
      version: "v1", or "v2", which needs the set's windows of a second look, and its shuffled queries.

    Returns:
      `{"R_su", "R_as", "R_da", "R_mi", "version", "crops", "sides", "scenes", "windows", "queries": [{"row", "text",
      "scene", "R_su", …, "centres", "mask_pixels"}, …]}`: means; how windows were cut and the sides of square ones (of
      the first version) in pixels; counts; and the queries in the order of the set, `row` being that of their text.

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
    scenes = read_scenes(embedding_set, list(by_scene), steps, version == "v2")
    vectors = _second_queries(embedding_set, queries) if version == "v2" else _first_queries(embedding_set, queries)
    scores = {
        row: of_query
        for name, rows in by_scene.items()
        for row, of_query in zip(
            rows, _scores(embedding_set, scenes[name], np.stack([vectors[row] for row in rows])), strict=True
        )
    }
    map_of = _second_map if version == "v2" else _map

    def evaluate(row: int) -> dict:
        text = embedding_set.text_rows[row]
        try:
            metrics = selo_metrics(map_of(scores[row], scenes[text["scene"]]), text.get("points") or [])
        except InputError as error:
            raise InputError(f"{embedding_set.path}/texts.jsonl, line {row + 1}: {error}") from None
        return {"row": row, "text": text["text"], "scene": text["scene"], **metrics}

    with ThreadPoolExecutor(threads or os.cpu_count()) as pool:
        done = pool.map(evaluate, queries)
        found = list(tqdm(done, "localising", len(queries), unit="query", leave=False, disable=None))
    return {
        **{name: float(np.mean([query[name] for query in found])) for name in METRICS},
        "version": version,
        "crops": embedding_set.meta.get("crops"),
        "sides": _sides(scenes.values()) if version == "v1" else None,
        "scenes": len(scenes),
        "windows": sum(len(scene.windows) for scene in scenes.values()),
        "queries": found,
    }


def query_map(
    embedding_set: EmbeddingSet, text_row: int, steps: Sequence[int] | None = None, version: str = "v1"
) -> np.ndarray:
    """Returns the localisation map of one query, uint8 [H, W]; arguments and errors as for `selo_of_set`."""
    name = scene_of_query(embedding_set, text_row)
    scene = read_scenes(embedding_set, [name], steps, version == "v2")[name]
    vectors = (_second_queries if version == "v2" else _first_queries)(embedding_set, [text_row])
    return (_second_map if version == "v2" else _map)(_scores(embedding_set, scene, vectors[text_row][None])[0], scene)


def _map(scores: np.ndarray, scene: SceneWindows) -> np.ndarray:
    return localisation_map(scores, scene.windows, scene.height, scene.width)


def _second_map(scores: np.ndarray, scene: SceneWindows) -> np.ndarray:
    place = {tuple(window): row for row, window in enumerate(scene.windows.tolist())}

    def score(windows: np.ndarray) -> np.ndarray:
        try:
            return scores[[place[tuple(window)] for window in windows.tolist()]]
        except KeyError as error:
            raise InputError(
                f"scene {scene.name!r} has no window {list(error.args[0])}, which a second look asks for: embed with "
                "--second-look"
            ) from None

    return second_map(score, scene.height, scene.width)


def _first_queries(embedding_set: EmbeddingSet, rows: Sequence[int]) -> dict[int, np.ndarray]:
    """The row of each query's text, float32 [D]."""
    return {row: embedding_set.texts[row] for row in rows}


def _second_queries(embedding_set: EmbeddingSet, rows: Sequence[int]) -> dict[int, np.ndarray]:
    """The unit mean of the rows of each query's text and of its shuffled words, float32 [D]."""
    orders: dict[tuple[str, str], list[int]] = {}
    for row in embedding_set.text_rows_of("shuffled").tolist():
        text = embedding_set.text_rows[row]
        orders.setdefault((text.get("query"), text.get("scene")), []).append(row)
    found = {}
    for row in rows:
        text = embedding_set.text_rows[row]
        if (text["text"], text["scene"]) not in orders:
            raise InputError(f"{embedding_set.path}/texts.jsonl: no text shuffles the query {text['text']!r:.80}")
        mean = embedding_set.texts[[row, *orders[text["text"], text["scene"]]]].astype(np.float64).mean(axis=0)
        found[row] = (mean / np.linalg.norm(mean)).astype(np.float32)
    return found


def _sides(scenes: Iterable[SceneWindows]) -> list[int]:
    windows = np.concatenate([scene.windows for scene in scenes])
    height, width = windows[:, 1] - windows[:, 0], windows[:, 3] - windows[:, 2]
    return np.unique(height[height == width]).tolist()


def _scores(embedding_set: EmbeddingSet, scene: SceneWindows, queries: np.ndarray) -> np.ndarray:
    """Returns the scores of queries, unit rows [Q, D], with the windows of a scene: float64 [Q, N], in 1e-7."""
    windows = embedding_set.images[scene.rows]
    for rows, what in ((queries, "queries"), (windows, "windows")):
        check_unit_rows(rows, f"the {what} of scene {scene.name!r} in {embedding_set.path}")
    return block_scores(read_rows(queries, slice(None)), read_rows(windows, slice(None)))
