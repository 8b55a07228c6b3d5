"""The loss of the model: InfoNCE, or the sigmoid loss, of images with long texts and with short ones."""

from __future__ import annotations

import math
from collections.abc import Mapping
from itertools import cycle
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax.sharding import Mesh

from lrsclip_jax.errors import InputError
from lrsclip_jax.losses import full, gather, ring, sigmoid
from lrsclip_jax.losses.blocks import Labels, weighted
from lrsclip_jax.losses.options import LossOptions, long_weight_at
from lrsclip_jax.losses.pcm import principal_part, reduce_to_components
from lrsclip_jax.sharding import check_divides

PyTree = Any


class Texts(NamedTuple):
    """The texts of one kind in a batch of B pairs.

    Attributes:
      features: [B, D] unit rows.
      present: bool [B], which pairs have such a text; None: all.
      keys: uint32 [B, 2], `text_keys` of the texts, which `same_text="ignore"` compares; else None.
      lengths: int32 [B], numbers of tokens, which `rising` compares; else None.
    """

    features: jax.Array
    present: jax.Array | None = None
    keys: jax.Array | None = None
    lengths: jax.Array | None = None


def dual_loss(
    image: jax.Array,
    texts: Mapping[str, Texts],
    logit_scale: jax.Array | float,
    options: LossOptions,
    *,
    logit_bias: jax.Array | float | None = None,
    image_keys: jax.Array | None = None,
    step: jax.Array | int = 0,
    mesh: Mesh | None = None,
) -> tuple[jax.Array, dict[str, jax.Array]]:
    """Returns L = ω·L_long + (1 − ω)·L_short (LRSCLIP Eq. 5): the loss of images with long and with short texts.

    Each is InfoNCE, or with `options.name="sigmoid"` SigLIP's loss. With `options.text_pca` a third term is added, of
    images with the principal part of the long texts of this batch (HiMo-CLIP, AAAI 2026), times a weight of its own.
    HiMo-CLIP has no short text: that is ω = 1 and a weight of 1. Two further terms compare an image with its own texts
    alone (`own_texts_loss`), each times its weight: with `options.rising` its long text is to score above its short
    one, where it has more tokens, as drawn texts may not; with `options.hard_negatives` its short text above the hard
    negative of that, a text with one fact changed.
    NegCLIP (Yuksekgonul et al., ICLR 2023) adds the hard negatives of all pairs to the texts that an image is compared
    with; here a pair meets its own alone, so the term needs no other device's texts.

    The paper's weights are 8:2, but it contradicts itself about which is which. Eq. 5 gives ω to the long
    text. The ablation (V-D-7) writes its ratios long to short: it calls 4:6 to 1:9 "excessively high short
    text weights" and finds 8:2 best. Only the training setup (V-A) says 8:2 for short and long. Two of three
    places mean ω = 0.8 on the long text, and so do the recipes here. (Long-CLIP adds both losses 1:1, which is
    ω = 0.5 at twice the scale.)

    Args:
      image: [B, D] unit rows, the same for both terms.
      texts: "long" and "short" texts, and "negative", the short texts' hard negatives. A kind that `options.texts`
        leaves out is not used, and may be missing.
      logit_scale: the factor of the cosines, the same for both terms.
      logit_bias: what the sigmoid loss adds to the scaled cosines, the same for both terms; InfoNCE has none.
      image_keys: uint32 [B, 2], equal for pairs of one image, which `same_image="positive"` compares.
      options: the weight ω, and how the loss is computed. It is a function of the global batch in every form.
      step: at which `options.long_weight` is taken, the first being 0.
      mesh: over whose BATCH axes the rows of a batch are split; the forms "gather" and "ring" need it.

    Returns:
      The loss, and the metrics `loss`, `logit_scale`, `logit_bias` with the sigmoid loss, and of each term computed
      `loss_long`, `accuracy_long`, `loss_short`, `accuracy_short`, `loss_text_pca`, `accuracy_text_pca`,
      `loss_rising`, `accuracy_rising`, `loss_hard_negatives`, `accuracy_hard_negatives`. All are float32 scalars.

    Raises:
      InputError: a batch that does not split evenly over the mesh or into the groups of `pcm_scope`.
    """
    long_weight = long_weight_at(options.long_weight, step)
    weight_of = {"long": long_weight, "short": 1 - long_weight}
    terms_of, weights = [*options.kinds], [weight_of[kind] for kind in options.kinds]
    chosen = [texts[kind] for kind in options.kinds]

    image, logit_scale = image.astype(jnp.float32), jnp.asarray(logit_scale, jnp.float32)
    features = [of_kind.features.astype(jnp.float32) for of_kind in chosen]
    compared = options.same_text == "ignore"
    images = image_keys if options.same_image == "positive" else None
    if images is None and options.same_image == "positive":
        raise ValueError("same_image='positive' compares image_keys")
    labels = [Labels.of(len(image), of_kind.present, of_kind.keys if compared else None, images) for of_kind in chosen]
    views, metrics = _views(image, options), {"logit_scale": logit_scale}
    if options.text_pca is not None:
        long = terms_of.index("long")
        views = views if len(views) == 1 else [*views, image]
        features.append(principal_part(features[long], options.text_pca, texts["long"].present))
        labels.append(labels[long])
        weights.append(options.text_pca_weight)
        terms_of.append("text_pca")
    _check_mesh(options, len(image), mesh)
    if options.name == "sigmoid":
        if logit_bias is None:
            raise ValueError("the sigmoid loss has a logit_bias")
        logits = sigmoid.Logits(logit_scale, jnp.asarray(logit_bias, jnp.float32))
        loss, terms = sigmoid.weighted_terms(views, features, labels, weights, logits, options, mesh)
        metrics["logit_bias"] = logits.bias
    else:
        loss, terms = weighted(_pair_losses(views, features, labels, logit_scale, options, mesh), labels, weights)
    if options.rising:
        lengths = [of_kind.lengths for of_kind in chosen]
        if lengths[0] is None or lengths[1] is None:
            raise ValueError("loss.rising compares lengths of texts")
        longer = labels[0].valid & labels[1].valid & (lengths[0] > lengths[1])
        rising = own_texts_loss(image, features[0], features[1], logit_scale, longer)
        loss += options.rising * rising[0]
        terms_of, terms = [*terms_of, "rising"], [*terms, rising]
    if options.hard_negatives:
        short, negative = options.kinds.index("short"), texts["negative"]
        valid = labels[short].valid if negative.present is None else labels[short].valid & negative.present
        wrong = negative.features.astype(jnp.float32)
        above = own_texts_loss(image, features[short], wrong, logit_scale, valid)
        loss += options.hard_negatives * above[0]
        terms_of, terms = [*terms_of, "hard_negatives"], [*terms, above]
    for name, (term, accuracy) in zip(terms_of, terms, strict=True):
        metrics |= {f"loss_{name}": term, f"accuracy_{name}": accuracy}
    return loss, {"loss": loss, **metrics}


