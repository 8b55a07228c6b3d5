"""Scaled dot-product attention, one function that compilers compute in several ways, and which way is taken where."""

from __future__ import annotations

import functools
import math
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax.sharding import PartitionSpec

from lrsclip_jax.errors import InputError, nearest
from lrsclip_jax.models import row_attention as whole_rows
from lrsclip_jax.models.attention_choice import Case, Way, fastest
from lrsclip_jax.sharding import BATCH

# The most queries that share a product of causal attention, which then needs no key behind them. For 256 tokens two
# products, with a quarter of the work saved, take 0.7 to 0.8 of the time of one (two CPU cores, both passes); four are
# no faster.
_QUERIES = 128


class PrefixKeys(NamedTuple):
    """Keys and values that every token sees, those of another segment, too.

    Attributes:
      keys, values: [prefix, heads, head width], in the dtype of q.
      gate: [batch, tokens, 1], by which a token multiplies both; None: 1.
    """

    keys: jax.Array
    values: jax.Array
    gate: jax.Array | None = None


class Rotation(NamedTuple):
    """By which queries and keys are turned: cosines and sines of `positions.rotary_angles`, fp32.

    Attributes:
      cos, sin: [tokens, head width / 2], or [batch, tokens, head width / 2]; 1 and 0 where a token has no place.
    """

    cos: jax.Array
    sin: jax.Array


def rotated(x: jax.Array, rotation: Rotation) -> jax.Array:
    """Returns x [batch, tokens, heads, head width], channels i and i + head width / 2 turned by angle i of a token."""
    cos, sin = (part[..., None, :] for part in rotation)
    first, second = jnp.split(x.astype(jnp.float32), 2, axis=-1)
    return jnp.concatenate([first * cos - second * sin, second * cos + first * sin], axis=-1).astype(x.dtype)


def attention(
    q: jax.Array,
    k: jax.Array,
    v: jax.Array,
    causal: bool,
    segments: jax.Array | None = None,
    implementation: str = "auto",
    prefix: PrefixKeys | None = None,
) -> jax.Array:
    """Scaled dot-product attention, softmax in fp32.

    Args:
      q, k, v: [batch, tokens, heads, head width], any float dtype.
      causal: a token sees itself and what stands before it.
      segments: int [batch, tokens]: a token sees those of its own segment alone. So texts share a row. Or bool [batch,
        tokens], True for the tokens that stand first in their row and False for its padding, which they don't see; what
        comes of padding means nothing then.
      implementation: "xla", plain products; "cudnn", NVIDIA's fused kernel, for bfloat16 and float16; "splash", JAX's
        fused kernel for TPUs; "rows", this package's for TPUs (`row_attention`); "triton", JAX's fused kernel for GPUs.
        A CPU interprets the last three. "auto": the fastest of those that this device has, timed where it is not known
        yet (`attention_choice`); a CPU has "xla".
      prefix: further keys and values, which "xla" alone computes; "auto" takes it then.

    Returns:
      [batch, tokens, heads, head width] in the dtype of v.

    Raises:
      InputError: an unknown implementation, or one that this device does not have.
    """
    implementation = chosen(implementation, q, causal, segments, prefix)
    if prefix is not None:
        return _xla(q, k, v, causal, segments, prefix)
    return IMPLEMENTATIONS[implementation](q, k, v, causal, segments)


def chosen(
    implementation: str, q: jax.Array, causal: bool, segments: jax.Array | None, prefix: PrefixKeys | None = None
) -> str:
    """Returns the name of the way that `attention` takes of these arguments, never "auto"; InputError as there."""
    if prefix is not None:
        if implementation not in ("auto", "xla"):
            raise InputError(f"attention={implementation!r} computes no prefix; write xla")
        return "xla"
    if implementation == "auto":
        return _fastest(q, causal, segments)
    if implementation not in IMPLEMENTATIONS:
        known = ("auto", *IMPLEMENTATIONS)
        raise InputError(f"attention={implementation!r} is none of {', '.join(known)}{nearest(implementation, known)}")
    return implementation


