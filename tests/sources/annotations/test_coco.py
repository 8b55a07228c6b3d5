"""COCO's JSON of objects: read in parts, row by row, whatever stands in a row."""

import json
import tracemalloc

import pytest
from PIL import Image

from lrsclip_jax.errors import InputError
from lrsclip_jax.sources import json_scan
from lrsclip_jax.sources.annotations import coco
from lrsclip_jax.sources.item import Fault, Item, Thing

CATEGORIES = [{"id": 3, "name": "ship"}, {"id": "p", "name": "port"}]
BOX = [1, 2, 10, 5]


@pytest.fixture
def read(tmp_path):
    for name in ("a.png", "b.png", "ü.png"):
        Image.new("RGB", (40, 30)).save(tmp_path / name)

    def of_document(document, **dump) -> list[Item | Fault]:
        path = tmp_path / "c.json"
        path.write_bytes(document if isinstance(document, bytes) else json.dumps(document, **dump).encode("utf-8"))
        return list(coco.read(path, tmp_path, "set"))

    return of_document


def document(images=({"id": 1, "file_name": "a.png"},), annotations=(), categories=CATEGORIES, **others):
    return {"images": list(images), "annotations": list(annotations), "categories": categories, **others}


@pytest.mark.parametrize("chunk", [1, 3, 64, 1 << 20])
@pytest.mark.parametrize("dump", [{}, {"ensure_ascii": False, "indent": 1}])
def test_rows_need_no_order_and_the_file_comes_in_parts_of_any_size(read, monkeypatch, chunk, dump):
    monkeypatch.setattr(json_scan, "_FIRST", chunk)
    monkeypatch.setattr(json_scan, "_CHUNK", chunk)
    images = [{"id": "é,]}", "file_name": "ü.png"}, {"id": 2, "file_name": "b.png"}, {"id": 1.5, "file_name": "a.png"}]
    rows = [
        {"id": n, "image_id": ("é,]}", 2, 1.5, 2)[n % 4], "category_id": "p", "bbox": [n, 0, 4, 4]} for n in range(9)
    ]
    found = read(document(images, rows, info={"note": '"[{'}, licenses=[{"id": [1, {}]}], year=2024), **dump)
    assert [one.id for one in found] == ["ü.png", "b.png", "a.png"]
    assert [[int(thing.box[0]) for thing in one.things] for one in found] == [[0, 4, 8], [1, 3, 5, 7], [2, 6]]
    backwards = dict(reversed(document(images, rows).items()))
    assert read(backwards, **dump) == found


def test_memory_does_not_grow_with_what_the_rows_hold(tmp_path):
    images = [{"id": n, "file_name": f"{n}.png"} for n in range(500)]
    rows = [{"image_id": n % 500, "category_id": 3, "bbox": BOX, "note": "x" * 15_000} for n in range(1500)]
    path = tmp_path / "c.json"
    path.write_text(json.dumps(document(images, rows)))
    size = path.stat().st_size
    del images, rows
    tracemalloc.start()
    count = sum(1 for _ in coco.read(path, tmp_path, "set"))
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert count == 500 and size > 22e6 and peak < 6e6  # a window of a megabyte, read and joined


@pytest.mark.parametrize("id", [[1], {"a": 1}, None])
def test_ids_that_are_lists_or_objects_are_faults_of_their_rows(read, id):
    images = [{"id": id, "file_name": "a.png"}, {"id": 2, "file_name": "b.png"}]
    rows = [
        {"id": 1, "image_id": id, "category_id": 3, "bbox": BOX},
        {"id": 2, "image_id": 2, "category_id": 3, "bbox": BOX},
    ]
    first, good, last = read(document(images, rows))
    assert isinstance(first, Fault) and first.where == "c.json, image 1" and "'id'" in first.reason
    assert good.things == (Thing("ship", (1, 2, 11, 7)),)
    assert isinstance(last, Fault) and last.where == "c.json, annotation 1" and "'image_id'" in last.reason
    (found,) = read(document(annotations=[{"id": 1, "image_id": 1, "category_id": id, "bbox": BOX}]))
    assert isinstance(found, Fault) and "is unknown; known: 3 ship, p port" in found.reason
    fault, found = read(document(categories=[{"id": id, "name": "ship"}]))
    assert fault.where == "c.json, categories record 1" and isinstance(found, Item)


