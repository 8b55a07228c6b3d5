"""Reads captions of the rules back, sentence by sentence, and holds every statement against the boxes.

It shares no code with them: names, numbers and places are spelled out again, and a sentence that it can't read fails.
"""

from __future__ import annotations

import re

import numpy as np

NOUNS = {
    "small-vehicle": ("small vehicle", "small vehicles"),
    "airplane": ("airplane", "airplanes"),
    "church": ("church", "churches"),
    "ground_track_field": ("ground track field", "ground track fields"),
    "storageTank": ("storage tank", "storage tanks"),
    "aircraft": ("aircraft", "aircraft"),
    "bus": ("bus", "buses"),
}
NUMBERS = {word: n for n, word in enumerate("zero one two three four five six seven eight nine ten".split())}
VAGUE = {"many": 11, "a lot of": 11, "numerous": 11, "dozens of": 25, "a large number of": 25, "hundreds of": 200}
FRACTIONS = {"half": 2, "a third": 3, "a quarter": 4, "a fifth": 5, "a sixth": 6, "an eighth": 8, "a tenth": 10}
FRACTIONS |= {"a fifteenth": 15, "a twentieth": 20}
FORMS = sorted({form for forms in NOUNS.values() for form in forms}, key=len, reverse=True)
AMOUNT = "|".join([*NUMBERS, *VAGUE, "all", "an", "a", "the"])
NAME = "|".join(FORMS)
IS, AT, MIDDLE = "(?:is|are)", "(?:in|on|at) the [a-z ]+", "in the centre of the image"
CORNERS = [f"{row} {side}" for row in ("upper", "lower") for side in ("left", "right")]


