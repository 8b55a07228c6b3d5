"""DOTA's label files of all versions."""

import pytest
from PIL import Image

from lrsclip_jax.sources.annotations import dota
from lrsclip_jax.sources.item import Fault

PLANE = "10 5 20 5 20 15 10 15 plane 0\n"


@pytest.mark.parametrize(
    "header",
    [
        "",  # version 2
        "imagesource:GoogleEarth\ngsd:0.146343590398\n",  # 1 and 1.5
        "imagesource:GoogleEarth\ngsd:None\n\n",
        "acquisition dates:2014-07-10\nimagesource:GF2\r\ngsd:1.0\r\n",
        "\ufeffImageSource: JL-1\nGSD: null\n",
    ],
)
@pytest.mark.parametrize("objects", ["", PLANE, PLANE * 2 + "\n"])
def test_headers_of_all_versions(tmp_path, header, objects):
    Image.new("RGB", (40, 30)).save(tmp_path / "P0001.png")
    (tmp_path / "P0001.txt").write_text(header + objects, encoding="utf-8", newline="")
    (tmp_path / "._P0001.txt").write_bytes(b"\0\5\x16\7\xff")
    (found,) = dota.read(tmp_path, tmp_path, "DOTA")
    if header + objects:
        assert [thing.box for thing in found.things] == [(10, 5, 20, 15)] * objects.count("plane")
    else:
        assert isinstance(found, Fault) and found.reason == "an empty label file"


@pytest.mark.parametrize(
    "text", [PLANE + "gsd:0.5\n", "1 2 3\n", "10 5 20 5 20 15 10 x plane 0\n", "plane: 10 5\n" + PLANE + "x y\n"]
)
def test_a_line_that_is_no_object_is_a_fault_with_its_number(tmp_path, text):
    Image.new("RGB", (40, 30)).save(tmp_path / "a.png")
    (tmp_path / "a.txt").write_text(text)
    (found,) = dota.read(tmp_path / "a.txt", tmp_path, "DOTA")
    number = len(text.splitlines())
    assert isinstance(found, Fault) and (found.where, found.id) == (f"a.txt, line {number}", "a.png")


def test_bytes_that_are_no_text(tmp_path):
    (tmp_path / "a.txt").write_bytes(PLANE.encode() + b"\xff\xfe")
    (found,) = dota.read(tmp_path, tmp_path, "DOTA")
    assert found.where == "a.txt" and "can't be read" in found.reason
