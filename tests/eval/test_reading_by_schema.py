"""JSON and arrays are read by schema: a wrong file is one line that names the file, the line and the field."""

from __future__ import annotations

import json
import os
from typing import Any

import msgspec
import numpy as np
import pytest

from eval.errors import InputError
from eval.reading import numbered_lines, parse_json, read_array, read_json, read_lines


class Row(msgspec.Struct):
    id: str
    weight: float = 0.0


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
    for depth in (1_000, 100_000):
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
