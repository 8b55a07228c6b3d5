"""The fields of a tower: sizes from the shapes of tensors; heads and activation from config, family or user.

Tensors do not show the number of heads or the activation: these are never guessed. `heads` and `activation` return a
value and where it comes from. The user speaks where the source is silent; where both speak, they must agree.
"""

from __future__ import annotations

import math
import re
from typing import Annotated, Any, TypedDict

import msgspec
import numpy as np

from eval.reading import Positive, convert
from lrsclip_jax.errors import InputError
from lrsclip_jax.pytorch.files.tensors import Tensors
from lrsclip_jax.pytorch.layout import Shape, Table, is_finite

CONFIG = "config.json"
FIRST_ROWS = 20  # of Long-CLIP's first table of text positions

# transformers' names and ours
_ACTIVATIONS = {
    "quick_gelu": "quick_gelu",
    "gelu": "gelu",
    "gelu_python": "gelu",
    "gelu_pytorch_tanh": "gelu_tanh",
}


Epsilon = Annotated[float, msgspec.Meta(ge=0, lt=1)]  # of layer norms
Mean = Annotated[float, msgspec.Meta(ge=-100, le=100)]
Deviation = Annotated[float, msgspec.Meta(gt=1e-6, le=100)]


class TowerSettings(TypedDict, total=False):
    """The settings of a tower in a config.json of transformers that its tensors do not show."""

    model_type: str
    num_attention_heads: Positive | None
    hidden_act: str
    layer_norm_eps: Epsilon
    interpolation_keep_length: Annotated[int, msgspec.Meta(ge=0)]  # of LongCLIPModel, rows of its first table


def checked(tensors: Tensors, config: dict[str, Any]) -> dict[str, Any]:
    """Returns a tower's settings as they are; InputError where one that is read here has another type."""
    convert(config, f"{tensors.name}: {CONFIG}", TowerSettings)
    return config


def heads(
    tensors: Tensors, tower: str, width: int, said: int | None, source: str, hint: int | None, known: str = ""
) -> tuple[int, str]:
    """Returns the number of attention heads of a tower.

    Args:
      tensors: the file, for messages.
      tower: "image" or "text".
      width: of the tower.
      said: by the source, None where it is silent.
      source: such as "config.json".
      hint: by the user, or None.
      known: right numbers of published models, in words.

    Raises:
      InputError: source and user differ, nobody says it, or the width does not divide by it.
    """
    option = f"--{tower}-heads"
    value, reason = _agreed(tensors, option, said, source, hint)
    if value is None:
        also = f" ({known})" if known else ""
        raise InputError(
            f"{tensors.name}: tensors don't show the number of {tower} heads at width {width}: say {option}=…{also}"
        )
    if not isinstance(value, int) or value < 1 or width % value:
        raise InputError(f"{tensors.name}: the {tower} width {width} does not divide into {value} heads ({reason})")
    return value, reason


def activation(tensors: Tensors, said: str, source: str, hint: str | None) -> tuple[str, str]:
    """Returns our name of an activation that the source gives in transformers' words.

    Raises:
      InputError: an unsupported one, such as ReLU; source and user differ.
    """
    if said not in _ACTIVATIONS:
        raise InputError(
            f"{tensors.name}: the activation {said!r:.80} ({source}) is not supported, {' and '.join(_ACTIVATIONS)} are"
        )
    return _agreed(tensors, "--activation", _ACTIVATIONS[said], source, hint)


def _agreed(tensors: Tensors, option: str, said: Any, source: str, hint: Any) -> tuple[Any, str]:
    if said is None:
        return hint, option
    if hint not in (None, said):
        raise InputError(f"{tensors.name}: {source} says {said}, {option} says {hint}: leave the option out")
    return said, source


