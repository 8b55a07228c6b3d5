import csv
import io
import json
import logging
import tarfile

import numpy as np
import pytest
from PIL import Image

from lrsclip_jax.sources import Drawing, Keys, open_source
from lrsclip_jax.errors import InputError

ROWS = [
    {
        "image": "a/1.jpg",
        "long": "A long one.\nIn two lines.",
        "short": ["one", " two "],
        "label": "A",
        "split": "val",
    },
    {"image": "a/2.jpg", "long": None, "short": "three", "licence": "CC0", "id": 17, "source": "MillionAID"},
]


def write(path, content) -> str:
    path.write_text(content if isinstance(content, str) else json.dumps(content))
    return str(path)


def lines(rows) -> str:
    return "".join(json.dumps(row) + "\n" for row in rows)


@pytest.mark.parametrize(
    "name, content", [("list.json", ROWS), ("lines.jsonl", lines(ROWS)), ("odd.json", lines(ROWS))]
)
def test_json_lists_and_lines(tmp_path, name, content):
    source = open_source(write(tmp_path / name, content))
    first, second = source
    assert first.image == tmp_path / "a/1.jpg" and second.image == tmp_path / "a/2.jpg"
    assert first.long == ("A long one. In two lines.",) and first.short == ("one", "two")
    assert second.long == () and second.short == ("three",) and second.empty_texts == 1
    assert (first.id, first.label, first.split, first.licence) == ("a/1.jpg", "A", "val", None)
    assert (second.id, second.split, second.licence, second.source) == ("17", None, "CC0", "MillionAID")
    assert first.source == source.name == name.partition(".")[0]
    assert list(source) == [first, second]  # a source can be read again


def test_keys_are_renamed_nested_and_joined(tmp_path):
    rows = [
        {
            "file": "1.tif",
            "cls": "Port",
            "conversations": [{"from": "human", "value": "?"}, {"from": "gpt", "value": "A port."}],
        }
    ]
    (tmp_path / "images").mkdir()
    keys = Keys(image="cls/file", long="conversations.1.value", label="cls")
    (item,) = open_source(write(tmp_path / "vhm.json", rows), keys, image_root=tmp_path / "images")
    assert item.image == tmp_path / "images/Port/1.tif" and item.id == "Port/1.tif"
    assert item.long == ("A port.",) and item.label == "Port"


def test_karpathy_json_of_all_splits(tmp_path):
    images = [
        {"filename": "1.tif", "split": "train", "sentences": [{"raw": "One ."}, {"raw": "Two ."}]},
        {"filename": "2.tif", "filepath": "sub", "split": "test", "sentences": [{"raw": ""}]},
    ]
    path = write(tmp_path / "dataset_rsitmd.json", {"images": images, "dataset": "rsitmd"})
    first, second = open_source(path)
    assert first.image == tmp_path / "1.tif" and first.short == ("One .", "Two .") and first.split == "train"
    assert second.image == tmp_path / "sub/2.tif" and second.short == () and second.empty_texts == 1
    write(tmp_path / "indented.json", json.dumps({"images": images}, indent=2))
    assert [item.id for item in open_source(str(tmp_path / "indented.json"))] == ["1.tif", "sub/2.tif"]
    as_long = next(iter(open_source(path, Keys(long="sentences"))))
    assert as_long.long == ("One .", "Two .") and as_long.short == ()


@pytest.mark.parametrize("suffix, delimiter", [(".csv", ","), (".tsv", "\t"), (".csv", "\t")])
def test_tables_merge_the_rows_of_an_image(tmp_path, suffix, delimiter):
    rows = [["filepath", "title"], ["a.jpg", "one, two"], ["b.jpg", ""], ["a.jpg", 'a "quoted"\nthree']]
    path = tmp_path / f"train{suffix}"
    with open(path, "w", newline="") as file:
        csv.writer(file, delimiter=delimiter).writerows(rows)
    first, second = open_source(str(path))
    assert first.id == "a.jpg" and first.short == ("one, two", 'a "quoted" three')
    assert second.id == "b.jpg" and second.short == () and second.empty_texts == 1


