"""JSON and arrays are read by schema: a wrong file is one line that names the file, the line and the field."""

from __future__ import annotations

import io
import json
import os
import resource
import tracemalloc
import zipfile
from typing import Any

import msgspec
import numpy as np
import pytest
from bad_files import NO_JSON, borne, one_line, refused, spoiled

from eval import memory
from eval.errors import InputError
from eval.reading import convert, numbered_lines, parse_json, read_array, read_arrays, read_json, read_lines


class Row(msgspec.Struct):
    id: str
    weight: float = 0.0
    kept: int | str | None = None


BAD_JSON = {
    "empty": (b"", "f: empty, expected JSON"),
    "cut": (b'{"id": "a"', "f: not JSON"),
    "not_utf8": (b'{"id": "\xff"}', r"f: not UTF-8 \(byte 9\)"),
    "utf16": ('{"id": "a"}'.encode("utf-16"), "f: not UTF-8"),
    "lone_surrogate": (b'{"id": "\\ud800"}', "f: not JSON .*surrogate"),
    "lone_surrogate_next_to_nan": (b'{"id": "\\ud800", "weight": NaN}', "f: not JSON .*surrogate"),
    "long_number": (b'{"id": "a", "weight": ' + b"9" * 5000 + b"}", "f: weight: number out of range"),
    "wrong_type": (b'{"id": 3}', "f: id: expected text, got a whole number"),
    "missing_field": (b"{}", "f: object missing required field 'id'"),
    "null": (b'{"id": null}', "f: id: expected text, got null"),
    "several_types": (b'{"id": "a", "kept": 1.5}', "f: kept: expected a whole number or text or null, got a number"),
    "list": (b"[1]", "f: expected an object, got a list"),
}


@pytest.mark.parametrize("name", BAD_JSON)
def test_json_that_does_not_fit_its_schema_is_one_line_with_place_and_reason(name):
    data, said = BAD_JSON[name]
    with pytest.raises(InputError, match=said) as error:
        parse_json(data, "f", Row)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize("opening", [b"[", b'{"a":'])
def test_deep_nesting_is_refused_at_any_depth(opening):
    for depth in (20_000, 100_000):  # Python 3.12 follows C code ten times as deep as 3.11
        with pytest.raises(InputError, match="f: nested too deep"):
            parse_json(opening * depth, "f", Any)


def test_a_byte_order_mark_and_the_nan_that_python_writes_are_read():
    assert parse_json(b"\xef\xbb\xbf" + json.dumps({"id": "a"}).encode(), "f", Row) == Row("a")
    assert np.isnan(parse_json(json.dumps({"id": "a", "weight": float("nan")}), "f", Row).weight)
    assert parse_json('{"id": "NaN"}', "f", Row) == Row("NaN")


def test_what_json_reads_is_read_alike_without_a_schema():
    value = {"a": [1, 2.5, None, True, "é\u2028"], "b": {"c": -(2**40), "d": 1e-300}}
    for text in (json.dumps(value), json.dumps(value, ensure_ascii=False, indent=2)):
        assert parse_json(text, "f") == json.loads(text)


def test_lines_are_numbered_as_an_editor_numbers_them(tmp_path):
    file = tmp_path / "rows.jsonl"
    file.write_bytes(b'{"id": "a"}\n\n{"id": "b\xe2\x80\xa8c"}\r\n{"id": 4}\n')
    assert [number for number, _ in numbered_lines(file)] == [1, 2, 3, 4]
    rows = read_lines(file, Row)
    assert [next(rows).id, next(rows).id] == ["a", "b\u2028c"]
    with pytest.raises(InputError, match=r"rows\.jsonl, line 4: id: expected text"):
        next(rows)


def test_only_regular_files_are_opened(tmp_path):
    os.mkfifo(tmp_path / "pipe")
    for path, said in (
        (tmp_path, "is a folder"),
        (tmp_path / "pipe", "no regular file"),
        ("/dev/zero", "no regular file"),
        (tmp_path / "none", "is missing"),
        (tmp_path / ("x" * 300), "can't read"),
    ):
        with pytest.raises(InputError, match=said):
            read_json(path)
        with pytest.raises(InputError, match=said):
            read_array(path, "f4", 2)


