"""The contrastive losses, pure functions of the global batch: InfoNCE, and its sum over long and short texts.

All is float32, and features are multiplied at the highest precision: an accelerator's default, bfloat16 or
TF32, is too coarse for logits of up to 100.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from lrsclip_jax.errors import InputError, nearest

PyTree = Any

_SAME_TEXT = ("negative", "ignore")

# The margin of what is no negative. Its exponential is 0; unlike -inf it keeps a row of nothing else finite.
_NEVER = -1e30


def info_nce(
    image: jax.Array,
    text: jax.Array,
    logit_scale: jax.Array | float,
    *,
    valid: jax.Array | None = None,
    keys: jax.Array | None = None,
    label_smoothing: float = 0.0,
) -> tuple[jax.Array, jax.Array]:
    """Symmetric InfoNCE between images and texts (LRSCLIP Eq. 1), the mean of both directions over the batch.

    The loss of image i is written with the margins m_ij = s·(v_i·t_j − v_i·t_i) of the other texts over its
    own: log(1 + Σ_{j≠i} exp m_ij). This is the cross entropy of the logits s·v_i·t_j, without the digits that
    are lost when two large logits are subtracted. Label smoothing ε subtracts ε times the mean margin over
    all candidates, the own text's 0 included, which is what `torch.nn.CrossEntropyLoss(label_smoothing=ε)`
    computes.

    Args:
        image: [B, D] unit rows.
        text: [B, D] unit rows; row i belongs to image i.
        logit_scale: s = 1/τ, the factor of the cosines itself; the model's parameter is its logarithm.
        valid: bool [B]. A pair without this text is neither positive nor negative: its row and its column
            drop out, and the mean is over the others. None: all pairs are valid.
        keys: [B, K], equal rows for equal texts, see `text_keys`. Texts equal to the own one are then no
            negatives, in either direction. None: every other text is a negative.
        label_smoothing: ε in [0, 1); Long-CLIP trains with 0.1, CLIP and LRSCLIP with 0.

    Returns:
        The loss and the in-batch accuracy (the share of images whose own text scores highest), float32
        scalars. Without a valid pair both are 0, and so are the gradients.
    """
    image, text = image.astype(jnp.float32), text.astype(jnp.float32)
    cosines = jnp.matmul(image, text.T, precision=jax.lax.Precision.HIGHEST)
    pairs = cosines.shape[0]
    valid = jnp.ones(pairs, bool) if valid is None else valid
    own = jnp.eye(pairs, dtype=bool)
    negative = ~own & valid[:, None] & valid[None, :]
    if keys is not None:
        negative &= (keys[:, None, :] != keys[None, :, :]).any(-1)

    image_to_text = _cross_entropy(cosines, negative, logit_scale, label_smoothing)
    text_to_image = _cross_entropy(cosines.T, negative.T, logit_scale, label_smoothing)
    best = jnp.argmax(jnp.where(own | negative, cosines, -jnp.inf), axis=1)
    return _mean((image_to_text + text_to_image) / 2, valid), _mean(best == jnp.arange(pairs), valid)


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
    long_ids: jax.Array | None = None,
    short_ids: jax.Array | None = None,
) -> tuple[jax.Array, dict[str, jax.Array]]:
    """L = ω·L_long + (1 − ω)·L_short (LRSCLIP Eq. 5): InfoNCE of images with long and with short texts.

    The paper's weights are 8:2, but it contradicts itself about which is which. Eq. 5 gives ω to the long
    text. The ablation (V-D-7) writes its ratios long to short: it calls 4:6 to 1:9 "excessively high short
    text weights" and finds 8:2 best. Only the training setup (V-A) says 8:2 for short and long. Two of three
    places mean ω = 0.8 on the long text, and so do our recipes. (Long-CLIP adds both losses 1:1, our ω = 0.5
    at twice the scale.)

    Args:
        image: [B, D] unit rows, the same for both terms.
        long, short: [B, D] unit rows. A term whose weight is a Python zero is not computed, its text unused.
        logit_scale: the factor of the cosines, the same for both terms.
        long_weight: ω in [0, 1], a Python number or a traced scalar, see `long_weight_at`.
        has_long, has_short: bool [B], which pairs have that text. None: all.
        label_smoothing: as in `info_nce`, for both terms.
        same_text: "negative", equal texts in a batch are each other's negatives, as in the reference code, or
            "ignore", they are not.
        long_ids, short_ids: int32 [B, L] and [B, S] token ids, which `same_text="ignore"` compares.

    Returns:
        The loss, and the metrics `loss`, `logit_scale` and, of each term computed, `loss_long`,
        `accuracy_long`, `loss_short`, `accuracy_short`.
    """
    if same_text not in _SAME_TEXT:
        hint = nearest(same_text, _SAME_TEXT)
        raise InputError(f"loss.same_text={same_text!r} is not one of {', '.join(_SAME_TEXT)}{hint}")
    terms = {
        "long": (long_weight, long, has_long, long_ids),
        "short": (1 - long_weight, short, has_short, short_ids),
    }
    loss = jnp.zeros([], jnp.float32)
    metrics = {"logit_scale": jnp.asarray(logit_scale, jnp.float32)}
    for kind, (weight, text, valid, ids) in terms.items():
        if isinstance(weight, int | float) and weight == 0:
            continue
        keys = text_keys(ids) if same_text == "ignore" else None
        term, accuracy = info_nce(image, text, logit_scale, valid=valid, keys=keys, label_smoothing=label_smoothing)
        loss += weight * term
        metrics |= {f"loss_{kind}": term, f"accuracy_{kind}": accuracy}
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


def clamp_logit_scale(params: PyTree, max_scale: float | None) -> PyTree:
    """Keeps the logit scale in [1, max_scale]; the step calls it after its update. None changes nothing.

    CLIP's paper limits the scale to 100, open_clip clamps its logarithm to [0, ln 100] after every update,
    Long-CLIP and LRSCLIP do not clamp. A fixed temperature is frozen: `optimizer.freeze=("logit_scale",)`.
    """
    if max_scale is None:
        return params
    return {**params, "logit_scale": jnp.clip(params["logit_scale"], 0.0, math.log(max_scale))}


def text_keys(ids: jax.Array) -> jax.Array:
    """A 64-bit key of each text: keys are compared, and sent between devices, instead of all token ids.

    Every (position, token) becomes a random-looking word, and the words of a text are added up; twice, with
    two hash functions (the finaliser of MurmurHash3, and `lowbias32` of C. Wellons' hash-prospector). Equal
    texts have equal keys, different ones share a key with probability 2^-64: 5e-10 for any two of 131,072.

    Args:
        ids: int32 [B, L] token ids below 2^17, with L below 2^15.

    Returns:
        uint32 [B, 2].
    """
    places = ids.astype(jnp.uint32) | jnp.arange(ids.shape[1], dtype=jnp.uint32) << 17
    murmur = _mix(places, (16, 0x85EBCA6B, 13, 0xC2B2AE35, 16))
    lowbias = _mix(places, (16, 0x7FEB352D, 15, 0x846CA68B, 16))
    return jnp.stack([murmur.sum(1, dtype=jnp.uint32), lowbias.sum(1, dtype=jnp.uint32)], axis=1)


def _cross_entropy(
    cosines: jax.Array, negative: jax.Array, logit_scale: jax.Array | float, label_smoothing: float
) -> jax.Array:
    """The loss of each row, [B], as a query whose own candidate is on the diagonal of `cosines`, [B, B]."""
    margins = logit_scale * (cosines - jnp.diagonal(cosines)[:, None])
    loss = jax.nn.softplus(jax.nn.logsumexp(jnp.where(negative, margins, _NEVER), axis=1))
    if label_smoothing:
        loss -= label_smoothing * jnp.where(negative, margins, 0).sum(1) / (1 + negative.sum(1))
    return loss


def _mean(values: jax.Array, valid: jax.Array) -> jax.Array:
    """The mean over the valid entries, 0 if there are none."""
    return jnp.where(valid, values, 0).sum(dtype=jnp.float32) / jnp.maximum(valid.sum(), 1)


def _mix(word: jax.Array, constants: tuple[int, int, int, int, int]) -> jax.Array:
    """A bijection of 32-bit words in which each bit of the input stirs every bit of the output."""
    shift_1, factor_1, shift_2, factor_2, shift_3 = constants
    word = (word ^ (word >> shift_1)) * jnp.uint32(factor_1)
    word = (word ^ (word >> shift_2)) * jnp.uint32(factor_2)
    return word ^ (word >> shift_3)
