"""Captions by rules: every statement read back and held against the boxes, good English, and the stage around them."""

from __future__ import annotations

import dataclasses
import difflib
import re

import numpy as np
import pytest
from caption_checker import NOUNS, Checker, grammar

from lrsclip_jax.corpus.records.record import CorpusRecord, SetAside, Step
from lrsclip_jax.corpus.rules import caption_by_rules, describe
from lrsclip_jax.data.tokenizer import clip_tokenizer
from lrsclip_jax.errors import InputError
from lrsclip_jax.sources.item import Thing

SIZE = (640, 480)


def tokens(text):
    return len(clip_tokenizer().encode([text])[0])


def grid(columns, rows, *, left=60, top=50, step=(40, 60), side=20):
    corners = [(left + step[0] * i, top + step[1] * j) for j in range(rows) for i in range(columns)]
    return [(x, y, x + side, y + side) for x, y in corners]


def layout(seed):
    """Boxes of a few classes: anywhere, in one part, in a row or a grid, tiny, huge."""
    rng = np.random.default_rng(seed)
    boxes = {}
    for name in rng.choice(list(NOUNS), rng.integers(1, 5), replace=False):
        count = int(rng.choice([1, 1, 2, 3, 4, 6, 9, 14, 40]))
        if rng.random() < 0.2:
            columns = int(rng.integers(3, 7))
            found = grid(columns, int(rng.integers(1, 4)), left=rng.integers(200), top=rng.integers(200))
        else:
            start, stop = np.sort(rng.choice([0, 0.3, 0.4, 0.6, 0.7, 1], 2, replace=False))
            sides = rng.uniform(8, rng.choice([12, 40, 150, 500]), (count, 2))
            corners = rng.uniform(start, stop, (count, 2)) * SIZE - sides / 2
            found = np.clip(np.concatenate([corners, corners + sides], 1), 0, [*SIZE, *SIZE]).round(1).tolist()
        boxes[str(name)] = [box for box in found if box[0] < box[2] and box[1] < box[3]]
    return boxes


def things(boxes):
    return [Thing(name, tuple(box)) for name, found in boxes.items() for box in found]


def caption(boxes, seed=0, **options):
    return describe(things(boxes), *SIZE, key=(seed,), **options)


def test_every_statement_on_random_layouts_is_true_and_in_good_english_and_hard_negatives_are_false():
    read, negatives = 0, 0
    for seed in range(150):
        boxes = layout(seed)
        found, checker = caption(boxes, seed), Checker(boxes, *SIZE)
        checker.short(found.short)
        checker.long(found.long)
        read += checker.read
        for text in (*found.short, found.long, *filter(None, found.negative)):
            grammar(text)
        for place, wrong in enumerate(found.negative):
            if wrong:
                with pytest.raises(AssertionError):
                    checker.short([*found.short[:place], wrong, *found.short[place + 1 :]])
                assert changed_words(found.short[place], wrong) == 1
                negatives += 1
        assert tokens(found.long) <= 240 and max(map(tokens, found.short)) <= 77
    assert read > 900 and negatives > 600


def changed_words(one, other):
    """How many runs of words of two texts differ, but for verbs and nouns that agree with another number."""
    words = [re.sub(r"\b(is|are|lies?) ", "", text.lower()) for text in (one, other)]
    for singular, plural in NOUNS.values():
        words = [re.sub(rf"\b{plural}\b", singular, text) for text in words]
    matching = difflib.SequenceMatcher(None, *(text.split() for text in words), autojunk=False)
    return sum(tag != "equal" for tag, *_ in matching.get_opcodes())


def test_the_checker_objects_to_the_captions_of_the_mirror_image():
    objections = 0
    for seed in range(40):
        boxes = layout(seed)
        mirrored = {
            name: [(SIZE[0] - x1, SIZE[1] - y1, SIZE[0] - x0, SIZE[1] - y0) for x0, y0, x1, y1 in found]
            for name, found in boxes.items()
        }
        try:
            Checker(mirrored, *SIZE).long(caption(boxes, seed).long)
        except AssertionError:
            objections += 1
    assert objections > 30


@pytest.mark.parametrize(
    ("boxes", "said"),
    [
        (grid(5, 1), "They are lined up in a horizontal row."),
        (grid(1, 5), "They are lined up in a vertical row."),
        (grid(5, 3), "They are arranged in three horizontal rows."),
        (grid(3, 3, step=(90, 40), side=20)[:9], "They are arranged in three horizontal rows."),
        ([(x, x, x + 20, x + 20) for x in range(50, 350, 50)], "a diagonal line that runs from the upper left to"),
        ([(x, 400 - x, x + 20, 420 - x) for x in range(50, 350, 50)], "diagonal line that runs from the lower left"),
        ([(x, y, x + 20, y + 20) for x, y in ((9, 9), (31, 18), (18, 40), (52, 36), (44, 60))], "group|close together"),
        ([(x, y, x + 20, y + 20) for x, y in ((0, 0), (600, 440))], "They are far apart from each other."),
        (
            [(x + i, y, x + i + 20, y + 20) for i in (0, 500) for x, y in ((9, 9), (31, 25), (12, 40))],
            "two separate groups",
        ),
        ([(300, 220, 330, 250)], "The bus .* in the centre of the image."),
        ([(0, 100, 640, 140)], "The bus extends from the left edge to the right edge."),
        ([(300, 0, 320, 480)], "The bus extends from the upper edge to the lower edge."),
        ([(100, 100, 600, 450)], "The bus (takes up much|stretches over a large part) of the image."),
    ],
)
def test_an_arrangement_that_is_there_is_said(boxes, said):
    assert re.search(said, caption({"bus": boxes}).long), caption({"bus": boxes}).long


