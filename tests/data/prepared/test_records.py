import io
import pickle
import shlex
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest
import tensorflow_datasets as tfds
from PIL import Image

from eval.whole import beginning
from lrsclip_jax.data.prepared.records import (
    Record,
    RecordReader,
    RecordWriter,
    deserialize,
    serialize,
)
from lrsclip_jax.data.prepared.tfds_metadata import write_metadata
from lrsclip_jax.errors import InputError


def record(index: int) -> Record:
    file = io.BytesIO()
    Image.new("RGB", (24, 16), (index, 0, 255)).save(file, "JPEG")
    long = ("two planes near a hangar.",) * (index % 3)
    short = ("pläne", "a 机场", "")[: (index + 2) % 4]
    tokens = {
        name: {
            "long": [[offset, 7, 9 + index] for _ in long],
            "short": [[offset] * (i + 1) for i in range(len(short))],
        }
        for name, offset in (("0123456789ab", 1), ("e79b3f2160c3", 49406))
    }
    label = None if index % 2 else "Airport"
    return Record(f"a/{index}.jpg", "test", file.getvalue(), long, short, label, None, tokens)


def with_negatives(plain: Record) -> Record:
    negative = tuple("one plane" * (number == 0) for number in range(len(plain.short)))
    ids = [[1, 2] if text else [] for text in negative]
    tokens = {name: {**texts, "negative": ids} for name, texts in plain.tokens.items()}
    return replace(plain, negative=negative, tokens=tokens)


def write(folder, lengths=(3, 0, 4), split="train") -> list[Record]:
    records = [record(index) for index in range(sum(lengths))]
    rest = iter(records)
    for shard, length in enumerate(lengths):
        with RecordWriter(folder, split, shard, len(lengths)) as writer:
            for _ in range(length):
                writer.write(next(rest))
    write_metadata(folder, records[0].tokens)
    return records


@pytest.mark.parametrize("index", range(12))
def test_serialisation_round_trips(index):
    assert deserialize(serialize(record(index))) == record(index)
    assert deserialize(serialize(with_negatives(record(index)))) == with_negatives(record(index)) != record(index)
    assert serialize(record(index)) == serialize(record(index))


def test_reader_gives_every_record_at_random(tmp_path):
    records = write(tmp_path)
    reader = RecordReader(tmp_path)
    assert len(reader) == 7
    assert [reader[index] for index in (6, 2, 3, 0)] == [records[index] for index in (6, 2, 3, 0)]
    assert list(reader) == records
    for index in (-1, 7):
        with pytest.raises(IndexError):
            reader[index]


def test_reader_serves_threads_and_pickles(tmp_path):
    records = write(tmp_path)
    reader = pickle.loads(pickle.dumps(RecordReader(tmp_path)))
    indices = [i % 7 for i in range(400)]
    with ThreadPoolExecutor(8) as pool:
        assert list(pool.map(reader.__getitem__, indices)) == [records[i] for i in indices]


def test_texts_are_counted_with_and_without_the_files_beside_the_shards(tmp_path, monkeypatch):
    expected = [len(each.long) + len(each.short) for each in write(tmp_path)]
    assert 0 in expected and len(set(expected)) > 3
    reader = RecordReader(tmp_path)
    with monkeypatch.context() as patched:
        paths = [SimpleNamespace(path=shard.path) for shard in reader._shards]
        patched.setattr(reader, "_shards", paths)  # no record can be read
        assert reader.text_counts().tolist() == expected
    first, _, last = sorted(tmp_path.glob("texts-*.npz"))
    first.unlink()
    last.write_bytes(last.read_bytes()[:-2])
    assert RecordReader(tmp_path).text_counts().tolist() == expected


@pytest.mark.parametrize(("soft", "hard"), [(520, 900), (520, 560)])
def test_more_shards_than_files_may_be_open_at_first(tmp_path, soft, hard):
    write(tmp_path, (1,) * 60)
    code = (
        "from lrsclip_jax.data.prepared.records import RecordReader\n"
        "from lrsclip_jax.errors import cli\n"
        f"cli(lambda: print(len([each.id for each in RecordReader({str(tmp_path)!r})])))"
    )
    limited = f"ulimit -Sn {soft} && ulimit -Hn {hard} && exec {sys.executable} -c {shlex.quote(code)}"
    done = subprocess.run(["bash", "-c", limited], capture_output=True, text=True)
    if hard > 60 + 512:
        assert (done.returncode, done.stdout) == (0, "60\n"), done.stderr
    else:
        assert done.returncode and "60 shards stay open, and the limit is 560 files: raise it" in done.stderr


