"""Texts drawn by their sentences: a plain twin on strings, the counts of many draws, hosts, packing, continuation."""

import dataclasses
import json
import re
import shutil

import numpy as np
import pytest
from drawn_batches import SMALL, drawn, same

from lrsclip_jax import config as configs
from lrsclip_jax.data.batches import pipeline, sentence_draws
from lrsclip_jax.data.batches.batch import BatchShape
from lrsclip_jax.data.batches.sentence_draws import SentenceDraw, at, chosen, numbers, shifts
from lrsclip_jax.data.batches.turns import turns_of_sources
from lrsclip_jax.data.prepared.procedural import SceneRecords
from lrsclip_jax.data.tokenizer import bert_tokenizer, clip_tokenizer
from lrsclip_jax.errors import InputError
from lrsclip_jax.setup import RunLength, set_up
from lrsclip_jax.train import train_and_evaluate

ALL = SentenceDraw(drop_first=0.5, drop=0.3, sample=(1, 4), consecutive=0.5, shuffle=0.5, shift=20)
TEXTS = [record.long[0] for record in SceneRecords(48)]


def twin(text, draw, of_text, of_sentence):
    """The draw as sentences of a string: one step after the other, one sentence after the other."""
    left = list(enumerate(re.findall(r"[^.]+\.", text)))
    first, many, consecutive, start, shuffled, _ = of_text
    if len(left) > 1 and first < draw.drop_first:
        left = left[1:]
    stay = [each for each in left if of_sentence[each[0]][0] >= draw.drop]
    left = stay or [max(left, key=lambda each: of_sentence[each[0]][0])]
    if draw.sample:
        least, most = draw.sample
        size = min(least + int(many * (most - least + 1)), len(left))
        if consecutive < draw.consecutive:
            begin = int(start * (len(left) - size + 1))
            left = left[begin : begin + size]
        else:
            kept = sorted(left, key=lambda each: of_sentence[each[0]][1])[:size]
            left = [each for each in left if each in kept]
    if shuffled < draw.shuffle:
        left.sort(key=lambda each: of_sentence[each[0]][2])
    return " ".join(sentence.strip() for _, sentence in left)


@pytest.mark.parametrize("tokenizer", [clip_tokenizer(), bert_tokenizer()], ids=["clip", "bert"])
@pytest.mark.parametrize(
    "draw",
    [
        ALL,
        SentenceDraw(drop_first=1.0),
        SentenceDraw(drop=1.0),
        SentenceDraw(sample=(3, 3), consecutive=1.0),
        SentenceDraw(sample=(50, 60)),
        SentenceDraw(shuffle=1.0),
    ],
    ids=["all", "summary", "drop", "run", "more", "shuffle"],
)
def test_draws_equal_their_twin_on_strings(draw, tokenizer):
    texts = [*TEXTS, "One sentence alone.", ""]
    ids = [*tokenizer.encode(texts), None]
    rows = np.random.default_rng(0).permutation(len(ids))
    for step in range(3):
        found = sentence_draws.drawn_texts(
            [ids[row] for row in rows], tokenizer, draw, ("long", 5, step, len(ids)), rows
        )
        drawn = numbers("long", 5, step, len(ids), 40)
        for row, new in zip(rows.tolist(), found, strict=True):
            if row >= len(texts) - 1:
                assert new == ids[row]
                continue
            here = at(drawn, np.array([row]))
            text = twin(texts[row], draw, here.of_text[:, 0], here.of_sentence[..., 0])
            assert list(new) == tokenizer.encode([text])[0]


