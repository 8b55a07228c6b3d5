"""The image tower: one Vision Transformer for the layouts of CLIP, DINOv2, DINOv3, MAE and SigLIP; patch dropout."""

from __future__ import annotations

from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
from jax.nn.initializers import normal, variance_scaling, zeros

from lrsclip_jax.errors import InputError
from lrsclip_jax.models.adapt_rules import Adapt
from lrsclip_jax.models.attention import Rotation
from lrsclip_jax.models.attention_pooling import AttentionPooling
from lrsclip_jax.models.layers import Block, check_heads, exact_dense, layer_norm, tower_blocks
from lrsclip_jax.models.native import PackedImages, patches_of_each, positions_at, rotary_at
from lrsclip_jax.models.packed import at_slots
from lrsclip_jax.models.positions import rotary_angles
from lrsclip_jax.sharding import BATCH, constrain, gathered


class PatchEmbedding(nn.Module):
    """Linear map of square patches: [B, H, W, C] -> [B, (H/patch)·(W/patch), width] in `dtype`, row by row.

    Or of images that are cut already (`data.native.cut`): [R, N, patch·patch·C] -> [R, N, width].

    Parameters: `kernel` [patch, patch, C, width] and, with `use_bias`, `bias` [width].
    """

    patch: int
    width: int
    use_bias: bool
    dtype: Any = jnp.float32

    @nn.compact
    def __call__(self, images: jax.Array) -> jax.Array:
        # torch's initialisation of a convolution, which CLIP leaves as it is: uniform within ± fan_in^-½.
        channels = images.shape[-1] if images.ndim == 4 else images.shape[-1] // self.patch**2
        kernel = self.param(
            "kernel", variance_scaling(1 / 3, "fan_in", "uniform"), (self.patch, self.patch, channels, self.width)
        )
        # A convolution whose stride equals its kernel is a matrix product, which XLA runs faster on CPUs.
        patches = images.astype(self.dtype)
        if images.ndim == 4:
            batch, rows, columns = images.shape[0], images.shape[1] // self.patch, images.shape[2] // self.patch
            patches = patches.reshape(batch, rows, self.patch, columns, self.patch, channels)
            patches = patches.swapaxes(2, 3).reshape(batch, rows * columns, -1)
        patches = constrain(patches, BATCH)
        x = patches @ gathered(kernel.reshape(-1, self.width).astype(self.dtype))
        if self.use_bias:
            x += self.param("bias", zeros, (self.width,)).astype(self.dtype)
        return x


class ImageBlock(Block):
    """A block that may also take a pair (x, anything) and then makes (block(x), x) of it.

    Behind the last block the second part is what entered that block, of which `patches.value_tokens` are made. The
    backward pass stores no more for it.
    """

    @nn.compact
    def __call__(self, x: Any, segments: jax.Array | None = None, rotation: Rotation | None = None) -> tuple[Any, None]:
        if not isinstance(x, tuple):
            return super().__call__(x, segments, rotation)
        left, _ = super().__call__(x[0], segments, rotation)
        return (left, x[0]), None


