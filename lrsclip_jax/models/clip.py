"""CLIP: an image tower and a text tower that meet in one space of unit vectors."""

from __future__ import annotations

import math
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
from jax.nn.initializers import constant

from lrsclip_jax.models.bert_tower import Bert
from lrsclip_jax.models.native import PackedImages
from lrsclip_jax.models.packed import Packed
from lrsclip_jax.models.resnet import ResNet
from lrsclip_jax.models.siglip_text import SiglipText
from lrsclip_jax.models.text import TextTransformer
from lrsclip_jax.models.vit import ViT


def unit(x: jax.Array) -> jax.Array:
    """x divided by its L2 norm over the last axis, in fp32."""
    x = x.astype(jnp.float32)
    # The floor keeps the gradient of an all-zero row finite; no other row comes near it.
    return x * jax.lax.rsqrt(jnp.maximum(jnp.sum(x * x, axis=-1, keepdims=True), 1e-24))


class CLIP(nn.Module):
    """Two towers and a temperature; parameters `{"image": …, "text": …, "logit_scale": scalar}`, all fp32.

    `logit_scale` is the log of the factor on cosines, ln(1/0.07) at first as in CLIP. With a `logit_bias` there is a
    parameter of this name, too, which the sigmoid loss adds to the scaled cosines. The towers are attributes, so
    other outputs than unit rows need no method here:

        model.apply(variables, images, method=lambda clip, x: clip.image(x))           # projected, raw rows
        model.apply(variables, images, method=lambda clip, x: clip.image.features(x))  # before the projection
    """

    image: ViT | ResNet
    text: TextTransformer | Bert | SiglipText
    logit_scale: float = math.log(1 / 0.07)
    logit_bias: float | None = None

    def setup(self) -> None:
        self.log_scale = self.param("logit_scale", constant(self.logit_scale), ())
        if self.logit_bias is not None:
            self.bias = self.param("logit_bias", constant(self.logit_bias), ())

    def encode_image(
        self, images: jax.Array, tokens: bool = False, kept: jax.Array | None = None
    ) -> jax.Array | tuple[jax.Array, jax.Array]:
        """Unit image rows, and on request every token.

        Args:
          images: float [B, size, size, 3], normalised with the model's mean and standard deviation.
          tokens: also return the tokens (heat maps, localisation).
          kept: int32 [B, K], the patches of each image that are looked at; None: all (`vit.kept_patches`).

        Returns:
          fp32 [B, E] of unit length; with `tokens` a pair with fp32 [B, first_patch + patches, E], the class token,
          registers if there are any, and then the patches row by row, after the last norm and the projection, not of
          unit length.
        """
        hidden = self.image.hidden(images, kept)
        rows = unit(self.image.projection(self.image.pooled(hidden)))
        return (rows, self.image.tokens(hidden)) if tokens else rows

    def encode_packed_images(self, packed: PackedImages) -> jax.Array:
        """Unit rows of images that share rows, fp32 [G, T, E]; those of a span of length 0 mean nothing."""
        return unit(self.image.projection(self.image.packed_features(packed)))

    def encode_text(
        self, ids: jax.Array, tokens: bool = False, shifts: jax.Array | None = None
    ) -> jax.Array | tuple[jax.Array, jax.Array]:
        """Unit text rows, and on request every token.

        Args:
          ids: int32 [B, L], L up to the context length, each row as the tower's tokenizer makes it.
          tokens: also return the tokens.
          shifts: int32 [B], by how many positions the tokens of each text but its first are moved; None: none is.

        Returns:
          fp32 [B, E] of unit length; with `tokens` a pair with fp32 [B, L, E], after the last norm and the
          projection, not of unit length; what follows the end of a text in its row means nothing.
        """
        hidden = self.text.hidden(ids, shifts)
        rows = unit(self.text.projection(self.text.pooled(hidden, ids)))
        return (rows, self.text.tokens(hidden)) if tokens else rows

    def encode_packed(self, packed: Packed) -> jax.Array:
        """Unit text rows of texts that share rows, fp32 [G, T, E]; those of a span of length 0 mean nothing."""
        return unit(self.text.projection(self.text.packed_features(packed)))

    def __call__(self, images: jax.Array, *texts: jax.Array) -> tuple[jax.Array, list[jax.Array], jax.Array]:
        """images [B, H, W, 3], any number of texts [B, L_i] -> unit rows [B, E], [unit rows [B, E], …], logit_scale."""
        rows: Any = self.encode_image(images)
        text_rows: list[Any] = [self.encode_text(ids) for ids in texts]
        return rows, text_rows, self.log_scale


def plain(model: CLIP) -> CLIP:
    """Returns the model without the adapters in its towers."""
    return model.clone(image=model.image.clone(adapt=()), text=model.text.clone(adapt=()))


def init_params(model: CLIP, key: jax.Array) -> dict:
    """Random parameters of `model` as a nested dict; jit it to get them sharded, `jax.eval_shape` it for shapes."""
    # Parameters depend on no attention: "auto" would time one for a single image and a text of one token.
    if model.image.attention == "auto":
        model = model.clone(image=model.image.clone(attention="xla"))
    if model.text.attention == "auto":
        model = model.clone(text=model.text.clone(attention="xla"))
    images = jnp.zeros((1, model.image.size, model.image.size, model.image.channels))
    ids = jnp.ones((1, 1), jnp.int32)
    return model.init(key, images, ids)["params"]
