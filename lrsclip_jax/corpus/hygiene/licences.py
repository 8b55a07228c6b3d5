"""Licence check: every record needs a known licence before export."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable

from lrsclip_jax.corpus.records.record import CorpusRecord
from lrsclip_jax.errors import InputError


def check_licences(
    records: Iterable[CorpusRecord], allow_unknown: bool = False, option: str = ""
) -> Counter[tuple[str, str | None]]:
    """Returns how many records each (source, licence) has; the licence is None where it is unknown.

    InputError, with the counts of every source, where one is unknown, unless told that this is all right; `option` is
    what tells so, for its text. Holds counts.
    """
    counts = Counter((record.source, record.licence or None) for record in records)
    unknown = sum(number for (_, licence), number in counts.items() if licence is None)
    if unknown and not allow_unknown:
        ordered = sorted(counts.items(), key=lambda item: (item[0][1] is not None, item[0][0], item[0][1] or ""))
        listed = "; ".join(f"{source}: {number:,} {licence or 'unknown'}" for (source, licence), number in ordered)
        raise InputError(
            f"the licence of {unknown:,} of {counts.total():,} records is unknown ({listed}): name it with the source, "
            f"leave the source out, or allow unknown licences{f' by {option}' if option else ''}"
        )
    return counts
