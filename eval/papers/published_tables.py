"""The published tables of LRSCLIP and RSCLIP, and what read-mes report of models next to them, as data.

A value has an address: data set, then metric, as in "RSITMD-L/text_to_image/R@1", "RSICD/mean_recall",
"WHU-RS19/accuracy", "AID/16/accuracy" (16 shots a class), "AID/linear/accuracy", "AIR-SLT/R_mi". Recalls and
accuracies are in per cent. Values that the papers only draw are None. The facts lie in `eval/facts/published`.
"""

from __future__ import annotations

import functools
import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

from eval.errors import InputError, nearest

FOLDER = Path(__file__).parents[1] / "facts" / "published"


class Column(NamedTuple):
    """A column: the heading it shares with its neighbours ("" for none), its own, its address, its decimals.

    The address may name heads of the row in braces: "{dataset}/mean_recall".
    """

    group: str
    heading: str
    path: str
    digits: int = 2


@dataclass(frozen=True)
class PublishedRow:
    """A row of a table.

    Attributes:
      method: whose row it is; in an ablation without named methods the setting, "PCM True".
      heads: what the row is of: `method`, `size`, `params`, `dataset`, … as far as the table says.
      values: the printed value at each address, in the order of the columns.
      counts: how many queries or images a value is a share of, by the beginning of its address.
    """

    method: str
    heads: Mapping[str, Any]
    values: Mapping[str, Any]  # float, int, str or None
    counts: Mapping[str, int]

    @property
    def name(self) -> str:
        """The method with its size."""
        return " ".join(filter(None, (self.method, self.heads.get("method") and self.heads.get("size"))))


@dataclass(frozen=True)
class PublishedTable:
    """A published table.

    Attributes:
      paper, label: where it stands: "LRSCLIP", "IV".
      title: what it shows, in our words.
      tasks: kinds of results in it: "retrieval", "zeroshot", "selo", "linear_probe", "knn", "few_shot",
        "segmentation", "ablation", "corpus", "settings".
      heads: headings of the columns in front of the values, {head: heading}.
      columns: of the values.
      rows: from top to bottom.
      group: heading over neighbouring rows, made of their heads: "{dataset}"; "" for none.
      templates: the zero-shot templates; more than one where the paper contradicts itself.
      counts: as in `PublishedRow`, of rows that have none of their own.
      means: addresses of which an address is the mean.
      stated: totals in the text around a corpus: `pairs`, `mean_tokens`, `categories`.
      claims: gains in the text around it: at `path`, `of` [method, size] `over` another, `gain`.
      best: the method that the paper calls the best in all columns, and where: `method`, `said`.
      contradictions: what the paper says otherwise elsewhere: `text`, and `row` and `path` of the value it is about.
      protocols: how values of a task were measured, in our words, for those that none of our results can follow.
      notes: what a reader must know, in our words.
    """

    paper: str
    label: str
    title: str
    tasks: tuple[str, ...]
    heads: Mapping[str, str]
    columns: tuple[Column, ...]
    rows: tuple[PublishedRow, ...]
    group: str = ""
    templates: tuple[str, ...] = ()
    counts: Mapping[str, int] = field(default_factory=dict)
    means: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    stated: Mapping[str, Any] = field(default_factory=dict)
    claims: tuple[Mapping[str, Any], ...] = ()
    best: Mapping[str, str] = field(default_factory=dict)
    contradictions: tuple[Mapping[str, Any], ...] = ()
    protocols: Mapping[str, str] = field(default_factory=dict)
    notes: tuple[str, ...] = ()

    @property
    def name(self) -> str:
        """Paper and label as a heading has them: "LRSCLIP, Table IV"."""
        numbered = self.label.isupper() and self.label != "README"
        return f"{self.paper}, {'Table ' if numbered else ''}{self.label}"

    def columns_of(self, row: PublishedRow) -> dict[str, Column]:
        """Returns the column of each of the row's addresses."""
        return dict(zip(row.values, self.columns, strict=True))

    def where(self, row: PublishedRow, path: str) -> str:
        """Returns what a value is of, in words: "Long-CLIP ViT-B/16, RSITMD, Image to text, R@1"."""
        column = self.columns_of(row)[path]
        return ", ".join(filter(None, (row.name, self.group.format(**row.heads), column.group, column.heading)))

    def means_of(self, row: PublishedRow) -> dict[str, tuple[str, ...]]:
        """Returns `means` with the row's heads filled in."""
        return {
            path.format(**row.heads): tuple(part.format(**row.heads) for part in parts)
            for path, parts in self.means.items()
        }


