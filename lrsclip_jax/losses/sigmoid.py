"""The sigmoid loss of SigLIP (arXiv 2303.15343), in the same three forms as InfoNCE.

Whether an image and a text belong together is asked for every two of them alone. No sum over all candidates has to be
known first. So the ring needs one round, in which every block of logits gives its value and its gradient at once.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from itertools import cycle
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax.sharding import Mesh, PartitionSpec

from lrsclip_jax.losses.blocks import (
    NEVER,
    Labels,
    in_chunks,
    is_best,
    joined,
    margins,
    mean,
    own_cosines,
    products,
    relations,
    weighted,
)
from lrsclip_jax.losses.options import LossOptions
from lrsclip_jax.losses.ring import round_trip
from lrsclip_jax.sharding import BATCH

PyTree = Any
Features = tuple[jax.Array, ...]

_ROWS, _WHOLE = PartitionSpec(BATCH), PartitionSpec()


class Logits(NamedTuple):
    """What makes logits of cosines: z = scale·cosine + bias; float32 scalars."""

    scale: jax.Array
    bias: jax.Array


def sigmoid_loss(
    image: jax.Array,
    text: jax.Array,
    logit_scale: jax.Array | float,
    logit_bias: jax.Array | float,
    *,
    valid: jax.Array | None = None,
    keys: jax.Array | None = None,
    image_keys: jax.Array | None = None,
) -> tuple[jax.Array, jax.Array]:
    """Returns −(1/B)·Σ_i Σ_j log σ(y_ij·(s·v_i·t_j + b)), with y = 1 for a pair and −1 for all others.

    It is the sum over all texts and the mean over images, as in SigLIP's paper and in open_clip's `SigLipLoss`.

    Args:
        image: [B, D] unit rows.
        text: [B, D] unit rows; row i belongs to image i.
        logit_scale: s, the factor of the cosines itself; the model's parameter is its logarithm.
        logit_bias: b.
        valid: bool [B]. The row and the column of a pair without this text drop out, and the mean is over the others.
        keys: [B, K], equal rows for equal texts, see `text_keys`. Texts equal to the own one then count for nothing.
        image_keys: [B, K], equal rows for pairs of one image: y is 1 for all of them. None: for the own pair alone.

    Returns:
        The loss and the in-batch accuracy, as `info_nce` has it; float32 scalars, without a valid pair 0.
    """
    labels = Labels.of(len(image), valid, keys, image_keys)
    logits = Logits(jnp.float32(logit_scale), jnp.float32(logit_bias))
    loss, best = _pairs(image.astype(jnp.float32), text.astype(jnp.float32), labels, text, labels, logits)
    return mean(loss, labels.valid), mean(best, labels.valid)


def weighted_terms(
    views: Sequence[jax.Array],
    texts: Sequence[jax.Array],
    labels: Sequence[Labels],
    weights: Sequence[jax.Array | float],
    logits: Logits,
    options: LossOptions,
    mesh: Mesh | None,
) -> tuple[jax.Array, list[tuple[jax.Array, jax.Array]]]:
    """Returns the weighted sum of the losses of one or several kinds of text, and each with its accuracy.

    The gradient is that of the sum: the form "ring" has none of the single terms.

    Args:
      views, texts, labels, mesh: as `gather.pair_losses` has them.
      weights: of each kind of text; no gradient flows to them.
      logits: the same for all kinds.
      options: of them `form` and `chunk`.
    """
    if options.form != "ring":
        return weighted(_pair_losses(views, texts, labels, logits, options, mesh), labels, weights)
    assert mesh is not None
    counts = [jnp.maximum(label.valid.sum(), 1) for label in labels]
    shares = tuple(weight / count for weight, count in zip(weights, counts, strict=True))
    loss, sums, best = _ring(options, mesh, tuple(views), tuple(texts), logits, tuple(labels), shares)
    return loss, [
        (total / count, mean(own, label.valid))
        for total, count, own, label in zip(sums, counts, best, labels, strict=True)
    ]


def _pair_losses(
    views: Sequence[jax.Array],
    texts: Sequence[jax.Array],
    labels: Sequence[Labels],
    logits: Logits,
    options: LossOptions,
    mesh: Mesh | None,
) -> list[tuple[jax.Array, jax.Array]]:
    """Returns of each kind of text the losses of the images, float32 [B], and whether the own text is the best."""
    if options.form == "full":
        return [
            _pairs(view, text, label, text, label, logits)
            for view, text, label in zip(cycle(views), texts, labels, strict=False)
        ]
    assert mesh is not None
    local = partial(_of_one_device, chunk=options.chunk)
    return jax.shard_map(local, mesh=mesh, in_specs=(_ROWS, _ROWS, _ROWS, _WHOLE), out_specs=_ROWS)(
        tuple(views), tuple(texts), tuple(labels), logits
    )


def _pairs(
    view: jax.Array, text: jax.Array, label: Labels, candidates: jax.Array, candidate_label: Labels, logits: Logits
) -> tuple[jax.Array, jax.Array]:
    """Returns the losses of images, the own text of each being `text`, and whether that is the best candidate."""
    own, _ = own_cosines(view, text, "full")
    loss, largest = _block(view, own, label, candidates, candidate_label, logits)
    return loss, is_best(largest, jnp.float32(1))


def _of_one_device(
    views: Features, texts: Features, labels: tuple[Labels, ...], logits: Logits, *, chunk: int
) -> list[tuple[jax.Array, jax.Array]]:
    """Returns, on one device, the losses of its images against the texts of all devices, gathered once."""
    # Varying from here on, so that its gradient is summed over devices once and not at every chunk.
    logits = jax.lax.pcast(logits, BATCH, to="varying")
    all_texts, all_labels = jax.lax.all_gather((texts, labels), BATCH, tiled=True)

    def losses(
        view: jax.Array, text: jax.Array, label: Labels, candidates: jax.Array, candidate_label: Labels
    ) -> tuple[jax.Array, jax.Array]:
        @jax.checkpoint
        def of_chunk(rows: tuple[jax.Array, jax.Array, Labels]) -> tuple[jax.Array, jax.Array]:
            view, text, label = rows
            return _pairs(view, text, label, candidates, candidate_label, logits)

        return joined(jax.lax.map(of_chunk, in_chunks((view, text, label), chunk)), len(view))

    of_kinds = zip(cycle(views), texts, labels, all_texts, all_labels, strict=False)
    return [losses(*of_kind) for of_kind in of_kinds]


def _block(
    view: jax.Array, own: jax.Array, label: Labels, texts: jax.Array, text_label: Labels, logits: Logits
) -> tuple[jax.Array, jax.Array]:
    """Returns of images [Q, D] against texts [C, D] the losses, summed over texts, and the best negative.

    The latter is how far its cosine is above the own one, `own`; both are [Q].
    """
    related = relations(label, text_label)
    own_pair = (label.index[:, None] == text_label.index[None, :]) & label.valid[:, None] & text_label.valid[None, :]
    positive = own_pair if related.positive is None else own_pair | related.positive
    cosines = products(view, texts)
    z = logits.scale * cosines + logits.bias
    losses = jnp.where(own_pair | related.candidate, jax.nn.softplus(jnp.where(positive, -z, z)), 0).sum(1)
    above = margins(jax.lax.stop_gradient(cosines), own, related.candidate, jnp.float32(1))
    return losses, jax.lax.stop_gradient(related.negatives_of(above).max(1))


@partial(jax.custom_vjp, nondiff_argnums=(0, 1))
def _ring(
    options: LossOptions,
    mesh: Mesh,
    views: Features,
    texts: Features,
    logits: Logits,
    labels: tuple[Labels, ...],
    shares: tuple[jax.Array, ...],
) -> tuple[jax.Array, list[jax.Array], list[jax.Array]]:
    """Returns the sum of all losses by their shares, the sum of each kind of text, and whether own texts are best."""
    return _ring_forward(options, mesh, views, texts, logits, labels, shares)[0]


def _ring_forward(
    options: LossOptions,
    mesh: Mesh,
    views: Features,
    texts: Features,
    logits: Logits,
    labels: tuple[Labels, ...],
    shares: tuple[jax.Array, ...],
) -> tuple[tuple[jax.Array, list[jax.Array], list[jax.Array]], PyTree]:
    one_round = jax.shard_map(
        partial(_one_round, options.chunk),
        mesh=mesh,
        in_specs=(_ROWS, _ROWS, _WHOLE, _ROWS, _WHOLE),
        out_specs=((_WHOLE, _WHOLE, _ROWS), (_ROWS, _ROWS, _WHOLE)),
    )
    return one_round(views, texts, logits, labels, shares)


def _ring_backward(options: LossOptions, mesh: Mesh, gradients: PyTree, cotangents: tuple) -> tuple:
    """The gradient is there already, and so the sums of single kinds, whose cotangents are not looked at, have none."""
    return *jax.tree.map(lambda gradient: cotangents[0] * gradient, gradients), None, None


_ring.defvjp(_ring_forward, _ring_backward)


def _one_round(
    chunk: int,
    views: Features,
    texts: Features,
    logits: Logits,
    labels: tuple[Labels, ...],
    shares: tuple[jax.Array, ...],
) -> tuple[PyTree, PyTree]:
    """Returns, on one device, what `_ring` returns, and the gradients of its images, of its texts, and of the logits.

    Images travel with their gradient, texts stay with theirs.
    """
    logits = jax.lax.pcast(logits, BATCH, to="varying")
    owns = [own_cosines(view, text, "full")[0] for view, text in zip(cycle(views), texts, strict=False)]
    images = in_chunks((views, owns, labels), chunk)

    def meet(images: PyTree, carried: PyTree, kept: PyTree) -> tuple[PyTree, PyTree]:
        views, owns, image_labels = images

        def objective(views: Features, texts: Features, logits: Logits) -> tuple[jax.Array, PyTree]:
            blocks = [
                _block(*block, logits) for block in zip(cycle(views), owns, image_labels, texts, labels, strict=False)
            ]
            sums = [losses.sum() for losses, _ in blocks]
            return _total(sums, shares), (sums, [largest for _, largest in blocks])

        (d_views, largest), (d_texts, d_logits, sums) = carried, kept
        gradients, (more, largest_here) = jax.grad(objective, (0, 1, 2), has_aux=True)(views, texts, logits)
        d_views, d_texts, d_logits, sums = jax.tree.map(jnp.add, (d_views, d_texts, d_logits, sums), (*gradients, more))
        return (d_views, jax.tree.map(jnp.maximum, largest, largest_here)), (d_texts, d_logits, sums)

    unmet = [jnp.full_like(own, NEVER) for own in owns]
    zeros = jax.tree.map(jnp.zeros_like, (texts, logits, [logits.scale for _ in texts]))
    carried = jax.tree.map(jnp.zeros_like, images[0]), in_chunks(unmet, chunk)
    carried, (d_texts, d_logits, sums) = round_trip(meet, images, carried, zeros)
    d_views, largest = joined(carried, len(owns[0]))
    d_logits, sums = jax.lax.psum((d_logits, sums), BATCH)
    best = [is_best(margin, jnp.float32(1)) for margin in largest]
    return (_total(sums, shares), sums, best), (d_views, d_texts, d_logits)


def _total(sums: Sequence[jax.Array], shares: Sequence[jax.Array]) -> jax.Array:
    return (jnp.stack(sums) * jnp.stack(shares)).sum()
