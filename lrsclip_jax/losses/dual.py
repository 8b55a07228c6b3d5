"""The loss of the model: InfoNCE with long texts and with short ones, and the config keys that shape it."""

from __future__ import annotations

import math
from collections.abc import Sequence
from itertools import cycle
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import Mesh

from lrsclip_jax.errors import InputError, nearest
from lrsclip_jax.losses import full, gather, ring
from lrsclip_jax.losses.blocks import Labels, mean
from lrsclip_jax.losses.pcm import reduce_to_components
from lrsclip_jax.sharding import check_divides

PyTree = Any

_CHOICES = {
    "form": ("full", "gather", "ring"),
    "gradient": ("full", "reference"),
    "same_text": ("negative", "ignore"),
}


def dual_loss(
    image: jax.Array,
    long: jax.Array | None,
    short: jax.Array | None,
    logit_scale: jax.Array | float,
    *,
    long_weight: jax.Array | float,
    has_long: jax.Array | None = None,
    has_short: jax.Array | None = None,
    label_smoothing: float = 0.0,
    same_text: str = "negative",
    long_keys: jax.Array | None = None,
    short_keys: jax.Array | None = None,
    gradient: str = "full",
    pcm_components: int = 0,
    pcm_scope: str = "global",
    form: str = "full",
    chunk: int = 0,
    mesh: Mesh | None = None,
) -> tuple[jax.Array, dict[str, jax.Array]]:
    """L = ω·L_long + (1 − ω)·L_short (LRSCLIP Eq. 5): InfoNCE of images with long and with short texts.

    The paper's weights are 8:2, but it contradicts itself about which is which. Eq. 5 gives ω to the long
    text. The ablation (V-D-7) writes its ratios long to short: it calls 4:6 to 1:9 "excessively high short
    text weights" and finds 8:2 best. Only the training setup (V-A) says 8:2 for short and long. Two of three
    places mean ω = 0.8 on the long text, and so do our recipes. (Long-CLIP adds both losses 1:1, our ω = 0.5
    at twice the scale.)

    The loss is a function of the global batch. Its forms differ in memory and traffic only, where B pairs of width
    D are split over n devices: "full" holds all logits, B·B over all devices; "gather" the features of all, B·D, and
    chunk·B logits on each device; "ring" only its share of the features, B/n·D, and chunk·B/n logits.

    Args:
        image: [B, D] unit rows, the same for both terms.
        long, short: [B, D] unit rows. A term whose weight is a Python zero is not computed, its text unused.
        logit_scale: the factor of the cosines, the same for both terms.
        long_weight: ω in [0, 1], a Python number or a traced scalar, see `long_weight_at`.
        has_long, has_short: bool [B], which pairs have that text. None: all.
        label_smoothing: as in `info_nce`, for both terms.
        same_text: "negative", equal texts in a batch are each other's negatives, as in the reference code, or
            "ignore", they are not.
        long_keys, short_keys: uint32 [B, 2], `losses.keys.text_keys` of the texts, which `same_text="ignore"` compares.
        gradient: "full", the loss's own, or "reference", that of LRSCLIP's code. It gathers features without their
            gradient, so that images learn from image → text alone and texts from text → image alone. The loss and
            the gradient of the logit scale are the same.
        pcm_components: 0, or the number of components to which `reduce_to_components` reduces the images of the
            short term.
        pcm_scope: "global" or "group:N", over which pairs those components are taken.
        form: "full", "gather" or "ring".
        chunk: how many rows of logits "gather" and "ring" hold at a time on a device; 0: all.
        mesh: over whose BATCH axes the rows of a batch are split; "gather" and "ring" need it.

    Returns:
        The loss, and the metrics `loss`, `logit_scale` and, of each term computed, `loss_long`,
        `accuracy_long`, `loss_short`, `accuracy_short`, as `info_nce` returns them.

    Raises:
        InputError: an option that is none, a batch that does not split evenly over the mesh.
    """
    _check_options(len(image), form=form, gradient=gradient, same_text=same_text, chunk=chunk, mesh=mesh)
    terms = {
        "long": (long_weight, long, has_long, long_keys),
        "short": (1 - long_weight, short, has_short, short_keys),
    }
    terms = {kind: terms[kind] for kind in kinds_used(long_weight)}
    weights, texts, valid, keys = zip(*terms.values(), strict=True)

    image, logit_scale = image.astype(jnp.float32), jnp.asarray(logit_scale, jnp.float32)
    texts = [text.astype(jnp.float32) for text in texts]
    keys = keys if same_text == "ignore" else [None] * len(texts)
    labels = [Labels.of(len(image), *of_kind) for of_kind in zip(valid, keys, strict=True)]
    # One view of the images serves all texts, unless the short ones have their own.
    views = [image]
    if pcm_components and "short" in terms:
        reduced = reduce_to_components(image, pcm_components, pcm_scope)
        views = [image if kind == "long" else reduced for kind in terms]

    if form == "full":
        pairs = [
            full.pair_losses(*of_kind, logit_scale, label_smoothing=label_smoothing, gradient=gradient)
            for of_kind in zip(cycle(views), texts, labels, strict=False)
        ]
    else:
        pair_losses = gather.pair_losses if form == "gather" else ring.pair_losses
        pairs = pair_losses(
            views,
            texts,
            labels,
            logit_scale,
            label_smoothing=label_smoothing,
            gradient=gradient,
            chunk=chunk,
            mesh=mesh,
        )

    loss = jnp.zeros([], jnp.float32)
    metrics = {"logit_scale": logit_scale}
    for kind, weight, label, (losses, best) in zip(terms, weights, labels, pairs, strict=True):
        term = mean(losses, label.valid)
        loss += weight * term
        metrics |= {f"loss_{kind}": term, f"accuracy_{kind}": mean(best, label.valid)}
    return loss, {"loss": loss, **metrics}


