"""The loss of each device's own rows, against the features of all devices, gathered once.

Chunks of rows bound the logits held at a time, and each is computed again for its gradient, which is plain
autodiff: gathered features return theirs through the transpose of the gathering, a reduce-scatter.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from itertools import cycle

import jax
from jax.sharding import Mesh, PartitionSpec

from lrsclip_jax.losses.blocks import (
    Labels,
    cross_entropy,
    in_chunks,
    is_best,
    joined,
    margins,
    own_cosines,
    products,
    relations,
    stopped,
)
from lrsclip_jax.losses.options import LossOptions
from lrsclip_jax.sharding import BATCH

Features = tuple[jax.Array, ...]


def pair_losses(
    views: Sequence[jax.Array],
    texts: Sequence[jax.Array],
    labels: Sequence[Labels],
    logit_scale: jax.Array,
    options: LossOptions,
    mesh: Mesh,
) -> list[tuple[jax.Array, jax.Array]]:
    """Returns the losses of one or several texts to an image.

    Args:
      views: float32 [B, D], image features: one for all texts, or one for each.
      texts: float32 [B, D], of each kind of text.
      labels: of each kind of text, leaves [B, …].
      logit_scale: float32 scalar.
      options: of them `label_smoothing`, `gradient` and `chunk`.
      mesh: over whose BATCH axes the rows of all these are split.

    Returns:
      Of each kind of text float32 [B], the mean of the losses of a pair's image and of its text, and bool [B],
      whether the own text is the image's best.
    """
    rows, whole = PartitionSpec(BATCH), PartitionSpec()
    local = partial(_local_losses, options=options)
    return jax.shard_map(local, mesh=mesh, in_specs=(rows, rows, rows, whole), out_specs=rows)(
        tuple(views), tuple(texts), tuple(labels), logit_scale
    )


def _local_losses(
    views: Features, texts: Features, labels: tuple[Labels, ...], logit_scale: jax.Array, *, options: LossOptions
) -> list[tuple[jax.Array, jax.Array]]:
    """Returns, on one device, the losses of its pairs."""
    # Varying from here on, so that its gradient is summed over devices once and not at every chunk.
    logit_scale = jax.lax.pcast(logit_scale, BATCH, to="varying")
    candidates = stopped((views, texts), options.gradient), labels
    (all_views, all_texts), all_labels = jax.lax.all_gather(candidates, BATCH, tiled=True)

    def losses(
        features: jax.Array, own: jax.Array, label: Labels, candidates: jax.Array, candidate_label: Labels
    ) -> tuple[jax.Array, jax.Array]:
        @jax.checkpoint
        def of_chunk(queries: tuple[jax.Array, jax.Array, Labels]) -> tuple[jax.Array, jax.Array]:
            features, own, label = queries
            related = relations(label, candidate_label)
            block = margins(products(features, candidates), own, related.candidate, logit_scale)
            loss = cross_entropy(block, related, options.label_smoothing)
            return loss, is_best(related.negatives_of(block).max(1), logit_scale)

        return joined(jax.lax.map(of_chunk, in_chunks((features, own, label), options.chunk)), len(own))

    pairs = []
    for view, text, label, all_view, all_text, all_label in zip(
        cycle(views), texts, labels, cycle(all_views), all_texts, all_labels, strict=False
    ):
        image_own, text_own = own_cosines(view, text, options.gradient)
        of_image, best = losses(view, image_own, label, all_text, all_label)
        of_text, _ = losses(text, text_own, label, all_view, all_label)
        pairs.append(((of_image + of_text) / 2, best))
    return pairs
