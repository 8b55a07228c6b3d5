"""Checks of a config before JAX is imported: every value by its key, and values that cannot work together.

`check` needs the config alone; `facts.total_steps` is for those who know how many samples the sources hold.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from ml_collections import ConfigDict

from lrsclip_jax.config.facts import both_warmups, kinds_used, offloads, tower_fields, turns_images
from lrsclip_jax.config.keys import KEYS
from lrsclip_jax.config.tower_checks import band_faults, native_faults, siglip_faults, tower_faults
from lrsclip_jax.config.tower_keys import tower_keys
from lrsclip_jax.config.values import Key, hint, shown
from lrsclip_jax.errors import InputError

_KNOWN = tower_keys() | KEYS
GROUPS = {name.rpartition(".")[0] for name in KEYS} - {""}

_LARGEST_RATIO = 1e5  # of weights: the order of the records counts in int64


def leaves(config: ConfigDict, prefix: str = "") -> Iterator[tuple[str, object]]:
    """Yields (key, value) of everything in a config that is no group; a dict in the place of a value is none."""
    for name, value in config.items():
        if isinstance(value, ConfigDict) and prefix + name not in _KNOWN:
            yield from leaves(value, f"{prefix}{name}.")
        else:
            yield f"{prefix}{name}", value


def find(key: str) -> Key:
    """Returns the row of a key's table; InputError names the nearest one for an unknown key, or what a group holds."""
    if key in _KNOWN:
        return _KNOWN[key]
    name = key if key.isprintable() else ascii(key)[1:-1]
    if inner := [other for other in _KNOWN if other.startswith(f"{key}.")]:
        raise InputError(f"{name} is a group of keys: set one of them, such as {inner[0]}")
    raise InputError(f"{name}: unknown key{hint(key, _KNOWN)}")


def check(config: ConfigDict, where: str = "") -> None:
    """Raises InputError unless a config has every key, each with a value that is allowed, and these work together.

    Args:
      config: of training, `lrsclip_jax.config.defaults()` or one that starts from it.
      where: what to put before a message about a value, such as the file that it comes from and a colon.
    """
    found = dict(leaves(config))
    for key, value in found.items():
        try:
            row = find(key)
        except InputError as error:
            raise InputError(f"{where}{error}") from None
        if fault := row.values.fault(value):
            raise InputError(f"{where}{key}={shown(value)}: {fault}")
    if missing := [key for key in KEYS if key not in found]:
        raise InputError(f"{where}the config lacks {missing[0]}: start from lrsclip_jax.config.defaults()")
    groups = (
        tower_faults,
        native_faults,
        band_faults,
        _texts,
        siglip_faults,
        _batch,
        _offload,
        _loss,
        _patches,
        _optimizer,
        _warmup,
        _sources,
        _features,
        _guard,
    )
    for combination in groups:
        for fault in combination(config):
            raise InputError(fault)


def check_group(config: ConfigDict, group: str) -> None:
    """Raises InputError unless the values of one group's keys are allowed; the group may lack some keys."""
    known = {key.name.removeprefix(f"{group}."): key for key in KEYS.values() if key.name.startswith(f"{group}.")}
    for name, value in config.items():
        if name not in known:
            raise InputError(f"{group}.{name}: unknown key{hint(name, known)}")
        if fault := known[name].values.fault(value):
            raise InputError(f"{group}.{name}={shown(value)}: {fault}")


def loss_faults(loss: Any) -> Iterator[str]:
    """Yields why options of the loss, attributes with the names of their keys, cannot work together."""
    if loss.name == "sigmoid":
        if loss.label_smoothing:
            yield f"loss.label_smoothing={loss.label_smoothing}: the sigmoid loss has none, set it to 0"
        if loss.gradient != "full":
            yield f"loss.gradient={loss.gradient!r}: LRSCLIP's code has no sigmoid loss, set it to 'full'"
    if loss.text_pca is not None and "long" not in kinds_used(loss.long_weight):
        yield f"loss.text_pca={loss.text_pca} needs long texts, and loss.long_weight={loss.long_weight} uses none"
    if loss.rising and len(kinds_used(loss.long_weight)) < 2:
        weight = loss.long_weight
        yield f"loss.rising={loss.rising} needs long and short texts, and loss.long_weight={weight} uses one kind"
    if loss.hard_negatives and "short" not in kinds_used(loss.long_weight):
        weight = loss.long_weight
        yield f"loss.hard_negatives={loss.hard_negatives} needs short texts, and loss.long_weight={weight} uses none"


