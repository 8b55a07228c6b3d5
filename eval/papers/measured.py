"""Measured results as rows of the papers' tables, addressed as in `eval.papers.published_tables`."""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from eval.errors import InputError
from eval.facts.names import Kind, meaning
from eval.papers.departures import ITRA, Result, departures
from eval.papers.published_tables import PublishedTable, address, key
from eval.papers.studies import is_of, study_of
from eval.results import checked_result
from eval.seals import read_sealed

SELO = ("R_su", "R_as", "R_da", "R_mi")
PROBES = {"linear_probe": "linear/accuracy", "knn": "knn/accuracy"}


class Measurement(NamedTuple):
    """A value, and how its protocol departs from the table's: a phrase for each difference."""

    value: float
    departures: tuple[str, ...] = ()


class OurRow(NamedTuple):
    """The measurements of a model by their addresses; in a table of an ablation also the heads of its row."""

    values: dict[tuple[str, str], Measurement]
    heads: Mapping[str, str]


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
        content: Any = read_sealed(path)
        if isinstance(content, dict) and {"task", "model", "dataset"} <= content.keys():
            found.append(checked_result(content, str(path)))
    if not found:
        raise InputError(f"{folder}: no results there; `lrsclip evaluate SETS --out={folder}` makes them")
    return found


def cleaned_of(result: Result) -> Result | None:
    """Returns a result without the images near training images, as if it were one; None where it tells none."""
    cleaned = result.get("cleaned", {})
    if "images" not in cleaned:
        return None
    return {**result, **cleaned, "model": f"{result['model']}, cleaned"}


def measured(results: Iterable[Result], table: PublishedTable) -> dict[str, OurRow]:
    """Returns {name: row} of what the table asks for, means of columns included.

    A result of a set that was cleaned as well makes two rows. Where a model has several results for one place, the
    first that keeps to the table's protocol is taken, or else the first. The features of an image tower, and the second
    version of localisation, make rows of their own. A table of an ablation has only the models whose `study` names it.

    Raises:
      InputError: a result lacks a metric of its task, or its study is none.
    """
    printed = {address(path) for row in table.rows for path in row.values}
    asked = printed | {address(part) for row in table.rows for parts in table.means_of(row).values() for part in parts}
    found: dict[str, OurRow] = {}
    for result in itertools.chain.from_iterable((result, cleaned_of(result)) for result in results):
        if result is None:
            continue
        what = f"{result['task']} of {result['model']} on {result['dataset']}"
        study = study_of(result, f"the result {what}")
        if "ablation" in table.tasks and not (study and is_of(study, table)):
            continue
        try:
            values = {place: value for place, value in _values(result, table.templates).items() if place in asked}
            said = departures(result, _dataset(result), table) if values else ()
        except (KeyError, TypeError, AttributeError) as error:
            raise InputError(f"the result {what} is damaged ({error!r}): measure it again") from None
        if values:
            name = _row_name(result)
            if study and "ablation" in table.tasks and f", seed {study.seed}" not in name:
                name += f", seed {study.seed}"
            row = found.setdefault(name, OurRow({}, study.heads if study and "ablation" in table.tasks else {}))
            for place, value in values.items():
                if place not in row.values or (row.values[place].departures and not said):
                    row.values[place] = Measurement(value, said)
    for row in found.values():
        row.values.update(_means(row.values, table))
    return {name: row for name, row in found.items() if printed & row.values.keys()}


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
        weighted = task == "knn" and result.get("protocol") == ITRA
        metrics = {PROBES[task]: result["accuracy_weighted" if weighted else "accuracy"]}
    elif task == "few_shot":
        metrics = {f"{shots}/accuracy": of_draws["mean"] for shots, of_draws in result["shots"].items()}
    elif task == "selo":
        metrics = {name: result[name] for name in SELO}
    elif task == "segmentation":
        metrics = {"mIoU": result["mIoU"]}
    else:
        metrics = {}
    return {(dataset, metric): value for metric, value in metrics.items()}


def dataset_of(result: Result) -> str:
    """Returns the data set that a result is of, as the papers' tables call it, or else its own name."""
    kind: Kind = {"retrieval": "captions", "selo": "scenes"}.get(result["task"], "classes")  # type: ignore[assignment]
    return result.get("benchmark") or meaning(result["dataset"], kind) or result["dataset"]


def _dataset(result: Result) -> str:
    """The key of the data set as the papers name it: long texts make RSITMD-L of RSITMD, short ones the reverse."""
    name = key(dataset_of(result))
    if result["task"] == "retrieval" and result.get("kind") and name.removesuffix("l") in ("rsitmd", "rsicd"):
        return name.removesuffix("l") + ("l" if result["kind"] == "long" else "")
    return name


def _row_name(result: Result) -> str:
    second = ", SeLo v2" if result.get("version") == "v2" else ""
    return result["model"] + (", encoder features" if result.get("features") == "encoder" else "") + second


def _means(row: Mapping[tuple[str, str], Measurement], table: PublishedTable) -> dict[tuple[str, str], Measurement]:
    found = {}
    for of_row in table.rows:
        for path, names in table.means_of(of_row).items():
            parts = [row[address(name)] for name in names if address(name) in row]
            if len(parts) == len(names):
                value = sum(part.value for part in parts) / len(parts)
                said = dict.fromkeys(text for part in parts for text in part.departures)
                found[address(path)] = Measurement(value, tuple(said))
    return found
