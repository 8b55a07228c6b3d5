"""Prepared sets as a source: their images become files once, mosaics bring the places of their tiles."""

import errno
import io
import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from lrsclip_jax.corpus.reading import read_source
from lrsclip_jax.corpus.records.record import CorpusRecord, SetAside
from lrsclip_jax.data.mosaic.mosaic_writer import write_mosaics
from lrsclip_jax.data.prepared.records import Record, RecordReader, RecordWriter
from lrsclip_jax.data.prepared.tfds_metadata import write_metadata
from lrsclip_jax.errors import InputError
from lrsclip_jax.sources.item import Thing

IDS = ("/data/a.jpg", "../b", "Port/c.tif", "d.png")  # as lists name their images


def record(name, number, **fields):
    pixels = np.random.default_rng(number).integers(0, 256, (24, 32, 3), np.uint8)
    file = io.BytesIO()
    Image.fromarray(pixels).save(file, "PNG" if name == "d.png" else "JPEG")
    short = (f"Boats number {number} .", "a port .")
    return Record(name, "rsicd", file.getvalue(), short=short, label="Port" if number % 2 else "BareLand", **fields)


@pytest.fixture
def tiles(tmp_path):
    folder = tmp_path / "tiles"
    folder.mkdir()
    for split in ("train", "test"):
        with RecordWriter(folder, split) as writer:
            for number, name in enumerate(IDS):
                writer.write(record(name, number, licence="MIT" if name == "d.png" else None))
    write_metadata(folder, [])
    return folder


def read(folder, **options):
    return list(read_source("prepared", str(folder), extract_to=str(folder.parent / "images"), **options))


def test_every_field_and_byte_arrives(tiles):
    found = read(tiles, licence="CC0")
    assert len({one.id for one in found}) == 2 * len(IDS)
    for split, first in (("test", 0), ("train", len(IDS))):
        for one, kept in zip(found[first : first + len(IDS)], RecordReader(tiles, split), strict=True):
            assert (one.source, one.short, one.long, one.label) == (kept.source, kept.short, kept.long, kept.label)
            assert (one.split, one.licence, one.things) == (split, kept.licence or "CC0", ())
            with open(one.image, "rb") as file:
                assert file.read() == kept.image
            assert (one.width, one.height) == (32, 24)
    files = [one.image.removeprefix(f"{tiles.parent}/images/tiles/train/") for one in found[len(IDS) :]]
    assert files == ["data/a.jpg", "%2E%2E/b.jpg", "Port/c.tif.jpg", "d.png"]
    assert [one.id for one in read(tiles, only="train")] == [f"tiles/{name}" for name in IDS]


def test_what_is_there_is_kept(tiles):
    images = tiles.parent / "images/tiles/train"
    read(tiles, only="train")
    before = {path: path.stat().st_mtime_ns for path in images.rglob("*.*")}
    (images / "d.png").write_bytes(b"another")
    found = read(tiles, only="train")
    assert sum(path.stat().st_mtime_ns == time for path, time in before.items()) == len(IDS) - 1
    assert isinstance(found[3], SetAside) and "d.png: another image is there" in found[3].reason
    assert (images / "d.png").read_bytes() == b"another" and not list(images.rglob("*.incomplete"))


def test_an_image_that_was_damaged_since_is_not_taken(tiles):
    file = tiles.parent / "images/tiles/train/d.png"
    read(tiles, only="train")
    file.write_bytes(file.read_bytes()[:-1] + b"?")
    found = read(tiles, only="train")
    assert "d.png: another image is there, or it is damaged: delete it" in found[3].reason
    file.unlink()
    assert read(tiles, only="train")[3].image == str(file)


def test_a_torn_record_and_an_image_that_is_none_are_set_aside(tiles):
    with RecordWriter(tiles, "test") as writer:
        for number, name in enumerate(IDS[:2]):
            writer.write(record(name, number))
        writer.write(Record("torn", "rsicd", b"no image", short=("a port",)))
        writer.write(Record("x" * 300, "rsicd", b"no image", short=("a port",)))
    shard = RecordWriter(tiles, "test").path
    data = bytearray(shard.read_bytes())
    at = data.index(b"Boats number 1")  # what a file has of a record as it is
    data[at] ^= 1
    shard.write_bytes(data)
    first, *others = read(tiles, only="test")
    assert isinstance(first, CorpusRecord) and first.id == "tiles//data/a.jpg"
    for one, words in zip(others, ("torn", "not a JPEG", "too long for the name"), strict=True):
        assert isinstance(one, SetAside) and words in one.reason and "\n" not in one.reason


def test_a_full_disk_ends_the_reading_rather_than_set_every_image_aside(tiles, monkeypatch):
    def full(path, data):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(Path, "write_bytes", full)
    with pytest.raises(OSError, match="No space left on device"):
        read(tiles)
    assert not [path for path in (tiles.parent / "images").rglob("*") if path.is_file()]


def test_tiles_of_mosaics_are_things(tiles):
    out = tiles.parent / "mosaics"
    write_mosaics(RecordReader(tiles, "train"), out, n=2, count=2, size=40, seed=0)
    found = read(out)
    lines = [json.loads(line) for line in (out / "regions-train.jsonl").read_text().splitlines()]
    for number, one in enumerate(found):
        of_one = lines[4 * number : 4 * number + 4]
        assert one.id == f"mosaics/{of_one[0]['id']}" and one.source == "mosaic" and one.long and one.short
        boxes = [(0, 0, 20, 20), (20, 0, 40, 20), (0, 20, 20, 40), (20, 20, 40, 40)]
        assert one.things == tuple(Thing(line["label"], box) for line, box in zip(of_one, boxes, strict=True))

    def rewrite(*changed):
        (out / "regions-train.jsonl").write_text("".join(json.dumps(line) + "\n" for line in changed))
        return read(out)

    first, second = rewrite({**lines[0], "label": None}, *lines[1:])
    assert first.things == () and len(second.things) == 4
    for changed, message in (
        (lines[4:], "the regions of mosaic-2x2-0-train-0 are expected, found those of mosaic-2x2-0-train-1"),
        (lines[:4], "the regions of mosaic-2x2-0-train-1 are expected, found those of None"),
        ([{**lines[0], "polygon": [[0, "x"]]}, *lines[1:]], "regions-train.jsonl, line 1: id, label and a polygon"),
    ):
        with pytest.raises(InputError, match=message):
            rewrite(*changed)


def test_what_is_no_prepared_set(tiles, tmp_path):
    with pytest.raises(InputError, match="option extract_to is needed"):
        list(read_source("prepared", str(tiles)))
    with pytest.raises(InputError, match="no split 'tets', it has test, train, did you mean 'test'"):
        read(tiles, only="tets")
    with pytest.raises(InputError, match="only='test' reads one"):
        read(tiles, split="test")
    with pytest.raises(InputError, match="not a finished prepared set"):
        read(tmp_path)
    (tmp_path / "images").write_text("")
    with pytest.raises(InputError, match="images is no folder"):
        read(tiles)
