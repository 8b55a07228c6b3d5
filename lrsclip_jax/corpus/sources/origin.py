"""Where records come from, and how an annotated image becomes one."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from lrsclip_jax.corpus.records.record import SetAside, Step

STAGE = "read"


@dataclass(frozen=True)
class Origin:
    """A source as it was named.

    Attributes:
      kind: the format.
      name: of the subset, where the rows themselves name none; ids begin with it.
      root: the folder that paths of images are relative to.
      licence, split: of records that bring none of their own.
    """

    kind: str
    name: str
    root: Path
    licence: str | None = None
    split: str | None = None

    def id(self, key: str) -> str:
        """Returns the id of a record that the source itself calls `key`."""
        return f"{self.name}/{key}"

    def step(self, detail: str) -> Step:
        """Returns the first step of a record's provenance."""
        return Step(STAGE, self.kind, detail)

    def set_aside(self, key: str, reason: str) -> SetAside:
        """Returns what becomes of a row that makes no record."""
        return SetAside(self.id(key), STAGE, reason)
