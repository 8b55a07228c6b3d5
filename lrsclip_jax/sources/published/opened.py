"""The items of an opened source under the name that a user gave it."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from dataclasses import replace

from lrsclip_jax.sources.item import Fault, Item
from lrsclip_jax.sources.source import Source


def items_of(opened: Source, name: str) -> Iterator[Item | Fault]:
    """Yields what a source yields; items that bear its own name as their source bear `name`. Logs its notes."""
    for note in opened.notes:
        logging.getLogger(__name__).warning("%s", note)
    for found in opened.stream():
        if isinstance(found, Item) and found.source == opened.name:
            found = replace(found, source=name)
        yield found
