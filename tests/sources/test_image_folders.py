"""Folders as people have them: class folders at several depths, archives, Hugging Face's, and what lies in between."""

import csv
import os

import pytest
from source_files import lines, picture, split_up, write

from lrsclip_jax.errors import InputError
from lrsclip_jax.sources import open_source
from lrsclip_jax.sources.listing import images_below

STRAY = {
    "hidden folder": ".ipynb_checkpoints/airport_0-checkpoint.jpg",
    "hidden folder in a class": "Airport/.ipynb_checkpoints/airport_0-checkpoint.jpg",
    "trash": ".Trash-1000/old.jpg",
    "AppleDouble": "Airport/._airport_0.jpg",
    "archive of macOS": "__MACOSX/Airport/._airport_0.jpg",
    "thumbnails of a NAS": "Airport/@eaDir/airport_0.jpg/SYNOPHOTO_THUMB_M.jpg",
    "recycle bin": "$RECYCLE.BIN/airport.jpg",
    "thumbnails of Windows": "Airport/Thumbs.db",
    "notes": "Airport/notes.txt",
}


def classes(root, *labels, images=2):
    for label in labels:
        for number in range(images):
            picture(root / label / f"{number}.jpg")
    return root


def test_class_folders_make_a_label_and_a_text_of_the_class(tmp_path):
    for name in ("BareLand/2.jpg", "BareLand/1.TIF", "storage_tanks/1.png", "storage_tanks/notes.txt", "stray.jpg"):
        picture(tmp_path / name)
    source = open_source(str(tmp_path))
    items = list(source)
    assert [item.id for item in items] == ["BareLand/1.TIF", "BareLand/2.jpg", "storage_tanks/1.png"]
    assert items[0].short == ("a satellite photo of bare land",) and items[0].label == "BareLand"
    assert source.notes == ("1 of 4 images lie at another depth than the others (stray.jpg): left out",)
    (other, *_) = open_source(str(tmp_path), template="{class} from above.")
    assert other.short == ("bare land from above.",)
    with pytest.raises(InputError, match="has no {class}"):
        open_source(str(tmp_path), template="a photo")
    (tmp_path / "empty").mkdir()
    with pytest.raises(InputError, match="no images in its subfolders"):
        open_source(str(tmp_path / "empty"))


@pytest.mark.parametrize("folders", ["known", "labels", "captions"])
@pytest.mark.parametrize("stray", STRAY.values(), ids=STRAY)
def test_what_systems_and_programs_leave_is_passed_over(tmp_path, stray, folders):
    picture(classes(tmp_path / "AID", "Airport", "BareLand") / stray)
    source = open_source(str(tmp_path / "AID"), folders=folders)
    assert [item.label for item in source] == ["Airport", "Airport", "BareLand", "BareLand"] and not source.notes


@pytest.mark.parametrize("folders", ["known", "labels", "captions"])
@pytest.mark.parametrize("stray", ["preview.png", "Airport/night/1.jpg"])
def test_a_stray_picture_takes_no_labels(tmp_path, stray, folders):
    picture(classes(tmp_path / "AID", "Airport", "BareLand") / stray)
    source = open_source(str(tmp_path / "AID"), folders=folders)
    assert [item.label for item in source] == ["Airport", "Airport", "BareLand", "BareLand"]
    assert f"1 of 5 images lie at another depth than the others ({stray})" in source.notes[0]


@pytest.mark.parametrize("folders", ["known", "labels", "captions"])
def test_class_folders_may_lie_deeper(tmp_path, folders):
    classes(tmp_path / "UCM/Images", "agricultural", "airplane")
    assert [item.label for item in open_source(str(tmp_path / "UCM"), folders=folders)] == (
        ["agricultural"] * 2 + ["airplane"] * 2
    )
    classes(tmp_path / "RSI-CB256/transportation", "airplane", "airport_runway")
    classes(tmp_path / "RSI-CB256/water area", "river", "sea")
    items = list(open_source(str(tmp_path / "RSI-CB256"), folders=folders))
    assert [item.label for item in items[::2]] == ["airplane", "airport_runway", "river", "sea"]
    assert items[0].id == "transportation/airplane/0.jpg" and items[0].split is None


def test_folders_of_splits_around_class_folders_are_splits(tmp_path):
    for split in ("train", "Test"):
        classes(tmp_path / split, "Airport", "BareLand", images=1)
    items = list(open_source(str(tmp_path)))
    assert [(item.split, item.label) for item in items] == [
        ("test", "Airport"),
        ("test", "BareLand"),
        ("train", "Airport"),
        ("train", "BareLand"),
    ]
    assert len(list(open_source(f"{tmp_path}:test"))) == 2
    classes(tmp_path / "only", "train", "test")
    with pytest.raises(InputError, match="no images in its subfolders"):
        open_source(str(tmp_path / "only"))


