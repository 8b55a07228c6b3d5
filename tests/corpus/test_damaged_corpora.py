"""Corpora that are damaged between two starts: what differs is named, and what was finished stays."""

import json
import shutil
from dataclasses import replace

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from lrsclip_jax.corpus.generators.journal import Journal, read
from lrsclip_jax.corpus.generators.protocol import Answer, Request
from lrsclip_jax.corpus.records import store
from lrsclip_jax.corpus.records.record import CorpusRecord, SetAside, Step
from lrsclip_jax.corpus.stages.stage import run_stage, set_aside
from lrsclip_jax.errors import InputError
from lrsclip_jax.sources import open_source
from lrsclip_jax.sources.item import Thing

THING = Thing("ship", (1.0, 2.0, 3.5, 4.0), ((0.0, 0.0), (1.0, 0.5), (2.0, 2.0)))
RECORDS = [
    CorpusRecord(
        f"{n:02d}", f"{n}.jpg", "s", (f"{n} boats",), things=(THING,), width=800, provenance=(Step("read", "voc"),)
    )
    for n in range(40)
]
SETTINGS = {"kind": "boxes", "path": "é.json", "only": None}


def threes(records):
    for record in records:
        yield SetAside(record.id, "threes", "a multiple of 3") if int(record.id) % 3 == 0 else record


def run(folder, records=RECORDS):
    return run_stage(folder, lambda: records, threes, SETTINGS)


def found(folder):
    return [*store.read(folder)], [*set_aside(folder)]


