import dataclasses
import io
import itertools

import grain
import numpy as np
import pytest
from PIL import Image

from lrsclip_jax.data.batches import pipeline
from lrsclip_jax.data.batches.augmentation import training_pixels
from lrsclip_jax.data.batches.batch import BatchShape
from lrsclip_jax.data.prepared.opening import open_records
from lrsclip_jax.data.prepared.pairs import Pairs
from lrsclip_jax.data.prepared.records import KINDS, Record, Records, token_ids
from lrsclip_jax.data.prepared.text_lengths import TextLengths
from lrsclip_jax.data.preprocessing import CLIP_PREPROCESSING, Preprocessing
from lrsclip_jax.data.tokenizer import clip_tokenizer, fit
from lrsclip_jax.errors import InputError

SMALL = Preprocessing(size=8, mean=CLIP_PREPROCESSING.mean, std=CLIP_PREPROCESSING.std)


def record(
    number: int, long=("the long text of {}",), short=("short one of {}", "short two of {}"), image=None
) -> Record:
    """A record whose grey value and texts say its number."""
    if image is None:
        file = io.BytesIO()
        Image.new("RGB", (8, 8), (number, number, number)).save(file, "PNG")
        image = file.getvalue()
    return Record(
        f"r{number}", "test", image, tuple(t.format(number) for t in long), tuple(t.format(number) for t in short)
    )


class FromList(Records):
    def __init__(self, records):
        self.records = records

    def __len__(self):
        return len(self.records)

    def __getitem__(self, index):
        return self.records[index]

    def text_lengths(self, tokenizer):
        ids = [token_ids(each, tokenizer) for each in self]
        counts = np.asarray([(len(each["long"]), len(each["short"])) for each in ids])
        return TextLengths(counts, np.asarray([len(text) for each in ids for text in each["long"] + each["short"]]))


def take(steps, records=None, weights=None, start=0, batch_size=8, report=None, **options):
    records = [each if isinstance(each, Records) else FromList(each) for each in records]
    sources = list(zip(records, weights or [1.0] * len(records), strict=True))
    shape = BatchShape(batch_size, long_length=16, short_length=12)
    report = report or pipeline.DataReport(max_torn=0)
    batches = pipeline.batches(
        sources, clip_tokenizer(), SMALL, shape, report, seed=3, start_step=start, threads=2, **options
    )
    return [next(batches) for _ in range(steps)]


def numbers(batch) -> list[int]:
    return batch["image"][:, 0, 0, 0].tolist()


def test_the_contract_of_a_batch():
    (batch,) = take(1, [[record(n) for n in range(10)]])
    assert {key: (value.dtype.name, value.shape) for key, value in batch.items()} == {
        "image": ("uint8", (8, 8, 8, 3)),
        "long": ("int32", (8, 16)),
        "short": ("int32", (8, 12)),
        "has_long": ("bool", (8,)),
        "has_short": ("bool", (8,)),
    }
    tokenizer = clip_tokenizer()
    for row, number in enumerate(numbers(batch)):
        long = tokenizer.encode([f"the long text of {number}"])[0]
        shorts = tokenizer.encode([f"short one of {number}", f"short two of {number}"])
        assert batch["long"][row].tolist() == fit(long, 16, tokenizer.end).tolist()
        assert batch["short"][row].tolist() in [fit(short, 12, tokenizer.end).tolist() for short in shorts]


def record_by_record(records, weights, batch_size, crop_scale):
    """The rows of all batches with seed 3, one after the other, by Grain's own data sets, draws and seeds."""

    def row(each: Record, rng: np.random.Generator):
        ids = token_ids(each, clip_tokenizer())
        texts = {}
        for kind in KINDS:
            fraction = rng.random()
            texts[kind] = ids[kind][int(fraction * len(ids[kind]))] if ids[kind] else None
        return training_pixels(each.image, SMALL, crop_scale, rng), texts

    sets = [grain.MapDataset.source(each).seed(3 + number) for number, each in enumerate(records)]
    return grain.MapDataset.mix([each.shuffle().repeat().random_map(row) for each in sets], weights)


