"""Words that turn with the image, beside texts that are composed of turned meanings, and the checker of captions."""

import itertools
import re

import numpy as np
import pytest
from caption_checker import NOUNS, Checker, grammar

from lrsclip_jax.corpus.rules import describe
from lrsclip_jax.data.directions import TURNS, turned_words
from lrsclip_jax.sources.item import Thing


def turned_point(x, y, turn):
    """Where a point of the unit square lies after a turn, the way NumPy turns an array: transpose, then mirror."""
    x, y = (y, x) if turn & 1 else (x, y)
    return (1 - x if turn & 2 else x), (1 - y if turn & 4 else y)


def said(text, turn):
    """A text with its words turned, capitals kept, or None."""
    words = [*re.finditer(r"\w+|[^\w\s]", text)]
    new = turned_words([word[0].lower() for word in words], turn)
    if new is None:
        return None
    for place, word in sorted(new.items(), reverse=True):
        start, end = words[place].span()
        kept = word.capitalize() if text[start].isupper() else word
        text = text[:start] + kept + text[end:]
    return text


def named(x, y, words, joint=" "):
    """The name of a place, whose coordinates are 0, 1/2 or 1, by the words of top, bottom, left and right."""
    top, bottom, left, right = words
    vertical, side = {0: top, 1: bottom}.get(y, ""), {0: left, 1: right}.get(x, "")
    return joint.join(filter(None, (vertical, side)))


SIDES = ("upper", "lower", "left", "right")
EDGES = ("top", "bottom", "left", "right")
POINTS = ("north", "south", "west", "east")
PLACES = [place for place in itertools.product((0, 0.5, 1), (0, 0.5, 1)) if place != (0.5, 0.5)]
CORNERS, MIDDLES = [p for p in PLACES if 0.5 not in p], [p for p in PLACES if 0.5 in p]


def ninth(x, y):
    return (
        "centre"
        if (x, y) == (0.5, 0.5)
        else {0: "middle ", 1: "middle "}.get(x, "") * (y == 0.5) + named(x, y, SIDES) + " centre" * (x == 0.5)
    )


MEANINGS = [  # what is said of a place, and the places of which it can be said so
    (lambda x, y: f"a pond lies in the {named(x, y, SIDES)} corner of the park.", CORNERS),
    (lambda x, y: f"a pond lies in the {named(x, y, SIDES, '-')} quarter, right next to it a hut.", CORNERS),
    (lambda x, y: f"cars stand on the {named(x, y, SIDES)} side; all are red.", MIDDLES),
    (lambda x, y: f"in the {named(x, y, SIDES)} half, seen from above, is a field", MIDDLES),
    (lambda x, y: f"the track at the {named(x, y, EDGES)} of the image is long.", MIDDLES),
    (lambda x, y: f"{named(x, y, POINTS, '')} of the hut lies a field", PLACES),
    (lambda x, y: f"in the {named(x, y, POINTS, '-')} lies a field", PLACES),
    (lambda x, y: f"the {named(x, y, POINTS, '')}ern part is a park", PLACES),
    (lambda x, y: f"in the {ninth(x, y)}, a farm; it is green.", PLACES),
    (lambda x, y: f"a road runs from {named(x, y, EDGES)} to {named(1 - x, 1 - y, EDGES)} through the park.", MIDDLES),
    (lambda x, y: f"a {'vertical' if y == 0.5 else 'horizontal'} line", MIDDLES),
    (lambda x, y: "right in its middle stands a tree, two of them right behind the house.", [(0.5, 0.5)]),
]


@pytest.mark.parametrize("turn", range(8))
def test_a_turned_text_says_what_the_turned_meaning_says(turn):
    for says, places in MEANINGS:
        for place in places:
            assert said(says(*place), turn) == says(*turned_point(*place, turn))


