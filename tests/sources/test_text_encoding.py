"""Encodings of lists, told apart by their bytes."""

import json

import pytest
from source_files import split_up

from lrsclip_jax.errors import InputError
from lrsclip_jax.sources import Keys, open_source

CHINESE, FRENCH = "许多飞机停在机场，旁边有一条跑道", "un café à l'ouest – “déjà vu”, œuvre d’été"


@pytest.mark.parametrize(
    ("encoding", "text", "note"),
    [
        ("utf-8", CHINESE, ""),
        ("utf-8-sig", FRENCH, ""),
        ("utf-16", CHINESE, "UTF-16"),
        ("utf-16", FRENCH, "UTF-16"),
        ("utf-32", FRENCH, "UTF-32"),
        ("gb18030", CHINESE, "GB 18030"),
        ("gb18030", "many planes “parked”", "GB 18030"),
        ("cp1252", FRENCH, "Windows-1252"),
        ("cp1252", "the runway’s end – grass", "Windows-1252"),
    ],
)
@pytest.mark.parametrize("kind", ["csv", "jsonl", "json"])
def test_a_list_in_another_encoding_is_read_with_a_note(tmp_path, encoding, text, note, kind):
    row = json.dumps({"filename": "a.jpg", "title": text}, ensure_ascii=False)
    content = {"csv": f'filename,title\na.jpg,"{text}"\n', "jsonl": f"{row}\n", "json": f"[{row}]"}[kind]
    path = tmp_path / f"list.{kind}"
    path.write_bytes(content.encode(encoding))
    source = open_source(str(path), Keys(image="filename"))
    assert [item.short for item in source] == [(text,)] and [item.short for item in source] == [(text,)]
    assert source.notes == ((f"list.{kind} is not UTF-8: read as {note}",) if note else ())


@pytest.mark.parametrize("kind", ["csv", "jsonl", "json"])
def test_a_torn_letter_in_utf8_is_a_fault_of_its_row(tmp_path, kind):
    rows = [json.dumps({"image": f"{n}.jpg", "text": f"{CHINESE}{n}"}, ensure_ascii=False) for n in range(3)]
    table = "image,text\n" + "".join(f"{n}.jpg,{CHINESE}{n}\n" for n in range(3))
    content = {"csv": table, "jsonl": "\n".join(rows), "json": f"[{','.join(rows)}]"}[kind].encode()
    torn = "道1".encode()
    path = tmp_path / f"list.{kind}"
    path.write_bytes(content.replace(torn, torn[:2] + b"1"))
    items, (fault,) = split_up(open_source(str(path)))
    assert [item.id for item in items] == ["0.jpg", "2.jpg"] and "not UTF-8 text" in fault.reason
    assert "2" in fault.where or "3" in fault.where


def test_bytes_in_no_encoding_are_an_error(tmp_path):
    (tmp_path / "a.csv").write_bytes(b"filepath,title\na.jpg,\xff\xff\x81\xff\n")
    with pytest.raises(InputError, match="neither UTF-8 nor GB 18030 nor Windows-1252"):
        open_source(str(tmp_path / "a.csv"))
    (tmp_path / "b.csv").write_bytes(b"\xff\xfef")
    with pytest.raises(InputError, match="b.csv: not UTF-16 text"):
        open_source(str(tmp_path / "b.csv"))