@pytest.mark.parametrize(
    ("row", "words"),
    [
        ({"bbox": "1234"}, "bbox is '1234'"),
        ({"bbox": [1, 2, 10**400, 5]}, "bbox is [1, 2, 1000"),
        ({"bbox": [1, 2, float("nan"), 5]}, "has no area"),
        ({"bbox": {"x": 1}}, "bbox is {'x': 1}"),
        ({"segmentation": [[1, 2, 3]] * 1 + []}, None),  # no polygon yet: the box alone
        ({"segmentation": [[1, 2, 3, 4, 5, 6, 7]]}, "segmentation is no list of x and y"),
        ({"segmentation": [[[1, 2], [3, 4], [5, 6], 1, 1, 1]]}, "segmentation is no list of x and y"),
        ({"segmentation": [5]}, "segmentation is no list of x and y"),
        ({"category_id": 4}, "category 4 is unknown"),
    ],
)
def test_a_malformed_annotation_is_a_fault_of_its_image(read, row, words):
    good = {"id": 1, "image_id": 1, "category_id": 3, "bbox": BOX}
    (found,) = read(document(annotations=[good | row]))
    assert isinstance(found, Item) if words is None else words in found.reason and found.id == "a.png"


@pytest.mark.parametrize(
    ("image", "words"),
    [
        ({"width": "²", "height": 30}, "no whole number of pixels"),
        ({"width": [40], "height": 30}, "no whole number of pixels"),
        ({"width": 41, "height": 30}, "made for an image of 41 × 30 pixels"),
        ({"file_name": "a" * 5000}, "can't be read (File name too long)"),
        ({"file_name": ["a.png"]}, "'file_name' is ['a.png'], a text is expected"),
        ({"file_name": "\ud800.png"}, "?.png"),
        ({"file_name": "a\0.png"}, "no file can have that name"),
    ],
)
def test_an_odd_image_is_a_fault_of_its_own(read, image, words):
    found, other = read(document([{"id": 1, "file_name": "a.png"} | image, {"id": 2, "file_name": "b.png"}]))
    assert isinstance(found, Fault) and isinstance(other, Item)
    assert words in found.reason.encode("utf-8", "replace").decode()
    assert found.id.encode("utf-8") is not None


def test_rows_that_are_no_objects_and_ids_that_come_twice(read):
    images = [5, {"id": 1, "file_name": "a.png", "width": 0, "height": None}, {"id": 1, "file_name": "b.png"}]
    rows = ["x", {"id": 7, "image_id": 99}, {"id": 8, "image_id": 1, "category_id": 3, "bbox": BOX}]
    number, good, twin, text, stranger = read(document(images, rows, [*CATEGORIES, "x", {"id": 9, "name": {}}]))[2:]
    assert number.where == "c.json, image 1" and good.things[0].box == (1, 2, 11, 7)
    assert "its id 1 is that of an earlier image" in twin.reason  # not "no objects"
    assert text.where == "c.json, annotation number 1" and "a str where an object" in text.reason
    assert (stranger.where, stranger.reason) == ("c.json, annotation 7", "its image 99 is not among the images")


def test_numbers_of_5000_digits_and_bytes_that_are_no_utf8_cost_their_row_alone(read):
    long = b'{"images": [{"id": 1, "file_name": "a.png", "width": %s, "height": 30}, {"id": 2, "file_name": "b.png"}]'
    end = b', "annotations": [], "categories": []}'
    found, other = read(long % (b"9" * 5000) + end)
    assert "not JSON (Exceeds the limit" in found.reason and isinstance(other, Item)
    found, other = read((long % b"40").replace(b"a.png", b"\xbb\xfa.png") + end)
    assert isinstance(found, Fault) and isinstance(other, Item)
    for text in (b"\xef\xbb\xbf" + long % b"40" + end, (long % b"40" + end).decode().encode("utf-16")):
        assert [one.id for one in read(text)] == ["a.png", "b.png"]
    deep = b"[" * 100_000 + b"]" * 100_000
    found, other = read(long % deep + end)
    assert found.reason == "nested too deep" and isinstance(other, Item)


@pytest.mark.parametrize(
    ("data", "words"),
    [
        (b"", "a JSON list of rows is expected"),
        (b"[]", "no COCO JSON with lists images, annotations, categories ('images' is missing)"),
        (b'{"images": [], "annotations": []}', "('categories' is missing)"),
        (b'{"images": {}, "annotations": [], "categories": []}', "('images' is missing)"),
        (b'{"images": [], "annotations": [], "categories": [], "images": []}', "('images' comes twice)"),
        (b'{"images": [{"id": 1}, {"id": ', "record 2: torn"),
        (b'{"images": [{"id": 1} {"id": 2}]}', "after record 1: torn, or not JSON"),
        (b'{"images": [{},], "annotations": [], "categories": []}', "record 2: not JSON"),
        (b'{"images": [' + b"[" * 200_000, "nested too deep"),
    ],
)
def test_a_file_that_is_no_coco_is_one_line(read, data, words):
    with pytest.raises(InputError) as caught:
        read(data)
    assert words in str(caught.value) and "\n" not in str(caught.value)
