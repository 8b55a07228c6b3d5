import os

import pytest

from eval.embeddings import open_set, write_set
from eval.file_names import all_spelled, named, spelled
from eval.whole import write_text

NAMES = [
    b"a.jpg",
    "é ü/机场.jpg".encode(),
    b"b\xff.jpg",
    "机场_1".encode("gbk"),
    "⟨ff⟩".encode(),
    b"\xe9\xe2\x9f\xa8ff\xe2\x9f\xa9",
]
NAMES += [
    "⟨e2⟩⟨9f⟩⟨a8⟩ff⟩".encode(),
    "⟨41⟩⟨2e⟩⟨2f⟩⟨00⟩".encode(),
    b"\xe2\x9f\xff\xa8",
    bytes(range(128, 256)),
    b"a\nb,\"'<&>\\ \t",
]


@pytest.mark.parametrize("name", NAMES)
def test_every_name_has_one_spelling_and_comes_back(name):
    text = spelled(os.fsdecode(name))
    assert text.encode().decode() == text and os.fsencode(named(text)) == name
    assert spelled(named(text)) == text


def test_only_names_that_need_it_are_spelled_otherwise():
    assert spelled("機場 ⟨x⟩ ⟨41⟩.jpg") == "機場 ⟨x⟩ ⟨41⟩.jpg"
    assert spelled(os.fsdecode(b"b\xff.jpg")) == "b⟨ff⟩.jpg"
    assert spelled("\ud800") == "?"  # of JSON's escapes: no byte
    assert len({spelled(os.fsdecode(name)) for name in NAMES}) == len(NAMES)


def test_no_spelling_leads_out_of_a_folder():
    for text in ("⟨2e⟩⟨2e⟩⟨2f⟩", "⟨00⟩", "⟨2F⟩"):
        assert named(text) == text
    assert "/" not in named("⟨c0⟩⟨af⟩") and "/" not in named("⟨e0⟩⟨80⟩⟨af⟩")  # overlong forms stay bytes


def test_values_of_json_are_spelled_where_utf8_cannot_hold_them(tmp_path):
    bad = os.fsdecode(b"\xe9")
    assert all_spelled({bad: [bad, 1, None, "⟨ff⟩"]}) == {"⟨e9⟩": ["⟨e9⟩", 1, None, "⟨ff⟩"]}
    write_text(tmp_path / "a.html", f"<p>⟨ff⟩ {bad}")
    assert (tmp_path / "a.html").read_text() == "<p>⟨ff⟩ ⟨e9⟩"


def test_a_set_finds_the_picture_that_it_spells(tmp_path):
    import numpy as np

    file = tmp_path / os.fsdecode(b"b\xff.jpg")
    file.touch()
    rows = np.eye(2, dtype=np.float32)
    images = [{"id": "a", "file": spelled(str(file))}, {"id": "b", "file": str(file)}]
    meta = {"model": os.fsdecode(b"m\xff"), "dataset": "d", "features": "projected"}
    write_set(tmp_path / "s", meta, rows, None, images, [])
    made = open_set(tmp_path / "s")
    assert made.picture(0) == made.picture(1) == file and made.model == "m⟨ff⟩"
