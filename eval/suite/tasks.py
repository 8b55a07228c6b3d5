"""Which tasks an embedding set allows, and how each of them is measured."""

from __future__ import annotations

import dataclasses
from collections.abc import Collection, Mapping
from pathlib import Path
from typing import NamedTuple

import numpy as np

from eval.cleaned import cleaned_retrieval
from eval.embeddings import EDITED, NEGATIVE, EmbeddingSet
from eval.errors import InputError
from eval.hard_negatives import negative_accuracy
from eval.retrieval import chance, retrieval_metrics
from eval.selo.of_set import selo_of_set
from eval.suite.result_files import kept_split
from eval.text_length import length_curve, length_histogram
from eval.text_sentences import sentence_effects
from eval.zeroshot import zeroshot_of_set

CAPTIONS = ("long", "short")
PROBES = ("linear_probe", "knn", "few_shot")
CLEANED = ("retrieval", "zeroshot")  # measured once more without the images that are near training images
ITRA = "itra"  # the variant of probes that follows ITRA, RemoteCLIP's code
NAMES = ("retrieval", "length", "sentences", "negatives", "text_lengths", "zeroshot", *PROBES, "selo")


class EvalTask(NamedTuple):
    """A task and, for those that a set can allow more than once, which of them: a kind of text, an average, a
    protocol, a version."""

    name: str
    variant: str = ""

    def __str__(self) -> str:
        return f"{self.name}_{self.variant}" if self.variant else self.name


class MeasureSettings(NamedTuple):
    """Where the splits of the probes are kept, the seed of splits and draws, and how many threads a task may start."""

    splits: Path
    seed: int
    threads: int


def tasks_of(embedding_set: EmbeddingSet) -> list[EvalTask]:
    """Returns the tasks that a set allows, by what its rows say; whether those are sound shows in measuring."""
    texts = embedding_set.text_rows if embedding_set.features == "projected" else ()
    whole = {text["kind"] for text in texts if text.get("tokens") is None and _captions_an_image(text)}
    cut = {text["kind"] for text in texts if text.get("tokens") is not None and _captions_an_image(text)}
    edited = {text.get("of") for text in texts if text["kind"] == EDITED}
    templates = {text.get("template") for text in texts if text["kind"] == "class"}
    labelled = any(image.get("label") is not None for image in embedding_set.image_rows)
    found = []
    if len(embedding_set.images):
        found += [EvalTask("retrieval", kind) for kind in CAPTIONS if kind in whole]
        found += [EvalTask("length", kind) for kind in CAPTIONS if kind in cut]
        found += [EvalTask("sentences", kind) for kind in CAPTIONS if kind in edited]
        found += [EvalTask("negatives")] if NEGATIVE in whole else []
    if any(text.get("length") is not None and text["kind"] in CAPTIONS for text in embedding_set.text_rows):
        found.append(EvalTask("text_lengths"))
    if labelled and templates:
        found.append(EvalTask("zeroshot"))
    if labelled and len(templates) > 1:
        found.append(EvalTask("zeroshot", "raw"))
    if labelled:
        found += [EvalTask(name) for name in PROBES]
        found += [EvalTask(name, ITRA) for name in ("linear_probe", "knn")]
    if any(text["kind"] == "query" and text.get("points") for text in texts):
        found.append(EvalTask("selo"))
        found += [EvalTask("selo", "v2")] if "shuffled" in {text["kind"] for text in texts} else []
    return found


def measure(
    task: EvalTask, embedding_set: EmbeddingSet, settings: MeasureSettings, near: Collection[str] | None = None
) -> dict:
    """Returns a task's metrics and counts; InputError says what is wrong with the set.

    With the ids of the images that are `near` training images, tasks of `CLEANED` have `cleaned`, see `eval.cleaned`.
    """
    match task.name:
        case "retrieval":
            return _retrieval(embedding_set, task.variant, near, settings.seed)
        case "length":
            part = evaluated_part(embedding_set)
            return {"split": part.split, **length_curve(part, task.variant)}
        case "sentences":
            part = evaluated_part(embedding_set)
            return {"split": part.split, **sentence_effects(part, task.variant)}
        case "negatives":
            part = evaluated_part(embedding_set)
            return {"split": part.split, **negative_accuracy(part)}
        case "text_lengths":
            return length_histogram(embedding_set)
        case "zeroshot":
            part = evaluated_part(embedding_set)
            average = task.variant or "normalised"
            return {"split": part.split, **zeroshot_of_set(part, average, None, _mask(part, near), settings.seed)}
        case "selo":
            return selo_of_set(embedding_set, threads=settings.threads, version=task.variant or "v1")
        case _:
            return _probe(task, embedding_set, settings)


