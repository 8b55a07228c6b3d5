"""Prepared sets that are damaged between two starts: what differs is named and made again, the rest stays."""

import json
import shutil

import numpy as np
import pytest

from lrsclip_jax.data.prepare import preparation
from lrsclip_jax.data.prepare.encode import Options
from lrsclip_jax.data.prepared.records import RecordReader
from lrsclip_jax.data.tokenizer import clip_tokenizer
from lrsclip_jax.errors import InputError
from lrsclip_jax.sources import open_source


def prepare(out):
    return preparation.prepare(open_source("scenes:14:1"), out, Options(size=32), shard_size=4)


class Stopped(Exception):
    pass


def stop_after_two_shards(out):
    """Leaves a set of which two of the four shards are finished."""
    written = preparation.add_shard

    def stopping(*arguments):
        found = written(*arguments)
        if len(list(out.glob(".progress/*"))) == 2:
            raise Stopped
        return found

    with pytest.MonkeyPatch.context() as patch, pytest.raises(Stopped):
        patch.setattr(preparation, "add_shard", stopping)
        prepare(out)


def contents(folder):
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    out = tmp_path_factory.mktemp("sets") / "whole"
    prepare(out)
    return out


@pytest.fixture(scope="module")
def begun(tmp_path_factory):
    out = tmp_path_factory.mktemp("sets") / "begun"
    stop_after_two_shards(out)
    return out


def flip(file, at):
    data = bytearray(file.read_bytes())
    data[at // 8] ^= 1 << at % 8
    file.write_bytes(data)


@pytest.mark.parametrize("name", ["lrs2m-train.array_record-00001-of-00004", "texts-train-00001-of-00004.npz"])
def test_a_shard_that_was_damaged_between_two_starts_is_named_and_made_again(tmp_path, begun, whole, capsys, name):
    out = shutil.copytree(begun, tmp_path / "out")
    kept = (out / "lrs2m-train.array_record-00000-of-00004").stat().st_mtime_ns
    flip(out / name, 8 * 60)
    prepare(out)
    assert f"note: {out}/{name} is damaged: its content is not what was written; it is made" in capsys.readouterr().err
    assert contents(out) == contents(whole)
    assert (out / "lrs2m-train.array_record-00000-of-00004").stat().st_mtime_ns == kept


@pytest.mark.parametrize("text", ['{"wri', "", "[]", '{"written": 4}', '{"written": "4"}'])
def test_torn_counts_of_a_shard_are_named_and_the_shard_made_again(tmp_path, begun, whole, capsys, text):
    out = shutil.copytree(begun, tmp_path / "out")
    (out / ".progress/train-00000.json").write_text(text)
    prepare(out)
    assert f"note: {out}/.progress/train-00000.json: " in capsys.readouterr().err
    assert contents(out) == contents(whole)


@pytest.mark.parametrize("text", ['{"so', "", "[]", None])
def test_a_torn_plan_is_one_line_and_without_it_the_finished_shards_are_taken(tmp_path, begun, whole, capsys, text):
    out = shutil.copytree(begun, tmp_path / "out")
    if text is None:
        flip(out / "prepare.json", 8 * 30)
    else:
        (out / "prepare.json").write_text(text)
    with pytest.raises(
        InputError, match=f"^{out}/prepare.json: .*: delete it, and the same command continues"
    ) as error:
        prepare(out)
    assert "\n" not in str(error.value)
    (out / "prepare.json").unlink()
    with pytest.raises(InputError, match="holds other files"):  # it doesn't take the shards of another plan
        preparation.prepare(open_source("scenes:14:2"), out, Options(size=32), shard_size=4)
    kept = (out / "lrs2m-train.array_record-00001-of-00004").stat().st_mtime_ns
    prepare(out)
    assert contents(out) == contents(whole) and capsys.readouterr().err.count("note") == 0
    assert (out / "lrs2m-train.array_record-00001-of-00004").stat().st_mtime_ns == kept


def test_every_damaged_file_of_a_finished_set_is_made_again_by_the_same_command(tmp_path, whole, capsys):
    rng = np.random.default_rng(0)
    names = [name for name in contents(whole) if name != "prepare.json"]
    assert len(names) == 11
    out = shutil.copytree(whole, tmp_path / "out")
    for name in names:
        if size := (out / name).stat().st_size:
            flip(out / name, rng.integers(8 * size))
            prepare(out)
            assert f"note: {out}/{name} is damaged" in capsys.readouterr().err
            assert contents(out) == contents(whole)
    (out / "features.json").unlink()
    prepare(out)
    assert "features.json is missing" in capsys.readouterr().err and contents(out) == contents(whole)


def test_a_torn_plan_of_a_finished_set_is_one_line(tmp_path, whole):
    out = shutil.copytree(whole, tmp_path / "out")
    flip(out / "prepare.json", 99)
    with pytest.raises(InputError, match="prepare.json: .*training reads the set all the same"):
        prepare(out)
    assert len(RecordReader(out)) == 14


def test_sets_of_older_versions_have_no_checksums_and_are_continued(tmp_path, begun, whole):
    out = shutil.copytree(begun, tmp_path / "out")
    for path in (out / "prepare.json", *out.glob(".progress/*")):
        document = json.loads(path.read_text())
        for name in ("crc32", "plan", "files"):
            document.pop(name, None)
        path.write_text(json.dumps(document))
    prepare(out)
    assert contents(out) == contents(whole)


def test_records_are_never_read_wrongly(tmp_path, whole):
    """ArrayRecord has a checksum of each record; what it leaves without one is padding."""
    out, rng = shutil.copytree(whole, tmp_path / "out"), np.random.default_rng(1)
    expected, tokenizer = [*RecordReader(whole)], clip_tokenizer()
    lengths = RecordReader(whole).text_lengths(tokenizer)
    for name in ("lrs2m-train.array_record-00001-of-00004", "texts-train-00001-of-00004.npz", "dataset_info.json"):
        kept = (out / name).read_bytes()
        used = len(kept.rstrip(b"\0")) if name.endswith(".json") else len(kept)
        noticed = 0
        for at in rng.choice(8 * min(used, 9000), 40, replace=False):
            flip(out / name, at)
            try:
                found = RecordReader(out)
                assert [*found] == expected
                assert np.array_equal(found.text_lengths(tokenizer).tokens, lengths.tokens)
            except InputError as error:
                assert str(out) in str(error) and "\n" not in str(error)
                noticed += 1
            (out / name).write_bytes(kept)
        assert noticed or name.startswith("texts")


@pytest.mark.parametrize(
    "text", ["[]", "", '{"splits": 5}', '{"splits": [5]}', '{"splits": [{"name": "train", "shardLengths": null}]}']
)
def test_torn_metadata_is_one_line(tmp_path, text):
    (tmp_path / "dataset_info.json").write_text(text)
    with pytest.raises(InputError, match="dataset_info.json can't be read .*: prepare the set again"):
        RecordReader(tmp_path)
