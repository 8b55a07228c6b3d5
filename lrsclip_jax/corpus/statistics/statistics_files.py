"""The statistics of a corpus as files: for a program, for a spreadsheet, and for a reader."""

from __future__ import annotations

import contextlib
import csv
import io
import json
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from tqdm import tqdm

from eval.html.frame import provenance
from eval.reading import read_json
from eval.whole import write_text
from lrsclip_jax.corpus.records import store
from lrsclip_jax.corpus.records.record import SetAside
from lrsclip_jax.corpus.statistics.content_words import Tagger
from lrsclip_jax.corpus.statistics.counting import KINDS, CorpusStatistics, PartStatistics, gather
from lrsclip_jax.corpus.statistics.sketches import Distinct, Frequent
from lrsclip_jax.corpus.statistics.statistics_page import statistics_page
from lrsclip_jax.corpus.statistics.summary import part_values
from lrsclip_jax.errors import InputError

FILES = ("statistics.json", "table.csv", "statistics.html")
WORDS = 1000  # of the most frequent in the JSON file
READ = ("short", "long", "things", "label", "split", "licence", "provenance")


def write_statistics(
    corpus: Path,
    out: Path,
    set_aside: Iterable[SetAside] = (),
    leakage: Mapping[str, Any] | None = None,
    tagger: Tagger | None = None,
) -> list[str]:
    """Writes `statistics.json`, `table.csv` and `statistics.html` of a corpus, and returns a table to print.

    Args:
      corpus: folder of Parquet files, or a .jsonl file, as `store.read` reads them.
      out: folder of the three files; those from before are replaced, once all three are made.
      set_aside: what stages could not use.
      leakage: what `hygiene.leakage.report` says of it.
      tagger: tells which words carry content; without one a list does.

    Raises:
      InputError: no records there, a torn file, or a folder that can't be written.
    """
    total = None if corpus.suffix == ".jsonl" else store.count(corpus)
    records = tqdm(store.read(corpus, READ), "statistics", total, unit=" records", disable=None, leave=False)
    statistics = gather(records, set_aside, tagger)
    made = (
        json.dumps(as_json(statistics), indent=1, ensure_ascii=False, allow_nan=False) + "\n",
        as_csv(statistics),
        statistics_page(
            statistics,
            f"Corpus {_name(corpus.resolve())}",
            leakage,
            origin=provenance({"Corpus": str(corpus.resolve())}),
            files=FILES[:2],
        ),
    )
    for name, text in zip(FILES, made, strict=True):
        write_text(out / name, text)
    return as_lines(statistics)


def has_statistics(out: Path) -> bool:
    """Whether a folder with something in it is one that statistics were written into, or of a corpus with its own."""
    with contextlib.suppress(InputError):
        return "content_words_by" in read_json(out / FILES[0], dict[str, Any])
    return False


def as_json(statistics: CorpusStatistics) -> dict[str, Any]:
    """Returns everything that was counted as JSON types; histograms are [[length, texts], …] in order of length."""
    return {
        "images": _distinct(statistics.images),
        "all": _part(statistics.whole),
        "sources": {name: _part(part) for name, part in statistics.parts.items()},
        "different_texts": {kind: _distinct(distinct) for kind, distinct in statistics.distinct.items()},
        "content_words": _frequent(statistics.content),
        "content_words_by": statistics.tagger or "list",
        "labels": _frequent(statistics.labels),
        "objects": _frequent(statistics.objects),
        "set_aside": [[*what, count] for what, count in statistics.set_aside.top(WORDS)],
    }


def as_csv(statistics: CorpusStatistics) -> str:
    """Returns a row for each source, and one called "all", with what `part_values` says."""
    rows = [{"source": name, **part_values(part)} for name, part in _with_all(statistics)]
    text = io.StringIO()
    writer = csv.DictWriter(text, rows[0])
    writer.writeheader()
    writer.writerows(rows)
    return text.getvalue()


def as_lines(statistics: CorpusStatistics) -> list[str]:
    """Returns pairs, texts and mean tokens of each source, and of all, in aligned columns."""
    rows = [["", "pairs", *(f"{kind} {what}" for kind in KINDS for what in ("texts", "mean tokens"))]]
    for name, part in _with_all(statistics):
        values = part_values(part)
        texts = [(values[f"{kind}_texts"], values[f"{kind}_mean_tokens"]) for kind in KINDS]
        rows.append([name, f"{part.pairs:,}"])
        rows[-1] += [cell for n, mean in texts for cell in (f"{n:,}", "–" if mean is None else f"{mean:.2f}")]
    first, *others = (max(map(len, column)) for column in zip(*rows, strict=True))
    return [
        "  ".join([name.ljust(first), *(cell.rjust(width) for cell, width in zip(cells, others, strict=True))])
        for name, *cells in rows
    ]


def _name(corpus: Path) -> str:
    return corpus.parent.name if corpus.name == "corpus" else corpus.stem  # what is built lies in NAME/corpus


def _with_all(statistics: CorpusStatistics) -> list[tuple[str, PartStatistics]]:
    return [*statistics.parts.items(), ("all", statistics.whole)]


def _part(part: PartStatistics) -> dict[str, Any]:
    return {
        **part_values(part),
        "licences": dict(part.licences.most_common()),
        "splits": dict(part.splits.most_common()),
        "steps": [{"stage": stage, "by": by, "pairs": count} for (stage, by), count in sorted(part.steps.items())],
        **{
            f"{kind}_{unit}": sorted(getattr(texts, unit).items())
            for kind, texts in part.texts.items()
            for unit in ("tokens", "words")
        },
    }


def _distinct(distinct: Distinct) -> dict[str, Any]:
    return {"count": distinct.count, "exact": distinct.exact}


def _frequent(counted: Frequent) -> dict[str, Any]:
    return {"counts": dict(counted.top(WORDS)), "too_small_by_at_most": counted.missed}