def test_table_in_gb18030_is_reported(tmp_path, caplog):
    path = tmp_path / "rsicd_test.csv"
    path.write_bytes("filename,title\na.jpg,许多飞机\n".encode("gb18030"))
    with caplog.at_level(logging.WARNING):
        (item,) = open_source(str(path), Keys(image="filename"))
    assert item.short == ("许多飞机",) and "read as GB 18030" in caplog.text
    path.write_bytes(b"filepath,title\na.jpg,\xff\xff\n")
    with pytest.raises(InputError, match="neither UTF-8 nor GB 18030"):
        open_source(str(path))
    write(path, "filepath,title\na.jpg,one,two\n")
    with pytest.raises(InputError, match="line 2: more columns than the header"):
        open_source(str(path))


def test_class_folders_make_a_short_text_of_the_class(tmp_path):
    for name in (
        "BareLand/2.jpg",
        "BareLand/1.TIF",
        "storage_tanks/1.png",
        "storage_tanks/notes.txt",
        "stray.jpg",
    ):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).touch()
    items = list(open_source(str(tmp_path)))
    assert [item.id for item in items] == ["BareLand/1.TIF", "BareLand/2.jpg", "storage_tanks/1.png"]
    assert items[0].short == ("a satellite photo of bare land",) and items[0].label == "BareLand"
    (other, *_) = open_source(str(tmp_path), template="{class} from above.")
    assert other.short == ("bare land from above.",)
    with pytest.raises(InputError, match="has no {class}"):
        list(open_source(str(tmp_path), template="a photo"))
    (tmp_path / "empty").mkdir()
    with pytest.raises(InputError, match="no images in its subfolders"):
        list(open_source(str(tmp_path / "empty")))


def write_tar(path, members: dict[str, bytes]) -> None:
    with tarfile.open(path, "w") as tar:
        for name, data in members.items():
            info = tarfile.TarInfo(name)
            info.size = len(data)
            tar.addfile(info, io.BytesIO(data))


def png(value: int) -> bytes:
    file = io.BytesIO()
    Image.fromarray(np.full((8, 8, 3), value, np.uint8)).save(file, "PNG")
    return file.getvalue()


def test_webdataset_tars(tmp_path):
    caption = json.dumps({"long": "Long.", "short": ["s1", "s2"], "image": "ignored.jpg"}).encode()
    first = {"x/1.png": png(1), "x/1.txt": b"one\n", "x/1.cls": b"3"}
    write_tar(tmp_path / "t-0.tar", {**first, "x/2.json": caption, "x/2.png": png(2)})
    write_tar(tmp_path / "t-1.tar", {"9.v1.png": png(9), "9.json": b"{}", "9.txt": b"nine"})
    for spec in (tmp_path, tmp_path / "t-*.tar"):
        items = list(open_source(str(spec)))
        assert [item.id for item in items] == ["x/1", "x/2", "9"]
        assert [item.image.read_bytes() for item in items[:2]] == [png(1), png(2)]
        assert [item.short for item in items] == [("one",), ("s1", "s2"), ("nine",)]
        assert items[1].long == ("Long.",)
    labelled = list(open_source(str(tmp_path / "t-0.tar"), Keys(label="cls", long="txt", short="short")))
    assert labelled[0].label == "3" and labelled[0].long == ("one",) and labelled[0].short == ()


def test_webdataset_with_other_extensions(tmp_path):
    write_tar(tmp_path / "rs5m.tar", {"1.img_content": png(5), "1.img_name": b"a.png", "1.caption": b"five"})
    (item,) = open_source(str(tmp_path / "rs5m.tar"), Keys(image="img_content", short="caption", id="img_name"))
    assert item.image.read_bytes() == png(5) and item.short == ("five",) and item.id == "a.png"


