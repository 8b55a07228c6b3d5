"""Pairs that are turned: image and words alike, on or off per source, the same for any hosts, packed or padded."""

import dataclasses
import re

import jax
import numpy as np
import pytest
from drawn_batches import drawn, same

from lrsclip_jax import config as configs
from lrsclip_jax.data.batches.batch import BatchShape
from lrsclip_jax.data.batches.turns import drawn_turns, turned_texts, turns_of_sources
from lrsclip_jax.data.directions import TURNS, turned_words
from lrsclip_jax.data.prepared.procedural import SceneRecords
from lrsclip_jax.data.tokenizer import bert_tokenizer, clip_tokenizer
from lrsclip_jax.errors import InputError
from lrsclip_jax.models.pixels import turned


class Placed(SceneRecords):
    """Scenes whose long texts lack their last sentence, "… directly above the pond", which few turns can say."""

    def _draw(self, index):
        record = super()._draw(index)
        return dataclasses.replace(record, long=(f"{record.long[0].rsplit('. ', 1)[0]}.",), tokens={})


SCENES = [Placed(24, size=16), Placed(9, 1, size=16)]


def said(text, turn):
    """The twin: the words of a string replaced, or None."""
    words = re.findall(r"[^\W\d_]+|\d|[^\w\s]", text.lower())
    new = turned_words(words, turn)
    return None if new is None else " ".join(new.get(place, word) for place, word in enumerate(words))


def test_images_are_turned_as_numpy_turns_them():
    images = np.random.default_rng(0).integers(0, 256, (8, 5, 5, 3), np.uint8)
    found = np.asarray(jax.jit(turned)(images, np.arange(8, dtype=np.int32)))
    for turn, (image, new) in enumerate(zip(images, found, strict=True)):
        image = image.swapaxes(0, 1) if turn & 1 else image
        image = image[:, ::-1] if turn & 2 else image
        np.testing.assert_array_equal(new, image[::-1] if turn & 4 else image)
        if turn in TURNS["turns"]:
            assert any(np.array_equal(new, np.rot90(images[turn], quarter)) for quarter in range(4))


@pytest.mark.parametrize("tokenizer", [clip_tokenizer(), bert_tokenizer()], ids=["clip", "bert"])
def test_ids_are_turned_as_strings_are_and_only_where_both_texts_can_say_it(tokenizer):
    records = [record for scenes in SCENES for record in scenes]
    longs = [record.long[0] for record in records] + [
        "The leftmost hut.",
        "It slopes rightwards.",
        "Cafés in the north.",
        "",
    ]
    shorts = [record.short[-1] for record in records] + ["A hut.", "A hut.", "Left, a hut.", "north-eastern tents"]
    texts = {
        "long": [*tokenizer.encode(longs), None],
        "short": [*tokenizer.encode(shorts), tokenizer.encode(["east"])[0]],
    }
    reached = set()
    for turn in range(8):
        new, turns = turned_texts(texts, np.full(len(longs) + 1, turn, np.int32), tokenizer)
        for row, (long, short) in enumerate(zip(longs, shorts, strict=True)):
            both = [said(text, turn) for text in (long, short)]
            expected = None if None in both else tokenizer.encode(both)
            old = [texts[kind][row] for kind in ("long", "short")]
            if expected and [len(ids) for ids in expected] != [len(ids) for ids in old]:
                expected = None  # a word with another number of tokens
            assert turns[row] == (turn if expected else 0)
            assert [list(new[kind][row]) for kind in ("long", "short")] == (expected or old)
            reached.add((turn, expected is not None))
        assert new["long"][-1] is None and turns[-1] == turn
    assert len(reached) == 15


def test_turns_come_equally_often_and_by_source():
    rows, sources = np.arange(20_000), np.arange(20_000) % 4
    names = ("none", "flips", "turns", "all")
    drawn = drawn_turns(names, sources, 3, 5, 20_000, rows)
    for source, name in enumerate(names):
        counts = np.bincount(drawn[sources == source], minlength=8)
        share = 1 / len(TURNS[name])
        assert {*np.flatnonzero(counts)} == {*TURNS[name]}
        assert (abs(counts[counts > 0] / 5000 - share) <= 5 * np.sqrt(share * (1 - share) / 5000)).all()
    np.testing.assert_array_equal(drawn_turns(names, sources[7:9], 3, 5, 20_000, rows[7:9]), drawn[7:9])
    assert (drawn_turns(names, sources, 3, 6, 20_000, rows) != drawn).any()


def take(steps, start=0, rows=None, row_length=None, turns=("all", "none")):
    shape = BatchShape(16, 144, 40, row_length=row_length, groups=2, turned=bool(turns))
    sources = [(SCENES[0], 2.0), (SCENES[1], 1.0)]
    return drawn(steps, sources, shape, start, rows=rows, turns=turns)


@pytest.mark.parametrize("row_length", [None, 160])
def test_hosts_and_continued_runs_turn_the_same_pairs(row_length):
    whole = take(4, row_length=row_length)
    same(take(1, start=3, row_length=row_length)[0], whole[3])
    hosts = [take(4, rows=np.arange(first, first + 8), row_length=row_length) for first in (0, 8)]
    for step, batch in enumerate(whole):
        same({key: np.concatenate([host[step][key] for host in hosts]) for key in batch}, batch)
    assert len({turn for batch in whole for turn in batch["turn"].tolist()}) > 3


def test_a_batch_has_its_images_unturned_and_its_texts_turned():
    plain, batches, tokenizer = take(3, turns=()), take(3), clip_tokenizer()
    changed = 0
    for before, after in zip(plain, batches, strict=True):
        np.testing.assert_array_equal(before["image"], after["image"])
        texts = {
            kind: [ids[: np.argmax(ids == tokenizer.end) + 1].tolist() for ids in before[kind]]
            for kind in ("long", "short")
        }
        new, turns = turned_texts(texts, after["turn"], tokenizer)
        np.testing.assert_array_equal(turns, after["turn"])
        for kind in ("long", "short"):
            for ids, row in zip(new[kind], after[kind], strict=True):
                assert row[: len(ids)].tolist() == ids and not row[len(ids) :].any()
        changed += int((before["long"] != after["long"]).any(axis=1).sum())
    assert changed > 10 and "turn" not in plain[0]


def test_a_config_turns_all_sources_or_each_in_its_own_way():
    def turns(*overrides):
        return turns_of_sources(configs.load("configs/quickstart.py", overrides))

    two = "data.sources=('scenes:8', ('scenes:8:1', 2.0))"
    assert (
        turns() == turns("data.augmentation.turns=none") == turns(two, "data.augmentation.turns=('none', 'none')") == ()
    )
    assert turns(two, "data.augmentation.turns=all") == ("all", "all")
    assert turns(two, "data.augmentation.turns=('none', 'flips')") == ("none", "flips")
    for wrong, message in (
        ("data.augmentation.turns=('all',)", "names 1 choices for 2 data.sources: name one for each, or one for all"),
        ("data.augmentation.turns=flip", "expected .*'flips'.*, did you mean 'flips'"),
        ("data.augmentation.turns=('all', 1)", "expected "),
    ):
        with pytest.raises(InputError, match=f"data.augmentation.turns=.*{message}"):
            turns(two, wrong)
