"""What a corpus makes of sources: records with ids, defaults and provenance, and reasons for what is set aside."""

import csv
import io
import json
import os
import struct
import tarfile
import zlib
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from PIL import Image

from lrsclip_jax.corpus.lrs2m_export import export_lrs2m
from lrsclip_jax.corpus.reading import read_source, with_unique_ids
from lrsclip_jax.corpus.records.record import CorpusRecord, SetAside
from lrsclip_jax.corpus.records.store import read as read_records
from lrsclip_jax.corpus.stages.stage import run_stage
from lrsclip_jax.errors import InputError
from lrsclip_jax.sources.item import Thing
from lrsclip_jax.sources.named_kinds import NAMED_KINDS


def write(path, content) -> str:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(content if isinstance(content, str) else json.dumps(content), encoding="utf-8")
    return str(path)


def picture(path, width=40, height=30, **how):
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new("RGB", (width, height), "green").save(path, **how)
    return path


def split_up(found) -> tuple[list[CorpusRecord], list[str]]:
    found = list(found)
    reasons = [one.reason for one in found if isinstance(one, SetAside)]
    assert all("\n" not in reason for reason in reasons)
    return [one for one in found if isinstance(one, CorpusRecord)], reasons


def test_bad_sources_are_refused_at_once(tmp_path):
    path = write(tmp_path / "a.json", [])
    with pytest.raises(InputError, match="'coca' is unknown; known: captions, .* did you mean 'coco'"):
        read_source("coca", path)
    with pytest.raises(InputError, match="no such file"):
        read_source("coco", str(tmp_path / "b.json"))
    with pytest.raises(InputError, match="'coco' has no option 'keys', it has none of its own"):
        read_source("coco", path, keys={})
    with pytest.raises(InputError, match="image root .* is no folder"):
        read_source("coco", path, image_root=str(tmp_path / "images"))
    assert all(kind.help and "\n" not in kind.help for kind in NAMED_KINDS.values())


def test_a_broken_line_is_set_aside_and_the_rest_goes_on(tmp_path):
    good = {"image": "a.jpg", "short": ["one", " ", None], "long": "A long\ntext.", "split": "val", "source": "DIOR"}
    lines = [good, '{"image": "b.jpg", "short": ', {"image": 3, "short": "x"}, {"image": "c.jpg", "short": ""}]
    lines += [{"image": "d.jpg", "long": 5}, [1], {"image": "e.jpg", "short": "again", "licence": "CC0"}]
    lines += [{"image": "a.jpg", "short": "two", "split": "val"}, {"image": "a.jpg", "short": "x", "split": "test"}]
    path = write(
        tmp_path / "set.jsonl", "".join(f"{one if isinstance(one, str) else json.dumps(one)}\n" for one in lines)
    )
    records, reasons = split_up(read_source("captions", path, licence="MIT", split="train"))
    first, second = records
    assert (first.id, first.source, first.split, first.licence) == ("set/a.jpg", "DIOR", "val", "MIT")
    assert first.short == ("one", "two") and first.long == ("A long text.",) and first.image == str(tmp_path / "a.jpg")
    assert (second.id, second.source, second.split, second.licence) == ("set/e.jpg", "set", "train", "CC0")
    assert first.provenance[0].detail == "set.jsonl, line 1"
    assert [reason.partition(":")[0] for reason in reasons] == [f"set.jsonl, line {n}" for n in (9, 2, 3, 4, 5, 6)]
    expected = ("split 'test', where an earlier", "not JSON", "path of an image", "neither a text", "holds 5", "a list")
    for words, reason in zip(expected, reasons, strict=True):
        assert words in reason


