"""The loss from all logits at once, [B, B]: the plain form, with which the others are compared."""

from __future__ import annotations

import jax
import jax.numpy as jnp

from lrsclip_jax.losses.blocks import Labels, cosines, cross_entropy, is_best, margins, mean, own_cosines, relations


def info_nce(
    image: jax.Array,
    text: jax.Array,
    logit_scale: jax.Array | float,
    *,
    valid: jax.Array | None = None,
    keys: jax.Array | None = None,
    image_keys: jax.Array | None = None,
    label_smoothing: float = 0.0,
    gradient: str = "full",
) -> tuple[jax.Array, jax.Array]:
    """Returns symmetric InfoNCE of images and texts (LRSCLIP Eq. 1), the mean of both directions over the batch.

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
        image_keys: [B, K], equal rows for pairs of one image. All its texts are then positives, and the target is
            uniform over them: L_i = −(1/|P_i|)·Σ_{p ∈ P_i} log softmax_p, as in SupCon (arXiv 2004.11362, the sum
            outside of the logarithm) and UniCL (arXiv 2204.03610). None: only the own text is one.
        label_smoothing: ε in [0, 1); Long-CLIP trains with 0.1, CLIP and LRSCLIP with 0.
        gradient: "full", or "reference": features get a gradient as queries only, not as candidates.

    Returns:
        The loss and the in-batch accuracy (the share of images whose own text scores strictly higher than every
        negative), float32 scalars. Without a valid pair both are 0, and so are the gradients.
    """
    labels = Labels.of(len(image), valid, keys, image_keys)
    loss, best = pair_losses(
        image.astype(jnp.float32),
        text.astype(jnp.float32),
        labels,
        jnp.float32(logit_scale),
        label_smoothing=label_smoothing,
        gradient=gradient,
    )
    return mean(loss, labels.valid), mean(best, labels.valid)


def pair_losses(
    image: jax.Array, text: jax.Array, labels: Labels, logit_scale: jax.Array, *, label_smoothing: float, gradient: str
) -> tuple[jax.Array, jax.Array]:
    """Returns what `gather.pair_losses` returns, for one kind of text; `image` and `text` are float32 [B, D]."""
    related = relations(labels, labels)
    image_to_text, text_to_image = (
        margins(scores, own, related.candidate, logit_scale)
        for scores, own in zip(cosines(image, text, gradient), own_cosines(image, text, gradient), strict=True)
    )
    of_image, of_text = (cross_entropy(block, related, label_smoothing) for block in (image_to_text, text_to_image))
    return (of_image + of_text) / 2, is_best(related.negatives_of(image_to_text).max(1), logit_scale)
