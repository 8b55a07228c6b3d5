"""What happened to the records of a run: texts that were cut, and records that could not be read."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

from lrsclip_jax.errors import InputError


@dataclass
class DataReport:
    """What happened to the records of the batches so far, kept by whoever reads them.

    Attributes:
      max_torn: unreadable records that are left out before the run stops.
      drawn, cut: texts of each kind that were drawn, and those of them that were cut.
      torn: ids of the records that were left out as unreadable.
    """

    max_torn: int
    drawn: dict[str, int] = field(default_factory=lambda: {"long": 0, "short": 0})
    cut: dict[str, int] = field(default_factory=lambda: {"long": 0, "short": 0})
    torn: list[str] = field(default_factory=list)

    def count_texts(self, kind: str, drawn: Sequence, kept: Sequence) -> None:
        """Counts the texts of a batch as they were drawn and as they were kept, None where there is none."""
        pairs = [(before, after) for before, after in zip(drawn, kept, strict=True) if after is not None]
        self.drawn[kind] += len(pairs)
        self.cut[kind] += sum(len(before) > len(after) for before, after in pairs)

    def count_torn(self, record: str, reason: str) -> None:
        """Counts a record that could not be read; InputError where there are more than `max_torn`."""
        self.torn.append(record)
        if len(self.torn) > self.max_torn:
            raise InputError(
                f"{len(self.torn)} unreadable records, the last one {record} ({reason}): "
                "prepare the set again, or raise data.max_torn"
            )

    def warnings(self, lengths: dict[str, int]) -> list[str]:
        """Returns a line for each kind of text that was cut, and one for records left out."""
        lines = [
            f"warning: {self.cut[kind]:,} of {self.drawn[kind]:,} {kind} texts were cut to {length} tokens"
            for kind, length in lengths.items()
            if self.cut[kind]
        ]
        if self.torn:
            lines.append(
                f"warning: {len(self.torn)} records could not be read and were left out, such as {self.torn[0]}"
            )
        return lines