class ViT(nn.Module):
    """Vision Transformer: normalised images [B, size, size, C] -> fp32 rows [B, embed_dim], not yet unit.

    CLIP's layout has no patch bias, a norm before the blocks, eps 1e-5 and QuickGELU (or GELU); DINOv2's and MAE's
    have a patch bias, no first norm, eps 1e-6 and exact GELU. `pool` takes the class token ("cls") or the mean of the
    patch tokens ("mean"), `post_norm` follows it. SigLIP's ("map") has no class token: an `AttentionPooling` follows
    `post_norm`, and there is a projection only where `embed_dim` is not the width. A wrong image size, patch or head
    count is an InputError.

    DINOv3's has further tokens, `registers` behind the class token, and with a `rotary_base` no table of positions:
    queries and keys of the patches are turned in every block (`positions.rotary_angles`), so any size has its places.
    Its larger towers have `gated` MLPs.

    `packed_features` takes images of any shape, in rows that they share, with the same parameters.

    Initialisation as CLIP's: class and position embeddings and the projection are normal with standard deviation
    width^-½, blocks as `layers.Block` says, norms are the identity.
    """

    size: int = 224
    patch: int = 32
    width: int = 768
    layers: int = 12
    heads: int = 12
    embed_dim: int = 512
    mlp_width: int | None = None  # None: four times the width
    patch_bias: bool = False
    pre_norm: bool = True
    norm_eps: float = 1e-5
    activation: str = "quick_gelu"
    pool: str = "cls"
    registers: int = 0  # tokens that no patch has, see arXiv 2309.16588
    rotary_base: float | None = None  # of rotary positions; None: a table
    gated: bool = False  # whether MLPs have a gate, see layers.MLP
    remat: str = "dense"  # what the blocks store for the backward pass, see layers.remat_policy
    attention: str = "auto"  # who computes it, see attention.attention
    unroll: int = 1  # blocks that are written out in one round of their scan
    products: str = "float"  # in what dense layers of the blocks are computed, see products.dot_general
    adapt: Adapt = ()  # adapters in the blocks, see adapt_rules.resolved
    token_multiple: int = 1  # tokens are padded to a multiple of it, for matrix units that process blocks of that size
    patch_dropout: float = 0.0  # share of the patches that training leaves out, see `kept_patches`
    resolution: str = "fixed"  # "native": images keep their shape, of as many patches at most as a square of `size` has
    min_patches: int | None = None  # to how many of these a small image is enlarged, see `data.native`; None: to all
    bands: tuple[str, ...] = ()  # that an image has, see `data.bands`; (): red, green and blue
    dtype: Any = jnp.float32  # of the blocks; parameters, norms, softmax and projection are fp32

    def setup(self) -> None:
        if self.size % self.patch:
            raise InputError(f"image tower: size {self.size} is not a multiple of patch {self.patch}")
        check_heads(self, "image")
        if self.pool not in ("cls", "mean", "map"):
            raise InputError(f"image tower: pool is {self.pool!r}, must be 'cls', 'mean' or 'map'")
        if self.token_multiple < 1:
            raise InputError(f"image tower: token_multiple is {self.token_multiple}, must be at least 1")
        if not 0 <= self.patch_dropout < 1:
            raise InputError(f"image tower: patch_dropout is {self.patch_dropout}, must lie in 0…1, below 1")
        if self.rotary_base is not None and self.width // self.heads % 4:
            raise InputError(
                f"image tower: rotary positions need heads of a width that 4 divides, here it is "
                f"{self.width // self.heads}"
            )
        init = normal(self.width**-0.5)
        self.patch_embedding = PatchEmbedding(self.patch, self.width, self.patch_bias, self.dtype)
        if self.class_tokens:
            self.class_embedding = self.param("class_embedding", init, (self.width,))
        if self.registers:
            self.register_embedding = self.param("register_embedding", normal(0.02), (self.registers, self.width))
        if self.rotary_base is None:
            tokens = self.class_tokens + (self.size // self.patch) ** 2
            self.position_embedding = self.param("position_embedding", init, (tokens, self.width))
        if self.pre_norm:
            self.first_norm = layer_norm(self.norm_eps, name="pre_norm")
        self.blocks = tower_blocks(self, ImageBlock, causal=False, gated=self.gated)
        self.post_norm = layer_norm(self.norm_eps)
        if self.pool == "map":
            mlp_width = self.mlp_width or 4 * self.width
            self.head = AttentionPooling(
                self.width, self.heads, mlp_width, self.activation, self.norm_eps, dtype=self.dtype
            )
        self.projection = exact_dense(self.embed_dim, self.width) if self.projects else _unchanged

    @property
    def class_tokens(self) -> int:
        """1, or 0 where there is no class token."""
        return 0 if self.pool == "map" else 1

    @property
    def projects(self) -> bool:
        """Whether there is a projection."""
        return self.pool != "map" or self.embed_dim != self.width

    @property
    def channels(self) -> int:
        """How many numbers a pixel has."""
        return len(self.bands) or 3

    @property
    def first_patch(self) -> int:
        """Where patches begin among the tokens: behind any class token and the registers."""
        return self.class_tokens + self.registers

    @property
    def parts(self) -> str:
        """Parts that a plain ViT has not, in words; "" where there is none."""
        parts = {
            "rotary positions": self.rotary_base is not None,
            "registers": self.registers,
            "gated MLPs": self.gated,
        }
        return ", ".join(part for part, there in parts.items() if there)

    def hidden(self, images: jax.Array, kept: jax.Array | None = None) -> jax.Array:
        """All tokens after the last block, before `post_norm`: [B, first_patch + patches, width], a class token first.

        `kept`, int32 [B, K], are the patches that go through the blocks (`kept_patches`); the others leave
        [B, first_patch + K, width].
        """
        x, tokens, *shared = self._embedded(images, kept)
        x, _ = self.blocks(x, *shared)
        return x[:, :tokens]

    def hidden_and_entering(self, images: jax.Array) -> tuple[jax.Array, jax.Array]:
        """`hidden`, and all tokens as they enter the last block, of the same shape."""
        x, tokens, *shared = self._embedded(images)
        (left, entered), _ = self.blocks((x, x), *shared)
        return left[:, :tokens], entered[:, :tokens]

    def _embedded(
        self, images: jax.Array, kept: jax.Array | None = None
    ) -> tuple[jax.Array, int, jax.Array | None, Rotation | None]:
        """What enters the blocks: tokens [B, N, width], how many of the N are no padding, which, and their rotation."""
        wanted = (self.size, self.size, self.channels)
        if images.shape[1:] != wanted:
            raise InputError(f"image tower: images are {list(images.shape)}, must be [batch, {str(list(wanted))[1:]}")
        patches, angles = self.patch_embedding(images), None
        if self.rotary_base is None:
            patches += self.position_embedding[self.class_tokens :]
        else:
            angles = jnp.asarray(rotary_angles(self.size // self.patch, self.width // self.heads, self.rotary_base))
        if kept is not None:
            patches = jnp.take_along_axis(patches, kept[..., None], axis=1)
            angles = None if angles is None else angles[kept]
        x = jnp.concatenate([*self._before(images.shape[0]), patches], axis=1)
        if self.pre_norm:
            x = self.first_norm(x)
        tokens = x.shape[1]
        padding = -tokens % self.token_multiple
        x = jnp.pad(x.astype(self.dtype), ((0, 0), (0, padding), (0, 0)))
        seen = jnp.broadcast_to(jnp.arange(tokens + padding) < tokens, x.shape[:2]) if padding else None
        return constrain(x, BATCH), tokens, seen, self._rotation(angles, padding)

    def packed_features(self, packed: PackedImages) -> jax.Array:
        """The features of images of any shape that share rows: fp32 [G, T, width]; of a span of length 0 any.

        A square image of `size` has the features that it has alone.
        """
        patch = packed.positions - self.first_patch
        x, rotation = self.patch_embedding(packed.patches), None
        if self.rotary_base is None:
            x += positions_at(self.position_embedding[self.class_tokens :], patch, packed.grids)
        else:
            angles = rotary_at(patch, packed.grids, self.width // self.heads, self.rotary_base)
            rotation = Rotation(jnp.cos(angles), jnp.sin(angles))
        if self.first_patch:
            before = jnp.concatenate(self._before(1), axis=1)[0]
            which = jax.nn.one_hot(packed.positions, self.first_patch)
            x = jnp.where(patch[..., None] < 0, 0, x) + jnp.matmul(which, before, precision=jax.lax.Precision.HIGHEST)
        if self.pre_norm:
            x = self.first_norm(x)
        x, _ = self.blocks(constrain(x.astype(self.dtype), BATCH), packed.segments, rotation)
        if self.pool == "cls":
            return self.post_norm(at_slots(x, packed.spans[..., 0]))
        patches, seen = patches_of_each(x, packed.spans, self.first_patch, (self.size // self.patch) ** 2)
        if self.pool == "map":
            rows = self.head(self.post_norm(patches), seen)
        else:
            total = jnp.sum(patches, axis=1, dtype=jnp.float32, where=seen[..., None])
            rows = self.post_norm(total / jnp.maximum(seen.sum(axis=1, keepdims=True), 1))
        return rows.reshape(*packed.spans.shape[:2], self.width)

    def _before(self, images: int) -> list[jax.Array]:
        """The tokens that stand before the patches, [images, ·, width] each."""
        before = []
        if self.class_tokens:
            first = self.class_embedding if self.rotary_base else self.class_embedding + self.position_embedding[0]
            before.append(jnp.broadcast_to(first, (images, 1, self.width)))
        if self.registers:
            before.append(jnp.broadcast_to(self.register_embedding, (images, self.registers, self.width)))
        return before

    def _rotation(self, angles: jax.Array | None, padding: int) -> Rotation | None:
        """The rotation of all tokens by the angles of the patches, [..., patches, head width / 2]."""
        if angles is None:
            return None
        still = [(0, 0)] * (angles.ndim - 2)
        angles = jnp.pad(angles, (*still, (self.first_patch, padding), (0, 0)))
        return Rotation(jnp.cos(angles), jnp.sin(angles))

    def pooled(self, hidden: jax.Array) -> jax.Array:
        """[B, first_patch + patches, width] -> fp32 [B, width]: the pooled token after `post_norm`."""
        if self.pool == "map":
            return self.head(self.post_norm(hidden[:, self.first_patch :]))
        patches = hidden[:, self.first_patch :]
        return self.post_norm(hidden[:, 0] if self.pool == "cls" else patches.mean(axis=1, dtype=jnp.float32))

    def features(self, images: jax.Array | PackedImages) -> jax.Array:
        """The encoder's features, before the projection: fp32 [B, width], or [G, T, width] of images in shared rows."""
        if isinstance(images, PackedImages):
            return self.packed_features(images)
        return self.pooled(self.hidden(images))

    def tokens(self, hidden: jax.Array) -> jax.Array:
        """Every token after `post_norm`, head and projection: [B, N, width] -> fp32 [B, N, embed_dim]."""
        hidden = self.post_norm(hidden)
        return self.projection(self.head.alone(hidden) if self.pool == "map" else hidden)

    def __call__(self, images: jax.Array | PackedImages) -> jax.Array:
        return self.projection(self.features(images))


def _unchanged(rows: jax.Array) -> jax.Array:
    return rows


def kept_patches(tower: ViT, seed: int, step: jax.Array, images: int) -> jax.Array:
    """Draws the patches of each image that a step keeps: int32 [images, kept], increasing.

    A draw follows from `seed`, `step` and the image's place in the global batch, so devices, microbatches and restarts
    do not change it. Of P patches all but round(patch_dropout·P) are kept; the class token is none of them.

    Args:
      tower: the image tower, of which `patch_dropout` and the number of patches are read.
      seed: `config.seed`.
      step: int32, the batches done.
      images: in the global batch.
    """
    patches = (tower.size // tower.patch) ** 2
    kept = patches - round(tower.patch_dropout * patches)
    of_step = jax.random.fold_in(jax.random.key(seed), step)

    def draw(image: jax.Array) -> jax.Array:
        return jnp.sort(jax.random.permutation(jax.random.fold_in(of_step, image), patches)[:kept])

    return constrain(jax.vmap(draw)(jnp.arange(images)), BATCH)