class Checker:
    """The boxes of an image, {class name: [[x0, y0, x1, y1], …]}, and what may be said of them."""

    def __init__(self, boxes, width, height):
        self.size = np.array([width, height])
        self.boxes = {name: np.array(found, float) for name, found in boxes.items()}
        self.centres = {name: (found[:, :2] + found[:, 2:]) / 2 / self.size for name, found in self.boxes.items()}
        self.read = 0

    def short(self, captions):
        assert len(captions) == len(set(captions)) == 5
        middle = {name: self._within(name, "centre") for name in self.boxes}
        outside = {name: ~inside for name, inside in middle.items()}
        if any(inside.any() for inside in middle.values()):
            self._counts(captions[0], middle)
            assert re.search("centre|middle", captions[0]) and not re.search("away|outside|distance|outer", captions[0])
        else:
            self._counts(captions[0], outside)
            assert re.search("away|outside|distance|outer", captions[0])
        if any(beyond.any() for beyond in outside.values()):
            self._counts(captions[1], outside)
            if not re.search("[Aa]way|[Oo]utside", captions[1]):
                place = re.search(rf"(?:{NAME}) (?:(?:lies?|can be seen) )?((?:in|on|at) the .*)\.", captions[1])[1]
                for name, beyond in outside.items():
                    assert self._within(name, place)[beyond].all(), captions[1]
        else:
            self._counts(captions[1], middle)
            assert re.search("centred on|right in its middle", captions[1])
        for caption in captions[2:]:
            self._counts(caption, {name: np.ones(len(found), bool) for name, found in self.boxes.items()})

    def long(self, text):
        sentences = re.findall(r"[^.]+\.", text)
        assert " ".join(sentence.strip() for sentence in sentences) == text
        name = None
        for sentence in map(str.strip, sentences):
            if named := re.match(rf"(?:The|Of the \w+|As for the|All of the|Most of the) ({NAME})\b", sentence):
                name = _class(named[1])
            self._statement(sentence, name)

    def _statement(self, sentence, name):
        said = sentence[:-1].lower()
        self.read += 1
        if re.match("this aerial|seen from above|in this remote|the image (is|also)|there (is|are) also", said):
            self._counts(sentence, {name: np.ones(len(found), bool) for name, found in self.boxes.items()})
            return
        if found := re.fullmatch(rf"(.* of the|the) ({NAME}) (?:is|are) next to the ({NAME})", said):
            self._beside(found[1], found[2], found[3])
            return
        if found := re.fullmatch(rf"right next to the ({NAME}) (?:is|are) (.* of the|the) ({NAME})", said):
            self._beside(found[2], found[3], found[1])
            return
        side = "to the left of|to the right of|above|below"
        if found := re.fullmatch(rf"the ({NAME}) is ({side}) the ({NAME})(?: in the image)?", said):
            (a,), (b,) = self.boxes[_class(found[1])], self.boxes[_class(found[3])]
            axis, before = int(found[2] in ("above", "below")), found[2] in ("to the left of", "above")
            assert a[2 + axis] <= b[axis] if before else b[2 + axis] <= a[axis], sentence
            return
        boxes, count = self.boxes[name], len(self.boxes[name])
        sides = np.sqrt(np.prod(boxes[:, 2:] - boxes[:, :2], axis=1))
        share = sides**2 / np.prod(self.size)
        if found := re.fullmatch(r".*extends from the (left|right|upper|lower) edge to the (\w+) edge", said):
            assert {found[1], found[2]} in ({"left", "right"}, {"upper", "lower"}), sentence
            axis = int(found[1] in ("upper", "lower"))
            assert boxes[0, axis] <= 0.02 * self.size[axis] and boxes[0, 2 + axis] >= 0.98 * self.size[axis]
        elif re.search("stretches over a large part|takes up much of", said):
            assert share[0] >= 0.3
        elif re.match("of the (two|three|four) |as for the ", said):
            parts = re.findall(rf"(\w+) {IS} ({AT}?)(?=,| and \w+ {IS} | of the image)", said)
            assert sum(NUMBERS[amount] for amount, _ in parts) == count, sentence
            for amount, place in parts:
                assert self._within(name, place).sum() == NUMBERS[amount], sentence
        elif " by quarters of the image, " in f" {said}":
            parts = re.findall(r"(\w+) (?:(?:is|are) )?in the ((?:upper|lower) (?:left|right))", said)
            said_of = {place: amount for amount, place in parts}
            for corner in CORNERS:
                self._amount(said_of.get(corner, "zero"), self._within(name, f"{corner} quarter").sum(), sentence)
        elif found := re.fullmatch(
            rf"(?:(?:most|the larger part) of (?:them|the [a-z ]+) {IS}|the [a-z ]+ are mostly) ({AT})", said
        ):
            assert self._within(name, found[1]).sum() > count / 2
        elif "many of them in each quarter" in said:
            assert all(self._within(name, f"{corner} quarter").sum() > 10 for corner in CORNERS)
        elif "scattered across" in said or "spread over" in said:
            assert all(self._within(name, f"{corner} quarter").any() for corner in CORNERS)
        elif "in different parts of" in said:
            assert len({tuple(cell) for cell in np.floor(3 * self.centres[name]).tolist()}) >= 3
        elif found := re.fullmatch(rf"(\w+) of them {IS} {MIDDLE}|{MIDDLE} {IS} (\w+) of them", said):
            self._amount(found[1] or found[2], int(self._within(name, "centre").sum()), sentence)
        elif found := re.fullmatch(
            r"(?:they are most numerous in )?the (\w+ \w+) quarter of the image(?: has more .*)?", said
        ):
            of = {corner: self._within(name, f"{corner} quarter").sum() for corner in CORNERS}
            assert sorted(of.values())[-2] < of[found[1]] == max(of.values())
        elif "stands apart" in said:
            assert count >= 5
            gaps = _nearest(boxes)
            assert self._within(name, re.search(f"{AT} of the image", said)[0])[np.argmax(gaps)]
            assert max(gaps) > np.median(sides)
        elif "similar in size" in said or "about the same size" in said:
            assert sides.max() < 1.5 * sides.min()
        elif found := re.fullmatch(r"(?:they differ widely in size, and )?the largest(?: of them)? is (.*)", said):
            assert self._within(name, found[1])[sides.argmax()] and sides.max() > 2 * sides.min()
        elif found := re.search(rf"about ({'|'.join(FRACTIONS)}) of (?:the image wide|that of|the width)", said):
            widest = (boxes[:, 2] - boxes[:, 0]).max() / self.size[0]
            assert abs(1 / widest / FRACTIONS[found[1]] - 1) < 0.13 and (count == 1 or "widest" in said)
        elif re.search("small part|small compared|tiny part", said):
            assert share.max() <= 0.006 and ("both" not in said or count == 2)
        elif found := re.fullmatch(r"(\w+) of them reach(?:es)? the edge of the image", said):
            at = (boxes[:, :2] <= 1).any(1) | (boxes[:, 2:] >= self.size - 1).any(1)
            self._amount(found[1], int(at.sum()), sentence)
        elif re.search("row|column|line", said):
            self._line(said, boxes)
        elif re.search("close together|dense group|right next to each other", said):
            assert max(_nearest(boxes)) < np.median(sides)
        elif "far apart" in said:
            assert _gap(*boxes) > 0.4 * np.hypot(*self.size)
        elif found := re.search(r"(two|three|four|five) separate groups", said):
            assert count >= 3 * NUMBERS[found[1]]
        elif found := re.fullmatch(rf"(?:all of )?the [a-z ]+ (?:is|are|lies|can be seen|can be found) ({AT})", said):
            places = [self._within(name, place) for place in re.split(" and (?=in|on|at)", found[1])]
            assert np.any(places, axis=0).all() and all(place.any() for place in places), sentence
        else:
            raise AssertionError(f"can't be read: {sentence}")

    def _line(self, said, boxes):
        centres = (boxes[:, :2] + boxes[:, 2:]) / 2
        x, y = centres.T
        if found := re.search(r"(\w+) (horizontal rows|columns)", said):
            across, depth = (y, boxes[:, 3] - boxes[:, 1]) if "rows" in found[2] else (x, boxes[:, 2] - boxes[:, 0])
            steps = np.diff(np.sort(across))
            assert (steps > 0.5 * np.median(depth)).sum() + 1 == NUMBERS[found[1]]
            return
        if "horizontal" in said:
            assert np.ptp(x) > 3 * np.ptp(y)
        elif "vertical" in said:
            assert np.ptp(y) > 3 * np.ptp(x)
        else:
            slope = np.corrcoef(x, y)[0, 1]
            assert slope > 0.9 if "from the upper left" in said else slope < -0.9 if "lower left" in said else True

    def _beside(self, amount, name, other):
        (box,) = self.boxes[_class(other)]
        boxes = self.boxes[_class(name)]
        side = np.sqrt(np.prod(boxes[:, 2:] - boxes[:, :2], axis=1))
        own = np.sqrt(np.prod(box[2:] - box[:2]))
        near = sum(_gap(one, box) <= 0.5 * min(length, own) for one, length in zip(boxes, side, strict=True))
        word = amount.removesuffix(" of the")
        if word == "all":
            assert near == len(boxes)
        else:
            self._amount("one" if word == "the" else word, near, amount)

    def _counts(self, caption, chosen):
        items = re.findall(rf"\b({AMOUNT}) ({NAME})\b", caption[0].lower() + caption[1:])
        assert items, caption
        for amount, form in items:
            count = int(chosen[_class(form)].sum())
            assert (amount in ("a", "an")) == (count == 1), caption
            if count > 1:
                self._amount(amount, count, caption)
                assert form == NOUNS[_class(form)][1], caption

    @staticmethod
    def _amount(word, count, sentence):
        assert NUMBERS[word] == count if word in NUMBERS else count >= VAGUE[word], f"{sentence}: {count}"

    def _within(self, name, place):
        x, y = self.centres[name].T
        words = set(re.findall(r"\w+", place))
        low, high = (1 / 2, 1 / 2) if words & {"quarter", "half"} else (1 / 3, 2 / 3)
        left, right = "left" in words, "right" in words
        upper, lower = words & {"upper", "top"}, words & {"lower", "bottom"}
        inside = np.ones(len(x), bool)
        if left:
            inside &= x < low
        if right:
            inside &= x >= high
        if upper:
            inside &= y < low
        if lower:
            inside &= y >= high
        if not words & {"quarter", "half", "third"}:  # a ninth: what is not named is in the middle
            if not (left or right):
                inside &= (x >= low) & (x < high)
            if not (upper or lower):
                inside &= (y >= low) & (y < high)
        return inside


def grammar(text):
    """Checks what holds of any good sentence: capitals, full stops, articles, no word twice, no stray blanks."""
    assert text == text.strip() and "  " not in text and not re.search(r" [.,]|[{}]|\.\.", text), text
    for sentence in re.findall(r"[^.]+\.?", text):
        assert sentence.strip()[0].isupper() and sentence.endswith("."), text
    assert not re.search(r"\b(\w+) \1\b", text, re.IGNORECASE), text
    assert not re.search(r"\ba [aeio]|\ban [^aeiou]", text, re.IGNORECASE), text
    for one, many in NOUNS.values():
        wrong = rf"The ({many} (is|lies|covers|reaches)|{one} (are|lie|cover|reach))\b"
        assert one == many or not re.search(wrong, text), text


def _class(form):
    return next(name for name, forms in NOUNS.items() if form in forms)


def _nearest(boxes):
    return [min(_gap(box, other) for other in np.delete(boxes, i, 0)) for i, box in enumerate(boxes)]


def _gap(a, b):
    dx, dy = max(a[0] - b[2], b[0] - a[2], 0), max(a[1] - b[3], b[1] - a[3], 0)
    return (dx**2 + dy**2) ** 0.5