def test_draws_come_as_often_as_their_probabilities_say():
    """Each count lies within five standard deviations of its binomial expectation."""
    texts, sentences = 20_000, 6
    counts = np.full(texts, sentences)
    drawn = numbers("short", 1, 7, texts, sentences)

    def near(events, probability):
        events = np.asarray(events, bool)
        spread = 5 * np.sqrt(probability * (1 - probability) / events.size)
        assert abs(events.mean() - probability) <= spread

    def kept(draw):
        order, size = chosen(counts, draw, drawn)
        return [row[:n].tolist() for row, n in zip(order, size, strict=True)]

    near([0 not in row for row in kept(SentenceDraw(drop_first=0.3))], 0.3)
    some = kept(SentenceDraw(drop=0.4))
    near([n in row for row in some for n in range(1, sentences)], 0.6 + 0.4**sentences / sentences)
    assert all(row == sorted(row) and row for row in some)
    sampled = kept(SentenceDraw(sample=(1, 3), consecutive=0.5))
    for size in (1, 2, 3):
        near([len(row) == size for row in sampled], 1 / 3)
    pairs = [row for row in sampled if len(row) == 2]
    near([row[1] - row[0] == 1 for row in pairs], 0.5 + 0.5 * 5 / 15)
    for first in range(sentences):
        near([row == [first] for row in sampled if len(row) == 1], 1 / sentences)
    mixed = kept(SentenceDraw(shuffle=0.5))
    near([row == sorted(row) for row in mixed], 0.5 + 0.5 / 720)
    near([row[0] == 4 for row in mixed], 0.5 / 6)
    by = shifts(np.full(texts, 10), SentenceDraw(shift=40, positions=15), drawn)
    for shift in range(6):
        near(by == shift, 1 / 6)
    assert set(shifts(np.full(9, 15), SentenceDraw(shift=40, positions=15), at(drawn, np.arange(9))).tolist()) == {0}


def test_numbers_depend_on_seed_step_and_pair_alone():
    few, many = numbers("long", 0, 3, 16, 2), numbers("long", 0, 3, 16, 9)
    np.testing.assert_array_equal(few.of_text, many.of_text)
    np.testing.assert_array_equal(few.of_sentence, many.of_sentence[:2])
    others = [numbers("long", 1, 3, 16, 2), numbers("long", 0, 4, 16, 2), numbers("short", 0, 3, 16, 2)]
    assert all(not np.isin(other.of_text, few.of_text).any() for other in others)


SCENES = [SceneRecords(24, size=16), SceneRecords(9, 1, size=16)]
DRAWS = {"long": ALL, "short": SentenceDraw(drop_first=1.0, sample=(1, 1), shift=9, positions=60)}
HALF = {kind: dataclasses.replace(draw, share=0.5) for kind, draw in DRAWS.items()}


def take(steps, start=0, rows=None, row_length=None, short_text="sentences", draws=DRAWS, report=None):
    shape = BatchShape(16, 64, 40, row_length=row_length, groups=2, shifted=tuple(draws))
    sources = [(SCENES[0], 2.0), (SCENES[1], 1.0)]
    texts = {"short_text": short_text, "draws": draws}
    return drawn(steps, sources, shape, start, report=report, rows=rows, **texts)


@pytest.mark.parametrize("row_length", [None, 64])
def test_a_run_that_is_continued_draws_what_it_would_have_drawn(row_length):
    whole = take(4, row_length=row_length)
    for step in range(1, 4):
        same(take(1, start=step, row_length=row_length)[0], whole[step])
    assert not np.array_equal(whole[0]["image"], whole[1]["image"])


@pytest.mark.parametrize("row_length", [None, 64])
@pytest.mark.parametrize(
    ("short_text", "draws"), [("short", {"long": ALL}), ("sentences", DRAWS), ("sentences", "half")], ids=str
)
def test_two_hosts_draw_what_one_draws(row_length, short_text, draws):
    draws = HALF if draws == "half" else draws
    whole = take(3, row_length=row_length, short_text=short_text, draws=draws)
    hosts = [
        take(3, rows=np.arange(first, first + 8), row_length=row_length, short_text=short_text, draws=draws)
        for first in (0, 8)
    ]
    for step, batch in enumerate(whole):
        same({key: np.concatenate([host[step][key] for host in hosts]) for key in batch}, batch)
    if row_length:
        assert len({len(batch["ids"]) for batch in take(8, row_length=row_length, draws=draws)}) > 1


