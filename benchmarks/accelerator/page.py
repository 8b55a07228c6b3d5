"""The page of the results: what ran and for how long, and a table for each part."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from benchmarks.accelerator.parts import PARTS
from benchmarks.tables import Row, markdown

REHEARSAL = "**A rehearsal: tiny models on CPU devices. Its figures say nothing of an accelerator.**"


@dataclass
class Outcome:
    """What became of a part: its rows so far, in words how it ended, its seconds, and the GPU's clock meanwhile."""

    status: str = "not reached"
    seconds: float | None = None
    clocks: str = ""
    rows: Sequence[Row] = field(default_factory=list)


def page(device: Mapping, about: Mapping[str, str], outcomes: Mapping[str, Outcome], command: str) -> str:
    """Returns the page as Markdown.

    Args:
      device: from `machine.devices`.
      about: from `machine.described`.
      outcomes: of each part, in order.
      command: that was run.
    """
    summary = [
        {"part": name, "outcome": each.status}
        | ({"s": f"{each.seconds:.0f}"} if each.seconds is not None else {})
        | ({"SM clock, MHz": each.clocks} if each.clocks else {})
        for name, each in outcomes.items()
    ]
    lines = [
        f"# {device['count']} × {device['kind']}",
        f"    {command}",
        *([REHEARSAL] if "--rehearse" in command.split() else []),
        "Medians, with the least and the most in brackets; warm-up and compiling are not timed, and a time ends when "
        "the device has finished. Useful FLOPs are those of the model on the tokens that are there, counted alike for "
        "both frameworks; MFU is their rate against the chip's peak. An aim is no result.",
        f"Runtime: {device['runtime']}. " + "; ".join(f"{name} {value}" for name, value in about.items()) + ".",
        markdown(summary),
    ]
    for name, each in outcomes.items():
        if each.rows:
            note = "" if each.status == "done" else f"\n\nNot whole: {each.status}."
            lines.append(f"## {PARTS[name].title}\n\n{markdown(each.rows)}{note}")
    return "\n\n".join(lines) + "\n"
