"""SGD with dampening and AdamW as PyTorch computes them, Muon, Lion and schedule-free AdamW as optax does; schedules,
clipping and per-parameter rules are common to all.

`config.optimizer` spells every value:

    name="sgd", momentum=0.9, dampening=0.1,    # or name="adamw", b1=0.9, b2=0.999, eps=1e-8
                                                # or name="lion", b1=0.9, b2=0.99
                                                # or name="muon", momentum=0.95, b1, b2, eps: lrsclip_jax.muon
                                                # or name="schedule_free", b1, b2, eps: lrsclip_jax.averaging
    learning_rate=3e-4,
    schedule="constant",                        # or "cosine" or "wsd", which end at final_learning_rate
    final_learning_rate=0.0, cooldown=0.2,      # wsd: share of the run in which it falls
    warmup_steps=0, warmup_epochs=0.0,          # linear warm-up; one of the two is 0
    weight_decay=0.0,
    clip_norm=None,                             # the norm of all gradients is clipped to this; None: never
    lr_rules=(("image/.*", 0.1),),              # factors of the learning rate, see parameter_rules.scales
    decay_rules=((".*/(bias|scale)", 0.0),),    # factors of the weight decay
    freeze=("logit_scale", "text/position_embedding[0:20]", "image/blocks/.*[0:6]"),

A frozen parameter is constant to the bit: no gradient, no momentum, no decay, no part in the clipped norm.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
from ml_collections import ConfigDict

from lrsclip_jax import averaging, muon, parameter_rules
from lrsclip_jax.config.checks import check_group, optimizer_faults
from lrsclip_jax.config.facts import tower_fields, warmup_steps
from lrsclip_jax.errors import InputError
from lrsclip_jax.models import adapt_rules

PyTree = Any

_STATISTICS = "image/.*/(mean|var)"  # of a ResNet's batch norms

_OPTIMIZERS = {
    "sgd": ("momentum", "dampening"),
    "adamw": ("b1", "b2", "eps"),
    "lion": ("b1", "b2"),
    "muon": ("momentum", "b1", "b2", "eps"),
    "schedule_free": ("b1", "b2", "eps"),
}
_SCHEDULES = {"wsd": ("cooldown",)}
_SCHEDULE_KEYS = ("learning_rate", "schedule", "final_learning_rate", "warmup_steps", "warmup_epochs")
_COMMON_KEYS = (*_SCHEDULE_KEYS, "weight_decay", "clip_norm", "lr_rules", "decay_rules", "freeze")


class Optimizer(NamedTuple):
    """An optimizer as the step and the loop use it.

    Attributes:
        tx: turns gradients into updates. Its state holds fp32 arrays shaped like the trainable parameters, in
            trees like theirs, and int32 counts; a wholly frozen parameter has none.
        learning_rate: the learning rate of update 0, 1, … before `lr_rules`, for the log.
        trainable: a bool for each parameter, in a tree like theirs; False where it is wholly frozen and its
            gradient is not needed.
        point: from the parameters and the state to where the gradient is taken; None: at the parameters.
    """

    tx: optax.GradientTransformation
    learning_rate: optax.Schedule
    trainable: PyTree
    point: Callable[[PyTree, Any], PyTree] | None = None


def create(
    config: ConfigDict, params: PyTree, *, total_steps: int, steps_per_epoch: float, freeze: Sequence[str] = ()
) -> Optimizer:
    """Builds the optimizer that a config describes.

    Args:
        config: `config.optimizer`, as in the module's docstring.
        params: the parameters, or anything with their shapes.
        total_steps: updates in the run, where a cosine ends.
        steps_per_epoch: updates in an epoch, the unit of `warmup_epochs`.
        freeze: patterns to freeze in addition to `config.freeze`, such as the positions that stretching preserves.

    Raises:
        InputError: a missing key, an unknown name, an impossible value, a rule that decides nothing.
    """
    _check(config)
    lr_scale = parameter_rules.scales(config.lr_rules, params, where="optimizer.lr_rules")
    decay_scale = parameter_rules.scales(config.decay_rules, params, where="optimizer.decay_rules")
    frozen = jax.tree.map(
        np.logical_or,
        parameter_rules.selected(config.freeze, params, where="optimizer.freeze"),
        parameter_rules.selected(freeze, params, where="freeze"),
    )
    trainable = jax.tree.map(lambda rows: not rows.all(), frozen)
    decay = jax.tree.map(lambda scale, rows: np.float32(config.weight_decay) * scale * ~rows, decay_scale, frozen)
    learning_rate = learning_rate_schedule(config, total_steps, steps_per_epoch)
    if config.name == "schedule_free":  # it has no state for what is frozen, and its parts no factors
        decay, lr_scale = (
            jax.tree.map(lambda trains, factor: factor if trains else optax.MaskedNode(), trainable, factors)
            for factors in (decay, lr_scale)
        )
    if config.name == "sgd":
        inner = sgd_momentum(config.momentum, config.dampening)
        direction = optax.chain(_add_decay(decay), optax.masked(inner, trainable))
    else:
        direction = optax.chain(_moments(config, trainable), _add_decay(decay))
    steps = (direction, _multiply(lr_scale), optax.scale_by_learning_rate(learning_rate))
    point = None
    if config.name == "schedule_free":
        averaged, of_average = averaging.schedule_free(optax.chain(*steps), learning_rate, config.b1, trainable)
        steps, point = (averaged,), lambda params, state: of_average(params, state[2])
    tx = optax.chain(
        _fill(frozen, 0.0),
        optax.identity() if config.clip_norm is None else clip_by_norm(config.clip_norm),
        *steps,
        _fill(frozen, -0.0),  # p + (-0.0) is p to the bit, but p + 0.0 turns a -0.0 into 0.0
    )
    return Optimizer(tx, learning_rate, trainable, point)


def _moments(config: ConfigDict, trainable: PyTree) -> optax.GradientTransformation:
    """Returns the directions of an optimizer whose decay is AdamW's: of the parameter, apart from the moments."""
    if config.name == "muon":
        return muon.scale(config.momentum, config.b1, config.b2, config.eps, trainable)
    if config.name == "lion":
        return optax.masked(optax.scale_by_lion(config.b1, config.b2), trainable)
    if config.name == "schedule_free":  # which has the momentum
        return optax.scale_by_rms(config.b2, config.eps, eps_in_sqrt=False, bias_correction=True)
    return optax.masked(optax.scale_by_adam(config.b1, config.b2, config.eps), trainable)


