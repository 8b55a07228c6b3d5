"""Prompts: those of the papers to the letter where they are printed, our own where they are only described.

LRSCLIP (arXiv 2503.19311), §III and Appendix A; RSCLIP, §II-A.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

from lrsclip_jax.errors import InputError
from lrsclip_jax.sources.item import Thing

# LRSCLIP, Appendix A, of its second way.
SUMMARISE = "Summarize this image caption in 20 words or less"
# RSCLIP, §II-A: both are asked of every image.
RSCLIP_SHORT = "Write a short description for the image."
RSCLIP_LONG = "Describe the image in detail"

# Of LRSCLIP's third and fourth way the paper tells the purpose: what is known of the image goes before against semantic
# bias, and the text is to name "the main ground objects, object attributes, and positional relationships". The numbers
# of words keep most answers within the 248 tokens that the text tower reads.
_SCENE = "This is a remote sensing image, seen from above."
_CAPTIONS = "People who looked at it closely wrote:"
_LABELS = "Its annotation by experts names:"
_TASK = (
    "Take that as true of the image. Describe the image in one paragraph of 80 to 150 words of plain English: its main "
    "ground objects; their attributes, such as number, colour, shape, size and material; and their positions in the "
    "image and relative to one another. Write only what can be seen in it, begin with the description at once, and use "
    "neither headings nor lists."
)
# No answer may repeat these (`checks`).
INSTRUCTIONS = (SUMMARISE, RSCLIP_SHORT, RSCLIP_LONG, _SCENE, _CAPTIONS, _LABELS, _TASK)


def summarise(long: str) -> str:
    """Returns the prompt for a short text from a long one, without the image (the second way)."""
    return f"{SUMMARISE}:\n\n{long}"


def expand(short: Sequence[str]) -> str:
    """Returns the prompt for a long text of an image whose short texts are known (the third way).

    Raises InputError without any: the description would be free to mistake a desert for a marble floor.
    """
    if not short:
        raise InputError("a long text is asked for with short ones in the prompt, and there is none")
    return _guided(_CAPTIONS, short)


def anchors(things: Sequence[Thing], label: str | None = None) -> str:
    """Returns the prompt for a long text of an image whose objects, scene class, or both are known (the fourth way).

    Classes stand with their counts, the most frequent first; objects without a box are only said to be there. Raises
    InputError where nothing is known.
    """
    counts = Counter(_words(thing.name) for thing in things if thing.box)
    present = sorted({_words(thing.name) for thing in things} - set(counts))
    lines = [f"scene: {_words(label)}"] if label else []
    lines += [f"{name}: {count}" for name, count in sorted(counts.items(), key=lambda pair: (-pair[1], pair[0]))]
    lines += present
    if not lines:
        raise InputError("labels are the anchors of this prompt, and there are none")
    return _guided(_LABELS, lines)


def _guided(heading: str, known: Sequence[str]) -> str:
    return "\n".join([f"{_SCENE} {heading}", "", *(f"- {line}" for line in known), "", _TASK])


def _words(name: str) -> str:
    """A class name as published ("small-vehicle", "Tennis_Court") in words."""
    return " ".join(name.replace("-", " ").replace("_", " ").lower().split())
