"""Hard negatives in batches: of the drawn short text, the same for any hosts, packed or padded, turned with it."""

import dataclasses
import itertools
from collections import defaultdict

import numpy as np
import pytest
from drawn_batches import drawn, same

from lrsclip_jax import config as configs
from lrsclip_jax.data.batches import pipeline
from lrsclip_jax.data.batches.batch import BatchShape
from lrsclip_jax.data.batches.mixture import open_sources
from lrsclip_jax.data.prepared.procedural import SceneRecords
from lrsclip_jax.data.tokenizer import bert_tokenizer, clip_tokenizer, fit
from lrsclip_jax.errors import InputError


class Mixed(SceneRecords):
    """Scenes of which some are torn, and the last ones have no negatives."""

    def _draw(self, index):
        record = super()._draw(index)
        ids = {name: {**texts, "negative": [[]] * 4} for name, texts in record.tokens.items()}
        without = {"negative": ("",) * 4, "tokens": ids} if index > 18 else {}
        return dataclasses.replace(record, image=b"torn" if index % 9 == 0 else record.image, **without)


SOURCES = [(Mixed(24, size=16), 2.0), (SceneRecords(9, 1, size=16), 1.0)]
KINDS, CLIP = ("long", "short", "negative"), clip_tokenizer()


def take(steps, start=0, rows=None, tokenizer=CLIP, kinds=KINDS, turns=(), **shape):
    shape = BatchShape(16, 144, **{"short_length": 40, "groups": 2, "turned": bool(turns), "kinds": kinds, **shape})
    of_hosts = {"rows": rows, "turns": turns}
    return drawn(steps, SOURCES, shape, start, tokenizer, pipeline.DataReport(99), **of_hosts)


@pytest.mark.parametrize("tokenizer", [clip_tokenizer(), bert_tokenizer()], ids=["clip", "bert"])
def test_a_pair_has_the_negative_of_the_short_text_that_was_drawn(tokenizer):
    wrong, there = defaultdict(set), 0  # scenes may share a short text
    for record in itertools.chain.from_iterable(records for records, _ in SOURCES):
        for ids, text in zip(padded(record.short, tokenizer), record.negative, strict=True):
            wrong[tuple(ids)].add(tuple(padded([text], tokenizer)[0]) if text else None)
    for batch, plain in zip(take(3, tokenizer=tokenizer), take(3, tokenizer=tokenizer, kinds=KINDS[:2]), strict=True):
        same({key: batch[key] for key in plain}, plain)  # and so nothing else of a batch changes
        assert {*batch} - {*plain} == {"negative", "has_negative"}
        for row, has_short in enumerate(batch["has_short"]):
            short, negative = (tuple(batch[kind][row].tolist()) for kind in KINDS[1:])
            has_negative = batch["has_negative"][row]
            assert (negative if has_negative else None) in (wrong[short] if has_short else {None})
            there += has_negative
    assert 8 < there < 32


def padded(texts, tokenizer):
    ids = tokenizer.encode(texts)
    return [[*each, *[tokenizer.pad] * (40 - len(each))] for each in ids]


@pytest.mark.parametrize("row_length", [None, 160])
def test_hosts_and_continued_runs_have_the_same_negatives(row_length):
    whole = take(3, row_length=row_length, turns=("all", "none"))
    same(take(1, start=2, row_length=row_length, turns=("all", "none"))[0], whole[2])
    hosts = [take(3, rows=np.arange(at, at + 8), row_length=row_length, turns=("all", "none")) for at in (0, 8)]
    for step, batch in enumerate(whole):
        same({key: np.concatenate([host[step][key] for host in hosts]) for key in batch}, batch)


def test_packed_rows_hold_the_negatives():
    for plain, batch in zip(take(2), take(2, row_length=160), strict=True):
        slots = batch["ids"].ravel()
        for kind in KINDS:
            np.testing.assert_array_equal(plain[f"has_{kind}"], batch[f"has_{kind}"])
            for row in np.flatnonzero(plain[f"has_{kind}"]):
                start, length = batch[f"{kind}_span"][row]
                group = len(slots) // 2 * (row // 8)
                ids = slots[group + start : group + start + length]
                np.testing.assert_array_equal(plain[kind][row][:length], ids)
                assert ids[-1] == clip_tokenizer().end


def test_a_negative_whose_changed_fact_is_cut_off_is_none():
    whole, cut = take(2), take(2, short_length=8)
    left = [batch["has_negative"].sum() for batch in (*whole, *cut)]
    assert sum(left[:2]) > sum(left[2:]) > 0
    for batch in cut:
        there = batch["has_negative"]
        assert (batch["negative"] != batch["short"])[there].any(axis=1).all()
        np.testing.assert_array_equal(batch["short"][0], fit(batch["short"][0], 8, clip_tokenizer().end))


def test_a_negative_turns_with_its_image():
    """It differs from its short text in as many words before and after, and its sides turn."""
    changed, kinds = 0, KINDS[1:]  # long texts say "above", which few turns can
    for plain, batch in zip(take(3, kinds=kinds), take(3, kinds=kinds, turns=("all", "all")), strict=True):
        there = plain["has_negative"]
        np.testing.assert_array_equal(there, batch["has_negative"])
        differ = [(each["negative"] != each["short"])[there].sum(axis=1) for each in (plain, batch)]
        assert (differ[0] > 0).all()
        np.testing.assert_array_equal(*differ)
        changed += (plain["negative"] != batch["negative"])[there].any(axis=1).sum()
    assert changed > 3


def test_sources_without_negatives_are_told_in_a_line(tmp_path):
    pairs = ["data.sources=('scenes:8',)", "data.sampling=pairs", "loss.long_weight=1.0"]
    config = configs.load("configs/quickstart.py", ["data.sources=('scenes:8',)", "loss.hard_negatives=0.1"])
    assert len(open_sources(config)[0][0]) == 8
    config = configs.load("configs/quickstart.py", pairs)
    with config.unlocked():
        config.loss.hard_negatives = 0.1
    with pytest.raises(InputError, match="loss.hard_negatives=0.1: no set of data.sources holds hard negatives"):
        open_sources(config)


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        (["data.short_text=first_sentence"], "data.short_text='first_sentence': only short texts have"),
        (["loss.long_weight=1.0"], "loss.hard_negatives=0.1 needs short texts, and loss.long_weight=1.0 uses none"),
        (["data.text_features=sets/texts"], "loss.hard_negatives=0.1: data.text_features have none, set it to 0"),
        (["loss.hard_negatives=-1"], "loss.hard_negatives=-1: expected a number from 0"),
    ],
)
def test_options_that_do_not_go_with_hard_negatives(overrides, message):
    with pytest.raises(InputError, match=message):
        configs.load("configs/quickstart.py", ["loss.hard_negatives=0.1", *overrides])
