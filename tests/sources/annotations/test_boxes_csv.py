"""CSV files of boxes in the encodings and with the accidents that people bring."""

import csv

import numpy as np
import pytest
from PIL import Image

from lrsclip_jax.errors import InputError
from lrsclip_jax.sources.annotations import boxes_csv
from lrsclip_jax.sources.item import Fault, Item, Thing

HEADER = "image_path,xmin,ymin,xmax,ymax,label\n"


@pytest.fixture
def read(tmp_path):
    for name in ("a.png", "b.png", "Übung.png"):
        Image.new("RGB", (40, 30)).save(tmp_path / name)

    def of_table(text, encoding="utf-8") -> list[Item | Fault]:
        path = tmp_path / "boxes.csv"
        path.write_bytes(text if isinstance(text, bytes) else text.encode(encoding))
        return list(boxes_csv.read(path, tmp_path, "set"))

    return of_table


def test_rows_of_an_image_need_not_stand_together(read, tmp_path):
    rng = np.random.default_rng(0)
    rows = [(f"{rng.choice(list('ab'))}.png", *sorted(rng.integers(1, 30, 2)), 0, 9, f"Tree {n}") for n in range(500)]
    rows = [(name, x0, y0, x1 + 1, y1, label) for name, x0, x1, y0, y1, label in rows]
    with open(tmp_path / "t.csv", "w", newline="") as file:
        csv.writer(file).writerows([HEADER.strip().split(","), *rows])
    found = read((tmp_path / "t.csv").read_bytes())
    assert [one.id for one in found] == list(dict.fromkeys(row[0] for row in rows))
    for one in found:
        expected = [Thing(row[5], tuple(map(float, row[1:5]))) for row in rows if row[0] == one.id]
        assert list(one.things) == expected


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "cp1252", "utf-16"])
@pytest.mark.parametrize("delimiter", [",", "\t", ";"])
def test_names_in_any_encoding(read, encoding, delimiter):
    text = HEADER + "Übung.png,1,2,3,4,Bäume\r\n"
    (found,) = read(text.replace(",", delimiter), encoding)
    assert (found.id, found.things, found.where) == ("Übung.png", (Thing("Bäume", (1, 2, 3, 4)),), "boxes.csv, line 2")


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("", "empty"),
        ("image_path,xmin,ymin,xmax,ymax,label,label\n", "two columns are called 'label'"),
        ("image_path,xmin,ymin,xmax,label\n", "no column ymax; columns found: image_path"),
    ],
)
def test_a_file_without_its_columns_is_one_line(read, text, words):
    with pytest.raises(InputError, match=words):
        read(text)


def test_a_bad_row_costs_its_image_alone(read):
    text = HEADER + 'a.png,1,2,3,4,Tree\n,1,2,3,4,Tree\na.png,1,2,3\n"b.png,1,2,3,4,Tree\nb.png,5,6,7,8,Tree\n'
    first, nameless, unclosed, good = read(text)
    assert (first.id, first.where) == ("a.png", "boxes.csv, line 4") and "1, 2, 3, " in first.reason
    assert (nameless.where, nameless.reason) == ("boxes.csv, line 3", "no image_path")
    assert unclosed.where == "boxes.csv, line 5" and "quotation mark" in unclosed.reason
    assert good.things == (Thing("Tree", (5, 6, 7, 8)),)
    for row, reason in (
        ("a.png,1,2,3,x,T", "four numbers"),
        ("a.png,1,2,3,4,", "no label"),
        ("a.png,1,2,inf,4,T", "area"),
    ):
        (fault,) = read(f"{HEADER}{row}\n")
        assert isinstance(fault, Fault) and reason in fault.reason and fault.id == "a.png"