def test_wrong_keys_end_the_reading(tmp_path):
    lines = "".join(f'{{"file": "{n}.jpg", "caption": "x"}}\n' for n in range(30))
    path = write(tmp_path / "set.jsonl", lines)
    with pytest.raises(InputError, match="set.jsonl, line 1: no key 'image' of the image .* keys found: file, caption"):
        list(read_source("captions", path))
    with pytest.raises(InputError, match="no key 'captain' of the texts .* did you mean 'caption'"):
        list(read_source("captions", path, keys={"image": "file", "short": "captain"}))
    with pytest.raises(InputError, match="keys: 'shorts' is none of .* did you mean 'short'"):
        list(read_source("captions", path, keys={"shorts": "caption"}))
    records, _ = split_up(read_source("captions", path, keys={"image": "file", "short": "caption"}))
    assert len({record.id for record in records}) == 30


def test_karpathy_tables_and_class_folders(tmp_path):
    images = [{"filename": "1.tif", "split": "test", "sentences": [{"raw": "One ."}, {"raw": "Two ."}]}]
    images += [{"filename": "2.tif", "sentences": [5]}]
    records, reasons = split_up(read_source("captions", write(tmp_path / "k.json", {"images": images}), split="train"))
    assert records[0].short == ("One .", "Two .") and records[0].split == "test"
    assert len(reasons) == 1 and "k.json, image 2: 'sentences' holds 5, a text" in reasons[0]

    table = "filename\ttitle\na.jpg\tOne.\nb.jpg\tTwo.\na.jpg\tThree.\nc.jpg\tx\ty\n"
    records, reasons = split_up(read_source("remoteclip", write(tmp_path / "Det-10.csv", table), name="Det-10"))
    assert [(one.id, one.short) for one in records] == [
        ("Det-10/a.jpg", ("One.", "Three.")),
        ("Det-10/b.jpg", ("Two.",)),
    ]
    assert reasons == ["Det-10.csv, line 5: more columns than the header has (filename, title)"]
    (tmp_path / "rsicd.csv").write_bytes("filepath,title\nx/港.jpg,a harbour\n".encode("gb18030"))
    (record,) = read_source("remoteclip", str(tmp_path / "rsicd.csv"))
    assert record.image == str(tmp_path / "x/港.jpg") and record.short == ("a harbour",)

    picture(tmp_path / "aid/DenseForest/1.jpg")
    (record,) = read_source("captions", str(tmp_path / "aid"), template="a photo of {class}")
    assert (record.id, record.label, record.source) == ("aid/DenseForest/1.jpg", "DenseForest", "aid")
    assert record.short == ("a photo of dense forest",)


def write_tar(path, samples):
    with tarfile.open(path, "w") as tar:
        for name, data in samples:
            info = tarfile.TarInfo(name)
            info.size = len(data)
            tar.addfile(info, io.BytesIO(data))


def test_images_of_tars_become_files_once(tmp_path):
    jpeg = picture(tmp_path / "1.jpg").read_bytes()
    samples = [("0.img_content", jpeg), ("0.img_name", b"fmow/1.jpg"), ("0.caption", b"a harbour\n")]
    samples += [("1.img_content", jpeg), ("1.img_name", b"../../out.jpg"), ("1.caption", b"x")]
    samples += [("2.img_name", b"2.jpg"), ("2.caption", b"x")]
    (tmp_path / "tars").mkdir()
    write_tar(tmp_path / "tars/rs3-val-0000.tar", samples)
    with pytest.raises(InputError, match="option extract_to is needed"):
        list(read_source("rs5m", str(tmp_path / "tars")))
    out = tmp_path / "images"
    (record,), reasons = split_up(read_source("rs5m", str(tmp_path / "tars"), name="RS5M", extract_to=str(out)))
    assert (record.id, record.short, record.split) == ("RS5M/fmow/1.jpg", ("a harbour",), "val")
    assert (out / "rs3-val-0000/fmow/1.jpg").read_bytes() == jpeg and record.image.endswith("fmow/1.jpg")
    assert "leads out of" in reasons[0] and "img_content, img_name and caption are expected" in reasons[1]
    assert sorted(path.name for path in out.rglob("*.*")) == ["1.jpg"] and not (tmp_path / "out.jpg").exists()
    before = (out / "rs3-val-0000/fmow/1.jpg").stat().st_mtime_ns
    assert split_up(read_source("rs5m", str(tmp_path / "tars"), name="RS5M", extract_to=str(out)))[0] == [record]
    assert (out / "rs3-val-0000/fmow/1.jpg").stat().st_mtime_ns == before

    write_tar(tmp_path / "web-0.tar", [("7.jpg", jpeg), ("7.txt", b"a port")])
    (record,) = read_source("captions", str(tmp_path / "web-*.tar"), name="web", extract_to=str(out))
    assert record.short == ("a port",) and (out / "web-0/7.jpg").read_bytes() == jpeg and record.source == "web"

    path = write(tmp_path / "pub11_train_intermediate.csv", "img_name,text\na.jpg,One.\nb.jpg,Two.\n")
    records, _ = split_up(read_source("rs5m", path))
    assert [one.short for one in records] == [("One.",), ("Two.",)] and records[0].split == "train"


