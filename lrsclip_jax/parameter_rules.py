"""Ordered rules over parameters: regular expressions on paths that decide about parameters or their rows.

A pattern is matched with `re.fullmatch` against paths such as `image/blocks/mlp/fc1/kernel`. It may end in a
slice of the leading axis, as in NumPy: `text/position_embedding[0:20]` is the first twenty positions, and
`image/blocks/.*[0:6]` the first six layers, since the layers of a tower are stacked on the leading axis. The
first rule that matches decides. A rule that decides nothing is an error, for it is nearly always a slip.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any

import jax
import numpy as np

from lrsclip_jax.config.values import SLICED
from lrsclip_jax.errors import InputError, nearest

PyTree = Any
Shapes = Mapping[str, tuple[int, ...]]


def path_of(key_path: tuple) -> str:
    """The slash-joined path of a leaf, from the key path that `jax.tree.map_with_path` hands out."""
    return jax.tree_util.keystr(key_path, simple=True, separator="/")


def match(rules: Sequence[tuple[str, Any]], params: PyTree, *, where: str, default: Any = None) -> PyTree:
    """Gives each parameter the value of the first rule that matches its path.

    Args:
        rules: pairs (pattern, value); the patterns have no slices.
        params: nested dict of arrays, or of anything else with a `shape`.
        where: the config key of the rules, for error messages.
        default: the value where no rule matches.

    Returns:
        A tree like `params`, with a value at each leaf.
    """
    for pattern, _ in rules:
        if SLICED.fullmatch(pattern):
            raise InputError(f"{where}: {pattern!r} selects rows, but these rules are about whole parameters")
    deciding = _first_match([pattern for pattern, _ in rules], params, where)

    def value(key_path, _):
        index = deciding[path_of(key_path)].flat[0]
        return default if index < 0 else rules[index][1]

    return jax.tree.map_with_path(value, params)


def scales(rules: Sequence[tuple], params: PyTree, *, where: str) -> PyTree:
    """Gives each parameter a factor, for example of its learning rate; 1 where no rule matches.

    A rule is `(pattern, scale)` or `(pattern, scale, "layer_decay=D")`. With a layer decay, layer i of n has
    the factor scale·D^(n−1−i), so that the last layer has `scale` itself. Parameters below and above the
    layers are not stacked with them and have rules of their own. For a tower of 12 layers, a config may say

        ("image/blocks/.*", 1.0, "layer_decay=0.75"),
        ("image/(patch|class|position)_embedding.*", 0.75**12),

    and the last norm and the projection stay at 1. (BEiT and MAE decay the last layer, too: write 0.75 for
    the layers and 0.75**13 for the embeddings.)

    Args:
        rules: as above; the patterns may have slices, the first rule that matches a row decides about it.
        params: nested dict of arrays, or of anything else with a `shape`.
        where: the config key of the rules, for error messages.

    Returns:
        A tree like `params` with a float32 array at each leaf: a scalar, or [rows, 1, …] where rows differ.
    """
    parsed = [_parse_scale(rule, where) for rule in rules]
    deciding = _first_match([pattern for pattern, _, _ in parsed], params, where)

    def factor(key_path, leaf):
        owner = deciding[path_of(key_path)]
        layers_above = np.arange(owner.size)[::-1].reshape(owner.shape)
        factors = np.ones(owner.shape, np.float32)
        for index, (_, scale, layer_decay) in enumerate(parsed):
            mine = owner == index
            factors[mine] = scale * layer_decay ** layers_above[mine]
        return _broadcastable(factors, leaf)

    return jax.tree.map_with_path(factor, params)


def selected(patterns: Sequence[str], params: PyTree, *, where: str) -> PyTree:
    """Marks the parameters, or the rows of parameters, that any of the patterns matches.

    Args:
        patterns: regular expressions, possibly with slices; they may overlap.
        params: nested dict of arrays, or of anything else with a `shape`.
        where: the config key of the patterns, for error messages.

    Returns:
        A tree like `params` with a bool array at each leaf: a scalar, or [rows, 1, …] where rows differ.
    """
    if isinstance(patterns, str):
        raise InputError(f"{where} must be a tuple of patterns, write ({patterns!r},)")
    shapes = _shapes(params)
    marked = {path: np.zeros(shape[:1], bool) for path, shape in shapes.items()}
    for pattern in patterns:
        for path, rows in _matches(pattern, shapes, where).items():
            marked[path] = marked[path] | rows
    return jax.tree.map_with_path(lambda key, leaf: _broadcastable(marked[path_of(key)], leaf), params)


def _shapes(params: PyTree) -> Shapes:
    return {path_of(key_path): leaf.shape for key_path, leaf in jax.tree.leaves_with_path(params)}


def _first_match(patterns: Sequence[str], params: PyTree, where: str) -> dict[str, np.ndarray]:
    """Which pattern decides about each row of each parameter: int [rows], or [] for a scalar; -1 is none."""
    shapes = _shapes(params)
    owner = {path: np.full(shape[:1], -1) for path, shape in shapes.items()}
    for index, pattern in enumerate(patterns):
        decides = False
        for path, rows in _matches(pattern, shapes, where).items():
            undecided = rows & (owner[path] < 0)
            owner[path] = np.where(undecided, index, owner[path])
            decides |= bool(undecided.any())
        if not decides:
            raise InputError(f"{where}: earlier rules decide about all that {pattern!r} matches; move it up")
    return owner


def _matches(pattern: str, shapes: Shapes, where: str) -> dict[str, np.ndarray]:
    """The parameters that a pattern matches, and which rows of them: bool [rows], or [] for a scalar."""
    sliced = SLICED.fullmatch(pattern)
    try:
        expression = re.compile(sliced["expression"] if sliced else pattern)
    except re.error as error:
        raise InputError(f"{where}: {pattern!r} is not a regular expression ({error})") from None
    found = {path: shape for path, shape in shapes.items() if expression.fullmatch(path)}
    if not found:
        raise InputError(f"{where}: {pattern!r} matches no parameter{_hint(expression.pattern, shapes)}")
    if not sliced:
        return {path: np.ones(shape[:1], bool) for path, shape in found.items()}

    # A slice means layers or positions. A pattern that also catches a parameter with another leading axis, an
    # embedding next to the layers or a tower of another depth, would cut it where rows mean something else.
    examples = {shape[:1]: f"{path} {list(shape)}" for path, shape in found.items()}
    if len(examples) > 1 or () in examples:
        raise InputError(
            f"{where}: {pattern!r} is about rows and needs parameters with one leading axis in common, "
            f"not {' and '.join(list(examples.values())[:3])}; narrow the pattern"
        )
    rows = np.zeros(next(iter(examples)), bool)
    start, stop = (int(sliced[end]) if sliced[end] else None for end in ("start", "stop"))
    rows[start:stop] = True
    if not rows.any() or (stop or 0) > rows.size:
        raise InputError(f"{where}: {pattern!r} is not within the {rows.size} rows of {next(iter(found))}")
    return dict.fromkeys(found, rows)


def _parse_scale(rule: Sequence, where: str) -> tuple[str, float, float]:
    """The pattern, the scale and the layer decay (1 if there is none) of a rule of `scales`."""
    match rule:
        case [str(pattern), int() | float() as scale]:
            return pattern, scale, 1.0
        case [str(pattern), int() | float() as scale, str(option)]:
            if layer_decay := re.fullmatch(r"layer_decay=(\d*\.?\d+)", option):
                # As a slice, if of all rows, the pattern has to keep to one stack of layers.
                stacked = pattern if SLICED.fullmatch(pattern) else f"{pattern}[:]"
                return stacked, scale, float(layer_decay[1])
    form = '("image/.*", 0.1) or ("image/blocks/.*", 1.0, "layer_decay=0.75")'
    raise InputError(f"{where}: {rule!r} is not a rule, write a tuple of rules like {form}")


def _broadcastable(rows: np.ndarray, leaf: Any) -> np.ndarray:
    """A scalar where all rows are equal, otherwise [rows, 1, …] to broadcast against the leaf."""
    if rows.size and (rows == rows.flat[0]).all():
        return rows.flat[0]
    return rows.reshape(rows.shape + (1,) * (len(leaf.shape) - rows.ndim))


def _hint(expression: str, shapes: Shapes) -> str:
    """The path, or branch of the tree, nearest to an expression that matches nothing; else a few paths."""
    parts = [path.split("/") for path in shapes]
    branches = {"/".join([*path[:depth], ".*"]) for path in parts for depth in range(1, len(path))}
    return nearest(expression, [*shapes, *branches]) or f", there are {', '.join(list(shapes)[:3])}, …"