def offered(platform: str, dtype: str) -> tuple[str, ...]:
    """Returns the ways that a platform, "cpu", "gpu" or "tpu", has for a dtype, the plain one first."""
    fused = {"tpu": ("splash", "rows"), "gpu": ("triton",) if dtype == "float32" else ("cudnn", "triton")}
    return ("xla", *fused.get(platform, ()))


def way(implementation: str, causal: bool) -> Way:
    """Returns an implementation as a function of q, k, v and segments."""
    return lambda q, k, v, segments: attention(q, k, v, causal, segments, implementation)


def mask_kind(causal: bool, segments: jax.Array | None) -> str:
    """Returns the name of a mask: "full", "causal", "padded", "packed", "padded causal" or "packed causal"."""
    if segments is None:
        return "causal" if causal else "full"
    kind = "padded" if segments.dtype == bool else "packed"
    return f"{kind} causal" if causal else kind


def scored(tokens: int, causal: bool) -> int:
    """Returns how many query-key products "xla" computes for a row and head: of a causal mask's not all."""
    return sum((end - start) * end for start, end in _blocks(tokens, causal))


def _fastest(q: jax.Array, causal: bool, segments: jax.Array | None) -> str:
    platform, kind = _device()
    heads = q.shape[2] // jax.sharding.get_abstract_mesh().shape.get("tensor", 1)  # of a device
    if kind != jax.local_devices()[0].device_kind:
        return untimed(platform, q.dtype.name, q.shape[1], heads, q.shape[3])
    case = Case(mask_kind(causal, segments), q.dtype.name, *q.shape)
    return fastest(
        case, {name: way(name, causal) for name in _taking(platform, q.dtype.name, q.shape[1], heads, q.shape[3])}
    )


def untimed(platform: str, dtype: str, tokens: int, heads: int, width: int) -> str:
    """Returns the way for a device that is not here: nothing can be timed, so the one that moves the fewest bytes.

    Args:
      platform, dtype: as `offered` takes them.
      tokens: of a row.
      heads: on one device.
      width: of a head.
    """
    names = _taking(platform, dtype, tokens, heads, width)
    return "rows" if "rows" in names else names[0]


def _taking(platform: str, dtype: str, tokens: int, heads: int, width: int) -> list[str]:
    takes = whole_rows.takes(tokens, heads, width)
    return [name for name in offered(platform, dtype) if name != "rows" or takes]


def _device() -> tuple[str, str]:
    """Platform and kind of the device that a program is for: of the mesh if there is one, which need not be here."""
    device = jax.sharding.get_abstract_mesh().abstract_device or jax.devices()[0]
    return device.platform, device.device_kind


def _blocks(tokens: int, causal: bool) -> list[tuple[int, int]]:
    """Queries [start, end) that share a product."""
    size = math.ceil(tokens / math.ceil(tokens / _QUERIES)) if causal else tokens
    return [(start, min(start + size, tokens)) for start in range(0, tokens, size)]


