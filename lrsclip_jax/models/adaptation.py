"""Adapters in the blocks of a tower, and LoRA made one with the kernels.

`adapted` wraps the class of the blocks: calls of its layers are intercepted, and the parameters that a method adds lie
in the scope of the layer, such as `image/blocks/attention/query/lora_a`. So the scan stacks them per layer, and rules
about sharding, learning rate, decay and freezing speak of them as of all parameters.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Mapping
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
from flax.core import Scope
from jax.nn.initializers import Initializer, normal, variance_scaling, zeros

from lrsclip_jax.models import lora_dropout
from lrsclip_jax.models.adapt_rules import Adapt, Adapter, Lora, Method, Prefix
from lrsclip_jax.models.attention import PrefixKeys

_SUBLAYERS, _DENSE = ("attention", "mlp"), ("qkv", "out", "fc1", "fc2")
_PARTS = ("query", "key", "value")  # of the fused product `qkv`, in their order


def adapted(block: type[nn.Module], adapt: Adapt) -> type[nn.Module]:
    """Returns a class of blocks with adapters, by a tower's part of `adapt_rules.resolved`."""
    if not adapt:
        return block
    methods = {(place, type(method)): method for place, method in adapt}

    class Adapted(block):  # type: ignore[misc, valid-type]
        @nn.compact
        def __call__(self, x: jax.Array, *shared: Any) -> Any:
            drawn = lora_dropout.draws(self, x) if lora_dropout.drops(adapt) else None
            with nn.intercept_methods(functools.partial(_adapt, methods, drawn)):
                return super().__call__(x, *shared)

    return Adapted


def _adapt(
    methods: Mapping[tuple[str, type], Any],
    drawn: lora_dropout.Draws | None,
    call: Callable,
    args: tuple,
    kwargs: dict,
    context: Any,
) -> jax.Array:
    """Calls a layer of a block, and adds what the methods of its place add."""
    layer, name = context.module, context.module.name
    if context.method_name != "__call__" or name not in (*_SUBLAYERS, *_DENSE):
        return call(*args, **kwargs)
    if prefix := methods.get((name, Prefix)):
        kwargs = kwargs | {"prefix": _prefix(layer, args[0], prefix)}
    y = call(*args, **kwargs)
    if name in _SUBLAYERS:
        adapter = methods.get((name, Adapter))
        return y + _bottleneck(layer.scope.push("adapter"), y, adapter) if adapter else y
    x = args[0].reshape(*args[0].shape[:2], -1).astype(y.dtype)  # `out` takes heads × head width
    if name == "qkv":
        width = x.shape[-1]
        places = {part: f"attention/{part}" for part in _PARTS}
        if any((place, Lora) in methods for place in places.values()):
            parts = [
                _low_rank(layer.parent.scope.push(part), x, methods[place, Lora], width, place, drawn)
                if (place, Lora) in methods
                else jnp.zeros_like(x)
                for part, place in places.items()
            ]
            y = y + jnp.stack(parts, axis=-2).reshape(y.shape)
    elif lora := methods.get((place := f"{layer.parent.name}/{name}", Lora)):
        y = y + _low_rank(layer.scope, x, lora, y.shape[-1], place, drawn)
    return y


def _low_rank(
    scope: Scope, x: jax.Array, lora: Lora, width: int, place: str, drawn: lora_dropout.Draws | None
) -> jax.Array:
    """alpha/rank · x A B: [rows, tokens, in] -> [rows, tokens, width]. A starts as torch's dense layers, B at zero."""
    a = scope.param("lora_a", variance_scaling(1 / 3, "fan_in", "uniform"), (x.shape[-1], lora.rank))
    b = scope.param("lora_b", zeros, (lora.rank, width))
    low = lora_dropout.dropped(x, lora.dropout, place, drawn) @ a.astype(x.dtype)
    # With a batch dimension remat="dense" does not store the result, which is as large as the layer's own.
    wide = jax.lax.dot_general(low[None], b.astype(x.dtype)[None], (((low.ndim,), (1,)), ((0,), (0,))))[0]
    wide = wide * jnp.asarray(lora.alpha / lora.rank, x.dtype)
    return wide * _gate(scope, "lora_gate", x) if lora.gated else wide


