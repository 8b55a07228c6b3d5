import json

import pytest

from eval.whole import beginning
from lrsclip_jax.corpus.records import store
from lrsclip_jax.corpus.records.record import CorpusRecord, Step
from lrsclip_jax.errors import InputError
from lrsclip_jax.sources.item import Thing

FULL = CorpusRecord(
    id="DIOR/1",
    image="/images/1.jpg",
    source="DIOR",
    short=("A pier.", "Zwei Boote — 二"),
    long=("A long one.",),
    things=(Thing("ship", (1.0, 2.0, 3.5, 4.0)), Thing("pier", None, ((0.0, 0.0), (1.0, 0.5), (2.0, 2.0)))),
    label="harbour",
    width=800,
    height=600,
    split="train",
    licence="CC-BY-4.0",
    provenance=(Step("read", "voc"), Step("captions", "rules", "short")),
    negative=("", "Drei Boote — 三"),
)
BARE = CorpusRecord("b", "b.png", "web")


def records(count):
    return [CorpusRecord(f"{n:03d}", f"{n}.jpg", "s", short=(f"text {n}",)) for n in range(count)]


def test_records_come_back_whole_and_in_order(tmp_path):
    with store.Writer(tmp_path / "a", size=2) as writer:
        for record in (FULL, BARE, *records(3)):
            writer.write(record)
    assert [path.name for path in store.parts(tmp_path / "a")] == [f"part-00000{n}.parquet" for n in range(3)]
    assert list(store.read(tmp_path / "a")) == [FULL, BARE, *records(3)]
    assert store.count(tmp_path / "a") == 5 and store.ids(tmp_path / "a") >= {"DIOR/1", "b", "002"}


def test_a_second_writer_appends(tmp_path):
    for record in records(3):
        with store.Writer(tmp_path) as writer:
            writer.write(record)
    assert list(store.read(tmp_path)) == records(3)
    assert store.ids(tmp_path / "nothing") == set() and store.count(tmp_path / "nothing") == 0


def test_what_was_written_stays_when_a_stage_fails(tmp_path):
    with pytest.raises(ZeroDivisionError), store.Writer(tmp_path, size=10) as writer:
        writer.write(BARE)
        raise ZeroDivisionError
    assert list(store.read(tmp_path)) == [BARE]
    beginning(tmp_path / "part-000001.parquet").write_bytes(b"killed while it was written")
    assert list(store.read(tmp_path)) == [BARE]
    store.Writer(tmp_path)
    assert sorted(path.name for path in tmp_path.iterdir()) == [".checksums.json", "part-000000.parquet"]


def test_a_part_of_the_columns(tmp_path):
    with store.Writer(tmp_path) as writer:
        writer.write(FULL)
    (found,) = store.read(tmp_path, ["licence"])
    assert found == CorpusRecord(FULL.id, FULL.image, FULL.source, licence=FULL.licence)


def test_json_lines_for_people(tmp_path):
    path = tmp_path / "corpus.jsonl"
    assert store.write_lines(path, [FULL, BARE]) == 2
    assert list(store.read(path)) == [FULL, BARE]
    path.write_text(path.read_text() + '{"id": "c"\n')
    with pytest.raises(InputError, match="corpus.jsonl, line 3"):
        list(store.read(path))
    path.write_text(json.dumps({"id": "c", "image": "c.png"}))
    with pytest.raises(InputError, match="line 1: record 'c'"):
        list(store.read(path))


def test_what_is_torn_or_missing_is_named(tmp_path):
    with pytest.raises(InputError, match="no records there"):
        list(store.read(tmp_path))
    with store.Writer(tmp_path) as writer:
        writer.write(FULL)
    (part,) = store.parts(tmp_path)
    part.write_bytes(part.read_bytes()[:-20])
    with pytest.raises(InputError, match=r"part-000000.parquet has [\d,]+ bytes of [\d,]+: delete this file and .done"):
        list(store.read(tmp_path))
    (tmp_path / ".checksums.json").unlink()  # as older versions left it
    for use in (lambda: list(store.read(tmp_path)), lambda: store.count(tmp_path), lambda: store.ids(tmp_path)):
        with pytest.raises(InputError, match="part-000000.parquet: torn"):
            use()