def image_sizes(table: Table, tensors: Tensors) -> dict[str, int]:
    """Returns the fields patch, width, layers and mlp_width of `models.vit.ViT`, and size if there is a position table.

    Args:
      table: which keys of the file the parameters below "image" have.
      tensors: the file.

    Raises:
      InputError: it lacks a tensor that tells them, or one has the wrong rank; its positions are no square grid, behind
        a class token where the table has one.
    """
    first_key = _first_keys(table, "image")
    width, _, _, patch = _shape(tensors, first_key["patch_embedding/kernel"], rank=4)
    sizes = {"patch": patch, "width": width} | _depth_and_mlp_width(first_key, tensors)
    if not (positions := first_key.get("position_embedding", "")):
        return sizes
    return {"size": grid_side(tensors, positions, "class_embedding" in first_key) * patch} | sizes


def grid_side(tensors: Tensors, positions: str, first_row: bool = True) -> int:
    """Returns the side of the grid in a table of image positions, behind a first row of another token or none.

    Raises InputError where it is no square.
    """
    rows = _shape(tensors, positions)[-2:-1] or (0,)
    first, words = (1, "row of a class token and a ") if first_row else (0, "")
    grid = math.isqrt(max(rows[0] - first, 0))
    if not grid or grid * grid != rows[0] - first:
        shape = list(tensors.shape(positions))
        raise InputError(f"{tensors.name}: {positions} of shape {shape} is no {words}square grid")
    return grid


def text_sizes(table: Table, tensors: Tensors) -> dict[str, int]:
    """Returns the fields vocab_size, context_length, width, layers and mlp_width of a text tower; see `image_sizes`."""
    first_key = _first_keys(table, "text")
    vocab_size, width = _shape(tensors, first_key["token_embedding"], rank=2)
    context_length, _ = _shape(tensors, first_key["position_embedding"], rank=2)
    sizes = {"vocab_size": vocab_size, "context_length": context_length, "width": width}
    return sizes | _depth_and_mlp_width(first_key, tensors)


def first_positions(tensors: Tensors, first: str, second: str) -> np.ndarray:
    """Returns the first of Long-CLIP's two tables of text positions, [length, width].

    It adds them up under masks: rows below FIRST_ROWS count in the first, the others in the second.

    Raises InputError unless the file has both, of one shape, and the first is finite.
    """
    if first not in tensors:
        raise InputError(f"{tensors.name} has {second}, but lacks {first}")
    if tensors.shape(first) != tensors.shape(second):
        raise InputError(
            f"{tensors.name}: {first} is {list(tensors.shape(first))}, {second} {list(tensors.shape(second))}: "
            "they must have one shape"
        )
    table = tensors[first]
    if not is_finite(table):
        raise InputError(f"{tensors.name}: {first} holds NaN or infinite numbers")
    return table


def two_tables(first: str, second: str, rows: int) -> str:
    """Returns why a text tower has these positions: its first `rows` are those of the first table."""
    return f"rows below {rows} of {first}, the others of {second}: what Long-CLIP adds up"


def shared_width(tensors: Tensors) -> int:
    """Returns the dimensions of the space that transformers' dual encoders project into, CLIPModel among them."""
    return _shape(tensors, "visual_projection.weight", rank=2)[0]


def _first_keys(table: Table, tower: str) -> dict[str, str]:
    return {leaf.path.removeprefix(f"{tower}/"): leaf.keys[0] for leaf in table if leaf.path.startswith(f"{tower}/")}


def _depth_and_mlp_width(first_key: dict[str, str], tensors: Tensors) -> dict[str, int]:
    norm = first_key["blocks/norm1/scale"]
    # Counted, not read off the highest number: a layer that is missing, or far off, is then found by layout.check.
    pattern = re.compile(re.escape(norm).replace(r"\{\}", r"\d+"))
    layers = sum(1 for key in tensors if pattern.fullmatch(key))
    if not layers:
        raise InputError(f"{tensors.name} lacks {norm.format(0)}")
    return {"layers": layers, "mlp_width": _shape(tensors, first_key["blocks/mlp/fc1/bias"].format(0), rank=1)[0]}


def _shape(tensors: Tensors, key: str, rank: int | None = None) -> Shape:
    if key not in tensors:
        raise InputError(f"{tensors.name} lacks {key}")
    shape = tensors.shape(key)
    if rank is not None and (len(shape) != rank or not all(shape)):
        raise InputError(f"{tensors.name}: {key} has shape {list(shape)}, it should have {rank} dimensions")
    return shape
