"""Runs on one kind of text: a term of the loss without texts leaves the loss and the batch.

Sources that hold short captions alone would train at 1 − ω of their loss, with most of the text slots empty. The weight
ω of the long text becomes 0 there, and 1 where all texts are long. The config with that weight is the run's: it is what
`config.json` holds, so a run that began under the weight as it was written is another run.
"""

from __future__ import annotations

from collections.abc import Sequence

from ml_collections import ConfigDict

from lrsclip_jax.config.facts import LongWeight, kinds_used
from lrsclip_jax.config.values import shown
from lrsclip_jax.data.prepared.records import KINDS, Records
from lrsclip_jax.errors import InputError


def kinds_of(sources: Sequence[tuple[Records, float]], short_text: str) -> tuple[str, ...]:
    """Returns which of "long" and "short" at least one record of the sources has, as training draws its texts.

    Args:
      sources: with their weights, from `data.batches.mixture.open_sources`.
      short_text: `data.short_text`; the "first_sentence" and "sentences" are there wherever a
        long text is.
    """
    found: set[str] = set()
    for records, _ in sources:
        if found != {*KINDS}:
            found.update(records.text_kinds())
    if short_text != "short":
        found = {*KINDS} if "long" in found else set()
    return tuple(kind for kind in KINDS if kind in found)


def long_weight_for(long_weight: LongWeight, kinds: Sequence[str]) -> LongWeight:
    """Returns the weight of the long text for sources with these kinds of text: unchanged, or 0.0 or 1.0 for one kind.

    Raises InputError where the loss would look at no text at all.
    """
    used = kinds_used(long_weight)
    left = [kind for kind in used if kind in kinds]
    if not left:
        there = f"{kinds[0]} texts alone" if kinds else "no texts"
        raise InputError(
            f"loss.long_weight={shown(long_weight)} trains on {' and '.join(used)} texts, and data.sources hold {there}"
        )
    if len(left) == len(used):
        return long_weight
    return {"long": 1.0, "short": 0.0}[left[0]]


def for_sources(config: ConfigDict, sources: Sequence[tuple[Records, float]]) -> tuple[ConfigDict, list[str]]:
    """Returns the config of a run on these sources, and a line for each change.

    It is the one that was given unless the sources lack a kind of text that the loss weighs. Raises InputError as
    `long_weight_for` does.
    """
    written = config.loss.long_weight
    kinds = kinds_of(sources, config.data.short_text)
    long_weight = long_weight_for(written, kinds)
    if long_weight is written:
        return config, []
    changed = config.copy_and_resolve_references()
    with changed.ignore_type():
        changed.loss.long_weight = long_weight
    return changed, [
        f"note: data.sources hold {kinds[0]} texts alone: loss.long_weight={shown(written)} becomes {long_weight}, and "
        "batches have no others"
    ]