def test_vhm_takes_the_answers(tmp_path):
    turns = [{"from": "human", "value": "<image>\nDescribe."}, {"from": "gpt", "value": "<image>A long text."}]
    listed = [{"image": "1.jpg", "source_dataset": "millionaid", "conversations": turns}]
    listed += [{"image": "2.jpg", "source_dataset": "fmow", "conversations": None}]
    path = write(tmp_path / "list_pretrain.json", listed)
    (record,), reasons = split_up(read_source("vhm", path, name="VHM", licence="Apache-2.0"))
    assert record.image == str(tmp_path / "millionaid/1.jpg") and record.source == "millionaid"
    assert record.long == ("A long text.",) and record.id == "VHM/millionaid/1.jpg"
    assert "record 2: 'conversations'" in reasons[0]

    listed = [{**listed[0], "source_dataset": name} for name in ("fmow", "loveda", "fmow")]
    (record,) = read_source("vhm", write(tmp_path / "list.json", listed), only="fmow")
    assert record.id == "list/fmow/1.jpg" and record.long == ("A long text.", "A long text.")


def test_images_without_texts(tmp_path):
    for name in ("b/1.jpg", "a/2.TIF", "a/notes.txt"):
        write(tmp_path / "inria" / name, "")
    records = list(read_source("images", str(tmp_path / "inria"), licence="MIT"))
    assert [one.id for one in records] == ["inria/a/2.TIF", "inria/b/1.jpg"]
    assert records[0].image == str(tmp_path / "inria/a/2.TIF") and records[0].licence == "MIT"
    (tmp_path / "empty").mkdir()
    with pytest.raises(InputError, match="no images below it"):
        list(read_source("images", str(tmp_path / "empty")))


def test_what_cannot_be_read_at_all(tmp_path):
    with pytest.raises(InputError, match="can't be read"):
        list(read_source("lrs2m", str(tmp_path)))
    (tmp_path / "a.csv").write_bytes(b"filepath,title\nx,\xff\xff\n")
    with pytest.raises(InputError, match="a.csv: neither UTF-8 nor GB 18030 nor Windows-1252 text"):
        list(read_source("remoteclip", str(tmp_path / "a.csv")))
    write(tmp_path / "deep.jsonl", '{"image": "a.jpg", "short": "x"}\n' + "[" * 200_000)
    (record,), reasons = split_up(read_source("lrs2m", str(tmp_path / "deep.jsonl")))
    assert len(reasons) == 1 and "deep.jsonl, line 2: nested too deep" in reasons[0]


def test_ids_stay_single_over_sources(tmp_path):
    path = write(tmp_path / "a.jsonl", '{"image": "a.jpg", "short": "x"}\n' * 2)
    found = with_unique_ids([*read_source("captions", path), *read_source("captions", path)] * 2)
    assert [record.id for record in found] == ["a/a.jpg", "a/a.jpg#2", "a/a.jpg#3", "a/a.jpg#4"]


