"""Mosaics: exact pixels, exact places, captions within their budget, and never two splits in one."""

from __future__ import annotations

import hashlib
import io
import json
import re
import subprocess
import sys
from collections import Counter

import numpy as np
import pytest
from PIL import Image

from eval.sentences import sentences
from lrsclip_jax.data.draws import stream
from lrsclip_jax.data.images import read_image
from lrsclip_jax.data.mosaic.__main__ import main
from lrsclip_jax.data.mosaic.mosaic_text import choose_clauses, clause, describe, place, summaries
from lrsclip_jax.data.mosaic.mosaic_writer import compose, plan_mosaics
from lrsclip_jax.data.prepared.records import Record, RecordReader, RecordWriter
from lrsclip_jax.data.prepared.tfds_metadata import write_metadata
from lrsclip_jax.data.preprocessing import resize_and_crop
from lrsclip_jax.data.tokenizer import clip_tokenizer
from lrsclip_jax.errors import InputError


def count_tokens(text):
    return len(clip_tokenizer().encode([text])[0])


def record(name, number, side=(40, 30)):
    pixels = np.random.default_rng(number).integers(0, 256, (4, 3, 3), dtype=np.uint8)
    file = io.BytesIO()
    Image.fromarray(pixels).resize(side[::-1]).save(file, "PNG")
    captions = (f"Many planes are parked near building {number} .", f"planes stand at gate {number} .")
    return Record(name, "test", file.getvalue(), short=captions, label="BareLand" if number % 2 else "Airport")


@pytest.fixture
def prepared(tmp_path):
    folder = tmp_path / "prepared"
    folder.mkdir()
    for split, count in (("train", 20), ("test", 9)):
        with RecordWriter(folder, split) as writer:
            for number in range(count):
                writer.write(record(f"{split}-{number}", number))
    write_metadata(folder, [])
    return folder


@pytest.fixture
def run(monkeypatch):
    def program(*arguments):
        monkeypatch.setattr(sys, "argv", ["mosaic", *map(str, arguments)])
        main()

    return program


def test_every_tile_is_dealt_once_before_any_is_dealt_twice():
    mosaics = plan_mosaics(tiles=90, n=3, count=20, seed=0)
    assert all(len(set(mosaic)) == 9 for mosaic in mosaics)
    assert Counter(tile for mosaic in mosaics[:10] for tile in mosaic) == Counter(range(90))
    assert mosaics[:10] != mosaics[10:]
    leftover = plan_mosaics(tiles=10, n=3, count=50, seed=0)
    assert all(len(set(mosaic)) == 9 for mosaic in leftover)
    assert set(range(10)) == {tile for mosaic in leftover for tile in mosaic}


def test_a_mosaic_depends_on_seed_and_number_alone():
    mosaics = plan_mosaics(tiles=50, n=2, count=40, seed=1)
    assert plan_mosaics(tiles=50, n=2, count=7, seed=1) == mosaics[:7]
    assert plan_mosaics(tiles=50, n=2, count=40, seed=2) != mosaics


@pytest.mark.parametrize(("tiles", "n"), [(8, 3), (0, 2), (50, 1)])
def test_impossible_plans(tiles, n):
    with pytest.raises(InputError):
        plan_mosaics(tiles, n, 1, 0)


def test_places_are_in_reading_order():
    assert [place(tile, 2) for tile in (0, 3)] == ["in the upper left", "in the lower right"]
    assert [place(tile, 3) for tile in (1, 3, 4)] == [
        "in the upper centre",
        "in the middle left",
        "in the centre",
    ]
    assert place(9, 5) == "in row 2, column 5"


@pytest.mark.parametrize(
    ("caption", "expected"),
    [
        ("many planes are parked in an airport .", "many planes are parked in an airport"),
        ("Many planes , some white , are parked.", "many planes, some white, are parked"),
        ("There is a bridge. The river is green.", "there is a bridge, the river is green"),
        ("Paris lies on the Seine.", "Paris lies on the Seine"),
        ("  a   river  ", "a river"),
        ("pond", "pond"),
    ],
)
def test_captions_become_clauses(caption, expected):
    assert clause(caption) == expected