def optimizer_faults(optimizer: ConfigDict) -> Iterator[str]:
    """Yields why values of `config.optimizer` cannot work together."""
    if optimizer.name == "schedule_free":
        if optimizer.schedule != "constant":
            yield (
                f"optimizer.schedule={optimizer.schedule!r}: the average of optimizer.name='schedule_free' takes the "
                "place of a falling learning rate, set it to 'constant'"
            )
        if not optimizer.b1:
            yield "optimizer.b1=0: optimizer.name='schedule_free' needs a share above 0, usually 0.9"


def _texts(config: ConfigDict) -> Iterator[str]:
    """Yields why texts fit neither the text tower nor their rows."""
    data, context = config.data, tower_fields(config)[1]["context_length"]
    lengths = {f"data.{kind}_length": data[f"{kind}_length"] for kind in ("long", "short")}
    for key, length in [*lengths.items(), *(("eval.truncations", length) for length in config.eval.truncations)]:
        if length > context:
            yield f"{key}={length} is more than model.text.context_length={context}"
    for group in ("long_draw", "short_draw"):
        draw = data[group]
        if draw.shift > context - 2:
            yield f"data.{group}.shift={draw.shift} leaves no room in model.text.context_length={context}"
        if draw.consecutive and draw.sample is None:
            yield f"data.{group}.consecutive={draw.consecutive} is about sampled sentences: set data.{group}.sample"
    changed = [key for key in data.short_draw if data.short_draw[key] != KEYS[f"data.short_draw.{key}"].default]
    if changed and data.short_text != "sentences":
        yield f"data.short_draw.{changed[0]} is about data.short_text='sentences', and that is {data.short_text!r}"
    if config.loss.hard_negatives and data.short_text != "short":
        yield f"data.short_text={data.short_text!r}: only short texts have loss.hard_negatives, set it to 'short'"
    for kind in kinds_used(config.loss.long_weight) if data.packed else ():
        if (length := data[f"{kind}_length"]) > data.row_length:
            yield f"data.{kind}_length={length} is more than data.row_length={data.row_length}, the tokens of a row"
    if data.sampling == "pairs" and config.loss.long_weight != 1:
        yield (
            f"loss.long_weight={shown(config.loss.long_weight)}: data.sampling='pairs' has all texts in the place of "
            "long ones, set it to 1.0"
        )


def _batch(config: ConfigDict) -> Iterator[str]:
    """Yields why a batch cannot be split."""
    size, parts = config.batch_size, config.train.microbatches
    if size % parts:
        yield f"train.microbatches={parts} does not divide batch_size={size}"
    scope, _, group = config.loss.pcm_scope.partition(":")
    if config.loss.pcm_components and group and size % int(group):
        yield f"loss.pcm_scope={scope}:{group}: groups of {group} do not divide batch_size={size}"


def _offload(config: ConfigDict) -> Iterator[str]:
    """Yields why host memory cannot keep what it should."""
    given = f"train.offload={config.train.offload!r}"
    if offloads(config, "images"):
        if config.train.microbatches == 1:
            yield f"{given} moves images by microbatches: set train.microbatches to more than 1"
        if config.data.image_features is not None:
            yield f"{given}: with data.image_features no images are read, set it to 'none' or 'optimizer'"
        if (side := tower_fields(config)[0]["size"]) % 2:
            yield f"{given} moves words of four bytes: model.image.size={side} must be even"
    if offloads(config, "optimizer"):
        if config.optimizer.name == "sgd" and not config.optimizer.momentum:
            yield f"{given}: sgd without momentum keeps no state, set it to 'none' or 'images'"
        if config.optimizer.name == "schedule_free":
            yield f"{given}: schedule_free needs its state before the gradient, too, set it to 'none' or 'images'"


