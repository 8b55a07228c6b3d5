"""The loss by blocks of images that travel round the ring of devices, past the texts of each.

Every block of logits, visiting images × a device's own texts, is computed once and serves both directions. Images
carry the log-sum-exp over the texts that they have met, texts keep that over the images that they have seen. After a
full round the images are back, and both know their loss. Autodiff would keep every block of the round. So a second
round computes the blocks again, and the images carry their gradient along.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from functools import partial
from itertools import cycle
from typing import Any

import jax
import jax.numpy as jnp
from jax.sharding import Mesh, PartitionSpec

from lrsclip_jax.losses.blocks import (
    Labels,
    cosines,
    in_chunks,
    is_best,
    joined,
    margins,
    own_cosines,
    relations,
)
from lrsclip_jax.losses.options import LossOptions
from lrsclip_jax.losses.statistics import Statistics, Summary
from lrsclip_jax.sharding import BATCH

PyTree = Any
Features = tuple[jax.Array, ...]

_ROWS, _WHOLE = PartitionSpec(BATCH), PartitionSpec()


def pair_losses(
    views: Sequence[jax.Array],
    texts: Sequence[jax.Array],
    labels: Sequence[Labels],
    logit_scale: jax.Array,
    options: LossOptions,
    mesh: Mesh,
) -> list[tuple[jax.Array, jax.Array]]:
    """Returns what `gather.pair_losses` returns for the same arguments; no device ever holds the features of all."""
    return _pair_losses(options, mesh, tuple(views), tuple(texts), logit_scale, tuple(labels))


@partial(jax.custom_vjp, nondiff_argnums=(0, 1))
def _pair_losses(
    options: LossOptions,
    mesh: Mesh,
    views: Features,
    texts: Features,
    logit_scale: jax.Array,
    labels: tuple[Labels, ...],
) -> list[tuple[jax.Array, jax.Array]]:
    return _forward(options, mesh, views, texts, logit_scale, labels)[0]


def _forward(
    options: LossOptions,
    mesh: Mesh,
    views: Features,
    texts: Features,
    logit_scale: jax.Array,
    labels: tuple[Labels, ...],
) -> tuple[list[tuple[jax.Array, jax.Array]], tuple]:
    first_round = jax.shard_map(
        partial(_first_round, options),
        mesh=mesh,
        in_specs=(_ROWS, _ROWS, _WHOLE, _ROWS),
        out_specs=(_ROWS, _ROWS),
    )
    pairs, summaries = first_round(views, texts, logit_scale, labels)
    return pairs, (views, texts, logit_scale, labels, summaries)


def _backward(options: LossOptions, mesh: Mesh, residuals: tuple, cotangents: list) -> tuple:
    second_round = jax.shard_map(
        partial(_second_round, options),
        mesh=mesh,
        in_specs=(_ROWS, _ROWS, _WHOLE, _ROWS, _ROWS, _ROWS),
        out_specs=(_ROWS, _ROWS, _WHOLE),
    )
    views, texts, logit_scale, labels, summaries = residuals
    losses = [loss for loss, _ in cotangents]
    return *second_round(views, texts, logit_scale, labels, summaries, losses), None


_pair_losses.defvjp(_forward, _backward)


def _first_round(
    options: LossOptions, views: Features, texts: Features, logit_scale: jax.Array, labels: Sequence[Labels]
) -> tuple[list[tuple[jax.Array, jax.Array]], list[list[Summary]]]:
    """Returns, on one device, the losses of its pairs, and the summaries of its images and of its texts."""
    owns, _ = _own_cosines(views, texts, options.gradient)
    images = in_chunks(((views, owns), labels), options.chunk)

    def meet(images: PyTree, image_statistics: PyTree, text_statistics: PyTree) -> tuple[PyTree, PyTree]:
        features, image_labels = images
        blocks = list(_blocks(features, image_labels, (texts, owns), labels, logit_scale, options.gradient))
        image_statistics = [known.after(*block) for known, (block, _) in zip(image_statistics, blocks, strict=True)]
        text_statistics = [known.after(*block) for known, (_, block) in zip(text_statistics, blocks, strict=True)]
        return image_statistics, text_statistics

    unmet = [Statistics.empty(own, label.images is not None) for own, label in zip(owns, labels, strict=True)]
    image_statistics, text_statistics = round_trip(meet, images, in_chunks(unmet, options.chunk), unmet)
    image_statistics = joined(image_statistics, len(owns[0]))

    smoothing = options.label_smoothing
    pairs = [
        ((image.loss(smoothing) + text.loss(smoothing)) / 2, is_best(image.largest_negative, logit_scale))
        for image, text in zip(image_statistics, text_statistics, strict=True)
    ]
    summaries = [[known.summary(smoothing) for known in side] for side in (image_statistics, text_statistics)]
    return pairs, summaries


def _second_round(
    options: LossOptions,
    views: Features,
    texts: Features,
    logit_scale: jax.Array,
    labels: Sequence[Labels],
    summaries: list[list[Summary]],
    cotangents: list[jax.Array],
) -> tuple[PyTree, PyTree, jax.Array]:
    """Returns, on one device, the gradients of its images, of its texts, and of the logit scale."""
    # Varying from here on, so that its gradient is summed over devices once and not at every block.
    logit_scale = jax.lax.pcast(logit_scale, BATCH, to="varying")
    of_images, of_texts = summaries
    (image_owns, text_owns), pull_owns = jax.vjp(partial(_own_cosines, gradient=options.gradient), views, texts)
    weights = [cotangent / 2 for cotangent in cotangents]
    images = in_chunks(((views, image_owns), labels, of_images, weights), options.chunk)

    def meet(images: PyTree, image_gradient: PyTree, text_gradient: PyTree) -> tuple[PyTree, PyTree]:
        images, image_labels, of_images, image_weights = images

        def surrogate(images: PyTree, texts_and_scale: PyTree) -> jax.Array:
            texts, logit_scale = texts_and_scale
            blocks = _blocks(images, image_labels, texts, labels, logit_scale, options.gradient)
            return sum(
                image_weight @ of_image.surrogate(*to_texts) + weight @ of_text.surrogate(*to_images)
                for (to_texts, to_images), of_image, image_weight, of_text, weight in zip(
                    blocks, of_images, image_weights, of_texts, weights, strict=True
                )
            )

        gradients = jax.grad(surrogate, (0, 1))(images, ((texts, text_owns), logit_scale))
        return jax.tree.map(jnp.add, (image_gradient, text_gradient), gradients)

    zeros = jax.tree.map(jnp.zeros_like, (images[0], ((texts, text_owns), logit_scale)))
    image_gradient, ((d_texts, d_text_owns), d_logit_scale) = round_trip(meet, images, *zeros)
    d_views, d_image_owns = joined(image_gradient, len(texts[0]))
    d_views, d_texts = jax.tree.map(jnp.add, (d_views, d_texts), pull_owns((d_image_owns, d_text_owns)))
    return d_views, d_texts, jax.lax.psum(d_logit_scale, BATCH)


def round_trip(
    meet: Callable[[PyTree, PyTree, PyTree], tuple[PyTree, PyTree]], images: PyTree, carried: PyTree, kept: PyTree
) -> tuple[PyTree, PyTree]:
    """Sends images once round all devices, and adds up what they and the texts there learn of each other.

    Args:
      meet: (a chunk of images, what it carries, what the texts keep) -> both of the latter after this block.
      images: leaves [N, C, …], chunks of images and of everything else that stays the same.
      carried: leaves [N, C, …], the part that changes and travels with the images.
      kept: the part that changes and stays with the device's own texts.

    Returns:
      carried and kept, after all blocks.
    """
    devices = jax.lax.axis_size(BATCH)
    to_the_next = [(device, (device + 1) % devices) for device in range(devices)]

    def stop(_: jax.Array, state: PyTree) -> PyTree:
        images, carried, kept = state

        def chunk(kept: PyTree, rows: PyTree) -> tuple[PyTree, PyTree]:
            images, carried = rows
            carried, kept = meet(images, carried, kept)
            return kept, carried

        kept, carried = jax.lax.scan(chunk, kept, (images, carried))
        images, carried = jax.lax.ppermute((images, carried), BATCH, to_the_next)
        return images, carried, kept

    _, carried, kept = jax.lax.fori_loop(0, devices, stop, (images, carried, kept))
    return carried, kept


def _blocks(
    images: PyTree,
    image_labels: Sequence[Labels],
    texts: PyTree,
    text_labels: Sequence[Labels],
    logit_scale: jax.Array,
    gradient: str,
) -> Iterator:
    """Yields, of each kind of text, the margins [Q, C] and the relations of images as queries and of texts as queries.

    `images` and `texts` are pairs: their features, and for each kind of text their own cosines as queries.
    """
    (views, image_owns), (texts, text_owns) = images, texts
    for view, image_own, image_label, text, text_own, text_label in zip(
        cycle(views), image_owns, image_labels, texts, text_owns, text_labels, strict=False
    ):
        related = relations(image_label, text_label)
        to_texts, to_images = cosines(view, text, gradient)
        yield (
            (margins(to_texts, image_own, related.candidate, logit_scale), related),
            (margins(to_images, text_own, related.T.candidate, logit_scale), related.T),
        )


def _own_cosines(views: Features, texts: Features, gradient: str) -> tuple[list[jax.Array], list[jax.Array]]:
    """Returns the own cosines of each kind of text, with images as queries and with texts as queries."""
    owns = [own_cosines(view, text, gradient) for view, text in zip(cycle(views), texts, strict=False)]
    return [of_images for of_images, _ in owns], [of_texts for _, of_texts in owns]
