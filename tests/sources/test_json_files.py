"""JSON in all its layouts, read in parts, against the library's `json`, which reads it whole."""

import json
import random

import pytest
from source_files import lines, split_up, write

from lrsclip_jax.errors import InputError
from lrsclip_jax.sources import Keys, open_source
from lrsclip_jax.sources import json_scan as scanning
from lrsclip_jax.sources.json_files import JsonLines, JsonLists, json_layout, json_lines, json_list
from lrsclip_jax.sources.text_encoding import open_text


@pytest.fixture(params=[1, 3, 17, 1 << 14])
def window(request, monkeypatch):
    """Reads few bytes at a time, so that every value is cut somewhere."""
    monkeypatch.setattr(scanning, "_FIRST", request.param)
    monkeypatch.setattr(scanning, "_CHUNK", 2 * request.param)


def value(draw: random.Random, depth: int = 0):
    kind = draw.random()
    if depth > 3 or kind < 0.3:
        texts = ["é\u2028\t" * draw.randint(0, 9), "机场" * draw.randint(0, 30), '[{"\\', "a" * draw.randint(0, 99)]
        return draw.choice([1, 2.5, None, True, 10**20, float("inf"), *texts])
    if kind < 0.6:
        return [value(draw, depth + 1) for _ in range(draw.randint(0, 4))]
    return {str(n): value(draw, depth + 1) for n in range(draw.randint(0, 4))}


def test_lists_and_objects_read_as_the_library_reads_them_from_any_place(tmp_path, window):
    draw = random.Random(0)
    path = tmp_path / "a.json"
    for trial in range(60):
        rows = [{"n": n, "value": value(draw)} for n in range(draw.randint(0, 12))]
        style = {"indent": draw.choice([None, 1, 4]), "ensure_ascii": draw.random() < 0.5}
        document = {"a": 3, "info": {"x": value(draw)}, "images": rows, "b": rows[::-1]} if trial % 2 else rows
        write(path, json.dumps(document, **style) + draw.choice(["", " \n"]))
        lists = JsonLists(path, open_text(path))
        found = list(lists.rows())
        assert [row.values for row in found] == (rows + rows[::-1] if trial % 2 else rows)
        assert all(next(lists.rows(row.place)) == row for row in found)


def test_a_document_that_is_torn_anywhere_is_an_error(tmp_path, window):
    draw = random.Random(1)
    for trial in range(60):
        rows = [{"n": n, "value": value(draw)} for n in range(1, draw.randint(2, 9))]
        data = json.dumps({"images": rows} if trial % 2 else rows, ensure_ascii=False).encode()
        (tmp_path / "a.json").write_bytes(data[: draw.randint(1, len(data) - 1)])
        with pytest.raises(InputError, match="a.json: "):
            list(json_list(tmp_path / "a.json"))


def test_lines_read_as_the_library_reads_them_from_any_place(tmp_path):
    draw = random.Random(2)
    rows = [{"n": n, "value": value(draw)} for n in range(200)]
    text = "".join(
        json.dumps(row, ensure_ascii=n % 2 == 0) + draw.choice(["\n", "\r\n", " \n\n"]) for n, row in enumerate(rows)
    )
    path = tmp_path / "a.jsonl"
    write(path, text)
    file = JsonLines(path, open_text(path))
    found = list(file.rows())
    assert [row.values for row in found] == rows and all(next(file.rows(row.place)) == row for row in found)
    numbers = [number for number, line in enumerate(text.split("\n"), 1) if line.strip()]
    assert [where for where, _ in json_lines(path)] == [f"a.jsonl, line {number}" for number in numbers]


@pytest.mark.parametrize(
    ("bad", "reason"),
    [
        ('{"a": 1, "a": 2}', "the key 'a' stands twice"),
        ('{"a": {"b": 1, "b": 1}}', "the key 'b' stands twice"),
        ('{"a": ' + "[" * 9000 + "]" * 9000 + "}", "nested too deep"),
        ('{"a": ' + "9" * 5000 + "}", "not JSON \\(Exceeds the limit"),
        ("{'a': 1}", "not JSON"),
        ('{"a": tru, "b": "]"}', "not JSON"),
        ("3", "a int where an object"),
        ('{"a": "x\ny"}', "not JSON \\(Invalid control character"),
        ('{"a": "\xff"}', "not UTF-8 text"),
    ],
)
def test_a_bad_record_of_a_list_is_passed_over(tmp_path, window, bad, reason):
    # Most of the file is UTF-8, so that a byte that is not is a fault of its row.
    data = f'[{{"n": "机场机场"}}, {bad}, {{"n": 3}}]'.encode().replace("\xff".encode(), b"\xff")
    (tmp_path / "a.json").write_bytes(data)
    (_, first), (where, fault), (last, third) = json_list(tmp_path / "a.json")
    assert first == {"n": "机场机场"} and third == {"n": 3}
    assert where == fault.where == "a.json, record 2" and last == "a.json, record 3"
    with pytest.raises(InputError, match=reason):
        raise InputError(fault.reason)


