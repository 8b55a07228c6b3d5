"""What a study has found so far: scores of each seed, means with their spread, differences, and verdicts."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from eval.paired import LEVEL, Parts, mean_and_spread, paired_difference, score
from eval.retrieval import Interval
from lrsclip_jax.studies import running, scoring
from lrsclip_jax.studies.study import SCORES, Claim, Variant, published
from lrsclip_jax.studies.trainings import Cell, PlannedStudy

MeasuredParts = Mapping[str, Mapping[int, Mapping[str, Parts]]]
CONFIRMED, REFUTED, NOISE, OPEN = "confirmed", "refuted", "within noise", "not measured"


@dataclass(frozen=True)
class VariantScore:
    """A variant's score: one of each seed that is finished, and what follows from all of them.

    Attributes:
      of_seed: the score of each seed.
      recalls: of retrieval, {seed: {"text_to_image/R@1": …}} in per cent.
      mean, spread: over the seeds; the spread is a standard deviation, None for a single seed.
      difference: to the base variant over the seeds that both have, with its interval; None where there is none.
      published: the paper's value, None where it prints none.
    """

    of_seed: Mapping[int, float]
    recalls: Mapping[int, Mapping[str, float]]
    mean: float
    spread: float | None
    difference: Interval | None
    published: float | None


@dataclass(frozen=True)
class Verdict:
    """A claim and what was measured: the verdict, the intervals of its differences by the name of the other variant.

    `why` says what is missing.
    """

    claim: Claim
    verdict: str
    differences: Mapping[str, Interval]
    why: str = ""


@dataclass(frozen=True)
class Found:
    """The results of a study.

    Attributes:
      plan: with all variants and seeds that are asked for.
      scores: names of those of `SCORES` that are measured.
      table: of each variant by its name, then by the score's.
      verdicts: one for each claim.
      missing: cells that are not finished.
    """

    plan: PlannedStudy
    scores: tuple[str, ...]
    table: Mapping[str, Mapping[str, VariantScore]]
    verdicts: tuple[Verdict, ...]
    missing: tuple[Cell, ...]


def collected(plan: PlannedStudy, workdir: Path) -> Found:
    """Returns what is finished of a study in a workdir."""
    parts: dict[str, dict[int, dict[str, Parts]]] = {}
    missing = []
    for cell in plan.cells:
        found = _parts(plan, cell, workdir)
        if found is None:
            missing.append(cell)
        else:
            parts.setdefault(cell.variant.name, {})[cell.seed] = found
    scores = tuple(name for name in SCORES if any(name in of for seeds in parts.values() for of in seeds.values()))
    table = {variant.name: _scores_of(plan, variant, scores, parts) for variant in plan.study.variants}
    verdicts = tuple(judged(claim, parts) for claim in plan.study.claims)
    return Found(plan, scores, table, verdicts, tuple(missing))


def verdict_of(claim: Claim, intervals: Sequence[Interval], strict: Sequence[Interval]) -> str:
    """Returns the verdict on a claim.

    An order is confirmed where every difference is above 0 with its interval, and refuted where one is below 0 with its
    strict interval, of a level that allows for their number. Similarity is confirmed where the interval lies within the
    margin, and refuted where it lies outside.

    Args:
      claim: what is said.
      intervals: of each difference, the better variant minus another, at `LEVEL`.
      strict: the same at 1 - (1 - LEVEL) / their number.
    """
    if claim.within is not None:
        if all(-claim.within <= each.low and each.high <= claim.within for each in intervals):
            return CONFIRMED
        apart = any(each.low > claim.within or each.high < -claim.within for each in strict)
        return REFUTED if apart else NOISE
    if all(each.low > 0 for each in intervals):
        return CONFIRMED
    return REFUTED if any(each.high < 0 for each in strict) else NOISE


def judged(claim: Claim, parts: MeasuredParts) -> Verdict:
    """Returns the verdict on a claim from the parts of each variant, {variant: {seed: {score: parts}}}."""
    if not any(claim.score in of for seeds in parts.values() for of in seeds.values()):
        return Verdict(claim, OPEN, {}, f"no set allows {claim.score}")
    if not _seeds(parts, claim.better, claim.score):
        return Verdict(claim, OPEN, {}, f"{claim.better} is missing")
    compared = {other: _difference(claim.better, other, claim.score, parts) for other in claim.worse}
    intervals = {other: each for other, each in compared.items() if each is not None}
    absent = [other for other in claim.worse if other not in intervals]
    why = f"{', '.join(absent)} {'is' if len(absent) == 1 else 'are'} missing" if absent else ""
    if not intervals:
        return Verdict(claim, OPEN, {}, why)
    level = 1 - (1 - LEVEL) / len(claim.worse)
    strict = [_difference(claim.better, other, claim.score, parts, level) for other in intervals]
    found = verdict_of(claim, list(intervals.values()), [each for each in strict if each])
    # Another comparison may refute a claim, or leave it in the noise; it can't be confirmed without all of them.
    return Verdict(claim, OPEN if absent and found == CONFIRMED else found, intervals, why)


def _parts(plan: PlannedStudy, cell: Cell, workdir: Path) -> dict[str, Parts] | None:
    """The units of each score on its sets, {score: parts}; None where a set is not measured."""
    found: dict[str, list] = {}
    if not running.is_trained(cell.training, workdir):
        return None
    for measured in plan.measured:
        units = running.units(cell.training, measured, workdir)
        if units is None:
            return None
        for name, each in units.items():
            if not measured.scores or name in measured.scores:
                found.setdefault(name, []).append(each)
    return dict(found)


def _seeds(parts: MeasuredParts, variant: str, name: str) -> list[int]:
    return [seed for seed, of in parts.get(variant, {}).items() if name in of]


def _scores_of(
    plan: PlannedStudy, variant: Variant, scores: Sequence[str], parts: MeasuredParts
) -> dict[str, VariantScore]:
    return {name: _score_of(plan, variant, name, parts) for name in scores if _seeds(parts, variant.name, name)}


def _score_of(plan: PlannedStudy, variant: Variant, name: str, parts: MeasuredParts) -> VariantScore:
    of_seed = {seed: score(parts[variant.name][seed][name]) for seed in _seeds(parts, variant.name, name)}
    recalls = {seed: scoring.recalls(name, parts[variant.name][seed][name]) for seed in of_seed}
    mean, spread = mean_and_spread(list(of_seed.values()))
    base = plan.study.base
    difference = _difference(variant.name, base, name, parts) if variant.name != base else None
    return VariantScore(of_seed, recalls, mean, spread, difference, _published(plan, variant, name))


def _difference(ours: str, other: str, name: str, parts: MeasuredParts, level: float = LEVEL) -> Interval | None:
    both = sorted(set(_seeds(parts, ours, name)) & set(_seeds(parts, other, name)))
    if not both:
        return None
    return paired_difference(
        [parts[ours][seed][name] for seed in both], [parts[other][seed][name] for seed in both], level=level
    )


def _published(plan: PlannedStudy, variant: Variant, name: str) -> float | None:
    table = published(plan.study)
    if table is None:
        return None
    for row in table.rows:
        if all(row.heads.get(head) == value for head, value in variant.heads.items()):
            found = [row.values[path] for path, column in table.columns_of(row).items() if column.heading == name]
            return found[0] if found and isinstance(found[0], float) else None
    return None
