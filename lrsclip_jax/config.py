"""Configs: every key with its default, recipes, command-line overrides, and which keys shape the curve.

A recipe is a Python file with `get_config(arg=None)`. It starts from `defaults()`, or from another recipe with
`recipe(NAME)`, and sets the differences.
"""

from __future__ import annotations

import ast
import hashlib
import json
from collections.abc import Iterator, Sequence
from pathlib import Path

from ml_collections import ConfigDict

from lrsclip_jax import recipe_files
from lrsclip_jax.errors import InputError, nearest

# A run may be continued with other values of these keys. Every other key determines the curve: another value of
# one of those is another run (`--branch=NEWDIR` starts it from this run's newest checkpoint).
OPERATIONAL = (
    "eval",
    "checkpoint",
    "log",
    "mesh",
    "train",
    "model.image.remat",
    "model.text.remat",
    "model.image.attention",
    "model.text.attention",
    "model.image.unroll",
    "model.text.unroll",
    "model.image.token_multiple",
    "loss.form",
    "loss.chunk",
    "data.packed",
    "data.row_length",
    "data.threads",
    "data.workers",
    "data.max_torn",
)


# Groups that take any field of the tower's class (lrsclip_jax/models: vit.py, text.py, bert.py); the zoo checks them.
TOWERS = ("model.image", "model.text")