def test_an_array_is_mapped_as_numpy_reads_it(tmp_path):
    for array in (
        np.arange(12, dtype="f4").reshape(3, 4),
        np.zeros((0, 5), "f4"),
        np.asfortranarray(np.eye(3, 2, dtype="f4")),
    ):
        np.save(tmp_path / "a.npy", array)
        np.testing.assert_array_equal(read_array(tmp_path / "a.npy", "f4", 2), np.load(tmp_path / "a.npy"))


def test_a_header_that_lies_asks_for_no_memory(tmp_path):
    np.save(tmp_path / "a.npy", np.ones((3, 4), "f4"))
    honest = (tmp_path / "a.npy").read_bytes()
    lies = {
        b"(3, 4)": "torn or damaged",  # cut below
        b"(3, 9)": "torn or damaged",
        b"(9**9, 4)": "no .npy array",
        b"(3, -4)": "only plain numbers",
        b"(3,)": "expected a matrix",
    }
    for shape, said in lies.items():
        lie = (
            honest[:-1]
            if shape == b"(3, 4)"
            else honest.replace(b"(3, 4), }" + b" " * len(shape), shape + b", }" + b" " * 6)
        )
        (tmp_path / "b.npy").write_bytes(lie)
        with pytest.raises(InputError, match=said):
            read_array(tmp_path / "b.npy", "f4", 2)
    np.save(tmp_path / "c.npy", np.array([{}], object))
    with pytest.raises(InputError, match="only plain numbers"):
        read_array(tmp_path / "c.npy", "f4", 1)
    np.save(tmp_path / "d.npy", np.ones((3, 4)))
    with pytest.raises(InputError, match="float64 of shape"):
        read_array(tmp_path / "d.npy", "f4", 2)


def test_a_header_of_a_trillion_numbers_is_noticed_without_them(tmp_path):
    with (tmp_path / "a.npy").open("wb") as file:
        np.lib.format.write_array_header_1_0(file, {"descr": "<f4", "fortran_order": False, "shape": (10**10, 512)})
    with pytest.raises(InputError, match="its header says 20,480,000,000,128"):
        read_array(tmp_path / "a.npy", "f4", 2)


PARTS = {"rows": ("f4", 2), "kept": ("i8", 1), "why": ("U", 1)}


def part(path, save=np.savez):
    arrays = {"rows": np.eye(3, 2, dtype="f4"), "kept": np.arange(3), "why": np.array(["no", "é", ""]), "more": "x"}
    save(path, **arrays)
    return arrays


@pytest.mark.parametrize("save", [np.savez, np.savez_compressed])
def test_arrays_of_an_npz_file_are_those_that_the_schema_names(tmp_path, save):
    arrays = part(tmp_path / "a.npz", save)
    found = read_arrays(tmp_path / "a.npz", PARTS)
    assert found.keys() == PARTS.keys()
    for name in PARTS:
        np.testing.assert_array_equal(found[name], arrays[name])
    np.savez(tmp_path / "none.npz", rows=np.zeros((0, 0), "f4"), kept=np.zeros(0, "i8"), why=np.array([], np.str_))
    assert [len(array) for array in read_arrays(tmp_path / "none.npz", PARTS).values()] == [0, 0, 0]


@pytest.mark.parametrize(
    ("schema", "said"),
    [
        ({"rest": ("f4", 2)}, "a.npz: rest is missing"),
        ({"rows": ("f4", 1)}, r"a.npz: rows: float32 of shape \(3, 2\), expected a vector of f4"),
        ({"kept": ("i4", 1)}, "a.npz: kept: int64 of shape"),
        ({"rows": ("U", 2)}, "a.npz: rows: float32 of shape"),
    ],
)
def test_arrays_of_another_form_are_named(tmp_path, schema, said):
    part(tmp_path / "a.npz")
    with pytest.raises(InputError, match=said):
        read_arrays(tmp_path / "a.npz", schema)


