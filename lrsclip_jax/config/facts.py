"""What follows from a config's values: the fields of its towers, what its run looks at, and how long it is."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

from ml_collections import ConfigDict

from lrsclip_jax.config.tower_keys import IMAGE_FIELDS, IMAGE_KIND, KIND, TEXT_FIELDS
from lrsclip_jax.config.values import Key, shown
from lrsclip_jax.errors import InputError
from lrsclip_jax.models.zoo_table import MODELS

LongWeight = float | Sequence[Sequence[float]]  # a number, or breakpoints (step, weight)

_MOST_STEPS = 2**31 - 1  # the state counts steps in int32


def tower_fields(config: ConfigDict) -> tuple[dict[str, Any], dict[str, Any]]:
    """Returns all fields of image and text tower, that of "kind" too: the config's, the model's, the classes'."""
    image, text = MODELS[config.model.name]
    image = {"kind": IMAGE_KIND.default} | image | config.model.image.to_dict()
    text = {"kind": KIND.default} | text | config.model.text.to_dict()
    return _defaults(IMAGE_FIELDS[image["kind"]]) | image, _defaults(TEXT_FIELDS[text["kind"]]) | text


def offloads(config: ConfigDict, arrays: str) -> bool:
    """Returns whether `train.offload` keeps these arrays, "images" or "optimizer", in host memory."""
    return config.train.offload in (arrays, "all")


def towers_in_memory(config: ConfigDict) -> tuple[str, ...]:
    """Returns the towers, "image" and "text", whose features come from memory in training."""
    return tuple(tower for tower in ("image", "text") if config.data[f"{tower}_features"] is not None)


def turns_images(config: ConfigDict) -> bool:
    """Returns whether images of any source are turned, see `data.augmentation.turns`."""
    turns = config.data.augmentation.turns
    return bool(({turns} if isinstance(turns, str) else {*turns}) - {"none"})


def kinds_used(long_weight: LongWeight) -> tuple[str, ...]:
    """Returns the texts, "long" and "short", that a loss with this `loss.long_weight` looks at."""
    if long_weight == 0:
        return ("short",)
    return ("long",) if long_weight == 1 else ("long", "short")


def total_steps(config: ConfigDict, samples: int) -> int:
    """Returns the steps of a run over sources that hold `samples` samples together.

    Raises InputError where there is none, or more than can be counted; where the warm-up or the steps to profile go
    beyond the last; where the texts' tokens are more than the text tower has.
    """
    _, text = tower_fields(config)
    ids = TEXT_FIELDS[text["kind"]]["vocab_size"].default
    if text["kind"] != "siglip" and text["vocab_size"] < ids:  # whose tokenizer comes with the weights
        raise InputError(f"model.text.vocab_size={text['vocab_size']} is less than the {ids} ids of the tokenizer")
    steps = math.floor(config.epochs * samples / config.batch_size)
    run = f"epochs={config.epochs} over {samples:,} samples of data.sources with batch_size={config.batch_size}"
    if not steps:
        raise InputError(f"{run} make no batch: lower batch_size, or raise epochs")
    if steps > _MOST_STEPS:
        raise InputError(f"{run} make {steps} steps, more than {_MOST_STEPS}: lower epochs")
    if config.log.profile and config.log.profile[1] > steps:
        raise InputError(f"log.profile={shown(config.log.profile)} goes beyond the run: {run} make {steps:,} steps")
    try:
        warmup_steps(config.optimizer, steps, samples / config.batch_size)
    except InputError as error:
        raise InputError(f"{error}: {run}") from None
    return steps


def warmup_steps(config: ConfigDict, total_steps: int, steps_per_epoch: float) -> int:
    """Returns the steps of the warm-up of `config.optimizer`.

    Raises InputError where both its steps and its epochs are set, or where the run of `total_steps` is shorter.
    """
    if config.warmup_steps and config.warmup_epochs:
        raise InputError(both_warmups(config))
    steps = config.warmup_steps or round(config.warmup_epochs * steps_per_epoch)
    if steps > total_steps:
        key = "warmup_steps" if config.warmup_steps else "warmup_epochs"
        raise InputError(
            f"optimizer.{key}={config[key]}: the warm-up of {steps} steps is longer than the run of {total_steps}"
        )
    return steps


def both_warmups(config: ConfigDict) -> str:
    """Returns the line about a `config.optimizer` that sets its warm-up twice."""
    steps, epochs = config.warmup_steps, config.warmup_epochs
    return f"optimizer.warmup_steps={steps} and optimizer.warmup_epochs={epochs}: set one of them to 0"


def _defaults(fields: Mapping[str, Key]) -> dict[str, Any]:
    return {name: key.default for name, key in fields.items()}