@pytest.mark.parametrize("file", ["set.json", "set.jsonl"])
def test_lrs2m_goes_out_and_comes_back(tmp_path, file):
    records = [
        CorpusRecord("x/1", str(tmp_path / "a/1.jpg"), "DIOR", ("s",), ("l",), licence="MIT", split="train"),
        CorpusRecord("x/2", "/elsewhere/2.jpg", "DOTA", ("s", "t ü"), (), label="Port", negative=("", "ü")),
    ]
    keys = {"long": "long_caption", "image": "file", "negative": "wrong"}
    assert export_lrs2m(records, tmp_path / file, keys, tmp_path) == 2
    back, reasons = split_up(read_source("lrs2m", str(tmp_path / file), keys=keys))
    fields = ("image", "source", "short", "long", "label", "licence", "split", "negative")
    assert not reasons
    for one, other in zip(records, back, strict=True):
        assert [getattr(one, field) for field in fields] == [getattr(other, field) for field in fields]
    assert '"file": "a/1.jpg"' in (tmp_path / file).read_text() and not list(tmp_path.glob("*.incomplete"))
    assert export_lrs2m([], tmp_path / file) == 0 and list(read_source("lrs2m", str(tmp_path / file))) == []


def test_coco(tmp_path):
    for name in ("a", "b", "c", "d", "f"):
        picture(tmp_path / f"{name}.png")
    document = {
        "images": [{"id": i, "file_name": f"{name}.png", "width": 40, "height": 30} for i, name in enumerate("abcdef")],
        "categories": [{"id": 3, "name": "ship"}],
        "annotations": [
            {"id": 1, "image_id": 0, "category_id": 3, "bbox": [1, 2, 10, 5], "segmentation": [[1, 2, 11, 2, 11, 7]]},
            {"id": 2, "image_id": 0, "category_id": 3, "bbox": [35, 25, 10, 10], "segmentation": {"counts": "x"}},
            {"id": 3, "image_id": 0, "category_id": 3, "bbox": [0, 0, 9, 9], "iscrowd": 1},
            {"id": 4, "image_id": 1, "category_id": 4, "bbox": [0, 0, 9, 9]},
            {"id": 5, "image_id": 3, "category_id": 3, "bbox": [50, 0, 9, 9]},
            {"id": 6, "image_id": 99, "category_id": 3, "bbox": [0, 0, 9, 9]},
            {"id": 7, "image_id": 5, "category_id": 3, "bbox": [0, 0, 9]},
        ],
    }
    document["images"][2]["width"] = 41
    records, reasons = split_up(read_source("coco", write(tmp_path / "instances.json", document), name="HRSC"))
    (record,) = records
    assert (record.id, record.width, record.height) == ("HRSC/a.png", 40, 30)
    assert record.things[0] == Thing("ship", (1, 2, 11, 7), ((1, 2), (11, 2), (11, 7)))
    assert record.things[1] == Thing("ship", (35, 25, 40, 30))
    assert record.provenance[0].detail == "instances.json, image 1; crowds left out: 1; clipped at the edge: 1"
    expected = (
        "annotation 4: category 4 is unknown; known: 3 ship",
        "image 3: made for an image of 41 × 30 pixels",
        "object 1, 'ship', is outside the image of 40 × 30 pixels (box 50, 0, 59, 9)",
        "e.png: image can't be read (No such file",
        "annotation 7: bbox is [0, 0, 9]",
        "annotation 6: its image 99 is not among the images",
    )
    for words, reason in zip(expected, reasons, strict=True):
        assert words in reason
    with pytest.raises(InputError, match="no COCO JSON"):
        list(read_source("coco", write(tmp_path / "no.json", {"images": []})))


