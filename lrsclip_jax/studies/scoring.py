"""The scores of §V-D from an embedding set, unit by unit, kept in a file next to the set."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np

from eval.embeddings import EmbeddingSet, check_set, open_set
from eval.errors import InputError
from eval.paired import Parts, Units, columns
from eval.reading import read_arrays
from eval.retrieval import KS, recall_hits, retrieval_ranks
from eval.scores import block_scores, read_rows, spans
from eval.selo.of_set import selo_of_set
from eval.suite.tasks import captions, evaluated_part, tasks_of
from eval.whole import whole
from eval.zeroshot import class_vectors
from lrsclip_jax.studies.study import SCORES

_BLOCK = 2048


def units_of_set(path: Path) -> dict[str, Units]:
    """Returns the units of each score that an embedding set allows, {score: units}; InputError for a damaged set."""
    check_set(path)
    embedding_set = open_set(path)
    allowed = {f"{task.variant if task.name == 'retrieval' else task}" for task in tasks_of(embedding_set)}
    part = evaluated_part(embedding_set)
    found = {name: _units(task, part) for name, (task, _, _) in SCORES.items() if task in allowed}
    if not found:
        raise InputError(f"{path}: it has none of what {', '.join(SCORES)} need")
    return found


def write_units(path: Path, units: dict[str, Units]) -> None:
    """Writes the units of a set's scores into an .npz file, whole or not at all."""
    arrays = {f"{name}.{field}": getattr(each, field) for name, each in units.items() for field in Units._fields}
    path.parent.mkdir(parents=True, exist_ok=True)
    with whole(path) as partial, partial.open("wb") as file:
        np.savez_compressed(file, names=np.array(list(units)), **arrays)  # type: ignore[arg-type]


def read_units(path: Path) -> dict[str, Units]:
    """Returns what `write_units` wrote; InputError for a torn or missing file."""
    names = read_arrays(path, {"names": ("U", 1)})["names"].tolist()
    schema = {f"{name}.{field}": ("f8", 2) for name in names for field in Units._fields}
    arrays = read_arrays(path, schema)
    return {name: Units(*(arrays[f"{name}.{field}"] for field in Units._fields)) for name in names}


def recalls(name: str, parts: Parts) -> dict[str, float]:
    """Returns the recalls of a score by retrieval, {"text_to_image/R@1": per cent, …}; of other scores none."""
    if SCORES[name][0] not in ("long", "short"):
        return {}
    names = [f"{way}/R@{k}" for way in ("text_to_image", "image_to_text") for k in KS]
    return dict(zip(names, columns(parts), strict=True))


def _units(task: str, part: EmbeddingSet) -> Units:
    if task == "zeroshot":
        hits = np.concatenate(list(_right(part)))[:, None]
        return Units(100.0 * hits, np.ones_like(hits, np.float64))
    if task == "selo":
        metric = np.array([[query["R_mi"]] for query in selo_of_set(part)["queries"]])
        return Units(metric, np.ones_like(metric))
    _, texts, image_of_text = captions(part, task)
    table = recall_hits(retrieval_ranks(part.images, texts, image_of_text))
    table = table[table[:, -1] > 0]
    return Units(100 * table[:, :-2], np.repeat(table[:, -2:], len(KS), axis=1))


def _right(part: EmbeddingSet) -> Iterator[np.ndarray]:
    """Yields whether each image of a block is put into its class."""
    rows = part.text_rows_of("class")
    label_of_text = [part.text_rows[row].get("label") for row in rows]
    classes = list(dict.fromkeys(label_of_text))
    vectors = class_vectors(part.texts[rows], part.text_norms[rows], label_of_text, classes)
    true = np.array(part.labels(), object)
    names = np.array(classes, object)
    for span in spans(len(part.images), _BLOCK):
        predicted = block_scores(read_rows(part.images, span), read_rows(vectors, slice(None))).argmax(axis=1)
        yield names[predicted] == true[span]
