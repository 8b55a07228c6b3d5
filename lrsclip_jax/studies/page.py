"""The page of a study, and its table as text."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence

from eval.html import elements, plots
from eval.html.elements import Html
from eval.html.frame import page, provenance
from eval.paired import LEVEL
from eval.retrieval import Interval
from lrsclip_jax.studies.outputs import RESULTS, SEEDS, TABLE
from lrsclip_jax.studies.results import CONFIRMED, NOISE, OPEN, REFUTED, Found, VariantScore
from lrsclip_jax.studies.study import SCORES, headings, published
from lrsclip_jax.studies.trainings import Cell

_METHOD = (
    f"Intervals hold {LEVEL:.0%}: queries are drawn with replacement, the same for both variants, and seeds are drawn "
    "in pairs, spread so that the draws of seeds alone would give Student's interval. A claim of an order is confirmed "
    "where each difference is above 0 with its interval, and refuted where one is below 0 with an interval that allows "
    "for their number. A claim of similarity is confirmed where the interval lies within the margin, and refuted where "
    "it lies outside. All else is within noise."
)
_NEAR = 0.1  # of a score's range: published values farther from ours than this would flatten the plot
_MARK = {CONFIRMED: "right", REFUTED: "wrong"}


def compose(found: Found, asked: Sequence[Cell], failures: Sequence[str]) -> Html:
    """Returns the page of a study as one HTML document.

    Args:
      found: its results.
      asked: the cells that were to be run; others that are missing are not named.
      failures: a line for each run that failed.
    """
    study = found.plan.study
    sections = [
        *_open(found, asked, failures),
        ("The paper's claims", _verdicts(found)),
        ("Scores", _table(found)),
        (f"Differences to {study.base}", _differences(found)),
        ("Plots", _plots(found)),
        ("Runs", _runs(found)),
    ]
    return page(
        f"Study: {study.title}",
        [(title, body) for title, body in sections if body],
        _summary(found),
        provenance({"Recipe": study.setting.recipe, "Checkpoints": "runs/…/checkpoints; the section Runs names them"}),
        [RESULTS, TABLE, SEEDS],
    )


def text_lines(found: Found, asked: Sequence[Cell]) -> list[str]:
    """Returns the table and the verdicts as lines of text."""
    study = found.plan.study
    rows = [[*headings(study).values(), *found.scores]]
    for variant in study.variants:
        rows.append([*variant.heads.values(), *(_cell(found, variant.name, name) for name in found.scores)])
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    lines = ["  ".join(text.ljust(width) for text, width in zip(row, widths, strict=True)).rstrip() for row in rows]
    said = [f"{each.verdict}: {each.claim.said} ({each.claim.score})" for each in found.verdicts]
    return [*lines, *said, *_missing_lines(found, asked)]


def _summary(found: Found) -> str:
    plan, table = found.plan, published(found.plan.study)
    seeds = len({cell.seed for cell in plan.cells})
    done = len(plan.cells) - len(found.missing)
    where = f" {table.name} of the paper: {table.title}." if table else ""
    sets = ", ".join(measured.source for measured in plan.measured)
    return (
        f"{len(plan.study.variants)} variants of {plan.study.setting.recipe}, {seeds} seeds, {done} of "
        f"{len(plan.cells)} trainings finished, measured on {sets}.{where}"
    )


def _missing_lines(found: Found, asked: Sequence[Cell]) -> list[str]:
    wanted = {(cell.variant.name, cell.seed) for cell in asked}
    of: dict[str, list[int]] = {}
    for cell in found.missing:
        if (cell.variant.name, cell.seed) in wanted:
            of.setdefault(cell.variant.name, []).append(cell.seed)
    lines = []
    for name, seeds in of.items():
        told = f"seed{'s' if len(seeds) > 1 else ''} {', '.join(map(str, seeds))}"
        rest = ": its row is of the others" if found.table[name] else ": its row is empty"
        lines.append(f"{name}: {told} {'are' if len(seeds) > 1 else 'is'} missing{rest}")
    return lines


def _open(found: Found, asked: Sequence[Cell], failures: Sequence[str]) -> Iterator[tuple[str, Html]]:
    if lines := [*failures, *_missing_lines(found, asked)]:
        yield "Not finished", elements.join(*map(elements.paragraph, lines))


def _verdicts(found: Found) -> Html:
    if not found.verdicts:
        return Html("")
    rows = []
    for each in found.verdicts:
        claim = each.claim
        told = [f"{claim.better} − {name}: {_interval(gap, claim.score)}" for name, gap in each.differences.items()]
        told += [each.why] if each.why else []
        margin = f" (within {claim.within:g})" if claim.within is not None else ""
        verdict = Html(f'<b class="verdict {_MARK.get(each.verdict, "open")}">{elements.escaped(each.verdict)}</b>')
        rows.append([claim.said + margin, claim.score, verdict, "; ".join(told)])
    counts = [f"{sum(v.verdict == word for v in found.verdicts)} {word}" for word in (CONFIRMED, REFUTED, NOISE, OPEN)]
    columns = ["Claim", "Score", "Verdict", "Measured difference"]
    table = elements.table(rows, columns, f"{', '.join(counts)}.", worded=True)
    return elements.join(table, elements.remark(_METHOD))


def _table(found: Found) -> Html:
    study = found.plan.study
    has_published = {name for name in found.scores if any(c.published is not None for c in _cells_of(found, name))}
    columns: list[str | tuple[str, str]] = [*headings(study).values()]
    for name in found.scores:
        columns += [(name, "here"), (name, "published")] if name in has_published else [(name, "here")]
    rows = []
    for variant in study.variants:
        row: list = [*variant.heads.values()]
        for name in found.scores:
            cells = found.table[variant.name].get(name)
            exact = _exact(cells.mean, cells.spread or math.nan) if cells else ""
            row.append(elements.Told(_cell(found, variant.name, name), exact))
            if name in has_published:
                row.append("–" if cells is None or cells.published is None else _number(cells.published, name))
        rows.append(row)
    meanings = "; ".join(f"{name}: {SCORES[name][1]}" for name in found.scores)
    caption = f"Mean ± standard deviation over seeds, in parentheses how many where some are missing. {meanings}."
    absent = [name for name in SCORES if name not in found.scores]
    notes = [f"{', '.join(absent)}: not measured, no set of this study allows it."] if absent and found.scores else []
    return elements.join(elements.table(rows, columns, caption), *map(elements.remark, [*notes, *study.notes]))


def _differences(found: Found) -> Html:
    study = found.plan.study
    rows = []
    for variant in study.variants:
        of = found.table[variant.name]
        if variant.name == study.base or not of:
            continue
        gaps = (of[name].difference if name in of else None for name in found.scores)
        texts = [
            elements.Told(_interval(gap, name), _exact(*gap)) if gap else None
            for gap, name in zip(gaps, found.scores, strict=True)
        ]
        rows.append([*variant.heads.values(), *texts])
    if not rows:
        return Html("")
    caption = f"Variant minus {study.base}, in brackets the paired bootstrap interval."
    return elements.table(rows, [*headings(study).values(), *found.scores], caption)


def _plots(found: Found) -> Html:
    study = found.plan.study
    names = [variant.name for variant in study.variants]
    xlabel = ", ".join(headings(study).values())
    figures = []
    for name in found.scores:
        cells = [found.table[variant].get(name) for variant in names]
        here = [each.mean if each else math.nan for each in cells]
        spread = [each.spread or math.nan if each else math.nan for each in cells]
        series = {"here": (here, spread)}
        printed = [each.published if each and each.published is not None else math.nan for each in cells]
        if _is_near(here, printed, 1.0 if name == "SeLo" else 100.0):
            series["published"] = (printed, [math.nan] * len(names))
        figures.append(plots.variants_plot(names, series, xlabel, name, SCORES[name][1].split(",")[0].capitalize()))
    bars = "Bars are the standard deviation over seeds. Published values are drawn where they are near to those here."
    return elements.join(plots.side_by_side(figures), elements.remark(bars)) if figures else Html("")


def _runs(found: Found) -> Html:
    missing = {(cell.variant.name, cell.seed) for cell in found.missing}
    rows = []
    for cell in found.plan.cells:
        state = "missing" if (cell.variant.name, cell.seed) in missing else "finished"
        said = " ".join(f"{key}={value!r}" for key, value in cell.variant.changes.items())
        start = f"from {cell.training.start.key}" if cell.training.start else ""
        rows.append([cell.variant.name, str(cell.seed), f"runs/{cell.training.key}", state, f"{said} {start}".strip()])
    columns = ["Variant", "Seed", "Folder", "", "Difference to the base recipe"]
    return elements.fold(f"{len(rows)} trainings", elements.table(rows, columns))


def _cells_of(found: Found, name: str) -> list[VariantScore]:
    return [of[name] for of in found.table.values() if name in of]


def _cell(found: Found, variant: str, name: str) -> str:
    cells = found.table[variant].get(name)
    if cells is None:
        return "–"
    spread = f" ± {_number(cells.spread, name)}" if cells.spread is not None else ""
    seeds = len({cell.seed for cell in found.plan.cells})
    few = f" ({len(cells.of_seed)})" if len(cells.of_seed) < seeds else ""
    return f"{_number(cells.mean, name)}{spread}{few}"


def _interval(gap: Interval, name: str) -> str:
    low, high = (_number(value, name, "+") for value in (gap.low, gap.high))
    return f"{_number(gap.value, name, '+')} [{low}, {high}]"


def _exact(*values: float) -> str:
    return ", ".join(f"{value:.8g}" for value in values if math.isfinite(value))


def _number(value: float, name: str, sign: str = "") -> str:
    return f"{value:{sign}.{SCORES[name][2]}f}".replace("-", "−")


def _is_near(here: Sequence[float], printed: Sequence[float], full: float) -> bool:
    known = [value for value in printed if math.isfinite(value)]
    ours = [value for value in here if math.isfinite(value)]
    if not known or not ours:
        return False
    return max(abs(value - other) for value in known for other in ours) <= _NEAR * full