@pytest.mark.parametrize("crop_scale", [None, (0.3, 1.0)])
def test_batches_are_what_grain_makes_record_by_record(crop_scale):
    end = clip_tokenizer().end
    records = [several(20), [record(n) for n in range(100, 113)], several(7)]
    rows = iter(record_by_record(records, [2, 1, 0.5], 8, crop_scale))
    for batch in take(12, records, [2, 1, 0.5], crop_scale=crop_scale):  # beyond the third epoch of the last
        for row in range(8):
            image, texts = next(rows)
            np.testing.assert_array_equal(batch["image"][row], image)
            for kind, length in (("long", 16), ("short", 12)):
                assert batch[f"has_{kind}"][row] == (texts[kind] is not None)
                expected = np.zeros(length) if texts[kind] is None else fit(texts[kind], length, end)
                np.testing.assert_array_equal(batch[kind][row], expected)


@pytest.mark.exhaustive
def test_processes_change_neither_the_batches_nor_the_report():
    records = [several(11), [record(n) for n in range(100, 106)]]
    records[0][4] = dataclasses.replace(records[0][4], image=b"torn")
    packing = BatchShape(8, long_length=10, short_length=6, row_length=12, groups=4, image_keys=True)
    found = []
    for workers in (0, 2):
        report = pipeline.DataReport(max_torn=9)
        sources = [(FromList(records[0]), 2.0), (FromList(records[1]), 1.0)]
        batches = pipeline.batches(
            sources, clip_tokenizer(), SMALL, packing, report, seed=3, start_step=2, crop_scale=(0.5, 1.0),
            rows=np.arange(4), threads=2, workers=workers,
        )  # fmt: skip
        found.append(([next(batches) for _ in range(5)], report))
        batches.close()
    for plain, other in zip(found[0][0], found[1][0], strict=True):
        for key in plain:
            np.testing.assert_array_equal(other[key], plain[key])
    assert found[0][1] == found[1][1] and found[0][1].torn and found[0][1].cut["long"]


def test_keys_tell_which_rows_show_the_same_image():
    """Whether it is the same record, another text of it, or another record of the same bytes."""
    twins = [record(number) for number in range(5)] + [
        record(number + 50, image=record(number).image) for number in range(5)
    ]
    shape = BatchShape(20, long_length=16, short_length=12, image_keys=True)
    (batch,) = itertools.islice(
        pipeline.batches([(pairs(twins), 1.0)], clip_tokenizer(), SMALL, shape, pipeline.DataReport(0), seed=3), 1
    )
    keys, seen = batch["image_key"], np.asarray(numbers(batch))
    assert keys.dtype == np.uint32 and keys.shape == (20, 2) and len(set(seen)) == 5
    np.testing.assert_array_equal((keys[:, None] == keys).all(-1), seen[:, None] == seen)


def test_every_record_once_an_epoch_and_other_draws_in_the_next():
    batches = take(8, [[record(n) for n in range(16)]])
    first, second = (sum((numbers(batch) for batch in batches[e : e + 2]), []) for e in (0, 2))
    assert sorted(first) == sorted(second) == list(range(16))
    assert first != second
    drawn = {tuple(row) for batch in batches for row in batch["short"]}
    assert len(drawn) > 20  # sixteen records with two short texts each: most were met with both in four epochs


@pytest.mark.parametrize(
    "split",
    [
        [range(4), range(4, 8)],
        [range(0, 8, 2), range(1, 8, 2)],
        [range(2), range(2, 4), range(4, 6), range(6, 8)],
        [[0, 3, 4], range(8)],  # a mesh may replicate rows, or share them unevenly
    ],
)
def test_hosts_share_the_same_global_batches(split):
    records = [[record(n) for n in range(20)], [record(n) for n in range(100, 110)]]
    whole = take(5, records, [2, 1])
    for rows in map(np.asarray, split):
        for batch, part in zip(whole, take(5, records, [2, 1], rows=rows), strict=True):
            for key in batch:
                np.testing.assert_array_equal(part[key], batch[key][rows])


def test_the_records_of_a_batch_are_named():
    records = [[record(n) for n in range(20)], [record(n) for n in range(100, 110)]]
    sources = [(records[0], 2.0), (records[1], 1.0)]
    for step, batch in enumerate(take(5, records, [2, 1]), start=1):  # beyond the first epoch
        expected = [f"test: r{number}" for number in numbers(batch)]
        assert pipeline.record_ids(sources, 8, seed=3, step=step) == expected


def test_a_run_continues_at_its_step():
    records = [[record(n) for n in range(20)]]
    whole, rest = take(6, records, crop_scale=(0.5, 1.0)), take(3, records, start=3, crop_scale=(0.5, 1.0))
    for expected, batch in zip(whole[3:], rest, strict=True):
        for key in batch:
            np.testing.assert_array_equal(batch[key], expected[key])


