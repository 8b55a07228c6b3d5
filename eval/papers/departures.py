"""How the protocol of a measured result departs from that of a table's published rows, each difference a phrase."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from eval.errors import InputError
from eval.facts import classes
from eval.papers.published_tables import PublishedTable, key

Result = Mapping[str, Any]
QUERIES, SCENES = 59, 22  # of AIR-SLT (SemanticLocalizationMetrics, test_data/annotations/anno.json)
ITRA = "itra"  # `protocol` of results that follow ITRA's probes


def departures(result: Result, dataset: str, table: PublishedTable) -> tuple[str, ...]:
    """Returns the differences of a result from the published protocol; none where it keeps to it.

    Args:
      result: of the suite.
      dataset: key of the data set, as `table` calls it.
      table: where the result is to stand.
    """
    task = result["task"]
    if task == "retrieval":
        found = _retrieval(result, dataset, table)
    elif task == "zeroshot":
        found = _zeroshot(result, dataset, table)
    elif task == "selo":
        found = _selo(result)
    elif task == "segmentation":
        return ()
    else:
        return tuple(_probe(result, dataset, table))
    said = list(found)
    return (f"{result['dataset']}: {'; '.join(said)}",) if said else ()


def _retrieval(result: Result, dataset: str, table: PublishedTable) -> Iterator[str]:
    counts = _published(table)
    all_texts, all_images = (counts.get((dataset, way), []) for way in ("text_to_image", "image_to_text"))
    texts, images = result.get("texts"), result.get("image_queries")
    if texts is not None and images is not None:
        if all_texts and all_images and not (texts in all_texts and images in all_images):
            published = f"{_or(all_texts)} of {_or(all_images)}"
            yield f"{texts:,} texts of {images:,} images{_of_split(result)}, published {published}"
        if (more := result.get("images", images) - images) > 0:
            yield f"{more:,} images without a text are among those to be found"
    if result.get("stops") == "stripped" and not any("--strip-stops" in note for note in table.notes):
        yield "the texts' last full stop is taken off"


def _zeroshot(result: Result, dataset: str, table: PublishedTable) -> Iterator[str]:
    ours, theirs = result.get("images"), _published(table).get((dataset, ""), [])
    if ours is not None and theirs and ours not in theirs:
        yield f"{ours:,} images{_of_split(result)}, published {_or(theirs)}"
    seen, known = result.get("classes"), _classes(dataset)
    if seen and known and len(seen) != known:
        yield f"{len(seen)} classes, published {known}"
    used = set(result.get("templates", ()))
    if table.templates and used and not used & set(table.templates):
        one = f"“{next(iter(used))}”" if len(used) == 1 else f"{len(used)} templates"
        yield f"{one}, published with “{table.templates[0]}”"


def _selo(result: Result) -> Iterator[str]:
    from eval.selo.grid import STEPS  # loads SciPy, for which --help should not wait

    queries, scenes = result.get("queries"), result.get("scenes")
    if queries is not None and (len(queries), scenes) != (QUERIES, SCENES):
        yield f"queries: {len(queries)}, scenes: {scenes}; published {QUERIES} and {SCENES}"
    crops = result.get("crops")
    if crops == "direct":
        yield "windows as they are, AIR-SLT's code makes JPEG files of 256×256 of them"
    elif crops != "reference":
        yield "how windows were cut is not stated, AIR-SLT's code makes JPEG files of 256×256 of them"
    sides = result.get("sides")
    if sides is not None and tuple(sides) != STEPS:
        yield f"windows of {_and(sides)} pixels, published {_and(STEPS)}"


def _probe(result: Result, dataset: str, table: PublishedTable) -> Iterator[str]:
    parts = result.get("parts") or result.get("split") or {}
    tested = parts.get("test") if isinstance(parts, Mapping) else None
    theirs = _published(table).get((dataset, ""), [])
    draws = result.get("draws", 1)
    if tested is not None and theirs and not {tested, draws * tested} & set(theirs):
        yield f"{result['dataset']}: {tested:,} test images, published {_or(theirs)}"
    if result.get("protocol") != ITRA and result["task"] in table.protocols:
        rule = parts.get("rule") if isinstance(parts, Mapping) else None
        ours = [result.get("estimator"), f"split: {rule}" if rule else None]
        told = "; ".join(filter(None, ours)) or "estimator and split are not stated"
        yield f"{told}; {table.protocols[result['task']]}"


def _published(table: PublishedTable) -> dict[tuple[str, str], list[int]]:
    """The published counts by the key of the data set and the rest of the address; rows may differ."""
    found: dict[tuple[str, str], list[int]] = {}
    for counts in (table.counts, *(row.counts for row in table.rows)):
        for start, count in counts.items():
            of_place = found.setdefault((key(start.split("/")[0]), start.partition("/")[2]), [])
            if count not in of_place:
                of_place.append(count)
    return found


def _classes(dataset: str) -> int | None:
    try:
        return len(classes.dataset(dataset).classes)
    except InputError:
        return None


def _of_split(result: Result) -> str:
    return f" of split {result['split']}" if isinstance(result.get("split"), str) else ""


def _or(counts: list[int]) -> str:
    return " or ".join(f"{count:,}" for count in counts)


def _and(numbers) -> str:
    *most, last = map(str, numbers)
    return f"{', '.join(most)} and {last}" if most else last
