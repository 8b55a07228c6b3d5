"""Zero-shot classification of unit embeddings: class vectors from prompts, accuracy, per-class recall, confusion.

An image belongs to the class whose vector scores highest, the first class among equal scores. Where a class has
several prompts, published numbers rest on one of two means. OpenAI's CLIP, CLIP_benchmark, Long-CLIP and SkyScript
normalise every prompt's row, average, and normalise the mean; ITRA, which evaluated RemoteCLIP, and GeoRSCLIP average
the rows as the text tower gives them and normalise once.
"""

from __future__ import annotations

from collections.abc import Hashable, Sequence

import numpy as np
from tqdm import tqdm

from eval.below_chance import below_chance
from eval.cleaned import random_parts
from eval.embeddings import EmbeddingSet
from eval.errors import InputError, nearest
from eval.scores import block_scores, check_unit_rows, matching_matrices, read_rows, spans

AVERAGES = ("normalised", "raw")
BLOCK = 2048  # images that are compared at a time,
SCORES = 2**22  # or so few that their scores are not more
VANISHING = 1e-6  # a mean this short, relative to its rows, is rounding and no direction


def class_vectors(texts, norms, class_of_text: Sequence, classes: Sequence, average: str = "normalised") -> np.ndarray:
    """Returns the unit vector of each class, float32 [C, D].

    Args:
      texts: unit rows [T, D] of the prompts.
      norms: float [T], their lengths before normalisation; "normalised" does without.
      class_of_text: which of `classes` each text names, [T].
      classes: C names.
      average: "normalised", the mean of unit rows, or "raw", of rows at their own lengths; the mean is normalised.

    Raises:
      InputError: the average is unknown, a row is not finite or not of unit length, a length is not positive, a text
        is of no class, a class has no texts, or its texts cancel out.
    """
    if average not in AVERAGES:
        raise InputError(f"average is {average!r}{nearest(average, AVERAGES)} (known: {', '.join(AVERAGES)})")
    texts = np.asarray(texts)
    if texts.ndim != 2:
        raise InputError(f"texts must be a matrix, got the shape {texts.shape}")
    check_unit_rows(texts, "class texts")
    of_class = _indices(class_of_text, classes, "class text", len(texts))
    _check_present(of_class, classes, "texts")
    rows = read_rows(texts, slice(None))
    weights = _lengths(norms, len(texts)) if average == "raw" else 1 / np.linalg.norm(rows, axis=1)
    sums = np.zeros((len(classes), rows.shape[1]))
    np.add.at(sums, of_class, rows * weights[:, None])
    lengths = np.linalg.norm(sums, axis=1)
    without = np.flatnonzero(lengths <= VANISHING * np.bincount(of_class, weights))
    if len(without):
        raise InputError(f"the texts of class {classes[without[0]]!r} cancel out: their mean is zero")
    return (sums / lengths[:, None]).astype(np.float32)


def zeroshot_metrics(images, class_vectors, label_of_image: Sequence, classes: Sequence) -> dict:
    """Returns how well the class vectors tell the images apart; recalls and accuracies in per cent.

    Args:
      images: unit rows [I, D], read block by block, so they may be memory-mapped.
      class_vectors: unit rows [C, D].
      label_of_image: which of `classes` each image shows, [I].
      classes: C names.

    Returns:
      `{"accuracy": share of right images, "mean_per_class_recall": …, "per_class": {class: recall}, "confusion":
      [[int]], true classes down and predicted ones across, "classes": [C names], "images": I}`.

    Raises:
      InputError: dimensions differ, a row is not finite or not of unit length, an image's label is no class, or a
        class has no images.
    """
    images, vectors = matching_matrices(images=images, class_vectors=class_vectors)
    true = _indices(label_of_image, classes, "image", len(images))
    predicted, _ = _predictions(images, vectors[None], true, classes)
    return _metrics(_confusion(true, predicted, classes), classes)