def test_a_damaged_npz_file_is_noticed_wherever_a_bit_flips(tmp_path):
    arrays = part(tmp_path / "a.npz")
    content = (tmp_path / "a.npz").read_bytes()
    for bit in range(0, 8 * len(content), 13):
        damaged = bytearray(content)
        damaged[bit // 8] ^= 1 << bit % 8
        (tmp_path / "b.npz").write_bytes(damaged)
        try:
            found = read_arrays(tmp_path / "b.npz", PARTS)
        except InputError as error:
            one_line(error, f"{tmp_path / 'b.npz'}")
        else:  # in what nothing reads, such as the date of a member
            for name in PARTS:
                np.testing.assert_array_equal(found[name], arrays[name])
    for other in (content[: len(content) // 2], *NO_JSON.values()):
        (tmp_path / "b.npz").write_bytes(other)
        refused(lambda: read_arrays(tmp_path / "b.npz", PARTS), "b.npz")
    refused(lambda: read_arrays(tmp_path, PARTS), "is a folder")


@pytest.mark.parametrize("count", [10**7, 10**12, 10**18])
@pytest.mark.parametrize("method", [zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED])
def test_a_member_that_claims_more_than_it_holds_asks_for_no_memory(tmp_path, method, count):
    stream = io.BytesIO()
    np.lib.format.write_array_header_1_0(stream, {"descr": "<f4", "fortran_order": False, "shape": (count, 512)})
    with zipfile.ZipFile(tmp_path / "a.npz", "w", method) as archive:
        archive.writestr("rows.npy", stream.getvalue() + bytes(1000))
    refused(lambda: read_arrays(tmp_path / "a.npz", {"rows": ("f4", 2)}), "rows", "its header says")
    content = (tmp_path / "a.npz").read_bytes()
    held = len(stream.getvalue()) + 1000
    claimed = content.replace(held.to_bytes(4, "little"), (2**32 - 2).to_bytes(4, "little"))
    assert claimed != content
    (tmp_path / "a.npz").write_bytes(claimed)
    tracemalloc.start()
    refused(lambda: read_arrays(tmp_path / "a.npz", {"rows": ("f4", 2)}), "a.npz")
    assert tracemalloc.get_traced_memory()[1] < 10**7
    tracemalloc.stop()


@pytest.mark.parametrize("name", NO_JSON)
def test_what_is_no_json_is_one_line_for_every_reader(tmp_path, name):
    file = tmp_path / "f.json"
    file.write_bytes(NO_JSON[name])
    refused(lambda: read_json(file, dict[str, Any]), str(file))
    if name not in ("empty", "blank"):  # no lines at all
        refused(lambda: list(read_lines(file, dict[str, Any])), f"{file}, line 1")


def test_every_field_of_a_document_may_be_anything(tmp_path):
    file = tmp_path / "f.json"
    for _, text in spoiled({"id": "a", "weight": 2.5}):
        file.write_text(text)
        borne(lambda: read_json(file, Row), str(file))


@pytest.mark.parametrize("value", [{"id": 3}, {}, [], None, {"id": "a", "weight": "1"}])
def test_values_in_memory_are_converted_or_named(value):
    refused(lambda: convert(value, "here", Row), "here: ")
    assert convert({"id": "a", "weight": 2}, "here", Row) == Row("a", 2.0)


def test_memory_is_limited_by_the_machine_and_by_ulimit(monkeypatch):
    assert 0 < memory.limit() <= os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    monkeypatch.setattr(resource, "getrlimit", lambda kind: (10**9, resource.RLIM_INFINITY))
    assert memory.limit() == 10**9
    memory.check(10**9, "a table")
    refused(lambda: memory.check(25 * 10**9, "a table"), "a table takes 25.0 GB of memory, there are 1.0 GB")
