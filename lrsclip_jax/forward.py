"""The forward pass from a batch to its embeddings, whose texts are padded or packed, whole or in microbatches."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.numpy as jnp
from jax.sharding import Mesh

from lrsclip_jax import losses
from lrsclip_jax.data.preprocessing import Preprocessing
from lrsclip_jax.models import lora_dropout
from lrsclip_jax.models.clip import CLIP, unit
from lrsclip_jax.models.native import packed_images
from lrsclip_jax.models.packed import Packed
from lrsclip_jax.models.pixels import normalise, of_words, turned
from lrsclip_jax.models.regions import encode_regions
from lrsclip_jax.models.siglip_text import SiglipText
from lrsclip_jax.models.vit import ViT
from lrsclip_jax.sharding import BATCH, batch_shards, constrain

Batch = dict[str, jax.Array]


def encode(
    model: CLIP,
    params: Any,
    batch: Batch,
    *,
    preprocessing: Preprocessing,
    kinds: Sequence[str],
    groups: int,
    key: jax.Array | None = None,
) -> dict[str, jax.Array]:
    """Returns unit rows [B, D] of the images, squares or of any shape, and of each kind of text, packed or padded.

    Of a frozen tower whose features the batch has, only the projection is computed. Where the batch has a `box` of each
    image, there are rows of "region" and "crop", too (`regions.encode_regions`). `key` is that of the step for LoRA's
    dropout; the batch then says as `sample` which pairs these are.
    """
    samples = batch.get("sample")
    rngs = {} if key is None else {lora_dropout.KEY: key}
    texts_of = {} if samples is None else {kind: len(kinds) * samples + n for n, kind in enumerate(kinds)}

    if "patches" in batch:
        shared = packed_images(batch, preprocessing, groups)
        of_images = {} if samples is None else {"image": samples}
        variables = {"params": params} | lora_dropout.of_packed("image", shared, of_images)
        found: Any = model.apply(variables, shared, method="encode_packed_images", rngs=rngs)
        images: Any = {"image": found.reshape(-1, found.shape[-1])}
    elif "image_features" in batch:
        images = {"image": _projected(model.image, params["image"], batch["image_features"])}
    else:
        offloaded = batch.get("image_words")
        if offloaded is None:
            seen = batch["image"]
        else:
            dtype = jnp.float32 if model.image.bands else jnp.uint8
            seen = of_words(offloaded, model.image.size, model.image.channels, dtype)
        seen = turned(seen, batch["turn"]) if "turn" in batch else seen
        pixels = normalise(seen, preprocessing)
        if "box" in batch:
            assert isinstance(model.image, ViT), "the config's checks refuse another tower"
            images = encode_regions(model.image, params["image"], pixels, batch["box"])
        else:
            variables = {"params": params} | lora_dropout.of_rows("image", samples)
            images = {"image": model.apply(variables, pixels, kept=batch.get("kept"), method="encode_image", rngs=rngs)}
    if f"{kinds[0]}_features" in batch:
        features = {kind: batch[f"{kind}_features"] for kind in kinds}
        return images | {k: _projected(model.text, params["text"], rows) for k, rows in features.items()}
    if "ids" in batch:
        packed = _packed(batch, kinds, groups)
        variables = {"params": params} | lora_dropout.of_packed("text", packed, texts_of)
        texts: Any = model.apply(variables, _moved(packed, batch), method="encode_packed", rngs=rngs)
        return images | _apart(texts, kinds)
    padded: dict[str, Any] = {
        kind: model.apply(
            {"params": params} | lora_dropout.of_rows("text", texts_of.get(kind)),
            batch[kind],
            shifts=batch.get(f"{kind}_shift"),
            method="encode_text",
            rngs=rngs,
        )
        for kind in kinds
    }
    return images | padded


def _projected(tower: Any, params: Any, features: jax.Array) -> jax.Array:
    """Returns unit rows [B, E] of a tower's features [B, D]."""
    return unit(tower.apply({"params": params}, features, method=lambda tower, rows: tower.projection(rows)))


