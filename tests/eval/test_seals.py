"""Seals: objects stay JSON for every reader, and no flipped bit passes as another value."""

import json
import zlib

import pytest

from eval.errors import InputError
from eval.seals import parse_sealed, read_sealed, seal, seal_bytes, unseal

ROW = {"step": 10, "loss": 1.25, "name": "häfen", "nested": {"crc32": "00000000"}}
TEXTS = [
    json.dumps(ROW),
    json.dumps(ROW, indent=1, ensure_ascii=False),
    json.dumps(ROW, ensure_ascii=False) + "\n",
    '{"a": {"b": []}}',
    "{}",
]


@pytest.mark.parametrize("text", TEXTS)
def test_a_sealed_object_is_json_with_one_more_field(text):
    sealed = seal(text)
    *fields, last = json.loads(sealed).items()
    assert dict(fields) == json.loads(text)
    body = sealed[: sealed.rindex('"crc32"')].removesuffix(", ")
    assert last == ("crc32", f"{zlib.crc32(body.encode()):08x}")
    assert parse_sealed(f"{sealed}\n".encode(), "file") == json.loads(text)
    assert json.loads(unseal(sealed.encode(), "file")) == json.loads(text)


@pytest.mark.parametrize("text", TEXTS)
def test_an_object_without_a_seal_is_read_as_it_stands(text):
    assert unseal(text.encode(), "file") == text.encode()
    assert parse_sealed(text.encode(), "file") == json.loads(text)


@pytest.mark.parametrize("text", TEXTS[:3])
def test_no_flipped_bit_is_another_value(text):
    sealed = seal_bytes(text.encode())
    for at in range(8 * len(sealed)):
        damaged = bytearray(sealed)
        damaged[at // 8] ^= 1 << at % 8
        with pytest.raises(InputError, match="^file: "):
            parse_sealed(bytes(damaged), "file")


def test_an_edited_object_is_named_until_its_seal_is_deleted(tmp_path):
    file = tmp_path / "settings.json"
    file.write_text(seal('{"of": 3}') + "\n")
    assert read_sealed(file, dict[str, int]) == {"of": 3}
    edited = file.read_text().replace("3", "4", 1)
    file.write_text(edited)
    with pytest.raises(InputError, match="settings.json: damaged, its checksum .crc32. is that of another text"):
        read_sealed(file)
    file.write_text(json.dumps({"of": json.loads(edited)["of"]}))
    assert read_sealed(file, dict[str, int]) == {"of": 4}


def test_what_no_seal_is_about_is_told_as_of_any_json(tmp_path):
    with pytest.raises(InputError, match="file: .*found|file: expected"):
        parse_sealed(b"[]", "file", dict[str, int])
    with pytest.raises(InputError, match="file: nested too deep"):
        parse_sealed(b"[" * 100_000, "file")
    with pytest.raises(InputError, match="none.json is missing"):
        read_sealed(tmp_path / "none.json")
    assert parse_sealed(seal('{"loss": NaN}').encode(), "file")["loss"] != 0