def frozen_by(config: ConfigDict) -> tuple[str, ...]:
    """Returns what the config freezes in addition to `optimizer.freeze`.

    These are stretched positions, the statistics of a ResNet's batch norms, a fixed temperature, and under adapters the
    model itself.
    """
    positions = config.model.text.get("frozen_positions", 0)
    rules = (f"text/position_embedding[0:{positions}]",) if positions else ()
    rules += (_STATISTICS,) if tower_fields(config)[0]["kind"] == "resnet" else ()
    if config.model.get("adapt"):
        rules = (*rules, adapt_rules.frozen(config.model.adapt_with))
    return rules if config.loss.learn_temperature else (*rules, "logit_scale")


def learning_rate_schedule(config: ConfigDict, total_steps: int, steps_per_epoch: float) -> optax.Schedule:
    """The learning rate of update k = 0, 1, …: a linear warm-up, then a constant, a cosine, or a constant and a line.

    The w warm-up steps have `learning_rate`·(k + 1)/w, so that the first update already moves. A cosine then
    goes from `learning_rate` at k = w to `final_learning_rate` at k = total_steps, one step after the last;
    with a final learning rate of 0 it is Long-CLIP's. Warm-up–stable–decay ("wsd") stays at `learning_rate` until the
    share `cooldown` of the run is left, and then falls to `final_learning_rate` along a line.

    Args:
        config: `config.optimizer`; `warmup_epochs` may be fractional, and is rounded to steps.
        total_steps: updates in the run.
        steps_per_epoch: updates in an epoch.

    Returns:
        A function from int, or an integer array, to float32.

    Raises:
        InputError: a warm-up that is longer than the run.
    """
    warmup = warmup_steps(config, total_steps, steps_per_epoch)
    peak = config.learning_rate
    final = peak if config.schedule == "constant" else config.final_learning_rate
    fall = total_steps - warmup
    if config.schedule == "wsd":
        fall = min(round(config.cooldown * total_steps), fall)

    def learning_rate(step):
        remaining = jnp.clip((total_steps - step) / max(fall, 1), 0, 1)
        share = remaining if config.schedule == "wsd" else jnp.sin(jnp.pi / 2 * remaining) ** 2
        annealed = final + (peak - final) * share
        return jnp.where(step < warmup, peak * (step + 1) / max(warmup, 1), annealed).astype(jnp.float32)

    return learning_rate