@pytest.mark.parametrize(
    ("text", "turns"),
    [
        ("a hut to the left of the pond", "flips"),
        ("a hut left of the pond", "flips"),
        ("the left lane is free", "flips"),
        ("three rows of houses", "all"),
        ("three horizontal rows", "flips"),
        ("two columns of huts", "flips"),
        ("a road runs vertically", "flips"),
        ("two vertically crossed roads, the third vertical to them", "all"),
        ("in the second row, a lake", {0}),
        ("it takes a third of the image wide", "flips"),
        ("a bridge above the river", {0, 2}),
        ("the upper deck of a ship", {0, 2}),
        ("boats on top of each other", {0, 2}),
        ("a building with two wings at the bottom of the hill", {0, 2}),
        ("cars left on the road", {0, 4}),
        ("what is left of the forest", {0, 4}),
        ("a wall at a right angle", {0, 4}),
        ("cars drive clockwise around the square", "turns"),
        ("in row 1, column 2, a lake", {0}),
        ("it points to 3 o'clock", {0}),
        ("seen from above, trees stand around it", "all"),
        ("looking straight down from a great height, seen from directly above", "all"),
        ("a road that goes down to the sea", {0, 2}),
        ("it is as wide as the height of the image", "flips"),
        ("a bridge over the river", "all"),
    ],
)
def test_what_cannot_be_said_is_not_said(text, turns):
    expected = set(TURNS[turns] if isinstance(turns, str) else turns)
    assert {turn for turn in range(8) if said(text, turn) is not None} == expected


def layout(rng):
    boxes, width, height = {}, 640, 480
    for name in rng.choice(list(NOUNS), rng.integers(1, 4), replace=False):
        count = int(rng.choice([1, 1, 2, 3, 5, 9, 14]))
        start, stop = np.sort(rng.choice([0, 0.3, 0.4, 0.6, 0.7, 1], 2, replace=False))
        sides = rng.uniform(8, rng.choice([12, 40, 150, 500]), (count, 2))
        corners = rng.uniform(start, stop, (count, 2)) * (width, height) - sides / 2
        found = np.clip(np.concatenate([corners, corners + sides], 1), 0, [width, height] * 2).round(1).tolist()
        boxes[str(name)] = [box for box in found if box[0] < box[2] and box[1] < box[3]]
    return boxes, width, height


def turned_boxes(boxes, width, height, turn):
    size = np.array([width, height])
    turned = {}
    for name, found in boxes.items():
        points = np.array(found, float).reshape(-1, 2, 2) / size
        x, y = turned_point(*np.moveaxis(points, -1, 0), turn)
        new = np.stack([x, y], axis=-1) * (size[::-1] if turn & 1 else size)
        turned[name] = np.concatenate([new.min(axis=1), new.max(axis=1)], axis=1).tolist()
    return turned, *((height, width) if turn & 1 else (width, height))


def test_the_turned_texts_of_200_scenes_are_true_of_their_turned_images():
    """Every statement of the rules is read by the checker, which shares no code with what wrote or turned them."""
    read, turned, asked = 0, 0, 0
    for seed in range(200):
        boxes, width, height = layout(np.random.default_rng(seed))
        things = [Thing(name, tuple(box)) for name, found in boxes.items() for box in found]
        text = describe(things, width, height, key=(seed,)).long
        for turn in range(1, 8):
            asked += 1
            if (new := said(text, turn)) is None:
                continue
            checker = Checker(*turned_boxes(boxes, width, height, turn))
            checker.long(new)
            grammar(new)
            read, turned = read + checker.read, turned + 1
    assert read > 2500 and turned > 0.4 * asked


def test_the_checker_objects_to_texts_that_were_not_turned():
    objections = 0
    for seed in range(30):
        boxes, width, height = layout(np.random.default_rng(seed))
        things = [Thing(name, tuple(box)) for name, found in boxes.items() for box in found]
        text = describe(things, width, height, key=(seed,)).long
        try:
            Checker(*turned_boxes(boxes, width, height, 6)).long(text)
        except AssertionError:
            objections += 1
    assert objections > 15