@pytest.mark.parametrize(
    ("name", "content", "layout"),
    [
        ("a.jsonl", '{"image": 1}\n{"image": 2}\n', "lines"),
        ("a.json", '{"image": "x", "sentences": [{"raw": "y"}]}\n', "lines"),
        ("a.json", "\n [\n{}]", "list"),
        ("a.json", '{"images": [{}]}', "object"),
        ("a.json", '{\n"images": [{}]}', "object"),
        ("a.json", '{"port": [{"filename": 1}], "beach": [{}]}', "object"),
        ("a.json", "{" * 20_000, "object"),
    ],
)
def test_the_layout_is_told_from_the_beginning(tmp_path, name, content, layout):
    write(tmp_path / name, content)
    assert json_layout(tmp_path / name) == layout


def test_karpathy_json_of_all_splits(tmp_path):
    images = [
        {"filename": "1.tif", "split": "train", "sentences": [{"raw": "One ."}, {"raw": "Two ."}]},
        {"filename": "2.tif", "filepath": "sub", "split": "test", "sentences": [{"raw": ""}]},
    ]
    path = write(tmp_path / "dataset_rsitmd.json", {"images": images, "dataset": "rsitmd"})
    first, second = open_source(path)
    assert first.image == tmp_path / "1.tif" and first.short == ("One .", "Two .") and first.split == "train"
    assert second.image == tmp_path / "sub/2.tif" and second.short == () and second.empty_texts == 1
    write(tmp_path / "indented.json", json.dumps({"images": images}, indent="\t"))
    assert [item.id for item in open_source(str(tmp_path / "indented.json"))] == ["1.tif", "sub/2.tif"]
    write(tmp_path / "alone.jsonl", lines(images))
    assert [item.short for item in open_source(str(tmp_path / "alone.jsonl"))] == [first.short, ()]
    as_long = next(iter(open_source(path, Keys(long="sentences"))))
    assert as_long.long == ("One .", "Two .") and as_long.short == ()


@pytest.mark.parametrize("annotations_first", [False, True])
def test_coco_captions_are_joined_to_their_images(tmp_path, annotations_first):
    images = [{"id": n, "file_name": f"{n}.jpg", "width": 30, "height": 20 + n, "license": 4} for n in (7, 3, 5)]
    texts = {(7, 1): "a pier", (3, 2): "a field", (7, 3): "two boats", (9, 4): "no image", (5, 5): None}
    annotations = [{"image_id": image, "id": number, "caption": text} for (image, number), text in texts.items()]
    lists = [("images", images), ("annotations", annotations)]
    document = {"info": {"year": 2014}, "licenses": [{"id": 1}], **dict(lists[::-1] if annotations_first else lists)}
    items, faults = split_up(open_source(write(tmp_path / "captions_val2014.json", document)))
    assert {item.id: item.short for item in items} == {
        "7.jpg": ("a pier", "two boats"),
        "3.jpg": ("a field",),
        "5.jpg": (),
    }
    assert annotations_first or [item.id for item in items] == ["7.jpg", "3.jpg", "5.jpg"]
    assert {(item.width, item.height, item.licence) for item in items} == {(30, 20 + n, None) for n in (7, 3, 5)}
    assert sorted((fault.where, fault.reason[:18]) for fault in faults) == [
        ("captions_val2014.json, annotation 4", "no image has the i"),
        ("captions_val2014.json, annotation 5", "'caption' is None,"),
    ]
    as_long, *_ = split_up(open_source(write(tmp_path / "c.json", document), Keys(long="caption")))[0]
    assert as_long.short == () and as_long.long


def test_objects_of_coco_are_no_captions(tmp_path):
    document = {"images": [{"id": 1, "file_name": "a"}], "annotations": [{"image_id": 1, "bbox": [0, 0, 1, 1]}]}
    with pytest.raises(InputError, match="its annotations have no 'caption'"):
        open_source(write(tmp_path / "instances.json", document))


@pytest.mark.parametrize("flat", [False, True])
def test_nwpu_captions_have_their_class_from_the_key(tmp_path, flat):
    texts = {f"raw{number}": f"text{number}" for number in ("", "_1", "_2", "_3", "_4")}
    rows = {
        "airport": [{"filename": "airport_001.jpg", "imgid": 0, "split": "train", "sentids": 0, **texts}],
        "beach": [{"filename": f"beach_00{n}.jpg", "imgid": n, "split": "test", **texts} for n in (1, 2)],
    }
    if flat:
        (tmp_path / "airport_001.jpg").touch()
    items = list(open_source(write(tmp_path / "dataset_nwpu.json", rows)))
    folders = [] if flat else ["airport", "beach", "beach"]
    names = ["airport_001.jpg", "beach_001.jpg", "beach_002.jpg"]
    assert [item.id for item in items] == (
        [f"{a}/{b}" for a, b in zip(folders, names, strict=True)] if folders else names
    )
    assert [item.label for item in items] == ["airport", "beach", "beach"]
    assert [item.split for item in items] == ["train", "test", "test"]
    assert all(item.short == ("text", "text_1", "text_2", "text_3", "text_4") for item in items)