def text_keys(batch: Batch, kinds: Sequence[str], groups: int) -> dict[str, jax.Array]:
    """Returns keys [B, 2] of each kind of text, equal for equal texts."""
    if "ids" not in batch:
        return {kind: losses.text_keys(batch[kind]) for kind in kinds}
    packed = _packed(batch, kinds, groups)
    return _apart(losses.packed_text_keys(packed.ids, packed.positions, packed.spans), kinds)


def text_lengths(batch: Batch, model: CLIP, kinds: Sequence[str]) -> dict[str, jax.Array]:
    """Returns the numbers of tokens, int32 [B], of each kind of text, without padding; 0 for a pair without one."""
    if "ids" in batch:
        return {kind: batch[f"{kind}_span"][:, 1] for kind in kinds}
    return {kind: jnp.where(batch[f"has_{kind}"], model.text.lengths(batch[kind]), 0) for kind in kinds}


def token_counts(batch: Batch, model: CLIP, kinds: Sequence[str]) -> dict[str, jax.Array]:
    """Returns the tokens of the texts, with which dense layers grow, and their squares, with which attention does.

    Of images of any shape both as well. Of SigLIP's texts the tower computes the padding, too.
    """
    if isinstance(model.text, SiglipText):
        counts = [jnp.where(batch[f"has_{kind}"], model.text.context_length, 0) for kind in kinds]
    else:
        counts = [*text_lengths(batch, model, kinds).values()]
    found = {"text": jnp.stack(counts).astype(jnp.float32)}
    if "image_span" in batch:
        found["image"] = batch["image_span"][:, 1].astype(jnp.float32)
    sums = {f"{tower}_tokens": tokens.sum() for tower, tokens in found.items()}
    return sums | {f"{tower}_squares": (tokens * tokens).sum() for tower, tokens in found.items()}


def _packed(batch: Batch, kinds: Sequence[str], groups: int) -> Packed:
    """Returns the texts of a packed batch, in each of its groups first all long ones, then all short ones."""
    spans = [batch[f"{kind}_span"].reshape(groups, -1, 2) for kind in kinds]
    return Packed(batch["ids"], batch["segments"], batch["positions"], jnp.concatenate(spans, axis=1))


def _moved(packed: Packed, batch: Batch) -> Packed:
    """Returns packed texts whose tokens are moved within the position table, where a batch says so."""
    return packed._replace(positions=packed.positions + batch["shifts"]) if "shifts" in batch else packed


def _apart(texts: jax.Array, kinds: Sequence[str]) -> dict[str, jax.Array]:
    """Returns rows of `_packed` texts, [G, T, …], by kind and in the order of the pairs: [B, …] each."""
    parts = jnp.split(texts, len(kinds), axis=1)
    return {kind: part.reshape(-1, *part.shape[2:]) for kind, part in zip(kinds, parts, strict=True)}


def in_microbatches(encode: Callable, batch: Batch, count: int, mesh: Mesh) -> dict[str, jax.Array]:
    """Returns `encode(batch)`, computed in `count` parts one after the other; only the features of all are kept.

    So the loss can be that of the whole batch: its gradient on the features is known before the second pass, which
    encodes each part again and adds its share to the parameters' gradient (GradCache, arXiv 2101.06983). Images in host
    memory are in their parts already, and travel to the device with each pass over a part.
    """
    if count == 1:
        return encode(batch)
    shards = batch_shards(mesh)

    def split(rows: jax.Array) -> jax.Array:
        # Each part takes equally many rows from every device, so that no row has to move.
        parts = rows.reshape(shards, count, -1, *rows.shape[1:]).swapaxes(0, 1)
        return constrain(parts.reshape(count, -1, *rows.shape[1:]), None, BATCH)

    def join(parts: jax.Array) -> jax.Array:
        rows = parts.reshape(count, shards, -1, *parts.shape[2:]).swapaxes(0, 1)
        return constrain(rows.reshape(-1, *parts.shape[2:]), BATCH)

    parts = {key: rows if key == "image_words" else split(rows) for key, rows in batch.items()}
    features = jax.lax.map(jax.checkpoint(encode, prevent_cse=False), parts)
    return jax.tree.map(join, features)