def own_texts_loss(
    image: jax.Array, right: jax.Array, wrong: jax.Array, logit_scale: jax.Array, valid: jax.Array
) -> tuple[jax.Array, jax.Array]:
    """Returns the loss of right texts that do not score above wrong ones, and the share of pairs where they do.

    The loss is InfoNCE of an image with two texts of its own: the mean over valid pairs of
    log(1 + exp(scale · (cos(image, wrong) − cos(image, right)))). Other pairs' texts are no part of it. InfoNCE among
    pairs says nothing of one image's texts: a longer text that is as true may score lower (HiMo-CLIP, AAAI 2026), and a
    text with another count or side may score as high (Yuksekgonul et al., ICLR 2023).

    Args:
      image, right, wrong: float32 [B, D] unit rows.
      logit_scale: the factor of the cosines.
      valid: bool [B], the pairs that count; of none, both results are 0.
    """
    above = logit_scale * ((wrong - right) * image).sum(axis=-1)
    count = jnp.maximum(valid.sum(), 1)
    loss = jnp.where(valid, jax.nn.softplus(above), 0).sum() / count
    return loss, (valid & (above < 0)).sum() / count


def _check_mesh(options: LossOptions, pairs: int, mesh: Mesh | None) -> None:
    if options.form == "full":
        return
    if mesh is None:
        raise InputError(f"loss.form={options.form!r} needs the mesh over which the batch is split; 'full' needs none")
    check_divides("batch_size", pairs, mesh)


def _views(image: jax.Array, options: LossOptions) -> list[jax.Array]:
    """Returns the images as each kind of text sees them: one view for all, unless the short texts have their own."""
    if not options.pcm_components or "short" not in options.kinds:
        return [image]
    reduced = reduce_to_components(image, options.pcm_components, options.pcm_scope)
    return [image if kind == "long" else reduced for kind in options.kinds]


def _pair_losses(
    views: list[jax.Array],
    texts: list[jax.Array],
    labels: list[Labels],
    logit_scale: jax.Array,
    options: LossOptions,
    mesh: Mesh | None,
) -> list[tuple[jax.Array, jax.Array]]:
    """Returns what `gather.pair_losses` returns, by the form of the options."""
    if options.form == "full":
        return [
            full.pair_losses(*of_kind, logit_scale, label_smoothing=options.label_smoothing, gradient=options.gradient)
            for of_kind in zip(cycle(views), texts, labels, strict=False)
        ]
    assert mesh is not None
    pair_losses = gather.pair_losses if options.form == "gather" else ring.pair_losses
    return pair_losses(views, texts, labels, logit_scale, options, mesh)


def clamp_logit_scale(params: PyTree, max_scale: float | None) -> PyTree:
    """Keeps the logit scale in [1, max_scale]; the step calls it after its update. None changes nothing.

    CLIP's paper limits the scale to 100, open_clip clamps its logarithm to [0, ln 100] after every update,
    Long-CLIP and LRSCLIP do not clamp. A fixed temperature is frozen: `optimizer.freeze=("logit_scale",)`.
    """
    if max_scale is None:
        return params
    return {**params, "logit_scale": jnp.clip(params["logit_scale"], 0.0, math.log(max_scale))}
