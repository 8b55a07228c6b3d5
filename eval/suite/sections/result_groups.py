"""How results are named and gathered into tables: a table for each data set, a row for each model."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from eval.html.elements import Html, join, remark
from eval.papers.measured import cleaned_of

Result = Mapping[str, Any]


def model_of(result: Result) -> str:
    """Returns the name of a result's row: the model, and its features where they are not the projected ones."""
    return result["model"] if result["features"] == "projected" else f"{result['model']}, {result['features']} features"


def data_of(result: Result) -> str:
    """Returns the name of a result's data: the data set, as the papers call it, and its split where it is of one."""
    name = result.get("benchmark") or result["dataset"]
    return f"{name}, {result['split']}" if result["split"] else name


def by_data(results: Iterable[Result], task: str, **wanted: str) -> dict[str, list[Result]]:
    """Returns the results of a task by data set, in their order; only those whose entries are as `wanted`."""
    found: dict[str, list[Result]] = {}
    for result in results:
        if result["task"] == task and all(result.get(key) == value for key, value in wanted.items()):
            found.setdefault(data_of(result), []).append(result)
    return found


def with_cleaned(results: Iterable[Result]) -> dict[str, Result]:
    """Returns results by the names of their rows: each whole one, the cleaned one, and that of as many at random."""
    found: dict[str, Result] = {}
    for result in results:
        name, cleaned = model_of(result), cleaned_of(result)
        found[name] = result
        if cleaned:
            found[f"{name}, cleaned: {cleaned['images']:,} images"] = cleaned
            found[f"{name}, {cleaned['images']:,} images at random"] = cleaned["random"]
    return found


def told_once(remarks: Iterable[tuple[str, str]]) -> Html:
    """Returns remarks (name of a row, what to say of it), those that say the same together."""
    of_text: dict[str, dict[str, None]] = {}
    for name, text in remarks:
        of_text.setdefault(text, {})[name] = None
    return join(*(remark(f"{'; '.join(names)}: {text}.") for text, names in of_text.items()))
