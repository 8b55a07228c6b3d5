"""The results of a study as files: JSON, and CSV with a row for each variant and for each seed."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from eval.results import made_by
from eval.seals import seal
from eval.whole import write_text
from lrsclip_jax.studies.results import Found, VariantScore
from lrsclip_jax.studies.study import headings

RESULTS, TABLE, SEEDS, PAGE = "results.json", "table.csv", "seeds.csv", "study.html"


def write_results(found: Found, folder: Path, failures: Sequence[str]) -> None:
    """Writes the results of a study as JSON and as two CSV files: a row a variant, and a row a seed."""
    write_text(folder / RESULTS, seal(json.dumps(document(found, failures), indent=1, ensure_ascii=False)) + "\n")
    write_text(folder / TABLE, _csv(_table_rows(found)))
    write_text(folder / SEEDS, _csv(_seed_rows(found)))


def document(found: Found, failures: Sequence[str]) -> dict[str, Any]:
    """Returns the results as JSON types."""
    study = found.plan.study
    return {
        "study": found.plan.name,
        "table": study.table,
        "title": study.title,
        "base": study.base,
        "seeds": sorted({cell.seed for cell in found.plan.cells}),
        "measured": [each.source for each in found.plan.measured],
        "variants": [
            {
                "name": variant.name,
                "heads": dict(variant.heads),
                "scores": {name: _score(of) for name, of in found.table[variant.name].items()},
            }
            for variant in study.variants
        ],
        "verdicts": [
            {
                "claim": each.claim.said,
                "score": each.claim.score,
                "verdict": each.verdict,
                "why": each.why,
                "differences": {f"{each.claim.better} - {name}": list(gap) for name, gap in each.differences.items()},
            }
            for each in found.verdicts
        ],
        "missing": [str(cell) for cell in found.missing],
        "failures": list(failures),
        "made_by": made_by(),
    }


def _score(found: VariantScore) -> dict[str, Any]:
    return {
        "mean": found.mean,
        "spread": found.spread,
        "of_seed": {str(seed): value for seed, value in found.of_seed.items()},
        "recalls": {str(seed): dict(recalls) for seed, recalls in found.recalls.items()},
        "difference": found.difference and list(found.difference),
        "published": found.published,
    }


def _table_rows(found: Found) -> Iterator[Sequence[Any]]:
    heads = headings(found.plan.study)
    yield ("study", *heads, "score", "seeds", "mean", "spread", "difference", "low", "high", "published")
    for variant in found.plan.study.variants:
        first = (found.plan.name, *(variant.heads[head] for head in heads))
        for name, of in found.table[variant.name].items():
            gap = of.difference or (None, None, None)
            values = (of.mean, of.spread, *gap, of.published)
            yield (*first, name, len(of.of_seed), *("" if each is None else each for each in values))


def _seed_rows(found: Found) -> Iterator[Sequence[Any]]:
    heads = headings(found.plan.study)
    keys = {(cell.variant.name, cell.seed): cell.training.key for cell in found.plan.cells}
    yield ("study", *heads, "seed", "run", "score", "value")
    for variant in found.plan.study.variants:
        for name, of in found.table[variant.name].items():
            for seed, value in sorted(of.of_seed.items()):
                row = (found.plan.name, *(variant.heads[head] for head in heads), seed, keys[variant.name, seed])
                yield (*row, name, value)
                yield from ((*row, f"{name}/{recall}", each) for recall, each in of.recalls.get(seed, {}).items())


def _csv(rows: Iterator[Sequence[Any]]) -> str:
    text = io.StringIO()
    csv.writer(text, lineterminator="\n").writerows(rows)
    return text.getvalue()