def _loss(config: ConfigDict) -> Iterator[str]:
    """Yields why the options of the loss cannot work together."""
    yield from loss_faults(config.loss)
    given = (config.loss.preserve_teacher, config.model.image_init, config.model.text_init)
    if config.loss.preserve and config.model.init == "random" and not any(given):
        yield f"loss.preserve={config.loss.preserve}: a random model has nothing to preserve, set loss.preserve_teacher"
    if config.loss.preserve_teacher and not config.loss.preserve:
        yield "loss.preserve_teacher is about loss.preserve, and that is 0"
    start = KEYS["loss.temperature"].default
    if config.loss.name == "sigmoid" and config.loss.temperature != start:
        yield (
            f"loss.temperature={config.loss.temperature}: the sigmoid loss starts from loss.sigmoid_temperature, "
            f"leave this at {start}"
        )


def _patches(config: ConfigDict) -> Iterator[str]:
    """Yields why the patches of an image can't be compared with those of a crop, or not be trained to match."""
    if not config.loss.patches:
        return
    term, image = f"loss.patches={config.loss.patches}", tower_fields(config)[0]
    if image["kind"] == "resnet":
        yield f"{term} is about the patches of a ViT, and a ResNet has none: set it to 0.0"
        return
    if image["resolution"] != "fixed":
        yield f"{term} cuts crops out of squares: set model.image.resolution='fixed'"
    if image["patch_dropout"]:
        yield f"{term} needs all patches of an image: set model.image.patch_dropout=0.0"
    if config.data.image_features is not None:
        yield f"{term} needs images, and data.image_features stand in their place: leave these at None"
    if config.model.adapt:
        yield f"{term} trains the image tower itself, which model.adapt leaves as it is: set one of them alone"


def _optimizer(config: ConfigDict) -> Iterator[str]:
    """Yields why values of the optimizer cannot work together."""
    yield from optimizer_faults(config.optimizer)


def _warmup(config: ConfigDict) -> Iterator[str]:
    """Yields why the warm-up does not fit the run, as far as that is known without its data."""
    epochs = config.optimizer.warmup_epochs
    if config.optimizer.warmup_steps and epochs:
        yield both_warmups(config.optimizer)
    if epochs > config.epochs:
        yield f"optimizer.warmup_epochs={epochs} is longer than the run of epochs={config.epochs}"


def _features(config: ConfigDict) -> Iterator[str]:
    """Yields why features from memory can't stand for a tower."""
    data = config.data
    for key in ("image_features", "text_features"):
        count = 1 if isinstance(data[key], str) else len(data[key] or ())
        if data[key] is not None and count != len(data.sources):
            yield f"data.{key}={shown(data[key])}: {count} for {len(data.sources)} data.sources, name one for each"
    if data.image_features is not None:
        dropout = tower_fields(config)[0].get("patch_dropout")
        if dropout:
            yield f"model.image.patch_dropout={dropout}: data.image_features have no patches, set it to 0.0"
    if data.text_features is not None:
        if data.short_text != "short":
            yield f"data.short_text={data.short_text!r}: data.text_features are of whole texts, set it to 'short'"
        changed = [key for key in data.long_draw if data.long_draw[key] != KEYS[f"data.long_draw.{key}"].default]
        if changed:
            yield f"data.long_draw.{changed[0]}: data.text_features are of whole texts, leave it at its default"
        if turns_images(config):
            turns = shown(data.augmentation.turns)
            yield f"data.augmentation.turns={turns}: words of data.text_features do not turn, set it to 'none'"
        if config.loss.hard_negatives:
            yield f"loss.hard_negatives={config.loss.hard_negatives}: data.text_features have none, set it to 0"


def _sources(config: ConfigDict) -> Iterator[str]:
    """Yields why the sources cannot be mixed, or be turned each in its own way."""
    turns = config.data.augmentation.turns
    if not isinstance(turns, str) and len(turns) != len(config.data.sources):
        yield (
            f"data.augmentation.turns={shown(turns)} names {len(turns)} choices for {len(config.data.sources)} "
            "data.sources: name one for each, or one for all"
        )
    weights = [1.0 if isinstance(source, str) else source[1] for source in config.data.sources]
    if weights and max(weights) > _LARGEST_RATIO * min(weights):
        yield f"data.sources: weights of {max(weights)} and {min(weights)}: one may be {_LARGEST_RATIO:g} times another"


def _guard(config: ConfigDict) -> Iterator[str]:
    """Yields why there is no start for scores to be held against."""
    if config.eval.guard and config.eval.at_start is False:
        yield "eval.guard holds scores against those before the first step, and eval.at_start=False leaves these out"
