"""Results as a long table: a row for every number, in a CSV file."""

from __future__ import annotations

import csv
import io
import numbers
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

COLUMNS = ("model", "dataset", "split", "features", "task", "metric", "value")
# What says where a result comes from, and what the JSON file alone holds.
LEFT_OUT = {*COLUMNS, "kind", "set", "made_by", "fingerprint", "tokens", "seed", "bin"}


def csv_of(results: Iterable[Mapping[str, Any]]) -> str:
    """Returns all numbers of results as CSV under `COLUMNS`, a header first."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(COLUMNS)
    for result in results:
        of = [result[key] or "" for key in COLUMNS[:4]]
        writer.writerows([*of, task_of(result), metric, value] for metric, value in numbers_of(result))
    return text.getvalue()


def task_of(result: Mapping[str, Any]) -> str:
    """Returns a result's task with its variant, such as "retrieval_long" or "zeroshot_raw"."""
    variant = result.get("kind") or ("raw" if result.get("average") == "raw" else None)
    return f"{result['task']}_{variant}" if variant else result["task"]


def numbers_of(result: Mapping[str, Any]) -> Iterator[tuple[str, float]]:
    """Yields every metric and count by its name, such as "text_to_image/R@1"; of a length sweep also by its tokens."""
    tokens = result.get("tokens") if result["task"] == "length" else None
    for key in (key for key in result if key not in LEFT_OUT):
        yield from _numbers(key, result[key], tokens)


def _numbers(name: str, value: Any, tokens: list[int] | None) -> Iterator[tuple[str, float]]:
    if isinstance(value, numbers.Real) and not isinstance(value, bool):
        yield name, value
    elif isinstance(value, Mapping):
        for key, inner in value.items():
            yield from _numbers(f"{name}/{key}", inner, tokens)
    elif tokens and isinstance(value, list) and len(value) == len(tokens):
        yield from ((f"{name}/{n} tokens", each) for n, each in zip(tokens, value, strict=True))