def test_sources_mix_by_weight():
    records = [[record(n) for n in range(30)], [record(100 + n) for n in range(10)]]
    drawn = sum((numbers(batch) for batch in take(10, records, [3, 1])), [])
    assert sum(number >= 100 for number in drawn) == 20


def test_missing_texts_are_marked():
    (batch,) = take(1, [[record(n, long=()) for n in range(4)] + [record(n, short=()) for n in range(4, 8)]])
    for row, number in enumerate(numbers(batch)):
        assert (batch["has_long"][row], batch["has_short"][row]) == (number >= 4, number < 4)


def test_first_sentence_as_the_short_text():
    (batch,) = take(1, [[record(n, long=("Record {}. More words.",)) for n in range(8)]], short_text="first_sentence")
    tokenizer = clip_tokenizer()
    for row, number in enumerate(numbers(batch)):
        assert (
            batch["short"][row].tolist() == fit(tokenizer.encode([f"Record {number}"])[0], 12, tokenizer.end).tolist()
        )


def pairs(records) -> Pairs:
    return Pairs(FromList(records), np.asarray([len(each.long) + len(each.short) for each in records]))


def seen(batches) -> list[tuple[int, tuple[int, ...]]]:
    """The number of the image and the long text of every row."""
    return [(n, tuple(ids)) for batch in batches for n, ids in zip(numbers(batch), batch["long"].tolist(), strict=True)]


def test_every_text_is_a_pair_and_all_pairs_are_an_epoch():
    records = [record(n) for n in range(4)] + [record(4, long=()), record(5, long=(), short=()), record(6, short=())]
    tokenizer = clip_tokenizer()
    expected = [
        (n, tuple(fit(ids, 16, tokenizer.end).tolist()))
        for n, each in enumerate(records)
        for ids in tokenizer.encode([*each.long, *each.short])
    ]
    assert len(pairs(records)) == len(expected) == 15
    batches = take(6, [pairs(records)], batch_size=5)
    first, second = seen(batches[:3]), seen(batches[3:])
    assert sorted(first) == sorted(second) == sorted(expected)
    assert first != second
    for batch in batches:
        assert batch["has_long"].all() and not batch["has_short"].any()


def test_pairs_keep_the_ids_of_their_text():
    tokens = {"hash": {"long": [[1, 2]], "short": [[3], [4, 5]]}}
    (whole,) = [Record("r", "test", b"", ("a b",), ("c", "d e"), tokens=tokens)]
    found = [(each.id, each.long, each.short, each.tokens["hash"]) for each in pairs([whole])]
    assert found == [
        ("r", (text,), (), {"long": [ids], "short": []}) for text, ids in (("a b", [1, 2]), ("c", [3]), ("d e", [4, 5]))
    ]


def test_pairs_are_the_same_for_any_hosts_and_for_a_run_that_continues():
    records = [pairs([record(n) for n in range(9)]), pairs([record(n, long=()) for n in range(100, 106)])]
    whole = take(7, records, [2, 1])  # beyond the first epoch
    for rows in (np.arange(0, 8, 2), np.arange(1, 8, 2)):
        for batch, part in zip(whole, take(7, records, [2, 1], rows=rows), strict=True):
            for key in batch:
                np.testing.assert_array_equal(part[key], batch[key][rows])
    assert seen(take(2, records, [2, 1], start=5)) == seen(whole[5:])
    sources = [(records[0], 2.0), (records[1], 1.0)]
    for step, batch in enumerate(whole, start=1):
        expected = [f"test: r{number}" for number in numbers(batch)]
        assert pipeline.record_ids(sources, 8, seed=3, step=step) == expected
    assert sum(number >= 100 for batch in whole[:3] for number in numbers(batch)) == 8


def test_an_epoch_of_rsclips_pairs_is_5405_steps():
    described, from_rs5m = 6_278_368 // 2, 3_408_352
    images = range(described + from_rs5m)
    everything = Pairs(images, np.repeat([2, 1], [described, from_rs5m]))
    assert len(everything) == 9_686_720
    assert len(everything) // 1792 == 5405
    assert len(images) // 1792 == 3653


def test_cut_texts_are_counted_and_reported():
    report = pipeline.DataReport(max_torn=0)
    take(1, [[record(n, long=("word " * 30,)) for n in range(8)]], report=report)
    assert report.cut["long"] == report.drawn["long"] >= 8 and report.cut["short"] == 0
    (warning,) = report.warnings({"long": 16, "short": 12})
    assert "long texts were cut to 16 tokens" in warning