def defaults() -> ConfigDict:
    """Returns the config with every key that exists, at its default; only the towers take further keys."""
    config = ConfigDict()
    config.seed = 0
    config.batch_size = 256  # pairs a step over all devices: the loss is a function of this global batch
    config.epochs = 1.0  # an epoch is as many samples as the sources hold together, see data.sampling

    config.model = ConfigDict()
    config.model.name = "vitb16"  # an entry of lrsclip_jax/models/zoo.py
    config.model.init = None  # source of weights, or "random"; must be written out,
    config.model.image_init = None  # unless there is one for the image tower alone
    config.model.text_init = None  # and one for the text tower
    config.model.dtype = "auto"  # of the towers' arithmetic: bfloat16 on accelerators, float32 on CPU
    # "remat" says what the blocks keep for the backward pass, see lrsclip_jax/models/layers.py.
    config.model.image = ConfigDict({"size": 224, "remat": "dense"})
    config.model.text = ConfigDict({"context_length": 248, "frozen_positions": 0, "remat": "dense"})

    config.data = ConfigDict()
    # Prepared sets ("DIR", "DIR:split" or "scenes:COUNT:SEED"), each alone or as (source, weight).
    config.data.sources = ()
    # A sample is: "draw", a record with one long and one short text, drawn again each epoch; or "pairs" (RSCLIP), a
    # record with one of its texts, all of them each epoch; these are long texts to the loss, whose long_weight is 1.
    config.data.sampling = "draw"
    config.data.long_length = 248  # static lengths of the two texts in a batch, in tokens
    config.data.short_length = 77
    # All texts of a batch end to end in rows of `row_length` slots, without padding; else each kind at its own length.
    config.data.packed = False
    config.data.row_length = 256
    config.data.short_text = "short"  # or "first_sentence" of the long text (Long-CLIP; LRSCLIP's ablation)
    config.data.crop_scale = None  # (0.8, 1.0): random resized crop of that share of the area
    config.data.decoder = "exact"  # as evaluation reads images; "fast": JPEG in half the time or less, nearly the same
    config.data.threads = 0  # decoding threads; 0: one a core
    config.data.workers = 0  # processes that share these threads, where one process's Python is the limit; 0: none
    config.data.max_torn = 100  # unreadable records that are left out before the run stops

    config.loss = ConfigDict()
    config.loss.long_weight = 0.8  # omega of Eq. 5: a number, or breakpoints ((step, value), …)
    config.loss.label_smoothing = 0.0
    config.loss.same_text = "negative"  # or "ignore": equal captions of a batch are no negatives
    config.loss.temperature = 0.07  # at the start, where the weights bring none
    config.loss.learn_temperature = True
    config.loss.max_scale = None  # clamp of 1/temperature (open_clip: 100)
    config.loss.pcm_components = 0  # Long-CLIP: the short term sees images reduced to their 32 principal components
    config.loss.pcm_scope = "global"  # or "group:N": components of every N consecutive pairs (Long-CLIP: of each GPU)
    config.loss.gradient = "full"  # or "reference": LRSCLIP's, which gathers without gradient
    config.loss.form = "gather"  # or "ring", "full": three ways to compute the same loss, see lrsclip_jax/losses
    config.loss.chunk = 1024  # rows of logits at a time on a device; 0: all

    config.optimizer = ConfigDict()
    config.optimizer.name = "sgd"  # or "adamw"
    config.optimizer.learning_rate = 3e-4
    config.optimizer.momentum = 0.9
    config.optimizer.dampening = 0.1
    config.optimizer.b1 = 0.9
    config.optimizer.b2 = 0.98
    config.optimizer.eps = 1e-6
    config.optimizer.weight_decay = 0.0
    config.optimizer.schedule = "constant"  # or "cosine", down to final_learning_rate
    config.optimizer.final_learning_rate = 0.0
    config.optimizer.warmup_steps = 0
    config.optimizer.warmup_epochs = 0.0
    config.optimizer.clip_norm = None
    # Rules over parameter paths (lrsclip_jax/parameter_rules.py); the first that matches a parameter holds.
    config.optimizer.lr_rules = ()
    config.optimizer.decay_rules = ()
    config.optimizer.freeze = ()

    config.train = ConfigDict()
    config.train.microbatches = 1  # parts of a batch that pass the towers one after the other; the gradient is the same
    config.train.max_skipped = 0  # updates that may be skipped for a loss or gradient that is not finite
    config.train.watchdog_minutes = 60.0  # a run that ends no step for so long prints its stacks and exits
    config.train.heartbeat_seconds = 100  # of several processes, one that was silent for so long counts as dead
    config.train.compilation_cache = "~/.cache/lrsclip_jax"  # of compiled programs; None: none

    # Axes of the device mesh: a batch is split over data x fsdp, parameters over fsdp and tensor.
    config.mesh = ConfigDict()
    config.mesh.data = 0  # 0: as many as the devices give
    config.mesh.fsdp = 1
    config.mesh.tensor = 1
    config.mesh.rules = ()  # (pattern, axis of each dimension), before the rules in lrsclip_jax/sharding.py

    config.eval = ConfigDict()
    config.eval.sources = ()  # held-out sets, as data.sources without weights
    config.eval.every_steps = 0  # 0: at the end only
    config.eval.batch_size = 256
    config.eval.templates = ()  # classify labelled sets zero-shot: ("lrsclip",), or templates with {} for the class
    config.eval.truncations = ()  # also score long texts cut to these numbers of tokens, e.g. (20,)

    config.checkpoint = ConfigDict()
    config.checkpoint.every_steps = 1000
    config.checkpoint.every_minutes = 20.0
    config.checkpoint.keep = 2  # this many of the newest stay,
    config.checkpoint.keep_every_minutes = None  # one in each period of this many minutes,
    config.checkpoint.best = None  # and the best by this metric, as metrics.jsonl names it: "eval/SET/long/mean_recall"
    config.checkpoint.keep_best = 1

    config.log = ConfigDict()
    config.log.every_steps = 10
    config.log.tensorboard = True
    config.log.profile = None  # (first, last): the steps that JAX's profiler traces, into the run's folder

    config.lock()
    config.model.image.unlock()
    config.model.text.unlock()
    return config


def overrides_of(arguments: Sequence[str]) -> list[str]:
    """Returns "KEY=VALUE" for each command-line argument "--config.KEY=VALUE"; InputError for any other argument."""
    for argument in arguments:
        if not argument.startswith("--config."):
            raise InputError(f"unknown argument {argument}: keys of the config are set with --config.KEY=VALUE")
    return [argument.removeprefix("--config.") for argument in arguments]