def test_subfolders_of_an_archive_are_classes_only_where_that_is_said(tmp_path):
    classes(tmp_path, "flight_0", "flight_1")
    picture(tmp_path / "flight_1/sub/3.jpg")
    source = open_source(str(tmp_path), folders="known")
    assert [item.label for item in source] == [None] * 5
    assert "the 2 subfolders" in source.notes[0] and "--labels=folders" in source.notes[0]
    told = open_source(str(tmp_path), folders="labels")
    assert [(item.label, item.short) for item in told] == [(f"flight_{n // 2}", ()) for n in range(4)]


def test_images_without_folders_have_no_labels(tmp_path):
    for name in ("b.jpg", "a.png", "c/d.tif"):
        picture(tmp_path / name)
    source = open_source(str(tmp_path), folders="known")
    assert [item.id for item in source] == ["a.png", "b.jpg", "c/d.tif"] and not source.notes


def test_bitmaps_and_jpeg_2000_are_images(tmp_path):
    for name in ("Port/1.bmp", "Port/2.JP2", "Park/1.BMP", "Park/2.gif"):
        picture(tmp_path / name)
    items, faults = split_up(open_source(str(tmp_path), folders="labels"))
    assert not faults and [(item.id, item.label) for item in items] == [
        ("Park/1.BMP", "Park"),
        ("Port/1.bmp", "Port"),
        ("Port/2.JP2", "Port"),
    ]


def test_images_come_in_the_order_of_their_paths(tmp_path):
    for name in ("a/1.jpg", "a.jpg", "a-b/1.jpg", "B/2.jpg", "a/b/1.jpg", "é/1.jpg", "a/.1.jpg"):
        picture(tmp_path / name)
    found = sorted(p.relative_to(tmp_path).parts for p in tmp_path.rglob("*.jpg") if not p.name.startswith("."))
    assert list(images_below(tmp_path)) == found
    os.symlink(tmp_path / "B", tmp_path / "C")
    os.symlink(tmp_path, tmp_path / "B" / "up")
    assert ("C", "2.jpg") in images_below(tmp_path) and len(list(images_below(tmp_path))) == len(found) + 1


def test_names_that_are_no_utf8_have_readable_ids(tmp_path):
    classes(tmp_path / "AID", "Airport", "BareLand")
    os.rename(tmp_path / "AID/Airport/1.jpg", os.fsencode(tmp_path / "AID/Airport/") + b"/b\xff.jpg")
    os.rename(tmp_path / "AID/BareLand", os.fsencode(tmp_path / "AID") + b"/\xe9")
    items = list(open_source(str(tmp_path / "AID")))
    assert [(item.id, item.label) for item in items] == [
        ("Airport/0.jpg", "Airport"),
        ("Airport/b⟨ff⟩.jpg", "Airport"),
        ("⟨e9⟩/0.jpg", "⟨e9⟩"),
        ("⟨e9⟩/1.jpg", "⟨e9⟩"),
    ]
    assert all(item.image.read_bytes() for item in items)


@pytest.mark.parametrize("kind", ["jsonl", "csv"])
def test_imagefolders_of_hugging_face(tmp_path, kind):
    def metadata(folder, rows):
        folder.mkdir(parents=True, exist_ok=True)
        if kind == "jsonl":
            write(folder / "metadata.jsonl", lines(rows))
        else:
            with open(folder / "metadata.csv", "w", newline="") as file:
                writer = csv.DictWriter(file, rows[0])
                writer.writeheader()
                writer.writerows(rows)

    rows = [{"file_name": "0001.png", "text": "a pier"}, {"file_name": "sub/0002.png", "text": "a field"}]
    metadata(tmp_path / "one", rows)
    items = list(open_source(str(tmp_path / "one"), folders="known"))
    assert [(item.id, item.image, item.short, item.split) for item in items] == [
        ("0001.png", tmp_path / "one/0001.png", ("a pier",), None),
        ("sub/0002.png", tmp_path / "one/sub/0002.png", ("a field",), None),
    ]
    for split in ("train", "test"):
        metadata(tmp_path / "two" / split, rows)
    metadata(tmp_path / "two/.cache", rows)
    items = list(open_source(str(tmp_path / "two")))
    assert [(item.split, item.id) for item in items] == [
        (split, f"{split}/{name}") for split in ("test", "train") for name in ("0001.png", "sub/0002.png")
    ]
    metadata(tmp_path / "three", [*rows, {"file_name": "", "text": "none"}])
    items, (fault,) = split_up(open_source(str(tmp_path / "three")))
    assert len(items) == 2 and fault.where in ("metadata.jsonl, line 3", "metadata.csv, line 4")
