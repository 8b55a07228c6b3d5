"""CSV and TSV as people and programs write them, against the library's `csv`."""

import csv
import random

import pytest
from source_files import split_up, write

from lrsclip_jax.errors import InputError
from lrsclip_jax.sources import Fault, Keys, open_source
from lrsclip_jax.sources.tables import columns, open_table, table

ROWS = [
    ("0.jpg", "a road"),
    ("1.jpg", '"L shaped building next to a road'),
    ("2.jpg", "a beach"),
    ("0.jpg", "a farm"),
    ("2.jpg", "five ships"),
]


@pytest.mark.parametrize(
    ("suffix", "delimiter"), [(".csv", ","), (".tsv", "\t"), (".csv", "\t"), (".csv", ";"), (".csv", "|")]
)
def test_the_rows_of_an_image_are_merged(tmp_path, suffix, delimiter):
    rows = [["filepath", "title"], ["a.jpg", "one, two"], ["b.jpg", ""], ["a.jpg", 'a "quoted"\nthree']]
    path = tmp_path / f"train{suffix}"
    with open(path, "w", newline="") as file:
        csv.writer(file, delimiter=delimiter).writerows(rows)
    first, second = open_source(str(path))
    assert first.id == "a.jpg" and first.short == ("one, two", 'a "quoted" three')
    assert second.id == "b.jpg" and second.short == () and second.empty_texts == 1


def test_tables_read_as_the_library_reads_them_from_any_place(tmp_path):
    draw = random.Random(0)
    pieces = ["a", 'b "c"', ",", "\n", "é", "机场", " ", "'", "\r\n", ";", ""]
    rows = [["".join(draw.choices(pieces, k=4)) for _ in range(3)] for _ in range(500)]
    for style in ({}, {"quoting": csv.QUOTE_ALL}, {"lineterminator": "\n"}):
        path = tmp_path / "a.csv"
        with open(path, "w", newline="", encoding="utf-8") as file:
            writer = csv.writer(file, **style)
            writer.writerows([["x", "y", "z"], *rows])
        file = open_table(path)
        found = list(file.rows())
        assert [list(row.values.values()) for row in found] == rows
        assert all(next(file.rows(row.place)) == row for row in found)
        with open(path, newline="", encoding="utf-8") as lines:
            assert list(csv.DictReader(lines)) == [row for _, row in table(path)]


@pytest.mark.parametrize(("suffix", "comma"), [("tsv", "\t"), ("csv", ",")])
@pytest.mark.parametrize("closing", ["", '"'])
def test_an_unclosed_quotation_mark_costs_its_own_row(tmp_path, suffix, comma, closing):
    rows = [("filepath", "title"), *ROWS[:-1], ("2.jpg", f"five ships{closing}")]
    path = write(tmp_path / f"a.{suffix}", "".join(f"{image}{comma}{text}\n" for image, text in rows))
    items, (fault,) = split_up(open_source(path))
    assert {item.id: item.short for item in items} == {
        "0.jpg": ("a road", "a farm"),
        "2.jpg": ("a beach", f"five ships{closing}"),
    }
    assert fault == Fault(f"a.{suffix}, line 3", "not CSV (a quotation mark is never closed)")


def test_an_unclosed_quotation_mark_without_names_of_images_ends_somewhere(tmp_path):
    path = tmp_path / "a.csv"
    write(path, "image,title\n" + '0,"open\n' + "".join(f"{n},text {n}\n" for n in range(1, 5000)))
    (_, fault), *rows = table(path)
    assert (
        "never closed" in fault.reason and len(rows) == 4999 and rows[-1][1] == {"image": "4999", "title": "text 4999"}
    )


def test_text_after_a_closing_quotation_mark_is_a_fault(tmp_path):
    path = write(tmp_path / "a.csv", 'filepath,title\na.jpg,"L shaped" building\nb.jpg,x\n')
    items, (fault,) = split_up(open_source(path))
    assert [item.id for item in items] == ["b.jpg"] and fault.where == "a.csv, line 2"


def test_other_faults_name_their_line_and_cost_no_other(tmp_path):
    path = write(tmp_path / "a.csv", 'filepath,title\na.jpg,one\n\n"b\n.jpg",two,three\nc.jpg\nd.jpg,"x\0y"\ne.jpg,"')
    items, faults = split_up(open_source(path))
    assert [item.id for item in items] == ["a.jpg", "c.jpg", "d.jpg"] and items[1].empty_texts == 1
    assert [(fault.where, fault.reason[:25]) for fault in faults] == [
        ("a.csv, line 4", "more columns than the hea"),
        ("a.csv, line 8", "not CSV (unexpected end o"),
    ]


def test_cells_may_be_larger_than_the_library_allows(tmp_path):
    bytes_of_image = "{'bytes': b'" + "\\xff" * 40_000 + "'}"
    path = write(tmp_path / "a.csv", f'filename,captions,image\n0.jpg,a road,"{bytes_of_image}"\n')
    for keys in (Keys(), Keys(image="filename", short="captions")):
        (item,) = open_source(path, keys)
        assert item.id == "0.jpg" and item.short == ("a road",)


def test_lines_may_end_as_on_old_macs(tmp_path):
    path = write(tmp_path / "a.csv", "filepath,title\ra.jpg,one\rb.jpg,two\r")
    assert [(item.id, item.short, item.where) for item in open_source(path)] == [
        ("a.jpg", ("one",), "a.csv, line 2"),
        ("b.jpg", ("two",), "a.csv, line 3"),
    ]


def test_two_columns_of_one_name_are_an_error(tmp_path):
    with pytest.raises(InputError, match="a.csv, line 1: two columns are called 'title'"):
        open_source(write(tmp_path / "a.csv", "filepath,title,title\na.jpg,one,two\n"))
    (item,) = open_source(write(tmp_path / "b.csv", ",filepath,title,\n0,a.jpg,one,\n"))  # pandas' number of the row
    assert item.short == ("one",)


def test_the_names_of_columns_are_there_before_the_rows(tmp_path):
    write(tmp_path / "a.csv", '\n"a, b", c ,d\n')
    assert columns(tmp_path / "a.csv") == ["a, b", "c", "d"]
