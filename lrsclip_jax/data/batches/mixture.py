"""The sources that a config names, opened and weighed."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from ml_collections import ConfigDict

from lrsclip_jax.config.facts import tower_fields
from lrsclip_jax.data.prepared.band_set import mean_and_std
from lrsclip_jax.data.prepared.opening import check_bands, open_records
from lrsclip_jax.data.prepared.pairs import Pairs
from lrsclip_jax.data.prepared.records import Records
from lrsclip_jax.data.preprocessing import Preprocessing
from lrsclip_jax.data.tokenizer import Tokenizer
from lrsclip_jax.errors import InputError


def weighted(sources: Sequence) -> list[tuple[str, float]]:
    """Returns `data.sources` as (source, weight) pairs; a source written alone weighs 1."""
    pairs = [(source, 1.0) if isinstance(source, str) else (source[0], float(source[1])) for source in sources]
    for source, weight in pairs:
        if not weight > 0:
            raise InputError(f"data.sources: the weight of {source} is {weight}, it must be positive")
    return pairs


def open_sources(config: ConfigDict) -> list[tuple[Records, float]]:
    """Opens `data.sources` with their weights; their lengths together are the samples of an epoch.

    A sample is a record, or with `data.sampling="pairs"` a record with one of its texts (`data.prepared.pairs`).
    The texts of pairs are all in the place of long ones, so that the loss is one InfoNCE over the pairs of a batch.
    Raises InputError for a source that is not there, holds no samples, or other bands than the model reads, and where
    the loss asks for hard negatives that no source holds.
    """
    opened = [(open_records(name), weight) for name, weight in weighted(config.data.sources)]
    sources: list[tuple[Records, float]] = [*opened]
    if config.data.sampling == "pairs":
        sources = [(Pairs(records, records.text_counts()), weight) for records, weight in opened]
    samples = "pairs" if config.data.sampling == "pairs" else "records"
    for (name, _), (records, _) in zip(weighted(config.data.sources), sources, strict=True):
        if not len(records):
            raise InputError(f"data.sources: {name} holds no {samples}")
        check_bands(f"data.sources: {name}", records, tower_fields(config)[0]["bands"])
    if config.loss.hard_negatives and sources and not any(records.has_negatives() for records, _ in sources):
        raise InputError(
            f"loss.hard_negatives={config.loss.hard_negatives}: no set of data.sources holds hard negatives: "
            "lrsclip prepare --negative-key=KEY reads them"
        )
    return sources


def measured(
    preprocessing: Preprocessing, config: ConfigDict, sources: Sequence[tuple[Records, float]]
) -> Preprocessing:
    """Returns the preprocessing of a run: where it lacks mean and std of its bands, with those of all sources' pixels.

    Raises InputError as `band_set.mean_and_std`.
    """
    if preprocessing.mean:
        return preprocessing
    names = [f"data.sources: {name}" for name, _ in weighted(config.data.sources)]
    sets = [(name, records.band_set()) for name, (records, _) in zip(names, sources, strict=True)]
    mean, std = mean_and_std([(name, found) for name, found in sets if found], preprocessing.bands)
    mean, std = ([value / preprocessing.scale for value in values] for values in (mean, std))
    return replace(preprocessing, mean=tuple(mean), std=tuple(std))


def retokenised(config: ConfigDict, sources: Sequence[tuple[Records, float]], tokenizer: Tokenizer) -> list[str]:
    """Returns a line for each of the sources, those of `open_sources(config)`, that holds no ids of this tokenizer."""
    return [
        f"note: {name} has no token ids of the tokenizer '{tokenizer.name}': its texts are tokenised as they are read"
        for (name, _), (records, _) in zip(weighted(config.data.sources), sources, strict=True)
        if len(records) and tokenizer.hash not in records[0].tokens
    ]