def zeroshot_of_set(
    embedding_set: EmbeddingSet,
    average: str = "normalised",
    templates: Sequence[str] | None = None,
    near: np.ndarray | None = None,
    seed: int = 0,
) -> dict:
    """Returns the result of `zeroshot_metrics` for a set's images and its class texts, and of each template alone.

    Args:
      embedding_set: projected features; its images and its texts of kind "class" have labels.
      average: of a class's prompts, as for `class_vectors`.
      templates: the templates to use; by default all class texts count, those without a template too.
      near: bool [I], the images that are near training images, where those are to be left out once.
      seed: of random parts as large as the rest.

    Returns:
      The metrics, with `templates` (those in use), `average`, and where they are several `per_template` {template:
      accuracy of its prompts alone}; a `warning` where it is below chance (`eval.below_chance`). Classes stand in the
      order of their texts. With `near`, `cleaned` {"left_out": …, "accuracy", "mean_per_class_recall" (of classes that
      have an image left), "images", "per_template", "random": {"draws", "images", "accuracy", "accuracy_std",
      "mean_per_class_recall"}}: all classes stay to be chosen from. `left_out` stands alone where it is 0, or all.

    Raises:
      InputError: what is missing in the set or wrong with it.
    """
    label_of_image = embedding_set.labels()
    try:
        return _of_set(embedding_set, label_of_image, average, templates, near, seed)
    except InputError as error:
        raise InputError(f"{embedding_set.path}: {error}") from None


def _of_set(
    embedding_set: EmbeddingSet,
    label_of_image: Sequence[str] | None,
    average: str,
    templates: Sequence[str] | None,
    near: np.ndarray | None,
    seed: int,
) -> dict:
    if embedding_set.features != "projected":
        raise InputError(f"zero-shot classification needs projected features, these are {embedding_set.features}")
    rows = embedding_set.text_rows_of("class")
    template_of = np.array([embedding_set.text_rows[row].get("template") for row in rows], object)
    known = [template for template in dict.fromkeys(template_of) if template is not None]
    if templates is not None:
        for template in templates:
            if template not in known:
                raise InputError(f"no class text has the template {template!r}{nearest(template, known)}")
        chosen = np.array([template in templates for template in template_of], bool)
        rows, template_of, known = rows[chosen], template_of[chosen], list(dict.fromkeys(templates))
    if not len(rows):
        raise InputError("no class texts")
    label_of = _labels_of_texts(embedding_set, rows)
    if label_of_image is None:
        raise InputError("the images have no labels")
    classes = list(dict.fromkeys(label_of))

    def vectors(chosen: np.ndarray) -> np.ndarray:
        texts, norms = embedding_set.texts[rows[chosen]], embedding_set.text_norms[rows[chosen]]
        return class_vectors(texts, norms, label_of[chosen], classes, average)

    classifiers = [vectors(np.ones(len(rows), bool))]
    for template in known if len(known) > 1 else ():
        try:
            classifiers.append(vectors(template_of == template))
        except InputError as error:
            raise InputError(f"template {template!r}: {error}") from None
    images, _ = matching_matrices(images=embedding_set.images, class_vectors=classifiers[0])
    true = _indices(label_of_image, classes, "image", len(images))
    predicted, right = _predictions(images, np.stack(classifiers), true, classes)
    confusion = _confusion(true, predicted, classes)
    result = {**_metrics(confusion, classes), "templates": known, "average": average, **below_chance(confusion)}
    alone = right[1:] if len(known) > 1 else right[:0]
    result |= _per_template(known, alone)
    if near is not None:
        result["cleaned"] = _cleaned(true, predicted, np.asarray(near, bool), classes, seed)
        if "accuracy" in result["cleaned"]:
            result["cleaned"] |= _per_template(known, alone[:, ~near])
    return result


def _per_template(known: Sequence[str], alone: np.ndarray) -> dict:
    """The accuracy of each template alone, whose right images are bool [K, I], where there are several."""
    if not len(alone):
        return {}
    return {"per_template": dict(zip(known, (100 * alone.sum(axis=1) / alone.shape[1]).tolist(), strict=True))}


def _cleaned(true: np.ndarray, predicted: np.ndarray, near: np.ndarray, classes: Sequence, seed: int) -> dict:
    left_out = int(near.sum())
    if left_out in (0, len(near)):
        return {"left_out": left_out}

    def scores(rows: np.ndarray) -> tuple[float, float]:
        of_class = np.bincount(true[rows], minlength=len(classes))
        right = np.bincount(true[rows][predicted[rows] == true[rows]], minlength=len(classes))
        return 100 * right.sum() / len(rows), 100 * float(np.mean(right[of_class > 0] / of_class[of_class > 0]))

    kept = np.flatnonzero(~near)
    accuracy, recall = scores(kept)
    drawn = np.array([scores(rows) for rows in random_parts(len(near), len(kept), seed)])
    return {
        "left_out": left_out,
        "accuracy": float(accuracy),
        "mean_per_class_recall": recall,
        "images": len(kept),
        "random": {
            "draws": len(drawn),
            "images": len(kept),
            "accuracy": float(drawn[:, 0].mean()),
            "accuracy_std": float(drawn[:, 0].std(ddof=1)),
            "mean_per_class_recall": float(drawn[:, 1].mean()),
        },
    }