class MomentumState(NamedTuple):
    """The number of updates so far, and the momentum buffers, a tree like the parameters."""

    count: jax.Array  # type: ignore[assignment]  # hides tuple.count
    momentum: PyTree


def sgd_momentum(momentum: float, dampening: float) -> optax.GradientTransformation:
    """The momentum of `torch.optim.SGD`: b ← momentum·b + (1 − dampening)·g, except that the first b is g.

    With momentum 0.9, dampening 0.1 and g = 1, b is 1, 1.8, 2.52, …; with momentum 0 torch does not dampen.
    """
    if momentum == 0:
        return optax.identity()

    def init(params):
        return MomentumState(jnp.zeros([], jnp.int32), jax.tree.map(jnp.zeros_like, params))

    def update(gradients, state, params=None):
        del params
        share = jnp.where(state.count == 0, 1.0, 1.0 - dampening)
        buffers = jax.tree.map(lambda b, g: momentum * b + share * g, state.momentum, gradients)
        return buffers, MomentumState(optax.safe_increment(state.count), buffers)

    return optax.GradientTransformation(init, update)


def clip_by_norm(limit: float) -> optax.GradientTransformation:
    """Scales all gradients by min(1, limit / (norm + 1e-6)), as `torch.nn.utils.clip_grad_norm_` does."""

    def clip(gradients, _):
        factor = jnp.minimum(1.0, limit / (optax.tree.norm(gradients) + 1e-6))
        return jax.tree.map(lambda g: factor * g, gradients)

    return optax.stateless(clip)


def _add_decay(decay: PyTree) -> optax.GradientTransformation:
    """Adds decay·parameter: before the momentum this is torch's SGD, after Adam's moments it is AdamW."""

    def add(updates, params):
        return jax.tree.map(lambda u, p, d: u + d * p if d.any() else u, updates, params, decay)

    return optax.stateless(add)


def _multiply(factors: PyTree) -> optax.GradientTransformation:
    """Multiplies each update by its factor."""
    return optax.stateless(lambda updates, _: jax.tree.map(jnp.multiply, updates, factors))


def _fill(where: PyTree, value: float) -> optax.GradientTransformation:
    """Puts a value where the masks are true; a product with zero would let NaN through."""

    def fill(updates, _):
        return jax.tree.map(lambda u, rows: jnp.where(rows, value, u) if rows.any() else u, updates, where)

    return optax.stateless(fill)


def _check(config: ConfigDict) -> None:
    """Raises an InputError for a value that is not allowed, or a key that is missing."""
    check_group(config, "optimizer")
    needed = {"name": (*_COMMON_KEYS, *_OPTIMIZERS[config.name]), "schedule": _SCHEDULES.get(config.schedule, ())}
    for choice, keys in needed.items():
        if missing := [key for key in keys if key not in config]:
            value = f"optimizer.{choice}={config[choice]!r}"
            raise InputError(f"config.optimizer lacks {', '.join(missing)}, which {value} needs")
    for fault in optimizer_faults(config):
        raise InputError(fault)
