"""Captions and annotations whose every field may be anything: a fault or one line, no traceback."""

import json
import os
import tarfile

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from bad_files import NO_JSON, borne, refused, spoiled
from source_files import picture, png, write_tar

from lrsclip_jax.corpus.reading import read_source
from lrsclip_jax.corpus.reading.reading_options import pairs
from lrsclip_jax.sources import Fault, open_source

ROW = {"image": "a.png", "short": "a pier", "long": ["a long pier"], "label": "port", "split": "test", "id": "a"}
KARPATHY = {"images": [{"filename": "a.png", "split": "test", "sentences": [{"raw": "a pier"}], "imgid": 3}]}
COCO_CAPTIONS = {
    "images": [{"id": 1, "file_name": "a.png", "width": 8, "height": 8}],
    "annotations": [{"image_id": 1, "caption": "a pier", "id": 5}],
}
NWPU = {"port": [{"filename": "a.png", "split": "test", "raw": "a pier", "raw_1": "two piers"}]}
OBJECTS = {
    "images": [{"id": 1, "file_name": "a.png", "width": 8, "height": 8}],
    "annotations": [
        {"id": 5, "image_id": 1, "category_id": 3, "bbox": [1, 1, 4, 4], "iscrowd": 0}
        | {"segmentation": [[1, 1, 5, 1, 5, 5]]}
    ],
    "categories": [{"id": 3, "name": "ship"}],
}
SCENE = [{"jpg_name": "a.png", "caption": "a pier", "points": [[[1, 1], [5, 1], [5, 5]]]}]
VHM = [
    {"image": "a.png", "id": "q1", "source_dataset": "fmow"}
    | {"conversations": [{"from": "human", "value": "Describe it."}, {"from": "gpt", "value": "A pier."}]}
]


@pytest.fixture
def folder(tmp_path):
    picture(tmp_path / "a.png")
    picture(tmp_path / "port" / "a.png")
    return tmp_path


def tried(documents, file, read):
    """Reads the file with every spoiled content; returns how many were read, as items or as faults."""
    good = 0
    for what, text in documents:
        file.write_text(text)
        try:
            good += borne(read, file.name)
        except Exception as error:
            raise AssertionError(f"{what}: {error!r}") from error
    return good


def checked(source):
    for one in source:
        if isinstance(one, Fault):
            assert "\n" not in one.reason and len(one.reason) < 1000 and "\n" not in one.where


@pytest.mark.parametrize(
    ("document", "name"),
    [([ROW], "a.json"), (ROW, "a.jsonl"), (KARPATHY, "a.json"), (COCO_CAPTIONS, "a.json"), (NWPU, "a.json")],
)
def test_every_field_of_captions_may_be_anything(folder, document, name):
    file = folder / name
    assert tried(spoiled(document), file, lambda: checked(open_source(str(file)))) > 20


@pytest.mark.parametrize(
    ("kind", "document"),
    [("coco", OBJECTS), ("captions", [ROW]), ("rs5m", [ROW]), ("lrs2m", [ROW]), ("vhm", VHM)],
)
def test_every_field_of_a_corpus_source_may_be_anything(folder, kind, document):
    file = folder / "a.json"

    def read():
        for one in read_source(kind, str(file)):
            json.dumps(one.image if hasattr(one, "image") else one.reason, ensure_ascii=False).encode()

    tried(spoiled(document), file, read)


def test_every_field_of_semantic_localisation_may_be_anything(folder):
    file = folder / "anno.json"
    spec = f"air-slt:{folder}"
    assert tried(spoiled(SCENE), file, lambda: checked(open_source(spec))) < 20
    for content in NO_JSON.values():
        file.write_bytes(content)
        refused(lambda: checked(open_source(spec)), "anno.json")


def test_what_a_parquet_file_says_of_its_classes_may_be_anything(folder):
    told = {"info": {"features": {"label": {"_type": "ClassLabel", "names": ["port", "pier"]}, "long": [{}]}}}
    table = pa.table({"image": ["a.png"], "short": ["a pier"], "label": [0]})
    for what, text in [*spoiled(told), *((name, content) for name, content in NO_JSON.items())]:
        pq.write_table(table.replace_schema_metadata({"huggingface": text}), folder / "a.parquet")
        try:
            borne(lambda: checked(open_source(str(folder / "a.parquet"))), "a.parquet")
        except Exception as error:
            raise AssertionError(f"{what}: {error!r}") from error


def test_a_sparse_member_of_a_tar_is_a_fault(folder):
    path = folder / "a.tar"
    with tarfile.open(path, "w", format=tarfile.GNU_FORMAT) as tar:
        info = tarfile.TarInfo("a.png")
        block = bytearray(info.tobuf(tarfile.GNU_FORMAT))
        block[156:157] = tarfile.GNUTYPE_SPARSE
        block[386:398], block[398:410] = b"00000000000\0", b"00000000000\0"  # one part, of no bytes
        block[483:495] = b"77777777777\0"  # its size: 8 GiB
        block[148:156] = b"%06o\0 " % (256 + sum(block[:148]) + sum(block[156:]))
        tar.fileobj.write(block)
    with tarfile.open(path) as tar:
        (member,) = tar
        assert member.issparse() and member.size == 8**11 - 1
    refused(lambda: open_source(str(path)), "a.tar, sample a: .png: a sparse file")  # the first, where none is sound


@pytest.mark.parametrize("damage", [b"\0", b"\xff", b"9", b"-", b" "])
def test_headers_of_a_tar_may_be_anything(folder, damage):
    content = write_tar(folder / "a.tar", {"a.png": png(0), "a.txt": b"a pier"}).read_bytes()
    for at in range(0, 512, 3):
        (folder / "b.tar").write_bytes(content[:at] + damage + content[at + 1 :])
        borne(lambda: checked(open_source(str(folder / "b.tar"))), "b.tar")


def test_a_pipe_or_a_device_is_not_waited_for(folder):
    os.mkfifo(folder / "pipe.json")
    (folder / "zero.json").symlink_to("/dev/zero")
    for name in ("pipe.json", "zero.json"):
        refused(lambda name=name: open_source(str(folder / name)), f"{name}: no regular file")
        refused(lambda name=name: list(read_source("coco", str(folder / name))), f"{name}: no regular file")


def test_a_file_of_names_that_is_none_is_named(folder):
    (folder / "names").write_bytes(b"a=\xff\n")
    for path in (folder / "names", folder, "/dev/zero", folder / ("x" * 300)):
        refused(lambda path=path: pairs([str(path)]), "is neither NAME=VALUE nor a file of such lines")
