"""Two names for one array: tables that say where a parameter stands in a PyTorch checkpoint, and in which form.

A table is a list of `Leaf`; each is read in both directions, so that what is exported is by construction what would be
imported. Between the two layouts lie only permutations of axes and reshapes, and these lose nothing.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import jax
import numpy as np

from eval import memory
from lrsclip_jax.errors import InputError
from lrsclip_jax.models.clip import CLIP, init_params
from lrsclip_jax.parameter_rules import path_of
from lrsclip_jax.pytorch.files.tensors import Tensors

Shape = tuple[int, ...]


@dataclass(frozen=True)
class Form:
    """How our array becomes theirs: its axes in another order, then another shape; `shape` maps one to the other."""

    axes: tuple[int, ...] | None = None  # None: as they are
    shape: Callable[[Shape], Shape] = lambda shape: shape

    def permuted(self, shape: Shape) -> Shape:
        return shape if self.axes is None else tuple(shape[axis] for axis in self.axes)

    def theirs(self, value: np.ndarray) -> np.ndarray:
        value = value if self.axes is None else value.transpose(self.axes)
        return np.asarray(value.reshape(self.shape(value.shape)), order="C")

    def ours(self, value: np.ndarray, shape: Shape) -> np.ndarray:
        value = value.reshape(self.permuted(shape))
        return value if self.axes is None else value.transpose(np.argsort(self.axes))


SAME = Form()
LINEAR = Form((1, 0))  # torch's Linear is [out, in]
CONVOLUTION = Form((3, 2, 0, 1))  # torch's is [out, in, height, width]
QKV = Form((1, 2, 3, 0), lambda s: (s[0] * s[1] * s[2], s[3]))  # [W, 3, heads, D]: q, k and v one below the other
QKV_BIAS = Form(None, lambda s: (math.prod(s),))
OUT = Form((2, 0, 1), lambda s: (s[0], s[1] * s[2]))  # [heads, D, W]
IN_BATCH = Form(None, lambda s: (1, *s))  # a table kept as a batch of one
TOKEN = Form(None, lambda s: (1, 1, *s))  # a vector kept as a batch of one token
SCALAR = SAME


class Leaf(NamedTuple):
    """One parameter: our path, their key or keys (joined along the first axis), and how the two are formed.

    In the keys of a path below "blocks", `{}` stands for the number of the layer. Of the first axis each key has one
    share, or as many as `shares` says.
    """

    path: str
    keys: tuple[str, ...]
    form: Form = SAME
    shares: tuple[int, ...] = ()


Table = Sequence[Leaf]


def norm(path: str, key: str) -> list[Leaf]:
    """A layer norm."""
    return [Leaf(f"{path}/scale", (f"{key}.weight",)), Leaf(f"{path}/bias", (f"{key}.bias",))]


def dense(path: str, key: str) -> list[Leaf]:
    """A dense layer with bias."""
    return [Leaf(f"{path}/kernel", (f"{key}.weight",), LINEAR), Leaf(f"{path}/bias", (f"{key}.bias",))]


def attention(path: str, qkv: Sequence[str], out: str, shares: tuple[int, ...] = ()) -> list[Leaf]:
    """Attention whose query, key and value are one layer or several; `qkv` and `out` name layers (weight and bias)."""
    return [
        Leaf(f"{path}/qkv/kernel", tuple(f"{key}.weight" for key in qkv), QKV, shares),
        Leaf(f"{path}/qkv/bias", tuple(f"{key}.bias" for key in qkv), QKV_BIAS, shares),
        Leaf(f"{path}/out/kernel", (f"{out}.weight",), OUT),
        Leaf(f"{path}/out/bias", (f"{out}.bias",)),
    ]


def shapes(model: CLIP) -> dict[str, Shape]:
    """Returns the shape of every parameter of a model by its path."""
    params = jax.eval_shape(lambda: init_params(model, jax.random.key(0)))
    return {path_of(path): tuple(leaf.shape) for path, leaf in jax.tree.leaves_with_path(params)}


def keys_of(table: Table, shapes: Mapping[str, Shape]) -> dict[str, Shape]:
    """Returns every key that a checkpoint of this table has, with its shape; `shapes` are those of our parameters."""
    return {key: shape for leaf in table for _, keys in _places(leaf, shapes[leaf.path]) for key, shape in keys.items()}


def check(table: Table, shapes: Mapping[str, Shape], tensors: Tensors, what: str, ignored: Iterable[str] = ()) -> None:
    """Raises InputError unless `tensors` are just those of `table`, and `ignored`, in the shapes that belong together.

    Args:
      table: of all parameters of the file.
      shapes: of our parameters, by path.
      tensors: the file.
      what: it should be, for the message: "an open_clip checkpoint".
      ignored: keys that may be there for nothing.
    """
    expected = keys_of(table, shapes)
    missing = sorted(expected.keys() - tensors.keys())
    unexpected = sorted(tensors.keys() - expected.keys() - set(ignored))
    faults = [f"{fault} {_first_ten(keys)}" for fault, keys in (("lacks", missing), ("has also", unexpected)) if keys]
    if faults:
        raise InputError(f"{tensors.name} is not {what}: it {' and '.join(faults)}")
    for key, shape in expected.items():
        if _bare(tensors.shape(key)) != _bare(shape):
            raise InputError(
                f"{tensors.name}: {key} has shape {list(tensors.shape(key))}, "
                f"the other tensors want {list(shape)}: a file of several models?"
            )
    memory.check(4 * sum(map(math.prod, expected.values())), f"{tensors.name} in float32")


def to_ours(table: Table, shapes: Mapping[str, Shape], tensors: Tensors) -> dict[str, Any]:
    """Returns the parameters of `table`, nested, float32, read one tensor at a time, after `check`.

    Raises InputError for a tensor that holds no real numbers, NaN, or what float32 does not hold.
    """
    params: dict[str, Any] = {}
    for leaf in table:
        value = np.empty(shapes[leaf.path], np.float32)
        for index, keys in _places(leaf, value.shape):
            first = next(iter(keys))
            found = tensors[first] if len(keys) == 1 else np.concatenate([tensors[key] for key in keys])
            if found.dtype.kind not in "fiub":
                raise InputError(f"{tensors.name}: {first} holds {found.dtype}, real numbers are expected")
            with np.errstate(over="ignore"):
                value[index] = leaf.form.ours(found, value[index].shape)
            if not is_finite(value[index]):
                wrong = next((key for key in keys if not is_finite(tensors[key])), first)
                raise InputError(
                    f"{tensors.name}: {wrong} holds NaN or infinite numbers: damaged weights, or of a run that diverged"
                )
        *parents, name = leaf.path.split("/")
        inner = params
        for parent in parents:
            inner = inner.setdefault(parent, {})
        inner[name] = value
    return params


def is_finite(array: np.ndarray) -> bool:
    """Whether an array of any float dtype holds neither NaN nor infinity, in float32."""
    with np.errstate(over="ignore", invalid="ignore"):
        total = np.sum(array, dtype=np.float32)  # one pass and no copy; it may overflow where no number does
        return bool(np.isfinite(total)) or bool(np.isfinite(np.asarray(array, np.float32)).all())


def to_theirs(table: Table, params: Mapping[str, Any]) -> dict[str, np.ndarray]:
    """Returns the tensors that `table` makes of nested parameters, float32."""
    values = {path_of(path): np.asarray(value, np.float32) for path, value in jax.tree.leaves_with_path(params)}
    tensors: dict[str, np.ndarray] = {}
    for leaf in table:
        value = values[leaf.path]
        for index, keys in _places(leaf, value.shape):
            parts = [leaf.form.theirs(value[index])]
            if len(keys) > 1:
                parts = np.split(parts[0], np.cumsum([shape[0] for shape in keys.values()])[:-1])
            tensors |= dict(zip(keys, parts, strict=True))
    return tensors


def _places(leaf: Leaf, shape: Shape) -> list[tuple[Any, dict[str, Shape]]]:
    """Where the parts of a parameter stand: index into ours, and their keys with the shape of each tensor."""
    stacked = "blocks/" in leaf.path
    whole = leaf.form.shape(leaf.form.permuted(shape[1:] if stacked else shape))
    shares = leaf.shares or (1,) * len(leaf.keys)
    single = [(whole[0] * share // sum(shares), *whole[1:]) if len(shares) > 1 else whole for share in shares]
    if not stacked:
        return [(..., dict(zip(leaf.keys, single, strict=True)))]
    return [
        (layer, dict(zip((key.format(layer) for key in leaf.keys), single, strict=True))) for layer in range(shape[0])
    ]


def _bare(shape: Shape) -> Shape:
    """A scalar may be written as a vector of one."""
    return () if shape == (1,) else tuple(shape)


def _first_ten(keys: Sequence[str]) -> str:
    more = f" and {len(keys) - 10} more" if len(keys) > 10 else ""
    return ", ".join(keys[:10]) + more
