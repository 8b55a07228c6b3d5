"""Parquet from Hugging Face and others, written with pyarrow."""

import json
import threading

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from source_files import png, split_up

from lrsclip_jax.errors import InputError
from lrsclip_jax.sources import Cell, Keys, open_source, parquet


def hugging_face(path, count, start=0, rows=3, struct=True, **columns):
    """A shard as `datasets` writes it: image {"bytes", "path"}, caption, and a number with the name of its class."""
    images = [png(start + n) for n in range(count)]
    paths = [f"{start + n}.png" for n in range(count)]
    cells = [{"bytes": data, "path": name} for data, name in zip(images, paths, strict=True)] if struct else images
    table = pa.table({"image": cells, "caption": [f"scene {start + n}" for n in range(count)], **columns})
    features = {"label": {"names": ["Port", "Farm"], "_type": "ClassLabel"}, "image": {"_type": "Image"}}
    table = table.replace_schema_metadata({"huggingface": json.dumps({"info": {"features": features}})})
    path.parent.mkdir(parents=True, exist_ok=True)
    pq.write_table(table, path, row_group_size=rows)
    return path


def test_shards_with_the_bytes_of_images(tmp_path):
    hugging_face(tmp_path / "data/train-00000-of-00002.parquet", 7, label=[0, 1, 0, 1, 0, 1, 0])
    hugging_face(tmp_path / "data/train-00001-of-00002-0123456789abcdef.parquet", 5, 7, label=[1] * 5)
    hugging_face(tmp_path / "data/test-00000-of-00001.parquet", 2, 12, label=[0, 1])
    items = list(open_source(str(tmp_path)))
    assert [item.split for item in items] == ["test"] * 2 + ["train"] * 12
    by_id = {item.id: item for item in items}
    assert len(by_id) == 14 and by_id["3.png"].label == "Farm" and by_id["12.png"].label == "Port"
    assert all(by_id[f"{n}.png"].image.read_bytes() == png(n) for n in range(14))
    assert all(by_id[f"{n}.png"].image.read_bytes() == png(n) for n in reversed(range(14)))
    assert by_id["4.png"].short == ("scene 4",) and isinstance(by_id["4.png"].image, Cell)
    assert len(list(open_source(f"{tmp_path}:test"))) == 2


@pytest.mark.parametrize("struct", [True, False])
def test_one_file_and_folders_of_splits(tmp_path, struct):
    path = hugging_face(tmp_path / "train/0000.parquet", 4, struct=struct)
    hugging_face(tmp_path / "test/0000.parquet", 2, 4, struct=struct)
    items = list(open_source(str(tmp_path)))
    assert [(item.split, item.image.read_bytes()) for item in items] == [
        *(("test", png(n)) for n in (4, 5)),
        *(("train", png(n)) for n in range(4)),
    ]
    ids = [item.id for item in open_source(str(path))]
    assert ids == [f"{n}.png" for n in range(4)] if struct else ids == [f"0000/{n}" for n in range(1, 5)]


def test_threads_read_images_of_one_group(tmp_path, monkeypatch):
    monkeypatch.setattr(parquet, "_IMAGES", 4)
    items = list(open_source(str(hugging_face(tmp_path / "a.parquet", 60, rows=25))))
    wrong = []

    def read(first: int) -> None:
        wrong.extend(n for n in range(first, 60, 4) if items[n].image.read_bytes() != png(n))

    threads = [threading.Thread(target=read, args=(first,)) for first in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not wrong


def test_paths_of_images_and_keys_that_reach_into_rows(tmp_path):
    rows = [
        {"picture": "a.jpg", "texts": [{"raw": "one"}, {"raw": "two"}], "meta": {"by": "x"}},
        {"picture": "b.jpg", "texts": [], "meta": {"by": None}},
        {"picture": None, "texts": [{"raw": "three"}], "meta": {"by": "z"}},
    ]
    pq.write_table(pa.Table.from_pylist(rows), tmp_path / "a.parquet")
    items, (fault,) = split_up(
        open_source(str(tmp_path / "a.parquet"), Keys(image="picture", short="texts", source="meta.by"))
    )
    assert [(item.image, item.short, item.source) for item in items] == [
        (tmp_path / "a.jpg", ("one", "two"), "x"),
        (tmp_path / "b.jpg", (), "a"),
    ]
    assert fault.where == "a.parquet, row 3" and "'picture' is None" in fault.reason


def test_what_is_no_parquet_or_holds_no_image_is_named(tmp_path):
    (tmp_path / "a.parquet").write_bytes(b"PAR1")
    with pytest.raises(InputError, match="a.parquet: torn, or no Parquet file"):
        open_source(str(tmp_path / "a.parquet"))
    pq.write_table(pa.table({"image": [{"bytes": None, "path": "x.png"}], "caption": ["x"]}), tmp_path / "b.parquet")
    pq.write_table(pa.table({"image": pa.array([None], pa.binary()), "caption": ["x"]}), tmp_path / "c.parquet")
    (item,) = open_source(str(tmp_path / "c.parquet"))
    with pytest.raises(OSError, match="the cell is empty"):
        item.image.read_bytes()