def test_tfds_reads_every_record_back(tmp_path):
    folder = tmp_path / "lrs2m" / "1.0.0"
    folder.mkdir(parents=True)
    records = write(folder)
    write(folder, (2,), "val")
    builder = tfds.builder_from_directory(folder)
    assert builder.info.name == "lrs2m" and set(builder.info.splits) == {"train", "val"}
    by_name = tfds.data_source("lrs2m", split="train", data_dir=tmp_path)
    assert len(by_name) == 7
    for ours, theirs, named in zip(records, builder.as_data_source("train"), by_name, strict=True):
        assert theirs["id"].decode() == named["id"].decode() == ours.id
        assert [text.decode() for text in theirs["long"]] == list(ours.long)
        assert [text.decode() for text in theirs["short"]] == list(ours.short)
        assert theirs["label"].decode() == (ours.label or "") and theirs["licence"] == b""
        np.testing.assert_array_equal(theirs["image"], np.asarray(Image.open(io.BytesIO(ours.image))))
        for name, texts in ours.tokens.items():
            for kind, rows in texts.items():
                assert [ids.tolist() for ids in theirs["tokens"][name][kind]] == rows


def test_tensorflow_is_not_imported(tmp_path):
    write(tmp_path)
    code = (
        "import sys, tensorflow_datasets as tfds\n"
        "from lrsclip_jax.data.prepared.records import RecordReader\n"
        f"ours, theirs = RecordReader({str(tmp_path)!r}), tfds.builder_from_directory({str(tmp_path)!r})\n"
        "print(ours[6].id, theirs.as_data_source('train')[6]['id'].decode(), 'tensorflow' in sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.split() == ["a/6.jpg", "a/6.jpg", "False"]


def test_a_shard_has_its_name_only_when_it_is_whole(tmp_path):
    with pytest.raises(RuntimeError, match="stop"), RecordWriter(tmp_path) as writer:
        writer.write(record(0))
        assert not writer.path.exists()
        raise RuntimeError("stop")
    assert list(tmp_path.iterdir()) == []
    with RecordWriter(tmp_path) as writer:
        writer.write(record(0))
    names = ["lrs2m-train.array_record-00000-of-00001", "texts-train-00000-of-00001.npz"]
    assert sorted(path.name for path in tmp_path.iterdir()) == names


def test_unfinished_folder_and_unknown_split(tmp_path):
    with pytest.raises(InputError, match="not a finished prepared set .*lrsclip prepare"):
        RecordReader(tmp_path / "nowhere")
    with pytest.raises(InputError, match="holds no shards"):
        write_metadata(tmp_path, [])
    write(tmp_path, split="valid")
    with pytest.raises(InputError, match="has no split 'valide', it has valid, did you mean 'valid'"):
        RecordReader(tmp_path, "valide")
    (tmp_path / "dataset_info.json").write_text('{"name": "lrs')
    with pytest.raises(InputError, match="dataset_info.json can't be read"):
        RecordReader(tmp_path)


def test_missing_and_torn_shards_are_named(tmp_path):
    write(tmp_path)
    shard = tmp_path / "lrs2m-train.array_record-00002-of-00003"
    whole = shard.read_bytes()
    shard.unlink()
    with pytest.raises(InputError, match="00002-of-00003 is missing"):
        RecordReader(tmp_path)
    for torn in (b"", whole[: len(whole) // 2], b"x" * len(whole)):
        shard.write_bytes(torn)
        with pytest.raises(InputError, match="00002-of-00003 is torn"):
            RecordReader(tmp_path)
    (tmp_path / "lrs2m-train.array_record-00001-of-00003").replace(shard)
    with RecordWriter(tmp_path, shard=1, shards=3):
        pass
    with pytest.raises(InputError, match="00002-of-00003 holds 0 records instead of 4"):
        RecordReader(tmp_path)


def test_a_damaged_record_is_named_with_its_place(tmp_path):
    records = [Record(str(i), "test", np.random.default_rng(i).bytes(5000), ("text",)) for i in range(3)]
    with RecordWriter(tmp_path) as writer:
        for each in records:
            writer.write(each)
    write_metadata(tmp_path, [])
    data = bytearray(writer.path.read_bytes())
    place = data.find(records[1].image[1000:1100])  # random bytes are stored as they are
    assert place > 0
    data[place] ^= 0xFF
    writer.path.write_bytes(data)
    reader = RecordReader(tmp_path)
    assert reader[0] == records[0] and reader[2] == records[2]
    with pytest.raises(InputError, match="00000-of-00001, record 1: torn"):
        reader[1]


def test_unwritable_folder_is_one_clear_line(tmp_path):
    with pytest.raises(InputError, match="can't write .*gone/lrs2m-train.*: open.. failed: No such file") as caught:
        with RecordWriter(tmp_path / "gone") as writer:
            writer.write(record(0))
    assert "\n" not in str(caught.value)


def test_what_a_killed_writer_left_of_a_shard_is_removed_by_the_next(tmp_path):
    first = RecordWriter(tmp_path)
    first.write(record(0))  # and killed
    other = beginning(tmp_path / "regions-train.jsonl")
    other.write_text("of another writer")
    with RecordWriter(tmp_path) as writer:
        writer.write(record(0))
    assert sorted(path.name for path in tmp_path.iterdir()) == sorted(
        [writer.path.name, "texts-train-00000-of-00001.npz", other.name]
    )