def long_weight_at(long_weight: float | Sequence[tuple[int, float]], step: jax.Array | int) -> jax.Array | float:
    """The weight ω of the long text at a step, from `config.loss.long_weight`.

    A number holds for every step and stays a Python number. Breakpoints (step, weight) are joined by straight
    lines, and held before the first and after the last: with `((0, 0.2), (1000, 0.8))` a run begins mostly
    on short texts and goes over to long ones.
    """
    constant = isinstance(long_weight, int | float)
    try:
        steps, weights = np.asarray([(0, long_weight)] if constant else long_weight, np.float32).T
        sound = bool((np.diff(steps) > 0).all() and ((0 <= weights) & (weights <= 1)).all())
    except (TypeError, ValueError):
        sound = False
    if not sound:
        raise InputError(
            f"loss.long_weight={long_weight!r} must be a number from 0 to 1, or breakpoints (step, weight) "
            "with rising steps such as ((0, 0.2), (1000, 0.8))"
        )
    return long_weight if constant else jnp.interp(step, steps, weights)


def kinds_used(long_weight: float | Sequence[tuple[int, float]] | jax.Array) -> tuple[str, ...]:
    """The texts that the loss looks at: one that weighs the number 0 at every step is not even encoded."""
    never = {0: "long", 1: "short"}.get(long_weight) if isinstance(long_weight, int | float) else None
    return tuple(kind for kind in ("long", "short") if kind != never)


def clamp_logit_scale(params: PyTree, max_scale: float | None) -> PyTree:
    """Keeps the logit scale in [1, max_scale]; the step calls it after its update. None changes nothing.

    CLIP's paper limits the scale to 100, open_clip clamps its logarithm to [0, ln 100] after every update,
    Long-CLIP and LRSCLIP do not clamp. A fixed temperature is frozen: `optimizer.freeze=("logit_scale",)`.
    """
    if max_scale is None:
        return params
    return {**params, "logit_scale": jnp.clip(params["logit_scale"], 0.0, math.log(max_scale))}


def _check_options(pairs: int, *, form: str, gradient: str, same_text: str, chunk: int, mesh: Mesh | None) -> None:
    for key, value in {"form": form, "gradient": gradient, "same_text": same_text}.items():
        if value not in _CHOICES[key]:
            choices = _CHOICES[key]
            raise InputError(f"loss.{key}={value!r} is not one of {', '.join(choices)}{nearest(value, choices)}")
    if chunk < 0:
        raise InputError(f"loss.chunk={chunk} must be a number of rows, or 0 for all at once")
    if form != "full":
        if mesh is None:
            raise InputError(f"loss.form={form!r} needs the mesh over which the batch is split; 'full' needs none")
        check_divides("batch_size", pairs, mesh)