def _xla(
    q: jax.Array,
    k: jax.Array,
    v: jax.Array,
    causal: bool,
    segments: jax.Array | None,
    prefix: PrefixKeys | None = None,
) -> jax.Array:
    # Heads before tokens, the scale on q, the mask as a sum: on two CPU cores forward and backward take 0.5 to
    # 0.8 of the time of jax.nn.dot_product_attention ([64, 65, 6, 64], and causal [64, 248, 8, 64]).
    q, k, v = (jnp.swapaxes(x, 1, 2) for x in (q * q.shape[-1] ** -0.5, k, v))

    def block(start: int, end: int) -> jax.Array:
        seen = end if causal else k.shape[2]
        scores = jnp.einsum("bhqd,bhkd->bhqk", q[:, :, start:end], k[:, :, :seen], preferred_element_type=jnp.float32)
        if causal:
            scores += jnp.where(jnp.tri(end - start, seen, start, dtype=bool), 0.0, -jnp.inf)
        if segments is not None:
            same = segments[:, None, :seen] == segments[:, start:end, None]
            scores += jnp.where(same, 0.0, -jnp.inf)[:, None]
        if prefix is None:
            weights = jax.nn.softmax(scores, axis=-1).astype(v.dtype)
            return jnp.einsum("bhqk,bhkd->bhqd", weights, v[:, :, :seen])
        gate = 1 if prefix.gate is None else prefix.gate[:, None, start:end]
        first = gate * jnp.einsum("bhqd,phd->bhqp", q[:, :, start:end], prefix.keys, preferred_element_type=jnp.float32)
        weights = jax.nn.softmax(jnp.concatenate([first, scores], axis=-1), axis=-1).astype(v.dtype)
        first, weights = jnp.split(weights, [len(prefix.keys)], axis=-1)
        of_prefix = gate * jnp.einsum("bhqp,phd->bhqd", first, prefix.values)
        return of_prefix + jnp.einsum("bhqk,bhkd->bhqd", weights, v[:, :, :seen])

    blocks = [block(start, end) for start, end in _blocks(q.shape[2], causal)]
    return jnp.swapaxes(jnp.concatenate(blocks, axis=2), 1, 2)


def _cudnn(q: jax.Array, k: jax.Array, v: jax.Array, causal: bool, segments: jax.Array | None) -> jax.Array:
    shape, tokens = q.shape, q.shape[1]
    # JAX (0.10.2 to 0.12) differentiates the kernel for even numbers of tokens alone.
    q, k, v, segments = _padded(tokens + tokens % 2, q, k, v, causal, segments)
    seen: dict[str, Any] = {}
    if segments is not None and segments.dtype == bool:
        seen["key_value_seq_lengths"] = jnp.sum(segments, axis=1, dtype=jnp.int32)
    elif segments is not None:
        # JAX hands a mask to the kernel as a bias: two bytes for each pair of tokens in a row, for all heads together.
        seen["mask"] = (segments[:, :, None] == segments[:, None, :])[:, None]
    try:
        out = jax.nn.dot_product_attention(q, k, v, is_causal=causal, implementation="cudnn", **seen)
    except (RuntimeError, NotImplementedError, ValueError) as error:
        raise InputError(f"attention='cudnn' cannot take {q.dtype.name} {list(shape)} here: {error}") from None
    return out[:, :tokens]


def _padded(
    whole: int, q: jax.Array, k: jax.Array, v: jax.Array, causal: bool, segments: jax.Array | None
) -> tuple[jax.Array, jax.Array, jax.Array, jax.Array | None]:
    """Queries, keys and values with `whole` tokens, of which the others see none of the new ones, and segments."""
    padding = (0, whole - q.shape[1])
    if not padding[1]:
        return q, k, v, segments
    if segments is None and not causal:
        segments = jnp.ones(q.shape[:2], bool)
    if segments is not None:
        segments = jnp.pad(segments, ((0, 0), padding), constant_values=False if segments.dtype == bool else -1)
    q, k, v = (jnp.pad(x, ((0, 0), padding, (0, 0), (0, 0))) for x in (q, k, v))
    return q, k, v, segments


def _pallas(name: str, rows: Callable, target: str, instead: str) -> Callable:
    """A way of a Pallas kernel for `target`, "tpu" or "gpu", that `rows` calls; a CPU interprets it."""

    def computed(q: jax.Array, k: jax.Array, v: jax.Array, causal: bool, segments: jax.Array | None) -> jax.Array:
        platform, kind = _device()
        if platform not in (target, "cpu"):
            raise InputError(
                f"attention={name!r} is a kernel for {target.upper()}s, and this is {kind}; write xla or {instead}"
            )
        local = functools.partial(rows, causal=causal, interpret=platform == "cpu")
        return _on_each_device(local)(q, k, v, segments)

    return computed