def _bottleneck(scope: Scope, y: jax.Array, adapter: Adapter) -> jax.Array:
    """What an adapter adds to a sublayer's result: [..., width] -> [..., width]; it starts at zero."""
    width = y.shape[-1]
    down = jax.nn.relu(_dense(scope.push("down"), y, width // adapter.reduction, normal(0.02)))
    up = _dense(scope.push("up"), down, width, zeros)
    return up * _gate(scope, "gate", y) if adapter.gated else up


def _prefix(layer: Any, x: jax.Array, prefix: Prefix) -> PrefixKeys:
    """The prefix of an attention layer with input x [B, N, width]."""
    scope, shape = layer.scope.push("prefix"), (prefix.length, layer.heads, x.shape[-1] // layer.heads)
    keys, values = (scope.param(name, normal(0.02), shape).astype(layer.dtype) for name in ("keys", "values"))
    return PrefixKeys(keys, values, _gate(scope, "gate", x.astype(layer.dtype)) if prefix.gated else None)


def _gate(scope: Scope, name: str, x: jax.Array) -> jax.Array:
    """How far a method counts for each token, between 0 and 1: [..., width] -> [..., 1].

    UniPELT's code takes the mean over a text's tokens. Here every token has its own: so a token still depends on
    nothing that comes after it or belongs to its neighbours in a packed row.
    """
    return jax.nn.sigmoid(_dense(scope.push(name), x, 1, normal(0.02)))


def _dense(scope: Scope, x: jax.Array, features: int, init: Initializer) -> jax.Array:
    kernel, bias = scope.param("kernel", init, (x.shape[-1], features)), scope.param("bias", zeros, (features,))
    return x @ kernel.astype(x.dtype) + bias.astype(x.dtype)


def merged(blocks: Mapping[str, Any], adapt: Adapt) -> dict[str, Any]:
    """Returns the parameters of a tower's blocks with LoRA added to their kernels: float32 arrays of numpy.

    Of `adapt` all must be plain LoRA (`unmergeable` names what is not).
    """
    attention, mlp = ({name: dict(layer) for name, layer in blocks[part].items()} for part in ("attention", "mlp"))
    layers = {"attention": attention, "mlp": mlp}
    for place, lora in adapt:
        assert isinstance(lora, Lora)
        part, name = place.split("/")
        layer = layers[part][name]
        a, b = (np.asarray(layer.pop(which), np.float64) for which in ("lora_a", "lora_b"))
        delta = lora.alpha / lora.rank * (a @ b)
        if name in _PARTS:
            del attention[name]
            kernel = np.array(attention["qkv"]["kernel"], np.float64)
            kernel[:, :, _PARTS.index(name)] += delta.reshape(kernel[:, :, 0].shape)
            attention["qkv"]["kernel"] = kernel
        else:
            kernel = np.asarray(layer["kernel"], np.float64)
            layer["kernel"] = kernel + delta.reshape(kernel.shape)
    for layer in (*attention.values(), *mlp.values()):
        layer["kernel"] = np.asarray(layer["kernel"], np.float32)
    return {**blocks, **layers}


def unmergeable(adapt: Adapt) -> str | None:
    """Returns what of a tower's adapters no kernel can express, in words; None where that is nothing."""

    def word(method: Method) -> str:
        name = {Adapter: "adapters", Prefix: "prefixes", Lora: "LoRA"}[type(method)]
        return f"gated {name}" if method.gated else name

    words = dict.fromkeys(word(m) for _, m in adapt if not isinstance(m, Lora) or m.gated)
    return " and ".join(words) or None