def test_torn_and_compressed_tars_are_named(tmp_path):
    write_tar(tmp_path / "t.tar", {f"{i}.{kind}": b"x" * 3000 for i in range(9) for kind in ("jpg", "txt")})
    data = (tmp_path / "t.tar").read_bytes()
    (tmp_path / "t.tar").write_bytes(data[: len(data) // 2 + 700])
    with pytest.raises(InputError, match="t.tar: torn, .* after sample 5"):
        list(open_source(str(tmp_path / "t.tar")))
    with tarfile.open(tmp_path / "t.tar", "w:gz") as tar:
        tar.add(__file__)
    with pytest.raises(InputError, match="t.tar: torn, or not an uncompressed tar"):
        list(open_source(str(tmp_path / "t.tar")))


def test_procedural_scenes():
    items = list(open_source("scenes:3:7"))
    assert [item.image for item in items] == [Drawing(7, 0), Drawing(7, 1), Drawing(7, 2)]
    assert len({item.id for item in items}) == 3
    assert next(iter(open_source("scenes:1"))).image == Drawing(0, 0)
    with pytest.raises(InputError, match="scenes:many"):
        open_source("scenes:many")


def test_repeated_ids_are_numbered(tmp_path):
    rows = [{"image": "a.jpg", "short": text} for text in "xyz"]
    assert [i.id for i in open_source(write(tmp_path / "r.jsonl", lines(rows)))] == [
        "a.jpg",
        "a.jpg#2",
        "a.jpg#3",
    ]


def test_wrong_keys_name_the_record_and_the_nearest_key(tmp_path):
    rows = [ROWS[0], {"img": "a.jpg", "shrt": "x"}]
    path = write(tmp_path / "c.jsonl", lines(rows))
    with pytest.raises(InputError) as caught:
        list(open_source(path))
    assert str(caught.value) == (
        "c.jsonl, line 2: no key 'image' of the image (--image-key), keys found: img, shrt, did you mean 'img'?"
    )
    path = write(tmp_path / "c.json", [{"image": "a.jpg", "shrt": "x"}])
    with pytest.raises(InputError, match="c.json, record 1: no key 'long' or 'short' of the texts.*mean 'shrt'"):
        list(open_source(path))
    path = write(tmp_path / "d.json", ROWS)
    with pytest.raises(InputError, match="no record has the key 'licenses' that --licence-key names.*mean 'licence'"):
        list(open_source(path, Keys(licence="licenses")))


@pytest.mark.parametrize(
    "name, content, message",
    [
        ("a.jsonl", '{"image": "x", "short": 3}\n', "a.jsonl, line 1: 'short' holds 3, a text or a list"),
        ("a.jsonl", '{"image": ["x"], "short": ""}\n', r"line 1: 'image' is \['x'\], the path of an image"),
        (
            "a.jsonl",
            '{"image": "x", "short": "y", "label": {}}\n',
            "line 1: 'label' is {}, a text or a number",
        ),
        ("a.jsonl", '\n{"image": "x", "sho', "a.jsonl, line 2: not JSON"),
        ("a.jsonl", '"text"\n', "line 1: a str where an object"),
        ("a.json", "[{]", "a.json: not JSON"),
        ("a.json", '{"annotations": []}', "line 1: no key 'image'"),
        ("a.json", '{\n"annotations": []}', "a.json: neither a list of records"),
        ("a.json", '{\n"images": [{"filename": "x"}]}', "a.json, image 1: no list 'sentences'"),
        ("a.parquet", "", "a.parquet: not recognised; a .json"),
    ],
)
def test_malformed_lists_say_where(tmp_path, name, content, message):
    with pytest.raises(InputError, match=message):
        list(open_source(write(tmp_path / name, content)))


def test_missing_source_and_image_root(tmp_path):
    with pytest.raises(InputError, match="nowhere.json: no such file or folder"):
        open_source(str(tmp_path / "nowhere.json"))
    path = write(tmp_path / "a.json", ROWS)
    with pytest.raises(InputError, match="the image root .*gone is no folder"):
        open_source(path, image_root=tmp_path / "gone")
    with pytest.raises(InputError, match="leave out --image-root"):
        open_source(str(tmp_path), image_root=tmp_path)


def test_lone_surrogates_do_not_survive(tmp_path):
    (item,) = open_source(write(tmp_path / "a.jsonl", '{"image": "x", "short": "a \\ud800 b"}\n'))
    assert item.short == ("a ? b",)
