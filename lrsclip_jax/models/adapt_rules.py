"""Which adapters a model has: the rules of `model.adapt`, resolved for both towers; it imports no JAX.

    model.adapt = (("image/blocks/attention/.*", "lora", 8), (".*/mlp", "adapter", 16))

A rule is (pattern, method, further values). Its pattern is matched with `re.fullmatch` against the paths of the places
where its method can go, and the first rule of a kind that matches a place decides about it:

- "lora", rank, alpha (the rank), dropout (0.0): dense layers, `TOWER/blocks/attention/query`, `key`, `value` and `out`,
  `TOWER/blocks/mlp/fc1` and `fc2`; TOWER is image or text (arXiv 2106.09685).
- "adapter", reduction (16): behind a sublayer, `TOWER/blocks/mlp` (Pfeiffer's, arXiv 2005.00052) or
  `TOWER/blocks/attention`, a bottleneck of its width divided by `reduction`.
- "prefix", length (30): keys and values that all tokens see in `TOWER/blocks/attention` (arXiv 2101.00190).
- "unipelt", length (10), reduction (16), rank (8): `TOWER/blocks` has a prefix, an adapter behind its MLP, and LoRA on
  query and value, each with a gate (arXiv 2110.07577).

The layers of a tower are stacked: a rule is about all of them. `optimizer.freeze` with a slice of rows leaves out some:
`image/blocks/attention/query/lora_.*[0:6]` keeps the first six as they were.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from lrsclip_jax.errors import InputError, nearest


@dataclass(frozen=True)
class Lora:
    """alpha/rank · A B, added to a dense layer's kernel; `dropout` is the share of its input that A does not see."""

    rank: int
    alpha: float
    dropout: float = 0.0
    gated: bool = False


@dataclass(frozen=True)
class Adapter:
    """A bottleneck behind a sublayer, whose width is the tower's divided by `reduction`."""

    reduction: int = 16
    gated: bool = False


@dataclass(frozen=True)
class Prefix:
    """Keys and values of `length` tokens that are no tokens, which all tokens see."""

    length: int = 30
    gated: bool = False


Method = Lora | Adapter | Prefix
Adapt = tuple[tuple[str, Method], ...]  # what a tower's blocks have: places below `blocks`, and what is there

TOWERS = ("image", "text")
PARAMETERS = r".*/(lora_[ab]|(lora_gate|adapter|prefix)/.*)"  # paths of what the methods add
DENSE = (*(f"attention/{name}" for name in ("query", "key", "value", "out")), "mlp/fc1", "mlp/fc2")


def _lora(rank: int, alpha: float | None = None, dropout: float = 0.0) -> dict[str, Adapt]:
    method = Lora(rank, float(rank if alpha is None else alpha), float(dropout))
    return {place: ((place, method),) for place in DENSE}


def _adapter(reduction: int = 16) -> dict[str, Adapt]:
    return {place: ((place, Adapter(reduction)),) for place in ("attention", "mlp")}


def _prefix(length: int = 30) -> dict[str, Adapt]:
    return {"attention": (("attention", Prefix(length)),)}


def _unipelt(length: int = 10, reduction: int = 16, rank: int = 8) -> dict[str, Adapt]:
    lora = Lora(rank, float(rank), gated=True)
    parts = (("attention", Prefix(length, gated=True)), ("mlp", Adapter(reduction, gated=True)))
    return {"": (("attention/query", lora), ("attention/value", lora), *parts)}


_METHODS: dict[str, Callable[..., dict[str, Adapt]]] = {
    "lora": _lora,
    "adapter": _adapter,
    "prefix": _prefix,
    "unipelt": _unipelt,
}


def resolved(rules: Sequence[Sequence[Any]]) -> dict[str, Adapt]:
    """Returns what each tower's blocks have by the rules of `model.adapt`: {"image": …, "text": …}.

    Raises InputError for a rule that matches nothing, or about whose places earlier rules decide.
    """
    found: dict[str, dict[tuple[str, type], Method]] = {tower: {} for tower in TOWERS}
    for pattern, name, *values in rules:
        places = {
            f"{tower}/blocks/{place}".rstrip("/"): (tower, parts)
            for tower in TOWERS
            for place, parts in _METHODS[name](*values).items()
        }
        matched = [place for path, place in places.items() if re.fullmatch(pattern, path)]
        if not matched:
            close = nearest(pattern, places) or f"; it goes to {', '.join(places)}"
            raise InputError(f"model.adapt: {pattern!r} matches no place for {name!r}{close}")
        new = [
            (tower, place, m) for tower, parts in matched for place, m in parts if (place, type(m)) not in found[tower]
        ]
        if not new:
            raise InputError(
                f"model.adapt: earlier rules decide about all that {pattern!r}, {name!r} matches; move it up"
            )
        for tower, place, method in new:
            found[tower][place, type(method)] = method
    return {tower: tuple((place, method) for (place, _), method in parts.items()) for tower, parts in found.items()}


def faults(rules: Sequence[Sequence[Any]], towers: Mapping[str, Mapping[str, Any]]) -> Iterator[str]:
    """Yields why rules of `model.adapt` do not fit towers with these fields, {"image": …, "text": …}."""
    try:
        adapt = resolved(rules)
    except InputError as error:
        yield str(error)
        return
    for tower, parts in adapt.items():
        if towers[tower]["kind"] == "resnet":
            if parts:
                yield "model.adapt: no adapter has a place in a ResNet, let its patterns begin with 'text/'"
            continue
        width = towers[tower]["width"]
        hidden = towers[tower]["mlp_width"] or 4 * width
        for place, method in parts:
            path = f"{tower}/blocks/{place}"
            into, out = {"mlp/fc1": (width, hidden), "mlp/fc2": (hidden, width)}.get(place, (width, width))
            if isinstance(method, Lora) and method.rank > min(into, out):
                yield f"model.adapt: rank {method.rank} is larger than the matrix of {path}, {into} × {out}"
            if isinstance(method, Adapter) and method.reduction > width:
                yield f"model.adapt: reduction {method.reduction} leaves nothing of the width {width} of {path}"
            if isinstance(method, Prefix) and towers[tower]["attention"] not in ("auto", "xla"):
                yield f"model.{tower}.attention={towers[tower]['attention']!r} computes no prefix: set it to 'xla'"


def trained(adapt_with: Sequence[str]) -> str:
    """Returns the expression of the paths that train in an adapted model; `model.adapt_with` are the model's own."""
    return "|".join(f"(?:{pattern})" for pattern in (PARAMETERS, *adapt_with))


def frozen(adapt_with: Sequence[str]) -> str:
    """Returns the expression of the paths that `trained` does not match."""
    return rf"(?!(?:{trained(adapt_with)})\Z).*"
