"""Measured results as rows of the papers' tables, addressed as in `eval.papers.published_tables`."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from eval.errors import InputError
from eval.facts import classes
from eval.papers.published_tables import PublishedTable, address, key
from eval.reading import read_json
from eval.results import checked_result

Result = Mapping[str, Any]
SELO = ("R_su", "R_as", "R_da", "R_mi")
PROBES = {"linear_probe": "linear/accuracy", "knn": "knn/accuracy"}


class Measurement(NamedTuple):
    """A value, and how its protocol departs from the table's: "" where it does not."""

    value: float
    departure: str


def read_results(folder: str | Path) -> list[dict]:
    """Returns the results in all JSON files at or below a folder; files that hold something else are passed over.

    Raises:
      InputError: the folder is not there or has no result, a file is no JSON, or a result is damaged, lacks a field of
        its task, or has one of another type.
    """
    folder = Path(folder)
    if not folder.is_dir():
        raise InputError(f"{folder}: no such folder")
    found = []
    for path in sorted(folder.rglob("*.json")):
        content: Any = read_json(path)
        if isinstance(content, dict) and {"task", "model", "dataset"} <= content.keys():
            found.append(checked_result(content, str(path)))
    if not found:
        raise InputError(f"{folder}: no results there; `lrsclip evaluate SETS --out={folder}` makes them")
    return found


def measured(results: Iterable[Result], table: PublishedTable) -> dict[str, dict[tuple[str, str], Measurement]]:
    """Returns {model: {address: measurement}} of what the table asks for, means of columns included.

    Where a model has several results for one place, the first that keeps to the table's protocol is taken, or else
    the first. The features of an image tower make a row of their own.

    Raises:
      InputError: a result lacks a metric of its task.
    """
    printed = {address(path) for row in table.rows for path in row.values}
    asked = printed | {address(part) for row in table.rows for parts in table.means_of(row).values() for part in parts}
    found: dict[str, dict[tuple[str, str], Measurement]] = {}
    for result in results:
        try:
            values = {place: value for place, value in _values(result, table.templates).items() if place in asked}
        except (KeyError, TypeError, AttributeError) as error:
            what = f"{result['task']} of {result['model']} on {result['dataset']}"
            raise InputError(f"the result {what} is damaged ({error!r}): measure it again") from None
        if values:
            row = found.setdefault(_row_name(result), {})
            departure = _departure(result, table)
            for place, value in values.items():
                if place not in row or (row[place].departure and not departure):
                    row[place] = Measurement(value, departure)
    for row in found.values():
        row.update(_means(row, table))
    return {name: row for name, row in found.items() if printed & row.keys()}


def _values(result: Result, templates: Sequence[str]) -> dict[tuple[str, str], float]:
    task, dataset = result["task"], _dataset(result)
    if task == "retrieval":
        recalls = {
            f"{way}/{k}": value for way in ("text_to_image", "image_to_text") for k, value in result[way].items()
        }
        metrics = {**recalls, "mean_recall": result["mean_recall"]}
    elif task == "zeroshot":
        alone = (result.get("per_template", {}).get(template) for template in templates)
        metrics = {"accuracy": next((value for value in alone if value is not None), result["accuracy"])}
    elif task in PROBES:
        metrics = {PROBES[task]: result["accuracy"]}
    elif task == "few_shot":
        metrics = {f"{shots}/accuracy": of_draws["mean"] for shots, of_draws in result["shots"].items()}
    elif task == "selo":
        metrics = {name: result[name] for name in SELO}
    else:
        metrics = {}
    return {(dataset, metric): value for metric, value in metrics.items()}


def _dataset(result: Result) -> str:
    """The key of the data set as the papers name it: long texts make RSITMD-L of RSITMD, short ones the reverse."""
    name = key(result["dataset"])
    if result["task"] == "retrieval":
        name = name.removesuffix("captions")
        if result.get("kind") and name.removesuffix("l") in ("rsitmd", "rsicd"):
            name = name.removesuffix("l") + ("l" if result["kind"] == "long" else "")
    elif result["task"] != "selo":
        try:
            name = key(classes.dataset(result["dataset"]).title)
        except InputError:
            pass  # a data set of the user's own: no table asks for it
    return name


def _row_name(result: Result) -> str:
    return result["model"] + (", encoder features" if result.get("features") == "encoder" else "")


def _means(row: Mapping[tuple[str, str], Measurement], table: PublishedTable) -> dict[tuple[str, str], Measurement]:
    found = {}
    for of_row in table.rows:
        for path, names in table.means_of(of_row).items():
            parts = [row[address(name)] for name in names if address(name) in row]
            if len(parts) == len(names):
                value = sum(part.value for part in parts) / len(parts)
                found[address(path)] = Measurement(value, "; ".join(filter(None, (part.departure for part in parts))))
    return found


def _departure(result: Result, table: PublishedTable) -> str:
    """Returns the differences from the published protocol: another test set, other templates; "" for none."""
    dataset, split = _dataset(result), result.get("split")
    counts = {**table.counts, **{start: n for row in table.rows for start, n in row.counts.items()}}
    published = {(key(start.split("/")[0]), start.partition("/")[2]): n for start, n in counts.items()}
    of_split = f" of split {split}" if isinstance(split, str) else ""
    said = []
    if result["task"] == "retrieval":
        ours = result.get("texts"), result.get("image_queries")
        theirs = published.get((dataset, "text_to_image")), published.get((dataset, "image_to_text"))
        if None not in (*ours, *theirs) and ours != theirs:
            said.append(f"{ours[0]:,} texts of {ours[1]:,} images{of_split}, published {theirs[0]:,} of {theirs[1]:,}")
    if result["task"] == "zeroshot":
        ours, theirs = result.get("images"), published.get((dataset, ""))
        if None not in (ours, theirs) and ours != theirs:
            said.append(f"{ours:,} images{of_split}, published {theirs:,}")
        used = set(result.get("templates", ()))
        if table.templates and used and not used & set(table.templates):
            one = f"“{next(iter(used))}”" if len(used) == 1 else f"{len(used)} templates"
            said.append(f"{one}, published with “{table.templates[0]}”")
    return f"{result['dataset']}: {'; '.join(said)}" if said else ""