VOC = """<annotation><filename>{name}</filename><size><width>40</width><height>30</height></size>
<object><name>ship</name><bndbox><xmin>{x0}</xmin><ymin>1</ymin><xmax>{x1}</xmax><ymax>30</ymax></bndbox>
<part><name>bow</name></part></object></annotation>"""
BOMB = """<?xml version="1.0"?><!DOCTYPE x [<!ENTITY a "aaaaaaaaaa"><!ENTITY b "&a;&a;&a;&a;&a;&a;">]>
<annotation><filename>&b;</filename></annotation>"""


def test_voc_counts_from_one_and_refuses_entities(tmp_path):
    picture(tmp_path / "JPEGImages/1.jpg"), picture(tmp_path / "JPEGImages/2.JPG")
    write(tmp_path / "Annotations/1.xml", VOC.format(name="1.jpg", x0=1, x1=40))
    write(tmp_path / "Annotations/2.xml", VOC.format(name="other.jpg", x0=5, x1=5))
    write(tmp_path / "Annotations/3.xml", BOMB)
    (tmp_path / "Annotations/4.xml").write_text(BOMB.replace("?>", ' encoding="utf-16"?>', 1), encoding="utf-16")
    write(tmp_path / "Annotations/5.xml", "<annotation>")
    write(tmp_path / "Annotations/6.xml", VOC.format(name="6.jpg", x0=5, x1=5))
    write(tmp_path / "Annotations/7.xml", VOC.format(name="1.jpg", x0="left", x1=5))
    found = read_source("voc", str(tmp_path / "Annotations"), image_root=str(tmp_path / "JPEGImages"))
    (first, second), reasons = split_up(found)
    assert first.things == (Thing("ship", (0, 0, 40, 30)),) and first.id == "Annotations/1.jpg"
    assert second.things == (Thing("ship", (4, 0, 5, 30)),) and second.image.endswith("2.JPG")
    expected = ("3.xml: a document type", "4.xml: a document type", "5.xml: no XML", "6: no image", "no box of four")
    for words, reason in zip(expected, reasons, strict=True):
        assert words in reason


def test_dota(tmp_path):
    labels = {
        "1": "imagesource:GoogleEarth\ngsd:0.5\n10 5 20 5 20 15 10 15 plane 0\n30 0 50 0 50 10 30 10 small-vehicle 1\n",
        "2": "imagesource:GoogleEarth\ngsd:null\n",
        "3": " \n",
        "4": "10 5 20 5 20 15 10 15 plane 0\n10 5 20 5 20 15 10 plane 0\n",
        "5": "41 5 60 5 60 15 41 15 plane 0\n",
        "6": "1 1 1 1 1 1 1 1 plane\n",
    }
    for stem, text in labels.items():
        picture(tmp_path / f"images/{stem}.png")
        write(tmp_path / f"labelTxt/{stem}.txt", text)
    found = read_source("dota", str(tmp_path / "labelTxt"), image_root=str(tmp_path / "images"), name="DOTA")
    (first, second), reasons = split_up(found)
    assert first.things[0] == Thing("plane", (10, 5, 20, 15), ((10, 5), (20, 5), (20, 15), (10, 15)))
    assert first.things[1].name == "small-vehicle" and first.things[1].box == (30, 0, 40, 10)
    assert set(first.things[1].polygon) == {(30, 0), (40, 0), (40, 10), (30, 10)}
    assert second.things == () and second.provenance[0].detail == "2.txt; no objects"
    expected = (
        "3.txt: an empty label file",
        "4.txt, line 2: eight",
        "5.txt: object 1, 'plane', is outside",
        "has no area",
    )
    for words, reason in zip(expected, reasons, strict=True):
        assert words in reason


