"""Recomputes every published number that follows from other published numbers, and says where they do not agree.

A printed value is off by half of its last place at most, and so is a mean of such values: the two may differ by one
last place, no more. A share of N queries or images must be k / N, rounded or cut at its last place.
"""

from __future__ import annotations

import itertools
import math
from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence
from typing import Any, NamedTuple

from eval.papers.published_tables import PublishedRow, PublishedTable, tables

SELO_WEIGHTS = {"R_su": 0.4, "R_as": -0.35, "R_da": 0.25}  # on top of 0.35; LRSCLIP, Eq. 6
ROUNDING = 1 + 1e-6  # of the comparison itself


class Footnote(NamedTuple):
    """A published number that does not add up.

    Attributes:
      paper, table: where it stands.
      places: (row, address) of each value that it is about; none where it is about the text or all of the table.
      printed, recomputed: the number and what it should be, None where there is no one such number.
      text: what is wrong, in our words.
    """

    paper: str
    table: str
    places: tuple[tuple[int, str], ...]
    printed: float | str | None
    recomputed: float | str | None
    text: str


def checks(of: Sequence[PublishedTable] | None = None) -> list[Footnote]:
    """Returns a footnote for each published number that does not add up, in the order of the tables.

    Args:
      of: the tables to check, all published ones by default; those of one paper must agree with each other too.
    """
    of = tables() if of is None else of
    found = [note for table in of for check in CHECKS for note in check(table)]
    order = {(table.paper, table.label): number for number, table in enumerate(of)}
    return sorted([*found, *_disagreements(of)], key=lambda note: order[note.paper, note.table])


def _means(table: PublishedTable) -> Iterator[Footnote]:
    """Mean recalls, averages of accuracies, and R_mi."""
    for number, row in enumerate(table.rows):
        columns = table.columns_of(row)
        for path, value, what in _recomputed(table, row):
            printed, digits = row.values.get(path), columns[path].digits
            if printed is not None and abs(printed - value) > 10**-digits * ROUNDING:
                text = f"{table.where(row, path)}: {what} {value:.{digits}f}, printed is {printed:.{digits}f}."
                yield _note(table, text, [(number, path)], printed, round(value, digits))


def _recomputed(table: PublishedTable, row: PublishedRow) -> Iterator[tuple[str, float, str]]:
    for path in row.values:
        dataset, _, metric = path.partition("/")
        of_dataset = {other.removeprefix(f"{dataset}/"): value for other, value in row.values.items()}
        recalls = [value for other, value in of_dataset.items() if other.startswith(("text_to_", "image_to_"))]
        if metric == "mean_recall" and len(recalls) == 6 and None not in recalls:
            yield path, math.fsum(recalls) / 6, "the six recalls average to"
        parts: list[Any] = [of_dataset.get(name) for name in SELO_WEIGHTS]
        if metric == "R_mi" and None not in parts:
            weighted = math.fsum(weight * part for weight, part in zip(SELO_WEIGHTS.values(), parts, strict=True))
            yield path, 0.35 + weighted, "0.4 R_su + 0.35 (1 − R_as) + 0.25 R_da is"
    for path, names in table.means_of(row).items():
        parts = [row.values.get(name) for name in names]
        if None not in parts:
            yield path, math.fsum(parts) / len(parts), f"the {len(parts)} accuracies average to"


def _twins(table: PublishedTable) -> Iterator[Footnote]:
    """Recalls that are the same in both directions at two or more K: one of them was copied."""
    for number, row in enumerate(table.rows):
        back = {path: path.replace("text_to_image", "image_to_text") for path in row.values if "text_to_image" in path}
        same = [path for path in back if row.values[path] == row.values[back[path]] is not None]
        for dataset, paths in itertools.groupby(same, key=lambda path: path.split("/")[0]):
            paths = list(paths)
            if len(paths) > 1:
                recalls, numbers = (path.split("/")[-1] for path in paths), (f"{row.values[p]:.2f}" for p in paths)
                text = f"{row.name}, {dataset}: {_and(recalls)} are the same in both directions, {_and(numbers)}."
                yield _note(table, text, [(number, place) for path in paths for place in (path, back[path])])


def _shares(table: PublishedTable) -> Iterator[Footnote]:
    """Recalls and accuracies that are k / N for no whole k, and columns of shots that no one test set gives."""
    of_test_set = defaultdict(list)
    for number, row in enumerate(table.rows):
        for path, value in row.values.items():
            counts = [count for start, count in row.counts.items() if path.startswith(f"{start}/")]
            if counts and isinstance(value, float) and not path.endswith("mean_recall"):
                of_test_set[row.name, path.split("/")[0], counts[0]].append((number, path, value))
    for (name, dataset, count), places in of_test_set.items():
        if table.tasks == ("few_shot",):
            yield from _column_of_shots(table, name, dataset, count, places)
            continue
        for number, path, value in places:
            if not _are_shares([value], count):
                row, near = table.rows[number], value * count / 100
                below, above = (100 * k / count for k in (math.floor(near), math.ceil(near)))
                unit = "queries" if "/R@" in path else "images"
                twins = (other for other, printed in row.values.items() if printed == value and other != path)
                twin = next((f"; it repeats the row's {other.split('/')[0]}" for other in twins), "")
                text = (
                    f"{table.where(row, path)}: {value:.2f} % is no share of {count:,} {unit}, {below:.2f} and "
                    f"{above:.2f} are the nearest{twin}."
                )
                yield _note(table, text, [(number, path)], value)