def test_a_torn_image_is_left_out_until_there_are_too_many():
    records = [record(n) for n in range(7)] + [record(7, image=b"\xff\xd8torn")]
    report = pipeline.DataReport(max_torn=10)
    (batch,) = take(1, [records], report=report)
    torn = numbers(batch).index(0) if numbers(batch).count(0) == 1 else None
    left_out = ~batch["has_long"] & ~batch["has_short"]
    assert left_out.sum() == 1 and set(report.torn) == {"r7"}
    assert torn is None or batch["long"][left_out].sum() == 0
    with pytest.raises(InputError, match="unreadable records, the last one r7"):
        take(4, [records], report=pipeline.DataReport(max_torn=0))


def test_bad_options_are_named():
    with pytest.raises(InputError, match="data.short_text is 'shortest'"):
        take(1, [[record(0)]], short_text="shortest")
    with pytest.raises(InputError, match="write scenes:COUNT"):
        open_records("scenes:many")


def several(count: int) -> list[Record]:
    """Records of long and short texts in various numbers and lengths; some lack one kind."""
    words = "a runway beside dry fields and a long river with boats".split()
    longs = [[f"{' '.join(words[: 3 + (n + i) % 8])} {n}" for i in range(n % 3)] for n in range(count)]
    shorts = [[f"{' '.join(words[: 1 + (n + i) % 4])}" for i in range(1 + n % 2)] for n in range(count)]
    return [record(n, tuple(longs[n]), tuple(shorts[n])) for n in range(count)]


def take_packed(steps, records, rows=None, groups=4, start=0, **options):
    shape = BatchShape(8, long_length=10, short_length=6, row_length=12, groups=groups)
    batches = pipeline.batches(
        [(FromList(records), 1.0)], clip_tokenizer(), SMALL, shape, pipeline.DataReport(9), seed=3, start_step=start,
        threads=1, rows=rows, **options,
    )  # fmt: skip
    return [next(batches) for _ in range(steps)]


def texts_of(batch, kind, groups) -> list[list[int]]:
    slots = batch["ids"].reshape(groups, -1)
    spans = batch[f"{kind}_span"].reshape(groups, -1, 2)
    return [
        slots[g, start : start + length].tolist() for g, group in enumerate(spans.tolist()) for start, length in group
    ]


def test_packed_batches_hold_the_texts_of_padded_ones():
    records = several(11)
    records[4] = dataclasses.replace(records[4], image=b"torn")
    shape = BatchShape(8, long_length=10, short_length=6)
    plain = pipeline.batches(
        [(FromList(records), 1.0)], clip_tokenizer(), SMALL, shape, pipeline.DataReport(9), seed=3, threads=1
    )
    for packed, padded in zip(take_packed(4, records), plain, strict=False):
        np.testing.assert_array_equal(packed["image"], padded["image"])
        for kind in ("long", "short"):
            np.testing.assert_array_equal(packed[f"has_{kind}"], padded[f"has_{kind}"])
            texts = texts_of(packed, kind, groups=4)
            for text, row, has in zip(texts, padded[kind], padded[f"has_{kind}"], strict=True):
                assert text == fit(text, len(text), 0).tolist() and bool(text) == has
                np.testing.assert_array_equal(fit(text, len(row), 0), row)


@pytest.mark.parametrize("choice", [True, False])
def test_hosts_agree_on_the_rows_without_a_word(choice):
    records = several(11)
    if not choice:
        records = [dataclasses.replace(each, long=each.long[:1], short=each.short[:1]) for each in records]
    whole = take_packed(3, records, start=1)
    hosts = [take_packed(3, records, rows=np.arange(first, first + 4), start=1) for first in (0, 4)]
    assert len({len(batch["ids"]) for batch in whole}) > 1  # of different shapes
    for step, batch in enumerate(whole):
        for key, values in batch.items():
            np.testing.assert_array_equal(np.concatenate([host[step][key] for host in hosts]), values, err_msg=key)


def test_a_text_longer_than_a_row_is_an_error_at_the_start():
    with pytest.raises(InputError, match=r"data\.long_length is 77, but a row has 64 slots: raise data\.row_length"):
        BatchShape(8, long_length=77, short_length=6, row_length=64)
    with pytest.raises(InputError, match="'first_sentence' can't be packed on several hosts"):
        take_packed(1, several(8), rows=np.arange(4), short_text="first_sentence")