def test_composition():
    tiles = [record(f"tile-{i}", i, side=(40 + i, 30)) for i in range(9)]
    mosaic = compose(tiles, 16, stream(0, 0), count_tokens)
    assert mosaic.image.shape == (48, 48, 3) and mosaic.image.dtype == np.uint8
    covered = np.zeros((48, 48), int)
    sentences = mosaic.long.replace(". ", "; ").rstrip(".").split("; ")[1:]
    for i, (tile, region) in enumerate(zip(tiles, mosaic.regions, strict=True)):
        x0, y0, x1, y1 = region.box
        covered[y0:y1, x0:x1] += 1
        assert (x0, y0) == (16 * (i % 3), 16 * (i // 3))
        expected = resize_and_crop(read_image(tile.image), 16)
        np.testing.assert_array_equal(mosaic.image[y0:y1, x0:x1], expected)
        assert (region.tile, region.id, region.label) == (i, tile.id, tile.label)
        assert region.caption in {clause(text) for text in tile.short}
        assert sentences[i].lower() == f"{place(i, 3)}, {region.caption}".lower()
    assert (covered == 1).all()
    assert count_tokens(mosaic.long) <= 240
    assert mosaic.short[0] == "A mosaic of nine aerial scenes: airport and bare land."
    assert any(f"{place(r.tile, 3)}, {r.caption}." in mosaic.short[1] for r in mosaic.regions)


def test_a_summary_counts_the_kinds_of_scenes_and_every_tile_has_a_sentence():
    tiles = [record(f"tile-{i}", i) for i in range(9)]
    mosaic = compose(tiles, 16, stream(0, 0), count_tokens, summary=True)
    first, *rest = sentences(mosaic.long)
    assert first == "An aerial image with nine scenes: five of airport and four of bare land."
    assert [text.lower() for text in rest] == [f"{place(r.tile, 3)}, {r.caption}.".lower() for r in mosaic.regions]
    with pytest.raises(InputError, match="--summary: bare has no label"):
        unlabelled = Record("bare", "test", tiles[0].image, short=("A pond.",))
        compose([*tiles[:3], unlabelled], 16, stream(0, 0), count_tokens, summary=True)


def test_composition_is_drawn_by_its_generator():
    tiles = [record(f"tile-{i}", i) for i in range(4)]
    texts = {compose(tiles, 8, stream(0, index), count_tokens).long for index in range(12)}
    assert len(texts) > 4
    assert len({compose(tiles, 8, stream(0, 5), count_tokens).long for _ in range(3)}) == 1


def test_a_tile_without_short_texts_speaks_through_its_long_ones():
    tiles = [Record(str(i), "test", record("", i).image, long=(f"A long text {i}.",)) for i in range(4)]
    mosaic = compose(tiles, 8, stream(0, 0), count_tokens)
    assert "in the lower right, a long text 3." in mosaic.long
    assert len(mosaic.short) == 1  # no labels, no list of kinds


def test_a_number_of_tiles_that_is_no_square():
    with pytest.raises(InputError, match="square number"):
        compose([record("a", 0)] * 5, 8, stream(0, 0), count_tokens)


def test_long_captions_give_way_to_short_ones():
    options = [["pond", "a pond with " + "green " * 30 + "water"], ["a river", "a wide river"]] * 2
    free = [choose_clauses(options, stream(0, i), count_tokens, 1000) for i in range(30)]
    longest = max(free, key=lambda clauses: count_tokens(describe(clauses)))
    assert count_tokens(describe(longest)) > 100
    for i in range(30):
        clauses = choose_clauses(options, stream(0, i), count_tokens, 100)
        assert count_tokens(describe(clauses)) <= 100
        assert all(chosen in choices for chosen, choices in zip(clauses, options, strict=True))
        if count_tokens(describe(free[i])) <= 100:
            assert clauses == free[i]
        assert clauses[1::2] == free[i][1::2]  # ponds save more: rivers need not change
    with pytest.raises(InputError, match="fewer tiles"):
        choose_clauses(options, stream(0, 0), count_tokens, 50)


def test_summaries_do_without_unknown_labels():
    clauses = ["a pond", "a river", "a park", "a beach"]
    assert len(summaries(clauses, ["Pond", None, "Park", "Beach"], stream(0, 0))) == 1
    kinds = summaries(clauses, ["Pond", "dense_residential", "BaseballField", "Pond"], stream(0, 0))[0]
    assert kinds == "A mosaic of four aerial scenes: pond, dense residential and baseball field."
    assert summaries(clauses, ["Pond"] * 4, stream(0, 0))[0] == "A mosaic of four aerial scenes: pond."


def test_command(run, prepared, tmp_path):
    out = tmp_path / "mosaics"
    for split, n in (("train", 2), ("test", 3)):
        run(prepared, f"--split={split}", f"--n={n}", "--size=50", f"--out={out}", "--seed=3")
    for split, n, count in (("train", 2, 5), ("test", 3, 1)):
        records = RecordReader(out, split)
        tiles = {tile.id: tile for tile in RecordReader(prepared, split)}
        lines = [json.loads(line) for line in (out / f"regions-{split}.jsonl").read_text().splitlines()]
        assert len(records) == count and len(lines) == count * n * n
        for i, mosaic in enumerate(records):
            width = n * (50 // n)
            assert read_image(mosaic.image).size == (width, width)
            regions = lines[i * n * n : (i + 1) * n * n]
            assert {region["id"] for region in regions} == {mosaic.id}
            assert len({region["record"] for region in regions}) == n * n
            for region in regions:
                tile = tiles[region["record"]]  # KeyError if it came from another split
                assert region["caption"] in mosaic.long[0].lower() and region["label"] == tile.label
                (x0, y0), _, (x1, y1), _ = region["polygon"]
                pasted = np.asarray(read_image(mosaic.image))[y0:y1, x0:x1].astype(float)
                original = resize_and_crop(read_image(tile.image), 50 // n)
                assert np.abs(pasted - original).mean() < 16  # JPEG
            tokens = mosaic.tokens[clip_tokenizer().hash]
            assert tokens["long"] == clip_tokenizer().encode(mosaic.long)


def test_command_writes_the_same_bytes_again(run, prepared, tmp_path):
    digests = []
    for name in ("one", "two"):
        run(prepared, "--n=2", "--count=7", "--size=32", f"--out={tmp_path / name}")
        reader = RecordReader(tmp_path / name, "train")
        regions = (tmp_path / name / "regions-train.jsonl").read_bytes()
        digests.append(hashlib.sha256(repr(list(reader)).encode() + regions).hexdigest())
    assert digests[0] == digests[1]


@pytest.mark.parametrize(
    ("arguments", "line"),
    [
        (["--split=tain"], "did you mean 'train'?"),
        (["--n=5"], "needs 25 captioned images, there are 20"),
        (["--n=1"], "--n=1: expected a whole number from 2"),
        (["--max-tokens=20"], "allow more tokens"),
        (["--count=0"], "--count=0: expected a whole number from 1"),
    ],
)
def test_command_refuses(run, prepared, tmp_path, arguments, line):
    with pytest.raises(InputError, match=re.escape(line)):
        run(prepared, f"--out={tmp_path / 'out'}", "--size=30", *arguments)


def test_command_does_not_write_over_anything(run, prepared, tmp_path):
    with pytest.raises(InputError, match="new or empty"):
        run(prepared, f"--out={prepared}")
    out = tmp_path / "out"
    run(prepared, f"--out={out}", "--count=1", "--size=30")
    before = {path.name: path.read_bytes() for path in out.iterdir()}
    with pytest.raises(InputError, match="already holds"):
        run(prepared, f"--out={out}", "--count=1", "--size=30")
    assert {path.name: path.read_bytes() for path in out.iterdir()} == before


def test_command_exits_with_status_2_and_one_line(prepared, tmp_path):
    command = [sys.executable, "-m", "lrsclip_jax.data.mosaic", prepared / "nothing", f"--out={tmp_path}"]
    result = subprocess.run(command, capture_output=True, text=True)
    assert result.returncode == 2
    assert len(result.stderr.splitlines()) == 1 and "not a finished prepared set" in result.stderr
