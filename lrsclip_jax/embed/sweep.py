"""Texts cut to fewer tokens."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from lrsclip_jax.errors import InputError


def sweep(texts: Sequence[Mapping[str, Any]], lengths: Sequence[int], context_length: int) -> list[dict[str, Any]]:
    """Returns the long texts (the short ones where there are none) once for each of `lengths`, to be cut to it.

    Raises InputError for a length that leaves no room for a word, or that the tower can't read.
    """
    for length in lengths:
        if not 3 <= length <= context_length:
            raise InputError(f"--text-lengths: {length} is not between 3 and {context_length}, the context length")
    kinds = [text["kind"] for text in texts]
    kind = "long" if "long" in kinds else "short"
    if kind not in kinds:
        raise InputError("--text-lengths: there are no long or short texts to cut")
    return [{**text, "tokens": length} for length in sorted(set(lengths)) for text in texts if text["kind"] == kind]