def _labels_of_texts(embedding_set: EmbeddingSet, rows: np.ndarray) -> np.ndarray:
    labels = np.array([embedding_set.text_rows[row].get("label") for row in rows], object)
    without = [row for row, label in zip(rows, labels, strict=True) if label is None]
    if without:
        raise InputError(f"texts.jsonl, line {without[0] + 1}: a class text without a label")
    return labels


def _predictions(
    images: np.ndarray, classifiers: np.ndarray, true: np.ndarray, classes: Sequence
) -> tuple[np.ndarray, np.ndarray]:
    """The class that the first of K classifiers [K, C, D] gives each image, int [I], and who is right, bool [K, I].

    All of them see a block of images while it is at hand: the images are read once.
    """
    several, count, dim = classifiers.shape
    if count != len(classes):
        raise InputError(f"{count} class vectors for {len(classes)} classes")
    _check_present(true, classes, "images")
    check_unit_rows(images, "images")
    vectors = classifiers.reshape(-1, dim)
    check_unit_rows(vectors, "class vectors")
    vectors = read_rows(vectors, slice(None))
    predictions, right = np.empty(len(images), np.int64), np.empty((several, len(images)), bool)
    blocks = list(spans(len(images), max(1, min(BLOCK, SCORES // len(vectors)))))
    for span in tqdm(blocks, desc="zero-shot", unit="block", delay=1, disable=None, leave=False):
        scores = block_scores(read_rows(images, span), vectors)
        predicted = scores.reshape(-1, several, count).argmax(axis=2)
        predictions[span] = predicted[:, 0]
        right[:, span] = (predicted == true[span, None]).T
    return predictions, right


def _confusion(true: np.ndarray, predicted: np.ndarray, classes: Sequence) -> np.ndarray:
    """Counts [C, C], true classes down and predicted ones across."""
    count = len(classes)
    return np.bincount(true * count + predicted, minlength=count**2).reshape(count, count)


def _metrics(confusion: np.ndarray, classes: Sequence) -> dict:
    recalls = 100 * confusion.diagonal() / confusion.sum(axis=1)
    return {
        "accuracy": float(100 * confusion.trace() / confusion.sum()),
        "mean_per_class_recall": float(recalls.mean()),
        "per_class": dict(zip(classes, recalls.tolist(), strict=True)),
        "confusion": confusion.tolist(),
        "classes": list(classes),
        "images": int(confusion.sum()),
    }


def _indices(labels: Sequence, classes: Sequence, what: str, count: int) -> np.ndarray:
    """The place of each label among the classes, int64 [N]."""
    places: dict[Hashable, int] = {}
    for place, name in enumerate(classes):
        if places.setdefault(name, place) != place:
            raise InputError(f"class {name!r} is listed twice")
    if len(labels) != count:
        raise InputError(f"{len(labels)} labels for {count} {what}s")
    for row, label in enumerate(labels):
        if label not in places:
            raise InputError(f"{what} {row} is of {label!r}, which is no class{nearest(str(label), map(str, classes))}")
    return np.fromiter((places[label] for label in labels), np.int64, count)


def _check_present(places: np.ndarray, classes: Sequence, what: str) -> None:
    empty = np.flatnonzero(np.bincount(places, minlength=len(classes)) == 0)
    if len(empty):
        raise InputError(f"class {classes[empty[0]]!r} has no {what}")


def _lengths(norms, count: int) -> np.ndarray:
    lengths = np.asarray(norms, np.float64)
    if lengths.shape != (count,):
        raise InputError(f"norms of shape {lengths.shape} for {count} class texts")
    wrong = np.flatnonzero(~(np.isfinite(lengths) & (lengths > 0)))
    if len(wrong):
        raise InputError(f"class text {wrong[0]} has the length {lengths[wrong[0]]:.4g} before normalisation")
    return lengths
