"""Texts of classes: the rows of texts.jsonl that zero-shot classification needs."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

from eval.errors import InputError
from eval.facts import classes
from eval.reading import read_json


def class_texts(labels: Iterable[str], names: Sequence[str], source: str | None = None) -> list[dict[str, Any]]:
    """Returns a row of texts.jsonl for every template of every class, the classes in order.

    Args:
      labels: of the images, with repetitions.
      names: of templates, or templates with {} for the class, as `eval.facts.classes.templates` takes them.
      source: what to call the classes: the name of a data set that `eval.facts.classes` knows, or a JSON file
        {label: words}. Without one, the known data set whose classes these are decides, whose wording may depend on
        the templates; or else the label itself, in words.

    Raises:
      InputError: unknown templates or data set, a class without words.
    """
    found = sorted(set(labels))
    dataset, words = classes.recognise(found), {label: classes.words(label) for label in found}
    if source and source.endswith(".json"):
        dataset, words = None, _words_of_file(source, found)
    elif source:
        dataset = classes.dataset(source)
    called: dict[str, dict[str, str]] = {}
    for name in names:
        protocol = classes.PLAIN if "{" in name else name
        for template in classes.templates(name, dataset.name if dataset else None):
            called.setdefault(template, dataset.words(found, protocol) if dataset else words)
    return [
        {"text": template.replace("{}", called[template][label]), "kind": "class", "label": label, "template": template}
        for label in found
        for template in called
    ]


def _words_of_file(source: str, labels: Sequence[str]) -> dict[str, str]:
    try:
        words: dict[str, str] = read_json(source, dict[str, str])
    except InputError as error:
        raise InputError(f"{error}; a JSON object {{label: words}} is expected") from None
    if unnamed := [label for label in labels if label not in words]:
        raise InputError(f"{source} has no words for {', '.join(unnamed)}")
    return words