def test_packed_texts_are_the_padded_ones_with_the_same_shifts():
    for packed, padded in zip(take(3, row_length=64), take(3), strict=True):
        ids, by = (packed[key].reshape(2, -1) for key in ("ids", "shifts"))
        moved = set()
        for kind in ("long", "short"):
            spans = packed[f"{kind}_span"].reshape(2, -1, 2)
            rows = [(g, *span) for g, group in enumerate(spans.tolist()) for span in group]
            for (g, start, size), row, shift in zip(rows, padded[kind], padded[f"{kind}_shift"], strict=True):
                assert ids[g, start : start + size].tolist() == row[:size].tolist() and not row[size:].any()
                assert by[g, start : start + size].tolist() == [0, *[shift] * (size - 1)]
                assert 0 <= shift <= DRAWS[kind].shift and size + shift <= DRAWS[kind].positions
                moved.add(int(shift))
        assert len(moved) > 5 and packed["positions"].max() < 64


def test_the_short_text_is_of_the_long_one_without_its_summary_and_that_stays_whole():
    tokenizer = clip_tokenizer()
    report = pipeline.DataReport(0)
    texts = [record.long[0] for scenes in SCENES for record in scenes]
    longs = {tuple(ids[:63]) for ids in tokenizer.encode(texts)}
    parts = [part for text in texts for part in re.findall(r"[^.]+\.", text)[1:]]
    sentences = set(map(tuple, tokenizer.encode(parts)))
    for batch in take(2, draws={"short": DRAWS["short"]}, report=report):
        assert batch["has_short"].all()
        for long, short in zip(batch["long"], batch["short"], strict=True):
            assert tuple(long[:63]) in longs
            assert tuple(short[: np.argmax(short == tokenizer.end) + 1]) in sentences
    assert report.cut["long"] == report.drawn["long"] == 32 and not report.cut["short"]


def test_a_share_of_the_texts_is_drawn_and_the_others_are_those_of_the_data():
    tokenizer, own, others = clip_tokenizer(), {"long": 0, "short": 0}, 0
    records = [record for scenes in SCENES for record in scenes]
    texts = {kind: {tuple(ids[:39]) for r in records for ids in tokenizer.encode(getattr(r, kind))} for kind in own}
    for batch, as_drawn in zip(take(20, draws=HALF), take(20), strict=True):
        for kind in own:
            for row, other in zip(batch[kind], as_drawn[kind], strict=True):
                text = tuple(row[: np.argmax(row == tokenizer.end) + 1][:39].tolist())
                own[kind] += text in texts[kind]
                others += text not in texts[kind] and np.array_equal(row, other)
    # Some 320 of each kind, half of them drawn; a drawn long text may be the whole one.
    assert 130 < own["short"] < 190 and own["long"] > 130 and 130 < others


def test_which_texts_are_drawn_follows_from_the_step():
    draw = SentenceDraw(share=0.3)
    taken = np.concatenate([sentence_draws.drawn_pairs(draw, "long", 3, step, 1000) for step in range(20)])
    assert abs(taken.mean() - 0.3) < 0.015
    again = sentence_draws.drawn_pairs(draw, "long", 3, 19, 1000)
    np.testing.assert_array_equal(taken[-1000:], again)
    assert not np.array_equal(again, sentence_draws.drawn_pairs(draw, "short", 3, 19, 1000))
    assert sentence_draws.drawn_pairs(None, "short", 3, 0, 5).all()


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        (["data.short_draw.share=0.5"], "data.short_draw.share is about data.short_text='sentences', .* 'short'"),
        (["data.long_draw.drop=1.5"], "data.long_draw.drop=1.5: expected a number from 0 to 1"),
        (["data.long_draw.sample=0"], "data.long_draw.sample=0: expected a whole number from 1"),
        (
            ["data.long_draw.sample=(3, 1)"],
            "data.long_draw.sample=.*: expected .*the first not above the second",
        ),
        (["data.long_draw.consecutive=0.5"], "consecutive=0.5 is about sampled sentences: set data.long_draw.sample"),
        (["data.short_draw.drop=0.5"], "data.short_draw.drop is about data.short_text='sentences', .* 'short'"),
        (["data.long_draw.shift=247"], "data.long_draw.shift=247 leaves no room in model.text.context_length=248"),
        (["data.long_draw.dropp=0.5"], "data.long_draw.dropp: unknown key, did you mean 'data.long_draw.drop'"),
    ],
    ids=lambda value: value[0] if isinstance(value, list) else "",
)
def test_draws_that_cannot_be_are_one_line(overrides, message):
    with pytest.raises(InputError, match=message):
        configs.load("configs/quickstart.py", overrides)