def _column_of_shots(table, name, dataset, count, places) -> Iterator[Footnote]:
    printed = [value for *_, value in places]
    if not _are_shares(printed, count):
        fits = next(n for n in itertools.count(1) if _are_shares(printed, n))
        text = (
            f"{name}, {dataset}: {_and(f'{value:.2f}' for value in printed)} are not all shares of one test set of "
            f"{count:,} images; the smallest that gives all of them has {fits:,}."
        )
        yield _note(table, text, [place[:2] for place in places], recomputed=fits)


def _totals(table: PublishedTable) -> Iterator[Footnote]:
    """Totals and mean lengths that the text states of a corpus."""
    if not table.stated:
        return
    pairs = [row.values[f"{row.heads['dataset']}/pairs"] for row in table.rows]
    stated, categories = table.stated["pairs"], table.stated.get("categories", {})
    sums = [("The parts", sum(pairs), stated)]
    for category, printed in categories.items():
        inside = [n for n, row in zip(pairs, table.rows, strict=True) if str(row.heads["category"]) == category]
        sums.append((f"The parts of category {category}", sum(inside), printed))
    if categories:
        sums.append(("The stated sizes of the categories", sum(categories.values()), stated))
    for what, total, printed in sums:
        if total != printed:
            text = f"{what} add up to {total:,} pairs, the text states {printed:,}."
            yield _note(table, text, (), printed, total)
    for length, printed in table.stated.get("mean_tokens", {}).items():
        lengths = [row.values[f"{row.heads['dataset']}/{length}/mean_tokens"] for row in table.rows]
        mean = math.fsum(n * mean for n, mean in zip(pairs, lengths, strict=True)) / sum(pairs)
        if abs(mean - printed) > 0.01 * ROUNDING:
            text = (
                f"Weighted by pairs, {length} texts have {mean:.2f} tokens in the mean, the text states {printed:.2f}."
            )
            yield _note(table, text, (), printed, round(mean, 2))


def _gains(table: PublishedTable) -> Iterator[Footnote]:
    """Gains that the text states: differences of two printed values, or of what they were rounded from."""
    at = {
        (row.method, row.heads.get("size"), path): (number, value)
        for number, row in enumerate(table.rows)
        for path, value in row.values.items()
    }
    for claim in table.claims:
        path, gain = claim["path"], claim["gain"]
        (number, better), (_, worse) = at[*claim["of"], path], at[*claim["over"], path]
        if abs(better - worse - gain) > 0.015 * ROUNDING:
            text = (
                f"{table.where(table.rows[number], path)}: {better - worse:+.2f} over {' '.join(claim['over'])}, "
                f"the text states {gain:+.2f}."
            )
            yield _note(table, text, [(number, path)], gain, round(better - worse, 2))


def _best(table: PublishedTable) -> Iterator[Footnote]:
    """Values of the method that the paper calls the best in all columns, where another row has a higher one."""
    for number, row in enumerate(table.rows):
        for path, value in row.values.items() if row.method == table.best.get("method") else ():
            others = [other for other in table.rows if (other.values.get(path) or 0) > value]
            if others:
                highest = max(others, key=lambda other: other.values[path])
                text = (
                    f"{table.where(row, path)}: {value:.2f}, {highest.name} has {highest.values[path]:.2f}; "
                    f"{table.best['said']}."
                )
                yield _note(table, text, [(number, path)], value, highest.values[path])


def _contradictions(table: PublishedTable) -> Iterator[Footnote]:
    """What the paper says otherwise elsewhere."""
    for found in table.contradictions:
        places = [(found["row"], found["path"])] if "path" in found else []
        yield _note(table, found["text"], places)


def _disagreements(of: Sequence[PublishedTable]) -> Iterator[Footnote]:
    """Values and sizes of one model that two tables of a paper print differently, noted by the later table."""
    first: dict[Any, Any] = {}
    for table in of:
        for number, row in enumerate(table.rows):
            for path, value in {**row.values, "params": row.heads.get("params")}.items():
                if value is None:
                    continue
                model = (table.paper, row.method, row.heads.get("size"))
                before, printed = first.setdefault((model, path), (table, value))
                if before is not table and printed != value:
                    where = table.where(row, path) if path in row.values else f"{row.name}, parameters"
                    places = [(number, path)] if path in row.values else []
                    yield _note(table, f"{where}: {value} here, {printed} in {before.name}.", places, value, printed)


def _note(table: PublishedTable, text: str, places=(), printed=None, recomputed=None) -> Footnote:
    return Footnote(table.paper, table.label, tuple(places), printed, recomputed, text)


def _are_shares(values: Sequence[float], count: int) -> bool:
    """Whether per cents of two decimals are each some k / count, all of them rounded or, else, all of them cut."""
    products = [round(100 * value) * count for value in values]  # 10,000 k, if it were not for the printing
    rounded = all(2 * min(product % 10_000, -product % 10_000) <= count for product in products)
    cut = all(-product % 10_000 < count for product in products)
    return rounded or cut


def _and(words: Iterable[str]) -> str:
    *most, last = words
    return f"{', '.join(most)} and {last}" if most else last


CHECKS = (_means, _twins, _shares, _totals, _gains, _best, _contradictions)
