"""Recipes that need no model, from published files to a corpus that `prepare` reads."""

import io
import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from lrsclip_jax import cli
from lrsclip_jax import config as configs
from lrsclip_jax.corpus.build import build
from lrsclip_jax.corpus.recipe_config import RECIPES
from lrsclip_jax.corpus.recipes import ret
from lrsclip_jax.corpus.records import store
from lrsclip_jax.data.mosaic.mosaic_writer import write_mosaics
from lrsclip_jax.data.prepared.opening import open_records
from lrsclip_jax.data.prepared.records import Record, RecordReader, RecordWriter
from lrsclip_jax.data.prepared.tfds_metadata import write_metadata
from lrsclip_jax.errors import InputError
from lrsclip_jax.sources import open_source


def test_mosaics_and_their_tiles_are_one_corpus(tmp_path):
    folder = tmp_path / "tiles"
    folder.mkdir()
    rng = np.random.default_rng(0)
    with RecordWriter(folder) as writer:
        for number in [*range(5), 3]:  # of the two that look alike the first stays
            file = io.BytesIO()
            seed = np.random.default_rng(number).integers(0, 256, (5, 5, 3), np.uint8)
            Image.fromarray(seed).resize((48, 48), Image.Resampling.NEAREST).save(file, "JPEG", quality=90 + number)
            short = (f"a port with {number} ships and piers .", "1 .")
            writer.write(Record(f"{rng.integers(1000)}.jpg", "rsicd", file.getvalue(), short=short, label="Port"))
    write_metadata(folder, [])
    write_mosaics(RecordReader(folder), tmp_path / "mosaics", n=2, count=2, size=64, seed=0)

    out = tmp_path / "corpus"
    table = build(configs.load(f"mosaics:{tmp_path}", folder=RECIPES), out)
    made = list(store.read(out / "corpus"))
    tiles, mosaics = ([one for one in made if one.source == source] for source in ("rsicd", "mosaic"))
    assert (len(tiles), len(mosaics), len(made)) == (5, 2, 7) and len(table) == 4
    assert all(len(one.short) == 1 and "port" in one.short[0] and not one.long for one in tiles)  # "1 ." is no caption
    assert all(len(one.long) == 1 and one.short and len(one.things) == 4 for one in mosaics)
    assert all(item.image.is_file() for item in open_source(str(out / "corpus")))


def test_boxes_rename_classes_behind_their_path():
    (row,) = configs.load("boxes:scenes/xml,Alive=living tree,Dead=dead tree", folder=RECIPES).subsets
    assert row["name"] == "xml" and row["sources"][0]["path"] == "scenes/xml"
    assert row["sources"][0]["rename"] == {"Alive": "living tree", "Dead": "dead tree"}
    with pytest.raises(InputError, match="'Dead' is neither NAME=VALUE"):
        configs.load("boxes:scenes/xml,Dead", folder=RECIPES)


@pytest.mark.slow
def test_training_images_that_are_test_images_of_another_set_are_left_out(tmp_path, monkeypatch):
    """As in RSICD and RSITMD: two training images of one are in the other's test split, and one the other way."""
    monkeypatch.chdir(tmp_path)
    parts = {
        "rsicd": {"train": range(12), "test": range(100, 104)},
        "rsitmd": {"train": [*range(20, 28), 100, 101], "test": [200, 201, 3]},
    }
    for name, splits in parts.items():
        rows = []
        for split, numbers in splits.items():
            for number in numbers:
                colours = np.random.default_rng(number).integers(0, 255, (6, 6, 3), np.uint8)
                file = tmp_path / "images" / name / f"{split}_{number}.png"
                file.parent.mkdir(parents=True, exist_ok=True)
                Image.fromarray(colours).resize((96, 96), Image.Resampling.BICUBIC).save(file)
                texts = [{"raw": f"planes of number {number} are parked near gate {gate} ."} for gate in range(5)]
                rows.append({"filename": file.name, "split": split, "sentences": texts})
        Path(f"dataset_{name}.json").write_text(json.dumps({"images": rows, "dataset": name}))
        images = f"--image-root=images/{name}"
        cli.main(["prepare", f"dataset_{name}.json", images, f"--out=DATA/{name}", "--workers=1"])
        extracted = f"--extract-to=DATA/test_images/{name}"
        cli.main(["corpus", "read", "prepared", f"DATA/{name}", "--only=test", extracted, f"--out=lists/{name}"])
    cli.main(["corpus", "build", "ret:DATA", "--out=DATA/ret_corpus"])
    leaks = json.loads(Path("DATA/ret_corpus/leakage.json").read_text())
    assert {name: leaks[name]["records_removed"] for name in parts} == {"rsicd": 2, "rsitmd": 1}
    cli.main(["prepare", "DATA/ret_corpus/corpus", "--out=DATA/ret", "--workers=1"])
    assert len(open_records("DATA/ret:train")) == 11 + 8


def test_a_folder_without_prepared_sets_is_one_clear_line(tmp_path):
    with pytest.raises(InputError, match="holds none of the prepared sets rsicd, rsitmd, ucm"):
        ret.get_config(str(tmp_path))