class Value(NamedTuple):
    """A published value and where it stands; size is "" where the table names none."""

    paper: str
    table: str
    size: str
    method: str
    value: float


def tables(paper: str | None = None) -> list[PublishedTable]:
    """Returns all published tables, or those of one paper ("LRSCLIP", "RSCLIP", "SeLo", "FarSLIP", "HiMo-CLIP", …)."""
    return [table for table in _tables() if paper is None or key(table.paper) == key(paper)]


def named_tables(name: str) -> list[PublishedTable]:
    """Returns the tables that "paper:table", "paper" or "" names; InputError says which there are."""
    paper, _, label = name.partition(":")
    of_paper = [table for table in tables() if key(paper) in ("", key(table.paper))]
    found = [table for table in of_paper if key(label) in ("", key(table.label))]
    if not found:
        known = [f"{table.paper}:{table.label}".lower().replace(" ", "").replace(".", "") for table in tables()]
        raise InputError(f"no table is called {name!r}{nearest(name.lower(), known)} (known: {', '.join(known)})")
    return found


def values(dataset: str, metric: str) -> list[Value]:
    """Returns every published value of a metric on a data set, whose name is read as `key` reads it.

    Args:
      dataset: "RSITMD-L", "aid", "mean of six", …
      metric: the rest of the address: "text_to_image/R@1", "mean_recall", "accuracy", "16/accuracy", "R_mi", ….
    """
    return [
        Value(table.paper, table.label, row.heads.get("size", ""), row.method, value)
        for table in _tables()
        for row in table.rows
        for path, value in row.values.items()
        if value is not None and address(path) == (key(dataset), metric)
    ]


def address(path: str) -> tuple[str, str]:
    """Returns the key of an address's data set, and its metric."""
    dataset, metric = path.split("/", 1)
    return key(dataset), metric


def key(name: str) -> str:
    """Returns a name's letters and digits in lower case: "RS_C11" and "rs-c11" are one data set."""
    return "".join(letter for letter in name.casefold() if letter.isalnum())


def parse(facts: Mapping[str, Any]) -> PublishedTable:
    """Returns the table of a file's JSON object: rows hold heads, `values` in the order of the columns, `counts`."""
    columns = tuple(Column(*column) for column in facts["columns"])
    rows = []
    for of_row in facts["rows"]:
        heads = {head: value for head, value in of_row.items() if head not in ("values", "counts")}
        paths = [column.path.format(**heads) for column in columns]
        printed = dict(zip(paths, of_row["values"], strict=True))
        rows.append(PublishedRow(_method(heads, facts), heads, printed, of_row.get("counts", facts.get("counts", {}))))
    several = ("tasks", "templates", "claims", "contradictions", "notes")
    lists: dict[str, Any] = {name: tuple(facts.get(name, ())) for name in several}
    means = {path: tuple(parts) for path, parts in facts.get("means", {}).items()}
    single = ("paper", "title", "heads", "group", "counts", "stated", "best", "protocols")
    rest = {name: facts[name] for name in single if name in facts}
    return PublishedTable(label=facts["table"], columns=columns, rows=tuple(rows), means=means, **lists, **rest)


def _method(heads: Mapping[str, Any], facts: Mapping[str, Any]) -> str:
    if "method" in heads:
        return heads["method"]
    first, heading = next(iter(facts["heads"].items()))
    return f"{heading} {heads[first]}" if "ablation" in facts.get("tasks", ()) else heads[first]


@functools.cache
def _tables() -> tuple[PublishedTable, ...]:
    return tuple(parse(json.loads(path.read_text(encoding="utf-8"))) for path in sorted(FOLDER.glob("*.json")))