def test_masks(tmp_path):
    mask = np.zeros((30, 40), np.uint8)
    mask[5:15, 10:30], mask[20:28, 2:10], mask[0, 0] = 1, 2, 255
    names = {1: "building", 2: "tennis court"}
    colours = np.dstack([mask] * 3)
    for stem, pixels in {"1": mask, "2": mask[1:], "3": np.where(mask == 2, 7, mask), "4": colours}.items():
        picture(tmp_path / f"images/{stem}.jpg")
        (tmp_path / "masks").mkdir(exist_ok=True)
        Image.fromarray(pixels.astype(np.uint8)).save(tmp_path / f"masks/{stem}_label.png")
    palette = Image.fromarray(mask).convert("P")  # the values are grey levels: looked up, they would be colours
    palette.putdata(mask.ravel()), palette.putpalette([value % 7 for value in range(768)])
    palette.save(tmp_path / "masks/5_label.png"), picture(tmp_path / "images/5.jpg")

    def read(**options):
        root = str(tmp_path / "images")
        return split_up(read_source("masks", str(tmp_path / "masks"), image_root=root, suffix="_label", **options))

    (first, last), reasons = read(names=names)
    assert {(thing.name, thing.box) for thing in first.things} == {
        ("building", (10, 5, 30, 15)),
        ("tennis court", (2, 20, 10, 28)),
    }
    assert last.things == first.things
    expected = ("made for an image of 40 × 29 pixels", "unknown class values 7", "colours")
    for words, reason in zip(expected, reasons, strict=True):
        assert words in reason
    assert len(read(names=names, ignore=(0, 7, 255))[0]) == 3
    grown = read(names={1: "Tree", 2: "tennis court"})[0][0]
    assert {thing.name for thing in grown.things} == {"tree cover", "tennis court"}  # touching crowns are no tree
    with pytest.raises(InputError, match="option names is needed"):
        read()


def test_boxes_csv(tmp_path):
    for name in "abcd":
        picture(tmp_path / f"{name}.png")
    columns = ["image_path", "xmin", "ymin", "xmax", "ymax", "label"]
    table = [["a.png", 1, 2, 3, 4, "Tree"], ["b.png", 1, 2, "x", 4, "Tree"], ["a.png", -1, 2, 3, 40, "Dead tree"]]
    table += [["c.png", 0, 0, 0, 0, ""], ["d.png", 5, 5, 5, 9, "Tree"], ["e.png", 1, 2, 3, 4, "Tree"]]
    with open(tmp_path / "boxes.csv", "w", newline="") as file:
        csv.writer(file).writerows([columns, *table])
    (first, empty), reasons = split_up(read_source("boxes-csv", str(tmp_path / "boxes.csv")))
    assert first.things == (Thing("Tree", (1, 2, 3, 4)), Thing("Dead tree", (0, 2, 3, 30)))
    assert empty.id == "boxes/c.png" and empty.things == ()
    expected = (
        "boxes.csv, line 3: a box of four numbers",
        "has no area (box 5, 5, 5, 9)",
        "e.png: image can't be read",
    )
    for words, reason in zip(expected, reasons, strict=True):
        assert words in reason
    with pytest.raises(InputError, match="no column label; columns found"):
        list(read_source("boxes-csv", write(tmp_path / "c.csv", "image_path,xmin,ymin,xmax,ymax\na,1,1,2,2\n")))


def test_a_bomb_is_set_aside_by_its_header(tmp_path):
    header = struct.pack(">IIBBBBB", 60000, 60000, 8, 2, 0, 0, 0)
    chunk = b"IHDR" + header
    png = b"\x89PNG\r\n\x1a\n" + struct.pack(">I", 13) + chunk + struct.pack(">I", zlib.crc32(chunk))
    data = b"IDAT" + zlib.compress(b"")
    png += struct.pack(">I", len(data) - 4) + data + struct.pack(">I", zlib.crc32(data))
    (tmp_path / "bomb.png").write_bytes(png)
    (tmp_path / "torn.jpg").write_bytes(picture(tmp_path / "a.jpg").read_bytes()[:20])
    (tmp_path / "page.jpg").write_text("<html>")
    rows_ = "".join(f"{name},1,2,3,4,Tree\n" for name in ("bomb.png", "torn.jpg", "page.jpg", "a.jpg"))
    path = write(tmp_path / "boxes.csv", "image_path,xmin,ymin,xmax,ymax,label\n" + rows_)
    (record,), reasons = split_up(read_source("boxes-csv", path))
    assert record.id == "boxes/a.jpg" and len(reasons) == 3
    assert "bomb.png: over 178,956,970 pixels" in reasons[0]


