"""The line between two checkpoints: its ends made to fit each other, a point of it, and what a point scores."""

from __future__ import annotations

import dataclasses
import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from tqdm import tqdm

from eval.class_texts import class_texts
from eval.embeddings import EmbeddingSet
from eval.suite.tasks import EvalTask, MeasureSettings, measure, tasks_of
from lrsclip_jax import fitting, pretrained, weights
from lrsclip_jax.data.parallel import in_threads
from lrsclip_jax.embed.material import Material, material_of, seen_by
from lrsclip_jax.errors import InputError
from lrsclip_jax.pretrained import Pretrained
from lrsclip_jax.sharding import replicated
from lrsclip_jax.sources import open_source
from lrsclip_jax.sources.row_values import clean

_SCORES = {"retrieval": "mean_recall", "zeroshot": "accuracy"}


class Ends(NamedTuple):
    """The ends of a line: the model of B, which serves for all points, and the parameters of both."""

    model: Pretrained
    before: Any
    after: Any

    @classmethod
    def of(cls, before: str, after: str, *, dtype: str | None, batch_size: int) -> Ends:
        """Reads both, with LoRA merged, and makes `before` fit as training from it does: positions stretched or cut.

        Raises InputError where one can't be read, is of another model, has adapters that no kernel expresses, or sees
        other pixels.
        """
        model = pretrained.load(after, dtype=dtype, batch_size=batch_size, merge=True)
        found = weights.merged(weights.read(before), before)
        start = fitting.fitted(model.clip, found, before)
        weights.check_pixels(before, found.preprocessing, after, model.preprocessing)
        if start.keys() != model.params.keys():
            raise InputError(f"{after} has {', '.join(sorted(model.params.keys() ^ start.keys()))}, {before} does not")
        start = jax.device_put(jax.tree.map(jnp.float32, start), replicated(model.mesh))
        return cls(model, start, model.params)

    def at(self, alpha: float) -> Pretrained:
        """Returns the model at a point of the line: (1 − alpha)·before + alpha·after."""
        return dataclasses.replace(self.model, params=_between(self.before, self.after, jnp.float32(alpha)))

    def hashes(self) -> list[str]:
        """Returns a hash of the weights at each end."""
        return [dataclasses.replace(self.model, params=params).weights_hash for params in (self.before, self.after)]


@jax.jit
def _between(before: Any, after: Any, alpha: jax.Array) -> Any:
    return jax.tree.map(lambda a, b: (1 - alpha) * a + alpha * b, before, after)


class ScoredSet(NamedTuple):
    """A data set to score by: its name, the last part of its source; images and texts; the tasks that they allow."""

    name: str
    material: Material
    tasks: Sequence[EvalTask]


def scored_sets(sources: Sequence[str], templates: Sequence[str] | None) -> list[ScoredSet]:
    """Opens the sources; InputError for one that can't be read, has nothing to score, or two of one name."""
    sets = [_opened(source, templates) for source in sources]
    names = [each.name for each in sets]
    if twice := sorted({name for name in names if names.count(name) > 1}):
        raise InputError(f"--data: two sets are called {twice[0]}, and their scores would be")
    return sets


def _opened(source: str, templates: Sequence[str] | None) -> ScoredSet:
    material = material_of(open_source(source, folders="labels" if templates else "known"))
    texts = list(material.texts)
    labels = [image["label"] for image in material.images if "label" in image]
    if labels and not all(label.lstrip("-").isdigit() for label in labels):  # numbers name no class
        texts += class_texts(labels, templates or ["lrsclip"])
    material = dataclasses.replace(material, texts=texts)
    tasks = [task for task in tasks_of(_set(material, *_nothing(material))) if _is_scored(task)]
    if not tasks:
        raise InputError(f"--data={source} has neither captions nor named classes: nothing to score by")
    return ScoredSet(clean(source.rstrip("/").rsplit("/", 1)[-1]), material, tasks)


def _nothing(material: Material) -> tuple[np.ndarray, np.ndarray]:
    return np.zeros((len(material.images), 1), np.float32), np.zeros((len(material.texts), 1), np.float32)


def _is_scored(task: EvalTask) -> bool:
    return task.name in _SCORES and task.variant != "raw"


def scores_at(model: Pretrained, sets: Sequence[ScoredSet], alpha: float) -> dict[str, float]:
    """Returns the scores of a model in per cent: "SET/short" and "SET/long", mean recalls, and "SET/zeroshot"."""
    found = {}
    for each in sets:
        embedded = _set(each.material, *_rows(model, each, alpha))
        for task in each.tasks:
            measured = measure(task, embedded, MeasureSettings(Path(), 0, 1))
            found[score_name(each, task)] = measured[_SCORES[task.name]]
    return found


def score_name(of: ScoredSet, task: EvalTask) -> str:
    """Returns the name of a score, such as "rsicd:test/short" or "WHU-RS19/zeroshot"."""
    return f"{of.name}/{task.variant or task.name}"


def _rows(model: Pretrained, of: ScoredSet, alpha: float) -> tuple[np.ndarray, np.ndarray]:
    """Returns unit embeddings of a set's images and texts."""
    material = seen_by(of.material, model.preprocessing, model.layout)
    shown = tqdm(range(len(material.images)), f"{of.name} at {alpha:g}", leave=False, disable=None)
    images = model.encode("image", in_threads(lambda row: model.preprocess(material.read(row)), shown))
    with warnings.catch_warnings():  # of texts that are cut: at every point the same, and scored as in training
        warnings.simplefilter("ignore", UserWarning)
        texts = model.texts(text["text"] for text in material.texts)
    return images / np.linalg.norm(images, axis=1, keepdims=True), texts


def _set(material: Material, images: np.ndarray, texts: np.ndarray) -> EmbeddingSet:
    meta = {"model": "", "dataset": material.name, "split": material.split, "features": "projected"}
    return EmbeddingSet(
        path=Path(material.name),
        meta=meta,
        images=images,
        texts=texts,
        image_norms=np.ones(len(images), np.float32),
        text_norms=np.ones(len(texts), np.float32),
        image_rows=material.images,
        text_rows=material.texts,
    )
