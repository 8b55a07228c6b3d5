"""Which row of a published ablation a model is: `study` of an embedding set's meta.json, and of its results."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import msgspec

from eval.errors import InputError, nearest
from eval.papers.published_tables import PublishedTable, named_tables
from eval.reading import convert


class Study(msgspec.Struct, forbid_unknown_fields=True):
    """A row of a study.

    Attributes:
      table: of an ablation, as `lrsclip papers --table` takes it: "lrsclip:fig10"; "own:NAME" for a study without a
        published table.
      heads: what the row is of, a value for each head of the table's rows: {"ratio": "9:1"}.
      seed: of the run.
    """

    table: str
    heads: dict[str, str]
    seed: int = 0


def study_of(about: Mapping[str, Any], where: str) -> Study | None:
    """Returns the study that a meta.json or a result tells of, or None.

    Raises:
      InputError: `study` is not as described, names no table of an ablation, or other heads than it has.
    """
    if about.get("study") is None:
        return None
    study: Study = convert(about["study"], f"{where}, study", Study)
    if is_own(study):
        return study
    try:
        found = named_tables(study.table) if ":" in study.table else []
    except InputError as error:
        raise InputError(f"{where}, study: {error}") from None
    if len(found) != 1 or "ablation" not in found[0].tasks:
        raise InputError(f"{where}, study: table is {study.table!r}, a table of an ablation is expected: lrsclip:VI, …")
    wrong = study.heads.keys() ^ found[0].heads.keys()
    if wrong:
        name = min(wrong)
        raise InputError(
            f"{where}, study: heads of {study.table} are {', '.join(found[0].heads)}, "
            f"{'unknown' if name in study.heads else 'missing'} is {name!r}{nearest(name, found[0].heads)}"
        )
    return study


def is_of(study: Study, table: PublishedTable) -> bool:
    """Whether a study's rows stand in a table."""
    return not is_own(study) and table in named_tables(study.table)


def is_own(study: Study) -> bool:
    """Whether a study has no published table."""
    return study.table.startswith("own:")