def test_things_without_an_arrangement_are_not_said_to_have_one():
    lined = 0
    for seed in range(100):
        rng = np.random.default_rng(seed)
        corners = rng.uniform(0, 1, (8, 2)) * (np.array(SIZE) - 20)
        text = caption({"bus": np.concatenate([corners, corners + 20], 1)}, seed).long
        lined += any(word in text for word in ("row", "column", "line", "group", "close"))
    assert lined <= 1


def test_relations_of_single_things():
    text = caption({"church": [(100, 100, 140, 140)], "bus": [(150, 105, 180, 125)]}).long
    assert "ext to the" in text and "The church is to the left of the bus." in text
    far = caption({"church": [(100, 100, 140, 140)], "bus": [(500, 300, 530, 320)]}).long
    assert "ext to the" not in far and "left of the bus" not in far


def test_what_is_said_of_the_centre_when_nothing_or_everything_stands_there():
    away = caption({"bus": grid(3, 1)}).short
    assert "three buses" in away[0].lower() and any(
        word in away[0] for word in ("away", "outside", "distance", "outer")
    )
    inside = caption({"bus": [(300, 220, 330, 250)]}).short
    assert "centred on a bus" in inside[1] or "a bus right in its middle" in inside[1]


def test_the_same_key_gives_the_same_texts_and_another_key_others():
    boxes = layout(3)
    assert caption(boxes, 1) == caption(boxes, 1)
    assert len({caption(boxes, seed).long for seed in range(20)}) > 10


def test_much_to_say_fills_the_long_caption_and_never_more_than_the_budget():
    rng = np.random.default_rng(0)
    boxes = {}
    for name in NOUNS:
        corners = rng.uniform(0, 1, (9, 2)) * (np.array(SIZE) - 30)
        boxes[name] = np.concatenate([corners, corners + 30], 1)
    assert 180 <= tokens(caption(boxes).long) <= 240
    assert "other objects" in caption(boxes).short[2]
    for budget in (80, 120, 248):
        assert 0.6 * budget <= tokens(caption(boxes, max_tokens=budget).long) <= budget


def test_a_label_names_the_scene():
    found = caption({"bus": grid(3, 1)}, label="BareLand")
    assert "bare land" in found.long and "bare land" in found.short[4]
    assert "storage tanks with" not in caption({"storageTank": grid(3, 1)}, label="storage tanks").long
    alone = describe([], 10, 10, key=(0,), label="denseresidential")
    assert "An aerial image of a dense residential area." in alone.short and len(set(alone.short)) == 5
    assert alone.long == ""


def test_things_without_boxes_are_named_and_not_counted():
    found = describe([Thing("car"), Thing("car"), Thing("water")], None, None, key=(0,))
    assert len(set(found.short)) == 5 and all(text.endswith("car and water.") for text in found.short)
    mixed = describe([Thing("car"), Thing("bus", (0, 0, 9, 9))], 100, 100, key=(0,))
    assert "The image also has the following: car." in mixed.long


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ([], "no things, and no label"),
        ([Thing("background", (0, 0, 5, 5))], "no things, and no label"),
        ([Thing("bus", (700, 0, 720, 9))], "'bus' has no area in the image of 640 x 480"),
        ([Thing("bus", (9, 0, 5, 9))], "no area"),
        ([Thing("bus", (float("nan"), 0, 5, 9))], "no area"),
        ([Thing("7", (0, 0, 5, 5))], "no name in words"),
    ],
)
def test_what_cannot_be_described_is_told_in_a_line(given, message):
    with pytest.raises(InputError, match=message) as caught:
        describe(given, *SIZE, key=(0,))
    assert "\n" not in str(caught.value)


def test_the_stage_fills_what_is_missing_and_sets_aside_what_it_cannot():
    bus = (Thing("bus", (0, 0, 50, 50)),)
    full = CorpusRecord("a", "a.png", "DIOR", things=bus, width=640, height=480, provenance=(Step("read"),))
    kept = dataclasses.replace(full, id="b", short=("A bus.",))
    done = dataclasses.replace(full, id="c", short=("A bus.",), long=("A long bus.",))
    bare = dataclasses.replace(full, id="d", things=())
    sizeless = dataclasses.replace(full, id="e", width=None)
    texted = dataclasses.replace(bare, id="f", short=("A bus.",))
    found = list(caption_by_rules(iter([full, kept, done, bare, sizeless, texted])))
    assert len(found[0].short) == 5 and len(found[0].long) == 1
    assert found[0].provenance == (Step("read"), Step("captions", "rules", "short, long"))
    assert found[1].short == ("A bus.",) and found[1].provenance[-1].detail == "long"
    assert found[2] is done and found[5] is texted
    assert [(row.id, row.stage) for row in found[3:5]] == [("d", "captions"), ("e", "captions")]
    assert all(isinstance(row, SetAside) for row in found[3:5]) and "width and height" in found[4].reason
    assert next(caption_by_rules([full])) == found[0] != next(caption_by_rules([full], seed=1))