def flip(data, at):
    damaged = bytearray(data)
    damaged[at // 8] ^= 1 << at % 8
    return damaged


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    folder = tmp_path_factory.mktemp("corpora") / "whole"
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(store, "PART", 10)
        patch.setattr(store.Writer.__init__, "__defaults__", (10,))
        assert run(folder) == {"read": 40, "kept": 26, "set aside": 14}
    assert len(store.parts(folder)) == 3
    return folder


@pytest.fixture
def folder(whole, tmp_path):
    return shutil.copytree(whole, tmp_path / "corpus")


NAMES = ("part-000001.parquet", ".checksums.json", ".done.json", ".settings.json", ".set_aside.jsonl")


@pytest.mark.parametrize("name", NAMES)
def test_every_flipped_bit_is_named_or_harmless(whole, folder, name):
    data, rng, expected = (folder / name).read_bytes(), np.random.default_rng(0), found(whole)
    counts, noticed = run(whole), 0
    for at in rng.choice(8 * len(data), 50, replace=False):
        (folder / name).write_bytes(flip(data, at))
        try:
            assert run(folder) == counts
            assert found(folder) == expected
        except InputError as error:
            assert name in str(error) and "\n" not in str(error)
            noticed += 1
    assert noticed > 40


@pytest.mark.parametrize("name", [".done.json", ".settings.json"])
@pytest.mark.parametrize("text", ['{"so', "", "[]", '{"read": "many"}', b"\xff"])
def test_a_torn_state_file_is_one_line(folder, name, text):
    (folder / name).write_bytes(text if isinstance(text, bytes) else text.encode())
    with pytest.raises(InputError, match=rf"{name}: |made with other") as error:
        run(folder)
    assert "\n" not in str(error.value)


def test_a_damaged_part_is_not_prepared(folder):
    part = folder / "part-000002.parquet"
    assert len([*open_source(str(folder))]) == 26
    part.write_bytes(flip(part.read_bytes(), 1200))
    with pytest.raises(InputError, match="part-000002.parquet is damaged"):
        [*open_source(str(folder))]


def test_a_stage_whose_end_was_damaged_counts_again_without_it(whole, folder):
    (folder / ".done.json").write_text("{")
    with pytest.raises(InputError, match=".done.json: .*: delete it, and the same command counts again"):
        run(folder)
    (folder / ".done.json").unlink()
    assert run(folder) == run(whole) and found(folder) == found(whole)


def test_without_a_damaged_part_its_records_alone_are_made_again(whole, folder):
    part = folder / "part-000001.parquet"
    part.write_bytes(flip(part.read_bytes(), 999))
    message = "part-000001.parquet is damaged: its content is not what was written: delete this file and .done.json"
    with pytest.raises(InputError, match=message):
        [*store.read(folder)]
    part.unlink()
    (folder / ".done.json").unlink()
    seen = []
    run_stage(folder, lambda: RECORDS, lambda records: threes(seen.append(r.id) or r for r in records), SETTINGS)
    missing = {record.id for record in store.read_part(whole / part.name)}
    assert {name for name in seen if int(name) % 3} == missing
    records, aside = found(folder)
    assert sorted(records, key=lambda record: record.id) == found(whole)[0] and aside == found(whole)[1]


def test_a_damaged_line_of_what_was_set_aside_is_named(whole, folder):
    file = folder / ".set_aside.jsonl"
    lines = file.read_bytes().splitlines(keepends=True)
    file.write_bytes(b"".join([*lines[:4], lines[4].replace(b"multiple", b"mu1tiple"), *lines[5:]]))
    with pytest.raises(InputError, match=".set_aside.jsonl, line 5: damaged, .*: delete this line and .done.json"):
        [*set_aside(folder)]
    file.write_bytes(b"".join([*lines[:4], *lines[5:]]))
    (folder / ".done.json").unlink()
    assert run(folder) == run(whole)
    assert sorted(row["id"] for row in set_aside(folder)) == [row["id"] for row in set_aside(whole)]


def test_a_corpus_of_older_versions_has_no_checksums_and_counts(whole, folder):
    (folder / ".checksums.json").unlink()
    for name in (".done.json", ".settings.json", ".set_aside.jsonl"):
        text = (folder / name).read_text()
        texts = text.splitlines() if name.endswith("l") else [text]
        old = [{key: value for key, value in json.loads(text).items() if key != "crc32"} for text in texts]
        (folder / name).write_text("".join(json.dumps(row) + "\n" for row in old))
    assert run(folder) == run(whole) and found(folder) == found(whole)


def test_pyarrow_and_pandas_read_a_folder_of_parts(tmp_path):
    with store.Writer(tmp_path) as out:
        for record in RECORDS:
            out.write(record)
    assert pq.read_table(tmp_path).column("id").to_pylist() == [record.id for record in RECORDS]


COLUMNS = {
    "column 'short' is int64, expected list": {"short": pa.array([1])},
    "column 'things' is list<element: string>, expected list": {"things": pa.array([["ship"]])},
    "column 'width' is string, expected int32": {"width": pa.array(["800"])},
    "column 'image' is missing": {"image": None},
    r"record '1': things\[0\].box: ": {"things": pa.array([[{"name": "ship", "box": [1.0]}]])},
    r"record None: object missing required field .id.": {"id": pa.array([None], pa.string())},
}


@pytest.mark.parametrize("message", COLUMNS)
def test_parquet_of_others_is_read_by_schema(tmp_path, message):
    plain = {"id": pa.array(["1"]), "image": pa.array(["1.jpg"]), "source": pa.array(["s"], pa.large_string())}
    columns = {name: values for name, values in (plain | COLUMNS[message]).items() if values is not None}
    pq.write_table(pa.table(columns), tmp_path / "part-0.parquet")
    with pytest.raises(InputError, match=f"part-0.parquet: {message}"):
        [*store.read(tmp_path)]
    pq.write_table(
        pa.table(plain | {"short": pa.array([["a"]], pa.large_list(pa.string()))}), tmp_path / "part-0.parquet"
    )
    assert [*store.read(tmp_path)] == [CorpusRecord("1", "1.jpg", "s", ("a",))]


def test_what_is_no_file_is_one_line(tmp_path):
    (tmp_path / "part-0.parquet").mkdir()
    with pytest.raises(InputError, match="part-0.parquet: torn, or no Parquet file .*no regular file"):
        [*store.read(tmp_path)]
    (tmp_path / "part-0.parquet").rmdir()
    (tmp_path / "part-0.parquet").write_bytes(b"")
    with pytest.raises(InputError, match="part-0.parquet: torn, or no Parquet file"):
        [*store.read(tmp_path)]


LINES = (
    '{"id": 5, "image": "a", "source": "s"}',
    "[]",
    "[" * 99_999,
    '{"id": "a", "image": "a", "source": "s", "short": "a"}',
)


@pytest.mark.parametrize("line", LINES)
def test_lines_of_others_are_read_by_schema(tmp_path, line):
    file = tmp_path / "corpus.jsonl"
    file.write_text('{"id": "a", "image": "a.png", "source": "s"}\n' + line + "\n")
    with pytest.raises(InputError, match="corpus.jsonl, line 2: "):
        [*store.read(file)]


DIGEST = "ab" * 16
ANSWERS = [Answer(f"a port of {n} boats", 10, n, 0.5) for n in range(12)]


@pytest.fixture
def journal(tmp_path):
    path = tmp_path / "journal.jsonl"
    with Journal(path) as out:
        for answer in ANSWERS:
            out.add(Request("id/short", "Describe"), DIGEST, "model", answer, None)
    return path


def test_every_flipped_bit_of_a_journal_is_named_or_harmless(journal):
    data, rng = journal.read_bytes(), np.random.default_rng(0)
    ends = [8 * at + bit for at, byte in enumerate(data) if byte == ord("\n") for bit in (0, 3, 7)]
    noticed = 0
    for at in [*ends, *rng.choice(8 * len(data), 100, replace=False)]:
        journal.write_bytes(flip(data, at))
        try:
            with Journal(journal) as opened:
                assert opened.answers(DIGEST) == ANSWERS
            assert len([*read(journal)]) == len(ANSWERS)
        except InputError as error:
            assert str(error).startswith(f"{journal}, line {1 + data[: at // 8].count(10)}: no answer of a journal (")
            noticed += 1
    assert noticed > 90


@pytest.mark.parametrize(
    "change", [{"text": 5}, {"text": None}, {"truncated": "no"}, {"fingerprint": "xy"}, {"key": []}]
)
def test_a_journal_line_of_other_types_is_named(journal, change):
    row = json.loads(journal.read_text().splitlines()[0]) | change
    del row["crc32"]
    for text in (json.dumps(row), "[" * 100_000):
        journal.write_text(text + "\n")
        with pytest.raises(InputError, match="line 1: no answer of a journal .*: .*|.* its question is asked again"):
            Journal(journal)


def test_a_folder_in_place_of_a_journal_is_one_line(tmp_path):
    with pytest.raises(InputError, match="can't be opened .Is a directory"):
        Journal(tmp_path)


def test_a_journal_of_older_versions_has_no_checksums_and_counts(journal):
    rows = [json.loads(line) for line in journal.read_text().splitlines()]
    journal.write_text("".join(json.dumps({k: v for k, v in row.items() if k != "crc32"}) + "\n" for row in rows))
    with Journal(journal) as opened:
        assert opened.answers(DIGEST) == ANSWERS
        opened.add(Request("id/short", "Describe"), DIGEST, "model", replace(ANSWERS[0], text="new"), None)
    assert len([*read(journal)]) == 13