def test_names_of_files_that_are_no_utf8_are_spelled(tmp_path):
    """A zip of Chinese names, unpacked on Linux; Parquet files hold UTF-8 alone."""
    picture(tmp_path / "AID/Airport/1.jpg"), picture(tmp_path / "AID/Bare/1.jpg")
    os.rename(tmp_path / "AID/Bare/1.jpg", os.fsencode(tmp_path / "AID/Bare/") + "/机场.jpg".encode("gbk"))
    for kind in ("captions", "images"):
        records, reasons = split_up(read_source(kind, str(tmp_path / "AID")))
        assert [record.id for record in records] == [
            "AID/Airport/1.jpg",
            "AID/Bare/⟨bb⟩⟨fa⟩⟨b3⟩⟨a1⟩.jpg",
        ] and not reasons
        counts = run_stage(tmp_path / kind, lambda kind=kind: read_source(kind, str(tmp_path / "AID")), iter, {})
        assert counts == {"read": 2, "kept": 2, "set aside": 0}
        assert all(record.file.read_bytes() for record in read_records(tmp_path / kind))


def test_an_unclosed_quote_costs_its_own_row(tmp_path):
    rows = ["filepath,title", '0.jpg,"A harbour with two piers', "1.jpg,A forest", '2.jpg,"A ""beach""\nof sand"']
    records, (reason,) = split_up(read_source("captions", write(tmp_path / "c.csv", "\n".join(rows))))
    assert [(one.id, one.short) for one in records] == [
        ("c/1.jpg", ("A forest",)),
        ("c/2.jpg", ('A "beach" of sand',)),
    ]
    assert "c.csv, line 2: " in reason and "quotation mark" in reason


def test_files_that_systems_leave_are_no_images(tmp_path):
    names = (
        "a/1.jpg",
        "a/._1.jpg",
        ".hidden/2.jpg",
        "__MACOSX/a/1.jpg",
        "a/@eaDir/1.jpg",
        "a/.ipynb_checkpoints/1.jpg",
    )
    for name in names:
        write(tmp_path / "set" / name, "")
    assert [one.id for one in read_source("images", str(tmp_path / "set"))] == ["set/a/1.jpg"]


def test_images_of_parquet_files_become_files(tmp_path):
    jpeg, png, bmp = (picture(tmp_path / name).read_bytes() for name in ("1.jpg", "2.png", "3.bmp"))
    images = [{"bytes": jpeg, "path": "../1.jpg"}, {"bytes": png, "path": None}, {"bytes": bmp, "path": None}]
    table = pa.table({"image": images, "caption": ["a harbour", "a road", "a lake"]})
    pq.write_table(table, tmp_path / "train-00000-of-00001.parquet")
    out = tmp_path / "images"
    with pytest.raises(InputError, match="option extract_to is needed"):
        list(read_source("captions", str(tmp_path / "train-00000-of-00001.parquet")))
    found = read_source("captions", str(tmp_path / "train-00000-of-00001.parquet"), name="hf", extract_to=str(out))
    records, _ = split_up(found)
    assert [(one.id, one.short, one.split) for one in records] == [
        ("hf/../1.jpg", ("a harbour",), "train"),
        ("hf/train-00000-of-00001/2", ("a road",), "train"),
        ("hf/train-00000-of-00001/3", ("a lake",), "train"),
    ]
    assert [open(one.image, "rb").read() for one in records] == [jpeg, png, bmp]
    assert [Path(one.image).suffix for one in records] == [".jpg", ".png", ".bmp"]
    assert all(path.is_relative_to(out) for path in map(Path, (one.image for one in records)))
    with pytest.raises(InputError, match="'voc' has no option 'extract_to'"):
        read_source("voc", str(tmp_path), extract_to=str(out))