def load(spec: str, overrides: Sequence[str] = (), folder: Path | None = None, option: str = "--config=") -> ConfigDict:
    """Returns the config of a recipe with `key=value` overrides applied, locked.

    Args:
      spec: NAME, NAME:ARG, FILE.py or FILE.py:ARG, see `recipe`.
      overrides: made by `overrides_of`.
      folder: where recipes are found by name, see `recipe`.
      option: what stands before `spec` on the command line; messages begin with both.

    Raises:
      InputError: as `recipe`, and for an unknown key or a value of another type.
    """
    try:
        config = recipe(spec, folder)
    except InputError as error:
        raise InputError(f"{option}{error}") from error
    for override in overrides:
        key, separator, text = override.partition("=")
        if not separator:
            raise InputError(f"--config.{key}: write --config.{key}=VALUE")
        _set(config, key, text)
    return config.lock()


def recipe(spec: str, folder: Path | None = None) -> ConfigDict:
    """Returns the config that a recipe makes, to be changed: a recipe may start from another one.

        config = recipe("vitb16")
        config.model.name = "vitb32"

    Args:
      spec: the recipe's name or file, and behind a colon its argument if it takes one, see `recipe_files.call`.
      folder: where recipes are found by name. By default these are configs/ in the working directory, and the recipes
        that come with the package.

    Raises:
      InputError: there is no such recipe, it takes no argument or needs one, or its code fails; the line says where.
    """
    config = recipe_files.call(spec, (folder,) if folder else recipe_files.shipped())
    if not isinstance(config, ConfigDict):
        raise InputError(f"{spec}: get_config() returns {type(config).__name__}, a ConfigDict is expected")
    return config


def _set(config: ConfigDict, key: str, text: str) -> None:
    known = dict(_leaves(config))
    group, _, name = key.rpartition(".")
    if key not in known and group not in TOWERS:
        if inner := [leaf for leaf in known if leaf.startswith(f"{key}.")]:
            raise InputError(f"--config.{key} is a group of keys; set one of them, such as --config.{inner[0]}")
        raise InputError(f"--config.{key}: unknown key{nearest(key, known)}")
    value, old = _parse(text), known.get(key)
    if isinstance(old, float) and isinstance(value, int) and not isinstance(value, bool):
        value = float(value)
    if isinstance(old, tuple) and not isinstance(value, tuple):
        value = (value,)
    free = old is None or value is None or key == "loss.long_weight"
    if not free and type(value) is not type(old):
        raise InputError(f"--config.{key}={text}: expected {type(old).__name__}, such as {old!r}")
    target = config
    for step in filter(None, group.split(".")):
        target = target[step]
    with target.unlocked(), target.ignore_type():
        target[name] = value


def _parse(text: str) -> object:
    if text.lower() in ("true", "false"):
        return text.lower() == "true"
    try:
        value = ast.literal_eval(text)
    except (ValueError, SyntaxError):
        return text
    return tuple(value) if isinstance(value, list) else value


def _leaves(config: ConfigDict, prefix: str = "") -> Iterator[tuple[str, object]]:
    for key, value in config.items():
        if isinstance(value, ConfigDict):
            yield from _leaves(value, f"{prefix}{key}.")
        else:
            yield f"{prefix}{key}", value


def to_json(config: ConfigDict) -> str:
    """Returns the config as indented JSON (tuples become lists)."""
    return json.dumps(config.to_dict(), indent=2) + "\n"


def curve_differences(saved: dict, config: ConfigDict) -> list[str]:
    """Returns "key: old -> new" for every curve-determining key in which a saved config and this one differ.

    A key that did not exist yet when the config was saved had its default's meaning.
    """
    old, new = _curve(defaults()) | _curve(ConfigDict(saved)), _curve(config)
    return [
        f"{key}: {old.get(key, 'absent')} -> {new.get(key, 'absent')}"
        for key in sorted(old.keys() | new.keys())
        if old.get(key) != new.get(key)
    ]


def curve_hash(config: ConfigDict) -> str:
    """Returns 12 hexadecimal digits that are equal for configs of equal curve-determining keys."""
    return hashlib.sha256(json.dumps(_curve(config), sort_keys=True).encode()).hexdigest()[:12]


def _curve(config: ConfigDict) -> dict[str, str]:
    return {
        key: json.dumps(value)
        for key, value in _leaves(config)
        if not any(key == name or key.startswith(f"{name}.") for name in OPERATIONAL)
    }
