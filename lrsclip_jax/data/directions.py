"""Words of direction in a text that turn with its image: mirrored, or turned by quarters.

A turn is a number from 0 to 7: bit 1 transposes the image (left becomes top), then bit 2 mirrors left and right, and
bit 4 top and bottom. 6 is a half turn, 3 and 5 are quarter turns, 0 leaves the image as it is.

Words are replaced by words, one for one. Most directions can be said that way: "upper left" becomes "lower left" in a
quarter turn, "the left side" becomes "the lower side", "north" becomes "west". "To the left of" cannot become "below",
so a text with it can be mirrored and not turned by a quarter. Some words may mean a direction of the image or
none: "above" in "a bridge above the river", "left" in "cars left on a road". They allow the turns that would not change
them as a direction. Where a turn cannot be said, the answer is None, never a text that may be false.
"""

from __future__ import annotations

from collections.abc import Sequence

TURNS = {"none": (0,), "flips": (0, 2, 4, 6), "turns": (0, 3, 5, 6), "all": (0, 1, 2, 3, 4, 5, 6, 7)}

_HORIZONTAL = {"left": "L", "right": "R"}
_VERTICAL = {"upper": "U", "lower": "D", "top": "U", "bottom": "D"}
_DIRECTIONS = _HORIZONTAL | _VERTICAL
_NOUNS, _ADJECTIVES = frozenset(("left", "right", "top", "bottom")), frozenset(("upper", "lower"))
_WORD = {"upper": {"U": "upper", "D": "lower"}, "top": {"U": "top", "D": "bottom"}}
_WORD |= {"lower": _WORD["upper"], "bottom": _WORD["top"]}
_SIDE = {"L": "left", "R": "right"}
_MIDDLES = ("centre", "center", "middle")
_COMPASS = {"U": "north", "D": "south", "L": "west", "R": "east"}
_ENDINGS = ("", "ern", "ward", "wards", "bound", "erly", "ernmost")
_POINTS = {  # compass words: their directions and their ending
    _COMPASS[vertical] + _COMPASS[side] if vertical and side else _COMPASS[vertical or side]: vertical + side
    for vertical in ("", "U", "D")
    for side in ("", "L", "R")
    if vertical or side
}
_COMPASS_WORDS = {point + ending: (of, ending) for point, of in _POINTS.items() for ending in _ENDINGS}
_MOST = {"leftmost": "L", "rightmost": "R", "topmost": "U", "bottommost": "D"}
_SIDEWAYS = {"leftward": "L", "rightward": "R", "leftwards": "L", "rightwards": "R", "lefthand": "L", "righthand": "R"}
_AXES = {"horizontal": "vertical", "horizontally": "vertically"}
_AXES |= {other: one for one, other in _AXES.items()}
_UPRIGHT = frozenset(  # of the vertical, in the image or in the world
    "above below up down upward upwards downward downwards uphill downhill upside uppermost lowermost".split()
)
_LINES = frozenset("row rows column columns width widest height".split())
_VIEWED = frozenset("directly high straight right far vertically looking pointing".split())  # "from directly above"
_GREAT = frozenset("great high low considerable some same different varying".split())
_ORDINALS = frozenset("first second third fourth last next front back middle".split())
_ROTARY = frozenset("clockwise counterclockwise anticlockwise".split())
_NUMBERS = frozenset("one two three four five six seven eight nine ten".split())
WORDS = frozenset(  # at which `turned_words` has to look
    {*_HORIZONTAL, *_VERTICAL, *_MIDDLES, *_COMPASS_WORDS, *_MOST, *_SIDEWAYS, *_AXES, "wide", "clock"}
    | _UPRIGHT
    | _LINES
    | _ROTARY
)

_PARTS = frozenset(  # nouns behind a word of direction
    "side sides edge edges half halves third thirds quarter quarters corner corners part parts portion portions "
    "section sections end ends border borders boundary margin area areas bank banks region regions".split()
)
_IMAGES = frozenset("image picture scene photo photograph frame view tile".split())
_ADVERB = frozenset(  # behind a "right" that means "directly"
    "next beside behind in by at on along across outside inside near through after before where between against "
    "alongside around into onto beneath adjacent under over above below up there here away".split()
)

_BEFORE = frozenset("the far from to on its their".split())  # what stands before "left" and "right" as directions


def _moved(direction: str, turn: int) -> str:
    """Returns where a direction, L, R, U or D, points after a turn."""
    if turn & 1:
        direction = {"L": "U", "U": "L", "R": "D", "D": "R"}[direction]
    if turn & 2:
        direction = {"L": "R", "R": "L"}.get(direction, direction)
    if turn & 4:
        direction = {"U": "D", "D": "U"}.get(direction, direction)
    return direction


_MOVED = [{direction: _moved(direction, turn) for direction in "LRUD"} for turn in range(8)]


def turned_words(words: Sequence[str], turn: int, at: Sequence[int] | None = None) -> dict[int, str] | None:
    """Returns what is said in place of words once their image is turned, by position; None where it cannot be said.

    Args:
      words: of a text, in lower case; marks are words of their own.
      turn: from 0 to 7.
      at: the positions of WORDS, in order; None: they are looked for.
    """
    found: dict[int, str] = {}
    if not turn:
        return found
    padded = ["", "", "", *words, "", "", "", ""]
    done = -1
    for place in at if at is not None else [place for place, word in enumerate(words) if word in WORDS]:
        if place <= done:
            continue
        new = _said(padded[place : place + 8], turn)
        if new is None:
            return None
        for offset, word in new.items():
            found[place + offset] = word
        done = place + max(new, default=0)
    return found


