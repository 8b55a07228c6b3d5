"""What tensors do not show of a tower: told by config.json, by the family's code or by the user, and never guessed.

Each function returns a value and where it comes from. The user speaks where the source is silent; where both speak,
they must agree.
"""

from __future__ import annotations

from typing import Any

from lrsclip_jax.errors import InputError
from lrsclip_jax.pytorch.files.tensors import Tensors

CONFIG = "config.json"

_ACTIVATIONS = {"quick_gelu": "quick_gelu", "gelu": "gelu", "gelu_python": "gelu"}  # transformers' names and ours


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
      InputError: source and user differ, nobody says it, or the width does not divide into so many.
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
      InputError: one that we have not, such as an approximate GELU; source and user differ.
    """
    if said not in _ACTIVATIONS:
        raise InputError(
            f"{tensors.name}: the activation {said!r} ({source}) is not supported, {' and '.join(_ACTIVATIONS)} are"
        )
    return _agreed(tensors, "--activation", _ACTIVATIONS[said], source, hint)


def _agreed(tensors: Tensors, option: str, said: Any, source: str, hint: Any) -> tuple[Any, str]:
    if said is None:
        return hint, option
    if hint not in (None, said):
        raise InputError(f"{tensors.name}: {source} says {said}, {option} says {hint}: leave the option out")
    return said, source
