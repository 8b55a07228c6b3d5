"""A study: variants of a recipe, each the difference to it, what is measured of them, and what the paper claims."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from eval.errors import InputError
from eval.papers.published_tables import PublishedTable, named_tables
from lrsclip_jax.errors import nearest

# The scores of §V-D of LRSCLIP: name, task that gives it, meaning, decimals.
SCORES = {
    "ZCRL": ("long", "mean recall of retrieval with long texts, per cent", 2),
    "ZCRS": ("short", "mean recall of retrieval with short texts, per cent", 2),
    "ZIC": ("zeroshot", "accuracy of zero-shot classification, per cent", 2),
    "SeLo": ("selo", "R_mi of semantic localisation, between 0 and 1", 4),
}


@dataclass(frozen=True)
class Variant:
    """One row of a study.

    Attributes:
      heads: what the row is of, a text for each head of the study.
      changes: values of config keys: the difference to the base recipe.
      start: changes of the base recipe for a training before this one, with seed 0, from whose weights it starts
        (`model.init`); None: it starts where the recipe says.
    """

    heads: Mapping[str, str]
    changes: Mapping[str, Any] = field(default_factory=dict)
    start: Mapping[str, Any] | None = None

    @property
    def name(self) -> str:
        """Its heads in a row: "9:1", "CLIP LRS2M-S"."""
        return " ".join(self.heads.values())


@dataclass(frozen=True)
class Claim:
    """What the paper says of a study, as an order of variants by one score.

    Attributes:
      said: in our words.
      score: one of `SCORES`.
      better: name of the variant that is said to be better.
      worse: names of those that it is better than.
      within: instead, `better` and `worse` are said to be similar: closer than this, in the score's unit.
    """

    said: str
    score: str
    better: str
    worse: tuple[str, ...]
    within: float | None = None


@dataclass(frozen=True)
class Measured:
    """A set on which every training is measured.

    Attributes:
      source: as `lrsclip embed` takes it.
      scores: those of `SCORES` to which it contributes; empty: all that it allows.
      options: further options of `lrsclip embed`.
    """

    source: str
    scores: tuple[str, ...] = ()
    options: tuple[str, ...] = ()


@dataclass(frozen=True)
class Setting:
    """What all variants share.

    Attributes:
      recipe: as `lrsclip train --config` takes it.
      changes: values of its keys.
      measured: the sets that are measured; empty: those of `eval.sources`.
      records: how many records `data.sources` hold, for the account of a study whose data is not here.
    """

    recipe: str
    changes: Mapping[str, Any] = field(default_factory=dict)
    measured: tuple[Measured, ...] = ()
    records: int | None = None


@dataclass(frozen=True)
class Study:
    """A study.

    Attributes:
      title: what it varies, in our words.
      table: the published table as `lrsclip papers --table` takes it; "" for none.
      heads: headings of the columns in front of the scores, {head: heading}; of a published table its own.
      setting: what all variants share.
      variants: the rows, from top to bottom.
      base: name of the variant with which the others are compared.
      claims: of the paper.
      seeds: how many trainings each variant has.
      notes: what a reader must know.
    """

    title: str
    setting: Setting
    variants: tuple[Variant, ...]
    base: str
    table: str = ""
    heads: Mapping[str, str] = field(default_factory=dict)
    claims: tuple[Claim, ...] = ()
    seeds: int = 3
    notes: tuple[str, ...] = ()

    def variant(self, name: str) -> Variant:
        """Returns a variant by its name."""
        return next(variant for variant in self.variants if variant.name == name)


def published(study: Study) -> PublishedTable | None:
    """Returns the published table of a study, or None."""
    return named_tables(study.table)[0] if study.table else None


def headings(study: Study) -> dict[str, str]:
    """Returns the headings of a study's columns in front of the scores."""
    table = published(study)
    return dict(table.heads if table else study.heads)


def check(study: Study, where: str) -> None:
    """Raises InputError, which begins with `where`, where the parts of a study do not fit each other."""
    try:
        tables = named_tables(study.table) if study.table else []
    except InputError as error:
        raise InputError(f"{where}: {error}") from None
    if study.table and (len(tables) != 1 or "ablation" not in tables[0].tasks):
        raise InputError(f"{where}: table={study.table!r} is no table of an ablation: lrsclip:VI, lrsclip:fig10, …")
    heads = headings(study)
    names: dict[str, None] = {}  # in order
    for number, variant in enumerate(study.variants, 1):
        if not isinstance(variant, Variant) or not all(isinstance(value, str) for value in variant.heads.values()):
            raise InputError(f"{where}: variant {number} is no Variant with texts as heads")
        if wrong := variant.heads.keys() ^ heads.keys():
            raise InputError(f"{where}: variant {number}, heads are {', '.join(heads)}, not {min(wrong)!r}")
        if variant.name in names:
            raise InputError(f"{where}: two variants have the name {variant.name!r}: give them different heads")
        if not variant.name.isprintable() or not variant.name.strip():
            raise InputError(f"{where}: variant {number} has no name: give its heads a text")
        names[variant.name] = None
    _known(where, "base", study.base, names)
    for claim in study.claims:
        _known(where, f"claim {claim.said!r:.60}: score", claim.score, SCORES)
        for name in (claim.better, *claim.worse):
            _known(where, f"claim {claim.said!r:.60}: variant", name, names)
    for measured in study.setting.measured:
        for score in measured.scores:
            _known(where, f"{measured.source}: score", score, SCORES)
    if isinstance(study.seeds, bool) or not isinstance(study.seeds, int) or not 1 <= study.seeds <= 1000:
        raise InputError(f"{where}: seeds={study.seeds!r}, a whole number from 1 to 1000 is expected")


def chosen(study: Study, only: Sequence[str]) -> tuple[Variant, ...]:
    """Returns the variants that `only` names, all for none; InputError for an unknown name."""
    for name in only:
        if name not in (names := [variant.name for variant in study.variants]):
            raise InputError(f"--only={name}: no variant{nearest(name, names)} (there are {', '.join(names)})")
    return tuple(variant for variant in study.variants if not only or variant.name in only)


def names_in(text: str, study: Study) -> list[str]:
    """Returns the names in a list such as "9:1,8:2"; a name that holds a comma is found as it is."""
    names = sorted((variant.name for variant in study.variants), key=len, reverse=True)
    known = "|".join(map(re.escape, names))
    return [found for found in re.findall(rf"(?:^|(?<=,))({known}|[^,]*)(?=,|$)", text) if found]


def _known(where: str, what: str, name: str, known: Any) -> None:
    if name not in known:
        raise InputError(f"{where}: {what} is {name!r}{nearest(str(name), known)} (there are {', '.join(known)})")
