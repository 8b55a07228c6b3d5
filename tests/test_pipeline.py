import io

import numpy as np
import pytest
from PIL import Image

from lrsclip_jax.data import pipeline
from lrsclip_jax.data.images import CLIP_PREPROCESSING, Preprocessing
from lrsclip_jax.data.records import Record
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


def take(steps, records=None, weights=None, start=0, batch_size=8, report=None, **options):
    sources = [(each, weight) for each, weight in zip(records, weights or [1.0] * len(records), strict=True)]
    shape = pipeline.BatchShape(batch_size, long_length=16, short_length=12)
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
        [range(0, 4), range(4, 8)],
        [range(0, 8, 2), range(1, 8, 2)],
        [range(0, 2), range(2, 4), range(4, 6), range(6, 8)],
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


def test_random_resized_crop_stays_within_scale_and_aspect():
    gradient = np.zeros((60, 90, 3), np.uint8)
    gradient[..., 0], gradient[..., 1] = np.arange(90)[None], np.arange(60)[:, None]
    image = Image.fromarray(gradient)
    for seed in range(50):
        crop = pipeline.random_resized_crop(image, 64, (0.5, 0.6), np.random.default_rng(seed)).astype(float)
        width, height = (np.ptp(crop[..., channel]) for channel in (0, 1))
        assert 0.45 < width * height / (60 * 90) < 0.62
        assert 0.7 < width / height < 1.4
    assert pipeline.random_resized_crop(image, 8, (1.0, 1.0), np.random.default_rng(0)).shape == (8, 8, 3)


def test_bad_options_are_named():
    with pytest.raises(InputError, match="data.short_text is 'shortest'"):
        take(1, [[record(0)]], short_text="shortest")
    with pytest.raises(InputError, match="must be positive"):
        pipeline.weighted((("a", 0.0),))
    with pytest.raises(InputError, match="write scenes:COUNT"):
        pipeline.open_source("scenes:many")