def test_a_config_says_which_kinds_are_drawn():
    config = configs.load("configs/quickstart.py")
    assert sentence_draws.sentence_draws(config) == {}
    keys = ["data.long_draw.shuffle=0.5", "data.short_text=sentences", "data.short_draw.sample=(1, 3)"]
    found = sentence_draws.sentence_draws(configs.load("configs/quickstart.py", keys))
    assert found == {"long": SentenceDraw(shuffle=0.5), "short": SentenceDraw(sample=(1, 3))}
    one = configs.load("configs/quickstart.py", ["data.long_draw.sample=2", "model.text.context_length=200"])
    assert sentence_draws.sentence_draws(one) == {"long": SentenceDraw(sample=(2, 2), positions=200)}


@pytest.mark.parametrize("packed", [False, True])
def test_batches_are_as_the_step_was_told_they_would_be(packed):
    keys = ["data.short_text=sentences", "data.short_draw.sample=2", "data.long_draw.shift=60", "batch_size=16"]
    keys += ["data.augmentation.turns=flips", f"data.packed={packed}", "data.row_length=160", "model.image.size=16"]
    config = configs.load("configs/quickstart.py", keys)
    setup = set_up(config, RunLength(100, 25))
    steps = pipeline.batches(
        *([(SCENES[0], 1.0)], clip_tokenizer(), dataclasses.replace(SMALL, size=16), setup.layout),
        pipeline.DataReport(0),
        seed=0,
        threads=1,
        short_text="sentences",
        draws=sentence_draws.sentence_draws(config),
        turns=turns_of_sources(config),
    )
    batch = next(steps)
    specs = setup.batch_specs(len(batch["ids"]) if packed else None)
    assert {key: (values.shape, values.dtype) for key, values in batch.items()} == {
        key: (spec.shape, spec.dtype) for key, spec in specs.items()
    }
    assert "turn" in batch and ("shifts" in batch) == packed


@pytest.mark.exhaustive
def test_a_run_with_drawn_texts_trains_alike_packed_and_padded_and_goes_on_where_it_stopped(tmp_path):
    keys = [
        *("model.image.layers=1", "model.image.width=32", "model.text.layers=1", "model.text.width=32"),
        *("model.image.patch=16", "data.sources=scenes:32", "data.long_length=48", "data.short_length=24"),
        *("data.row_length=48", "batch_size=8", "optimizer.warmup_steps=0", "eval.sources=()", "eval.truncations=()"),
        *("log.every_steps=1", "log.tensorboard=False", "loss.same_text=ignore", "checkpoint.every_steps=2"),
        *("data.short_text=sentences", "data.short_draw.sample=(1, 2)", "data.short_draw.drop_first=1.0"),
        *("data.long_draw.shuffle=0.5", "data.long_draw.shift=60", "data.short_draw.shift=30", "eval.every_steps=0"),
        "data.augmentation.turns=all",
    ]

    def losses(name, *overrides):
        config = configs.load("configs/quickstart.py", [*keys, *overrides])
        train_and_evaluate(config, str(tmp_path / name))
        rows = [json.loads(line) for line in (tmp_path / name / "metrics.jsonl").read_text().splitlines()]
        return [row["loss"] for row in rows if "loss" in row]

    padded = losses("padded", "epochs=1.0")
    np.testing.assert_allclose(losses("packed", "epochs=1.0", "data.packed=True"), padded, rtol=1e-5)
    shutil.copytree(tmp_path / "padded", tmp_path / "killed")
    for step in (3, 4):
        shutil.rmtree(tmp_path / "killed" / "checkpoints" / str(step), ignore_errors=True)
    assert losses("killed", "epochs=1.0") == padded