def _said(window: Sequence[str], turn: int) -> dict[int, str] | None:
    """Returns the words in place of the one in a window of three before and four behind it, and of those behind it."""
    word, (before, previous), behind = window[3], window[1:3], window[4:]
    following = behind[0]
    if word in _COMPASS_WORDS:
        return _compass(word, behind, turn)
    if (corner := _corner(word, behind, turn)) is not None:
        return corner
    if word in _DIRECTIONS:
        return _single(window, turn)
    if word in _MIDDLES:
        return {}
    if word in _AXES:
        if not turn & 1 or following in ("crossed", "crossing", "to", "with"):  # "vertical to" another road
            return {}
        return None if word.endswith("ly") else {0: _AXES[word]}
    if word in _MOST:
        return {0: next(most for most, of in _MOST.items() if of == _MOVED[turn][_MOST[word]])}
    if word in _SIDEWAYS:
        new = _MOVED[turn][_SIDEWAYS[word]]
        return {0: _SIDE[new] + word.removeprefix(_SIDE[_SIDEWAYS[word]])} if new in _SIDE else None
    if word in _UPRIGHT:
        viewed = previous == "from" or (previous in _VIEWED and (word == "down" or before == "from"))
        return {} if viewed or _MOVED[turn]["U"] == "U" else None
    if word in _LINES:
        if following in _NUMBERS or following.isdigit() or previous in _ORDINALS:
            return None
        free = (word in ("row", "rows") and previous not in _AXES) or (word == "height" and previous in _GREAT)
        return {} if free or not turn & 1 else None
    if word in _ROTARY:
        return {} if turn.bit_count() % 2 == 0 else None
    if word == "wide":
        return None if turn & 1 and previous in _IMAGES else {}
    return None if previous == "'" and before == "o" else {}  # "o'clock"


def _compass(word: str, behind: Sequence[str], turn: int) -> dict[int, str]:
    of, ending = _COMPASS_WORDS[word]
    second = 2 if behind[0] == "-" else 1
    other, last = _COMPASS_WORDS.get(behind[second - 1], ("", ""))
    apart = of in ("U", "D") and not ending and other in ("L", "R")  # "north-eastern"
    moved = {_MOVED[turn][direction] for direction in (of + other if apart else of)}
    vertical, side = (next((_COMPASS[d] for d in axis if d in moved), "") for axis in ("UD", "LR"))
    return {0: vertical, second: side + last} if apart else {0: vertical + side + ending}


def _corner(word: str, behind: Sequence[str], turn: int) -> dict[int, str] | None:
    """Returns the words in place of "upper left", "upper-left", "left upper", "upper centre" and "middle left"."""
    second = 2 if behind[0] == "-" else 1
    other = behind[second - 1]
    if word in _DIRECTIONS and other in _DIRECTIONS and (word in _HORIZONTAL) != (other in _HORIZONTAL):
        moved = {_MOVED[turn][_DIRECTIONS[each]] for each in (word, other)}
        vertical, side = (next(d for d in axis if d in moved) for axis in ("UD", "LR"))
        new = [_SIDE[side] if each in _HORIZONTAL else _WORD[each][vertical] for each in (word, other)]
        return {0: new[0], second: new[1]}
    if word in _VERTICAL and other in _MIDDLES:
        new_side = _MOVED[turn][_VERTICAL[word]]
        if new_side in _SIDE:
            return {0: "middle", second: _SIDE[new_side]}
        return {0: _WORD[word][new_side], second: other}
    if word in _MIDDLES and other in _HORIZONTAL and not (other == "right" and behind[second] in _ADVERB):
        new_side = _MOVED[turn][_HORIZONTAL[other]]
        if new_side in _SIDE:
            return {0: word, second: _SIDE[new_side]}
        return {0: _WORD["upper"][new_side], second: "center" if word == "center" else "centre"}
    return None


def _single(window: Sequence[str], turn: int) -> dict[int, str] | None:
    """Returns the word in place of "left", "right", "upper", "lower", "top" or "bottom" that stands alone."""
    farther, before, previous, word, following, second, third = window[:7]
    old = _DIRECTIONS[word]
    new = _MOVED[turn][old]
    if new == old:
        return {}
    same = _ADJECTIVES if word in _ADJECTIVES else _NOUNS
    of_part = following in _PARTS
    of_image = following == "of" and second in ("the", "this") and third in _IMAGES
    across = (previous == "from" and following == "to" and second in same) or (
        previous == "to" and before in same and farther == "from"
    )
    if word in _HORIZONTAL:
        if word == "right" and following in _ADVERB and previous not in _BEFORE:
            return {}
        known = previous in _BEFORE or of_part or following == "-" or (following == "of" and before != "what")
        known = known or (previous in ("and", "or") and before in _HORIZONTAL)
        known = known and following not in ("angle", "angles", "way", "over", "turn") and second != "way"
    else:
        joined = (following in ("and", "or") and second in same) or (previous in ("and", "or") and before in same)
        known = of_part or joined or (word in ("top", "bottom") and (of_image or across))
    if not known:
        return None
    if (new in _SIDE) == (old in _SIDE):
        return {0: _SIDE[new] if new in _SIDE else _WORD[word][new]}
    placed = of_image and previous == "the" and before in ("in", "on", "at")
    if of_part:
        return {0: _SIDE[new] if new in _SIDE else _WORD["upper"][new]}
    if placed or across:
        return {0: _SIDE[new] if new in _SIDE else _WORD["top"][new]}
    return None