def evaluated_part(embedding_set: EmbeddingSet) -> EmbeddingSet:
    """Returns the test images and what belongs to them, where images carry several splits; otherwise the set itself."""
    images = evaluated_images(embedding_set)
    if len(images) == len(embedding_set.image_rows):
        return embedding_set
    kept = {embedding_set.image_rows[row]["id"] for row in images}
    known = embedding_set.row_of_id.keys() - kept
    texts = np.flatnonzero([text.get("image") not in known for text in embedding_set.text_rows]).tolist()
    return dataclasses.replace(
        embedding_set,
        meta={**embedding_set.meta, "split": "test"},
        images=embedding_set.images[images],
        texts=embedding_set.texts[texts],
        image_norms=embedding_set.image_norms[images],
        text_norms=embedding_set.text_norms[texts],
        image_rows=[embedding_set.image_rows[row] for row in images],
        text_rows=[embedding_set.text_rows[row] for row in texts],
    )


def evaluated_images(embedding_set: EmbeddingSet) -> list[int]:
    """Returns the rows of the images that `evaluated_part` keeps."""
    splits = [image.get("split") for image in embedding_set.image_rows]
    tested = [row for row, split in enumerate(splits) if split == "test"]
    return tested or list(range(len(splits)))


def captions(embedding_set: EmbeddingSet, kind: str) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Returns the whole texts of a kind: their rows in the set, their embeddings [T, D], and each one's image row."""
    rows = embedding_set.text_rows_of(kind)
    return rows, embedding_set.texts[rows], embedding_set.image_of_text(rows)


def _captions_an_image(text: Mapping) -> bool:
    return text.get("image") is not None


def _mask(part: EmbeddingSet, near: Collection[str] | None) -> np.ndarray | None:
    """Which images of a set have these ids, bool [I]."""
    return None if near is None else np.array([image["id"] in near for image in part.image_rows], bool)


def _retrieval(embedding_set: EmbeddingSet, kind: str, near: Collection[str] | None, seed: int) -> dict:
    part = evaluated_part(embedding_set)
    rows, texts, image_of_text = captions(part, kind)
    if not len(rows):
        raise InputError(f"{embedding_set.path}: no {kind} text belongs to a test image")
    mask = _mask(part, near)
    cleaned = None if mask is None else cleaned_retrieval(part.images, texts, image_of_text, mask, seed)
    emptied = cleaned and cleaned["left_out"] and "images" not in cleaned
    return {
        "kind": kind,
        "split": part.split,
        **retrieval_metrics(part.images, texts, image_of_text),
        **({"stops": part.meta["stops"]} if "stops" in part.meta else {}),
        **_cut(part, rows),
        "chance": chance(len(part.images), image_of_text),
        **({"cleaned": cleaned} if cleaned else {}),
        **({"warning": f"every image with a {kind} text is near a training image: none is left"} if emptied else {}),
    }


def _cut(part: EmbeddingSet, rows: np.ndarray) -> dict:
    """How many texts had more tokens than the model takes, where the set tells."""
    context = part.meta.get("context_length")
    lengths = [part.text_rows[row].get("length") for row in rows]
    if context is None or None in lengths:
        return {}
    return {"context_length": context, "cut": sum(length > context for length in lengths)}


def _probe(task: EvalTask, embedding_set: EmbeddingSet, settings: MeasureSettings) -> dict:
    # scikit-learn takes longer to load than most tasks take: a process that measures no probe does without.
    from eval.probe import probe_set

    if task.variant == ITRA:
        probe = {"linear_probe": probe_set.itra_linear_of_set, "knn": probe_set.itra_knn_of_set}[task.name]
        result = {"protocol": ITRA, **probe(embedding_set)}
    else:
        seeded = {
            "linear_probe": probe_set.linear_probe_of_set,
            "knn": probe_set.knn_of_set,
            "few_shot": probe_set.few_shot_of_set,
        }[task.name]
        result = seeded(embedding_set, settings.seed, kept_split(embedding_set, settings.splits, settings.seed))
    return {"parts": result.pop("split"), **result}  # `split` of a result names the split of the data set
