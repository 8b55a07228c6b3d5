"""Checksums of files: equal to a plain twin, and damage of every kind is named."""

import json
import os
import zlib

import numpy as np
import pytest

from eval import checksums as sums
from eval.checksums import BLOCK, Checksum, check, checksums, defects, of_bytes, read_checksums, write_checksums_of
from eval.errors import InputError


def plainly(data):
    blocks = [zlib.crc32(data[start : start + BLOCK]) for start in range(0, len(data), BLOCK)]
    one = blocks[0] if len(blocks) == 1 else zlib.crc32(b"".join(block.to_bytes(4, "big") for block in blocks))
    return Checksum(len(data), f"{one:08x}")


@pytest.fixture
def folder(tmp_path):
    rng = np.random.default_rng(0)
    for name, size in (("empty", 0), ("one", 1), ("block", BLOCK), ("more", BLOCK + 1), ("three", 3 * BLOCK - 7)):
        (tmp_path / name).write_bytes(rng.bytes(size))
    write_checksums_of(tmp_path, ["empty", "one", "block", "more", "three"])
    return tmp_path


def test_checksums_are_those_of_a_plain_twin(folder):
    files = sorted(file for file in folder.iterdir() if not file.name.startswith("."))
    found = checksums(files)
    assert found == [plainly(file.read_bytes()) for file in files] == [of_bytes(file.read_bytes()) for file in files]
    assert found[0] == Checksum(BLOCK, f"{zlib.crc32(files[0].read_bytes()):08x}")  # as other tools have it
    written = json.loads((folder / sums.NAME).read_text())
    assert written.pop("crc32") and written == {file.name: list(one) for file, one in zip(files, found, strict=True)}
    assert read_checksums(folder) == dict(zip((file.name for file in files), found, strict=True))
    check(folder, remedy="none")


def test_every_damage_is_named(folder):
    expected = read_checksums(folder)
    (folder / "one").unlink()
    os.truncate(folder / "block", BLOCK - 1)
    data = bytearray((folder / "three").read_bytes())
    data[2 * BLOCK] ^= 1
    (folder / "three").write_bytes(data)
    (folder / "more").unlink()
    os.mkfifo(folder / "more")
    assert dict(defects(folder, expected)) == {
        "one": "one is missing",
        "block": "block has 1,048,575 bytes of 1,048,576",
        "three": "three is damaged: its content is not what was written",
        "more": "more can't be read: no regular file",
    }
    with pytest.raises(InputError, match=f"^{folder}/three is damaged: .*: make it again$"):
        check(folder, ["three", "none"], remedy="make it again")
    check(folder, ["empty"], remedy="")


def test_a_folder_without_checksums_is_not_checked(tmp_path):
    check(tmp_path, remedy="")
    assert read_checksums(tmp_path) == {}


@pytest.mark.parametrize("text", ["", "[]", '{"a": 5}', '{"a": [1, 2]}', '{"a": ["1", "00000000"]}', b"\xff"])
def test_a_torn_file_of_checksums_is_one_line(tmp_path, text):
    (tmp_path / sums.NAME).write_bytes(text if isinstance(text, bytes) else text.encode())
    with pytest.raises(InputError, match=f"^{tmp_path}/{sums.NAME}: ") as error:
        check(tmp_path, remedy="")
    assert "\n" not in str(error.value)


@pytest.mark.parametrize("name", ["../secret", "/etc/passwd", "a/../../secret"])
def test_no_name_leads_out_of_the_folder(tmp_path, name):
    (tmp_path / "secret").write_bytes(b"")
    (tmp_path / "in").mkdir()
    [(_, what)] = defects(tmp_path / "in", {name: of_bytes(b"")})
    assert what == f"{name} can't be read: it lies outside the folder"
