"""CLIP's ResNets as image towers: the ModifiedResNet of OpenAI's clip/model.py, with frozen batch norms."""

from __future__ import annotations

from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
from jax.ad_checkpoint import checkpoint_name
from jax.nn.initializers import Initializer, normal, ones, variance_scaling, zeros

from lrsclip_jax.errors import InputError
from lrsclip_jax.models.adapt_rules import Adapt
from lrsclip_jax.models.attention import attention
from lrsclip_jax.models.layers import cast_and_gather, exact_dense
from lrsclip_jax.sharding import BATCH, constrain, gathered

EPS = 1e-5  # of the norms, in OpenAI's code and open_clip's

# The values that bottlenecks store for the backward pass; with "none" nothing is computed again.
_REMAT = {
    "dense": jax.checkpoint_policies.save_only_these_names("convolution"),
    "full": jax.checkpoint_policies.nothing_saveable,
}


class Convolution(nn.Module):
    """A convolution and the frozen BatchNorm behind it: [B, H, W, C] -> [B, H/stride, W/stride, features] in `dtype`.

    It is (conv(x) − mean) / √(var + eps) · scale + bias, a BatchNorm that evaluates. The factor is made part of the
    kernel first: so the backward pass needs nothing from before the norm, and a narrow dtype rounds a weight once.

    Parameters: `kernel` [side, side, C, features]; `scale`, `bias`, `mean`, `var` [features], of which the last two are
    statistics of the pretraining, which `optimizer.frozen_by` keeps where they are.
    """

    features: int
    side: int = 3
    stride: int = 1
    scale_init: Initializer = ones
    dtype: Any = jnp.float32

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        # torch's initialisation of a convolution, which CLIP leaves as it is: uniform within ± fan_in^-½.
        shape = (self.side, self.side, x.shape[-1], self.features)
        kernel = self.param("kernel", variance_scaling(1 / 3, "fan_in", "uniform"), shape)
        scale, bias, mean, var = (
            self.param(name, init, (self.features,))
            for name, init in (("scale", self.scale_init), ("bias", zeros), ("mean", zeros), ("var", ones))
        )
        factor = scale * jax.lax.rsqrt(var + EPS)
        kernel = gathered((kernel * factor).astype(self.dtype))
        x = x.astype(self.dtype)
        if self.side == 1:
            x = x @ kernel[0, 0]
        else:
            padding = ((self.side // 2,) * 2,) * 2
            x = jax.lax.conv_general_dilated(
                x, kernel, (self.stride,) * 2, padding, dimension_numbers=("NHWC", "HWIO", "NHWC")
            )
        return checkpoint_name(x + (bias - mean * factor).astype(self.dtype), "convolution")


class Stem(nn.Module):
    """Three convolutions and a pooling in place of ResNet's one: [B, S, S, C] -> [B, S/4, S/4, width]."""

    width: int
    dtype: Any = jnp.float32

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        for number, (features, stride) in enumerate(((self.width // 2, 2), (self.width // 2, 1), (self.width, 1)), 1):
            x = nn.relu(Convolution(features, stride=stride, dtype=self.dtype, name=f"conv{number}")(x))
        return _halved(x)


class Bottleneck(nn.Module):
    """ResNet's block, whose strides are average pools before a convolution: [B, H, W, C] -> [B, H/s, W/s, 4·width]."""

    width: int
    stride: int
    dtype: Any = jnp.float32

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        x = constrain(x, BATCH)
        out = nn.relu(Convolution(self.width, side=1, dtype=self.dtype, name="conv1")(x))
        out = nn.relu(Convolution(self.width, dtype=self.dtype, name="conv2")(out))
        out = _halved(out) if self.stride == 2 else out
        # Where weights are drawn, a bottleneck begins as the identity, as in open_clip.
        out = Convolution(4 * self.width, side=1, scale_init=zeros, dtype=self.dtype, name="conv3")(out)
        if out.shape != x.shape:
            x = _halved(x) if self.stride == 2 else x
            x = Convolution(4 * self.width, side=1, dtype=self.dtype, name="downsample")(x)
        return nn.relu(x + out)


class AttentionHead(nn.Module):
    """CLIP's `AttentionPool2d` before its last layer: tokens [B, N, width] -> fp32 [B, width].

    The first token is the one query of an attention over all. Parameters: `query`, `key` and `value`, dense layers.
    """

    width: int
    heads: int
    dtype: Any = jnp.float32

    def setup(self) -> None:
        self.query, self.key, self.value = (
            nn.Dense(
                self.width,
                dtype=self.dtype,
                kernel_init=normal(self.width**-0.5),
                promote_dtype=cast_and_gather(None, "tensor"),
            )
            for _ in range(3)
        )

    def __call__(self, tokens: jax.Array) -> jax.Array:
        def heads(x: jax.Array) -> jax.Array:
            x = x.reshape(*x.shape[:2], self.heads, self.width // self.heads)
            return constrain(x, BATCH, None, "tensor")

        q, k, v = self.query(tokens[:, :1]), self.key(tokens), self.value(tokens)
        mixed = attention(heads(q), heads(k), heads(v), False, implementation="xla")
        return mixed.reshape(tokens.shape[0], self.width).astype(jnp.float32)


class ResNet(nn.Module):
    """CLIP's ResNet: normalised images [B, size, size, C] -> fp32 rows [B, embed_dim], not yet unit.

    The statistics of its batch norms never move: fine-tuning batches are small and of few scenes, the loss stays a
    function of the global batch on any number of devices, and every file comes back to the bit. So weights that are
    drawn train without any normalisation: start from pretrained ones.

    A cell of the last feature map, 32 pixels wide, stands for a patch; where a ViT has its class token there is the
    mean of the cells. A size that 32 does not divide, or a wrong head count, is an InputError.
    """

    size: int = 224
    width: int = 64  # of the stem; the last feature map has 32 times as many channels
    stages: tuple[int, ...] = (3, 4, 6, 3)  # bottlenecks in each
    heads: int = 32  # of the head of attention
    embed_dim: int = 1024
    remat: str = "dense"  # what bottlenecks store for the backward pass: "dense" the results of convolutions
    adapt: Adapt = ()  # no adapter has a place here
    resolution: str = "fixed"  # images are squares
    min_patches: int | None = None
    bands: tuple[str, ...] = ()  # that an image has, see `data.bands`; (): red, green and blue
    dtype: Any = jnp.float32  # of convolutions and attention; parameters, softmax and projection are fp32

    # Fields of a ViT, and constants here: other modules ask any image tower for them.
    patch, patch_dropout, first_patch, attention = 32, 0.0, 1, "xla"

    def setup(self) -> None:
        if self.size % self.patch:
            raise InputError(f"image tower: size {self.size} is not a multiple of {self.patch}, a ResNet's stride")
        if len(self.stages) != 4 or min(self.stages) < 1:
            raise InputError(f"image tower: stages are {self.stages}, a ResNet has four of 1 bottleneck at least")
        if self.feature_width % self.heads:
            raise InputError(f"image tower: width {self.feature_width} does not divide into {self.heads} heads")
        if self.remat not in ("none", *_REMAT):
            raise InputError(f"image tower: remat={self.remat!r}, a ResNet's is one of none, {', '.join(_REMAT)}")
        if self.adapt or self.resolution != "fixed":
            raise InputError("image tower: a ResNet has no adapters, and its images are squares")

        def stored(module: type[nn.Module]) -> type[nn.Module]:
            return module if self.remat == "none" else nn.remat(module, policy=_REMAT[self.remat])

        self.stem = stored(Stem)(self.width, self.dtype)
        self.bottlenecks = [
            stored(Bottleneck)(
                self.width * 2**stage, 2 if stage and not number else 1, self.dtype, name=f"layer{stage + 1}_{number}"
            )
            for stage, count in enumerate(self.stages)
            for number in range(count)
        ]
        shape = 1 + (self.size // self.patch) ** 2, self.feature_width
        self.position_embedding = self.param("position_embedding", normal(self.feature_width**-0.5), shape)
        self.head = AttentionHead(self.feature_width, self.heads, self.dtype)
        self.projection = exact_dense(self.embed_dim, self.feature_width, use_bias=True)

    @property
    def feature_width(self) -> int:
        """The channels of the last feature map, and the numbers of a feature."""
        return 32 * self.width

    @property
    def channels(self) -> int:
        """How many numbers a pixel has."""
        return len(self.bands) or 3

    def cells(self, images: jax.Array) -> jax.Array:
        """The last feature map, row by row: [B, patches, 32·width] in `dtype`."""
        wanted = (self.size, self.size, self.channels)
        if images.shape[1:] != wanted:
            raise InputError(f"image tower: images are {list(images.shape)}, must be [batch, {str(list(wanted))[1:]}")
        x = self.stem(constrain(images, BATCH))
        for bottleneck in self.bottlenecks:
            x = bottleneck(x)
        return x.reshape(x.shape[0], -1, self.feature_width)

    def hidden(self, images: jax.Array, kept: jax.Array | None = None) -> jax.Array:
        """All tokens before the head: fp32 [B, 1 + patches, 32·width], the mean of the cells first, with positions.

        `kept` is None: patch dropout is of ViTs.
        """
        x = self.cells(images).astype(jnp.float32)
        return jnp.concatenate([x.mean(axis=1, keepdims=True), x], axis=1) + self.position_embedding

    def pooled(self, hidden: jax.Array) -> jax.Array:
        """[B, 1 + patches, 32·width] -> fp32 [B, 32·width]: what the first token finds in all."""
        return self.head(hidden)

    def features(self, images: jax.Array) -> jax.Array:
        """The encoder's features, before the projection: fp32 [B, 32·width]."""
        return self.pooled(self.hidden(images))

    def tokens(self, hidden: jax.Array) -> jax.Array:
        """Each token as if it were the only one: [B, N, 32·width] -> fp32 [B, N, embed_dim]."""
        return self.projection(self.head.value(hidden))

    def __call__(self, images: jax.Array) -> jax.Array:
        return self.projection(self.features(images))


def _halved(x: jax.Array) -> jax.Array:
    """The mean of each 2 × 2 pixels."""
    return nn.avg_pool(x, (2, 2), (2, 2))