def _on_each_device(local: Callable) -> Callable:
    """A kernel of q, k, v and segments for the rows and heads of each device: the compiler does not split kernels."""
    if jax.sharding.get_abstract_mesh().empty:
        return local
    heads = PartitionSpec(BATCH, None, "tensor", None)
    return jax.shard_map(local, in_specs=(heads, heads, heads, PartitionSpec(BATCH)), out_specs=heads, check_vma=False)


def _splash_rows(
    q: jax.Array, k: jax.Array, v: jax.Array, segments: jax.Array | None, *, causal: bool, interpret: bool
) -> jax.Array:
    from jax.experimental.pallas.ops.tpu.splash_attention import splash_attention_kernel as kernels
    from jax.experimental.pallas.ops.tpu.splash_attention import splash_attention_mask as masks

    tokens, heads, width = q.shape[1:]
    # Whole tiles of 128; up to 1,024 tokens one step of the kernel takes all of a row's head.
    tile = 128 if tokens <= 1024 else 512
    whole = math.ceil(tokens / tile) * tile
    block = whole if tokens <= 1024 else tile
    q, k, v, segments = _padded(whole, q * width**-0.5, k, v, causal, segments)
    q, k, v = (jnp.swapaxes(x, 1, 2) for x in (q, k, v))
    mask = (masks.CausalMask if causal else masks.FullMask)((whole, whole))
    sizes = kernels.BlockSizes(
        block_q=block, block_kv=block, block_q_dkv=block, block_kv_dkv=block, use_fused_bwd_kernel=True
    )
    # Its tables are built by numpy, of the mask alone: under a trace they must not become traced values.
    with jax.ensure_compile_time_eval():
        kernel = kernels.make_splash_mha_single_device(
            masks.MultiHeadMask([mask] * heads), block_sizes=sizes, interpret=interpret
        )
    ids = None if segments is None else kernels.SegmentIds(*[segments.astype(jnp.int32)] * 2)
    out = jax.vmap(kernel, in_axes=(0, 0, 0, None if ids is None else 0))(q, k, v, ids)
    return jnp.swapaxes(out, 1, 2)[:, :tokens].astype(v.dtype)


def _whole_rows(
    q: jax.Array, k: jax.Array, v: jax.Array, segments: jax.Array | None, *, causal: bool, interpret: bool
) -> jax.Array:
    shape, heads = q.shape, q.shape[2]
    if not whole_rows.takes(*shape[1:]):
        most = whole_rows.MOST_TOKENS
        raise InputError(f"attention='rows' takes up to {most} tokens and heads that divide 128 lanes, not {shape[1:]}")
    q, k, v = (x.reshape(*shape[:2], -1) for x in (q, k, v))
    ids = None if segments is None else segments.astype(jnp.int32)
    return whole_rows.row_attention(q, k, v, ids, heads, causal, interpret).reshape(shape)


def _triton_rows(
    q: jax.Array, k: jax.Array, v: jax.Array, segments: jax.Array | None, *, causal: bool, interpret: bool
) -> jax.Array:
    # It reads segment ids, where cuDNN reads a mask of two bytes for each pair of tokens.
    from jax.experimental.pallas.ops.gpu.attention import mha

    tokens, width = q.shape[1], q.shape[-1]
    whole = math.ceil(tokens / 128) * 128  # of its blocks
    q, k, v, segments = _padded(whole, q, k, v, causal, segments)
    ids = None if segments is None else segments.astype(jnp.int32)
    out = mha(q, k, v, ids, sm_scale=width**-0.5, causal=causal, interpret=interpret)
    return out[:, :tokens].astype(v.dtype)


IMPLEMENTATIONS: dict[str, Callable] = {
    "xla": _xla,
    "cudnn": _cudnn,
    "splash": _pallas("splash", _splash_rows, "tpu", "cudnn"),
    "triton": _pallas("triton", _triton_rows, "gpu", "splash"),
    "rows": _pallas("rows", _whole_rows, "tpu", "cudnn"),
}
