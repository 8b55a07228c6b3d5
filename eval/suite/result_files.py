"""The files of a suite: a JSON file for each result, the split of each data set, and all numbers as CSV."""

from __future__ import annotations

import contextlib
import csv
import hashlib
import io
import itertools
import json
import numbers
import os
import re
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

from eval.embeddings import META, EmbeddingSet
from eval.errors import InputError
from eval.output import first_file
from eval.probe.splits import Split, read_split, write_split
from eval.results import checked_result
from eval.seals import read_sealed
from eval.whole import SUFFIX

LONGEST_NAME = 80  # characters; what is cut off is told apart by a hash
COLUMNS = ("model", "dataset", "split", "features", "task", "metric", "value")
# Keys that say where a result comes from, and those that the JSON file alone holds.
TABLE, _HEADER = "results.csv", ",".join(COLUMNS).encode()
LEFT_OUT = {*COLUMNS, "kind", "set", "made_by", "fingerprint", "tokens", "seed", "bin", "study"}
FORM = 2  # of results: raised when they tell more, so that older ones are measured again


def result_path(out: Path, embedding_set: EmbeddingSet, task: str) -> Path:
    """Returns where a result lies: results/MODEL/DATASET[@SPLIT]/TASK[@encoder].json below `out`."""
    features = "" if embedding_set.features == "projected" else f"@{embedding_set.features}"
    data = data_name(embedding_set.dataset, embedding_set.split)
    return out / "results" / safe_name(embedding_set.model) / data / f"{task}{features}.json"


def data_name(dataset: str, split: str | None) -> str:
    """Returns DATASET[@SPLIT] as a file name."""
    return "@".join(safe_name(part) for part in (dataset, split) if part)


def safe_name(name: str) -> str:
    """Returns a name as one that any file system takes; different names stay different."""
    safe = re.sub(r"[^A-Za-z0-9._+-]", "_", name).lstrip(".")[:LONGEST_NAME]
    return name if safe == name != "" else f"{safe}_{hashlib.sha256(os.fsencode(name)).hexdigest()[:8]}"


def fingerprint(path: Path, task: str, seed: int | None, leaks: Path | None = None) -> str:
    """Returns what a result depends on, as a hash: meta.json, sizes and times of the set's files, task, seed, leaks."""
    files = sorted(file for file in path.iterdir() if file.suffix in (".npy", ".jsonl"))
    stats = [(file.name, file.stat().st_size, file.stat().st_mtime_ns) for file in files]
    also = [leaks.read_text(encoding="utf-8")] if leaks else []
    of = json.dumps([(path / META).read_text(encoding="utf-8"), stats, task, seed, FORM, *also])
    return hashlib.sha256(of.encode()).hexdigest()


def read_result(path: Path, fingerprint: str) -> dict[str, Any] | None:
    """Returns the result at `path` if it is there, has this fingerprint, and is not damaged."""
    try:
        result = checked_result(read_sealed(path, dict[str, Any]), str(path))
    except InputError:
        return None
    return result if result.get("fingerprint") == fingerprint else None


def is_evaluation(out: Path) -> bool:
    """Whether a folder with something in it is one that the suite has written, finished or not."""
    table = out / TABLE
    if table.exists():
        with contextlib.suppress(OSError), table.open("rb") as file:
            return file.read(len(_HEADER)) == _HEADER
        return False
    begun = ("results", "splits")  # written before the table
    files = itertools.chain.from_iterable((out / name).rglob("*.*") for name in begun)
    return not first_file(out, begun) and all(file.suffix in (".json", SUFFIX) for file in files)


def prepare_split(embedding_set: EmbeddingSet, folder: Path, seed: int) -> None:
    """Writes the set's split unless it is there; InputError where the images can't be split or the folder written."""
    path = _path(embedding_set, folder, seed)
    if path.exists():
        return
    from eval.probe.probe_set import split_of_set  # loads scikit-learn: when a probe is to be measured, not before

    write_split(path, split_of_set(embedding_set, seed), _ids(embedding_set))


def kept_split(embedding_set: EmbeddingSet, folder: Path, seed: int) -> Split:
    """Returns the split that `prepare_split` wrote."""
    try:
        return read_split(_path(embedding_set, folder, seed), _ids(embedding_set))
    except InputError as error:
        raise InputError(f"{error}; delete the file, and the split is made again") from None


def _path(embedding_set: EmbeddingSet, folder: Path, seed: int) -> Path:
    # A model may have been given other images of a data set: those have a split of their own.
    told = sorted((image["id"], image.get("label"), image.get("split")) for image in embedding_set.image_rows)
    images = hashlib.sha256(json.dumps(told).encode()).hexdigest()[:8]
    return folder / f"{data_name(embedding_set.dataset, embedding_set.split)}_{images}_seed{seed}.json"


def _ids(embedding_set: EmbeddingSet) -> list[str]:
    return [image["id"] for image in embedding_set.image_rows]


def csv_of(results: Iterable[Mapping[str, Any]]) -> str:
    """Returns all numbers of results as CSV under `COLUMNS`, a header first."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(COLUMNS)
    for result in results:
        of = [result[key] or "" for key in COLUMNS[:4]]
        writer.writerows([*of, task_of(result), metric, value] for metric, value in numbers_of(result))
    return text.getvalue()


def variant_of(result: Mapping[str, Any]) -> str | None:
    """Returns which of several results of a task and a set this is: a kind of text, an average, …"""
    return next(filter(None, (result.get(key) for key in ("kind", "average", "protocol", "version"))), None)


def task_of(result: Mapping[str, Any]) -> str:
    """Returns a result's task with its variant, such as "retrieval_long" or "zeroshot_raw"."""
    variant = variant_of(result)
    variant = None if variant in ("normalised", "v1") else variant
    return f"{result['task']}_{variant}" if variant else result["task"]


def numbers_of(result: Mapping[str, Any]) -> Iterator[tuple[str, float]]:
    """Yields every metric and count by its name, such as "text_to_image/R@1"; of a length sweep also by its tokens."""
    tokens = result.get("tokens") if result["task"] == "length" else None
    for key in (key for key in result if key not in LEFT_OUT):
        yield from _numbers(key, result[key], tokens)


def _numbers(name: str, value: Any, tokens: list[int] | None) -> Iterator[tuple[str, float]]:
    if isinstance(value, numbers.Real) and not isinstance(value, bool):
        yield name, value  # type: ignore[misc]  # an int stays one
    elif isinstance(value, Mapping):
        for key, inner in value.items():
            yield from _numbers(f"{name}/{key}", inner, tokens)
    elif tokens and isinstance(value, list) and len(value) == len(tokens):
        yield from ((f"{name}/{n} tokens", each) for n, each in zip(tokens, value, strict=True))
