"""From annotated scenes to a prepared set, by the command and without a model."""

import json

import numpy as np
import pyarrow.dataset
import pyarrow.parquet as pq
import pytest
from PIL import Image, ImageDraw

from lrsclip_jax import config as configs
from lrsclip_jax.corpus import recipe_config
from lrsclip_jax.corpus.__main__ import main
from lrsclip_jax.corpus.records import store
from lrsclip_jax.corpus.records.record import CorpusRecord
from lrsclip_jax.corpus.stages.filters import planned_filters
from lrsclip_jax.errors import InputError
from lrsclip_jax.sources import Keys, open_source

RECIPE = "lrsclip_jax/corpus/recipes/boxes.py"


@pytest.fixture
def scenes(tmp_path):
    """Two scenes of 900×500 pixels with trees, one twice under another name, and a torn one."""
    rng = np.random.default_rng(0)
    rows = ["image_path,xmin,ymin,xmax,ymax,label"]
    for name in ("a.png", "b.png"):
        ground = Image.fromarray(rng.integers(60, 120, (10, 18, 3), np.uint8)).resize(
            (900, 500), Image.Resampling.BICUBIC
        )
        draw = ImageDraw.Draw(ground)
        for _ in range(30):
            x, y = rng.integers(0, 860), rng.integers(0, 460)
            draw.ellipse((x, y, x + 30, y + 30), fill=(20, 90, 30))
            rows.append(f"{name},{x},{y},{x + 30},{y + 30},Tree")
        ground.save(tmp_path / name)
    Image.open(tmp_path / "a.png").save(tmp_path / "copy.png")
    (tmp_path / "torn.png").write_bytes(b"no image")
    rows += ["copy.png,10,10,40,40,Tree", "torn.png,1,1,5,5,Tree"]
    (tmp_path / "trees.csv").write_text("\n".join(rows))
    return tmp_path


def test_a_corpus_out_of_boxes_that_prepare_reads(scenes, capsys):
    out = scenes / "out"
    arguments = ["build", f"{RECIPE}:{scenes / 'trees.csv'}", f"--out={out}"]
    main(arguments)
    said = capsys.readouterr().out
    made = list(store.read(out / "corpus"))
    assert {record.id.rsplit("/", 1)[0] for record in made} == {
        "trees/a.png",
        "trees/b.png",
    }  # of copies the first stays
    assert all(len(record.short) == 5 and len(record.long) == 1 and record.source == "trees" for record in made)
    assert all("tree" in record.long[0] for record in made)
    assert "trees" in said and (out / "statistics.html").exists() and (out / "table.csv").exists()
    reasons = [json.loads(line) for path in out.rglob(".set_aside.jsonl") for line in path.read_text().splitlines()]
    assert any("torn.png" in row["id"] + row["reason"] for row in reasons)
    assert any(row["stage"] and "copy.png" in row["id"] for row in reasons)

    items = list(open_source(str(out / "corpus")))
    assert [(item.id, item.long, item.short) for item in items] == [(r.id, r.long, r.short) for r in made]
    assert all(item.image.is_file() for item in items) and not any(item.negative for item in items)
    items = [*open_source(str(out / "corpus"), Keys(negative="negative"))]
    assert [item.negative for item in items] == [r.negative for r in made]
    assert any(text for r in made for text in r.negative)

    before = {path: path.stat().st_mtime_ns for path in out.rglob("part-*")}
    main(arguments)  # nothing is made again
    assert {path: path.stat().st_mtime_ns for path in out.rglob("part-*")} == before
    with pytest.raises(InputError, match="made with other seed"):
        main([*arguments, "--config.seed=1"])

    main(["export", str(out / "corpus"), f"--out={scenes / 'lrs2m.json'}", "--allow-unknown-licences"])
    exported = json.loads((scenes / "lrs2m.json").read_text())
    assert len(exported) == len(made) and exported[0]["long"] == made[0].long[0]
    with pytest.raises(InputError, match="allow unknown licences by --allow-unknown-licences"):
        main(["export", str(out / "corpus"), f"--out={scenes / 'other.json'}"])


def test_the_folder_of_a_corpus_is_one_table_to_pyarrow_and_pandas(scenes):
    main(["build", f"{RECIPE}:{scenes / 'trees.csv'}", f"--out={scenes / 'out'}"])
    folder = scenes / "out" / "corpus"
    ids = [record.id for record in store.read(folder)]
    assert len(list(folder.iterdir())) > len(store.parts(folder))
    assert pq.read_table(folder).column("id").to_pylist() == ids
    assert pyarrow.dataset.dataset(folder).count_rows() == len(ids)
    pandas = pytest.importorskip("pandas")
    assert pandas.read_parquet(folder)["id"].tolist() == ids


def test_a_corpus_whose_files_have_their_earlier_names_is_finished_too(scenes, capsys):
    arguments = ["build", f"{RECIPE}:{scenes / 'trees.csv'}", f"--out={scenes / 'out'}"]
    main(arguments)
    files = sorted(file for file in (scenes / "out").rglob(".*.json*") if file.name != ".checksums.json")
    assert {file.name for file in files} == {".done.json", ".settings.json", ".set_aside.jsonl"}
    for file in files:
        file.rename(file.with_name(file.name.removeprefix(".")))
    before = {path: path.stat().st_mtime_ns for path in (scenes / "out").rglob("part-*")}
    main(arguments)
    assert {path: path.stat().st_mtime_ns for path in (scenes / "out").rglob("part-*")} == before
    assert all(file.exists() and not file.with_name(file.name[1:]).exists() for file in files)
    with pytest.raises(InputError, match="made with other seed"):
        main([*arguments, "--config.seed=1"])


def test_keys_are_renamed_on_the_way_out_and_back(tmp_path):
    record = CorpusRecord(
        "a", str(tmp_path / "images" / "a.png"), "s", short=("one", "two"), long=("long",), licence="CC0"
    )
    store.write_lines(tmp_path / "records.jsonl", [record])
    keys = ["--keys", "image=img_path", "long=long_caption", "short=short_caption"]
    export = ["export", str(tmp_path / "records.jsonl"), f"--out={tmp_path / 'x.json'}"]
    main([*export, f"--image-root={tmp_path}", *keys])
    (row,) = json.loads((tmp_path / "x.json").read_text())
    assert row == {"img_path": "images/a.png", "long_caption": "long", "short_caption": ["one", "two"]} | {
        "source": "s",
        "licence": "CC0",
    }
    main(["read", "lrs2m", str(tmp_path / "x.json"), f"--out={tmp_path / 'back'}", *keys])
    (back,) = store.read(tmp_path / "back")
    assert (back.image, back.short, back.long, back.licence) == (record.image, record.short, record.long, "CC0")


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--keys", "lnog=x"], "rows have no 'lnog' to rename, did you mean 'long'"),
        (["--keys", "long=short"], "long and short would both be 'short'"),
        (["--keys", "long"], "--keys: 'long' is neither NAME=VALUE nor a file"),
        (["--out=x.jsonl", "--keys", "long=l"], "--keys and --image-root are of .json files"),
    ],
)
def test_keys_that_can_not_be_renamed_are_named(tmp_path, options, message):
    store.write_lines(tmp_path / "records.jsonl", [CorpusRecord("a", "a.png", "s", short=("one",), licence="CC0")])
    with pytest.raises(InputError, match=message):
        main(["export", str(tmp_path / "records.jsonl"), f"--out={tmp_path / 'x.json'}", *options])


def test_the_recipe_of_lrs2m_has_no_filter_until_one_is_asked_for():
    config = configs.load("lrs2m:DATA", folder=recipe_config.RECIPES)
    (images,) = planned_filters(config)
    assert images.settings == {"min_side": 1, "uniform": None}
    config.update({"duplicates": "perceptual", "texts": {"long": (20, 248)}})
    assert [plan.name for plan in planned_filters(config)] == ["images", "duplicates", "texts"]


def test_every_recipe_can_be_loaded_and_names_its_generators():
    rows = {
        name: configs.load(f"{name}:DATA", folder=recipe_config.RECIPES).subsets
        for name in ("lrs2m", "rsclip", "rsitmd_l", "boxes", "mosaics")
    }
    assert [row["name"] for row in rows["lrs2m"]] == [
        *("MillionAID", "CrowdAI", "CVACT", "CVUSA", "fMoW", "LoveDA", "BigEarthNet", "Det-10", "Seg-4", "UCMerced"),
        "OpenLandMap",
    ]
    assert len(rows["rsclip"]) == 9
    for name, subsets in rows.items():
        config = configs.load(f"{name}:DATA", folder=recipe_config.RECIPES)
        for row in subsets:
            for kind in ("long", "short"):
                if row[kind]:
                    assert recipe_config.server_of(config, row[kind]).model
    rsclip = configs.load("rsclip:DATA", folder=recipe_config.RECIPES)
    assert recipe_config.server_of(rsclip, "captioner").fit.crop


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: recipe_config.subset("s", "expnad", recipe_config.source("coco", "p")), "did you mean 'expand'"),
        (
            lambda: recipe_config.subset("s", "expand", recipe_config.source("coco", "p")),
            "needs a generator of long texts",
        ),
        (
            lambda: recipe_config.subset("s", "merge", recipe_config.source("coco", "p")),
            "others for the way 'merge' alone",
        ),
        (lambda: recipe_config.source("cocoo", "p"), "did you mean 'coco'"),
        (lambda: recipe_config.server_of(recipe_config.defaults(), "gpt"), "config.generators has no 'gpt'"),
    ],
)
def test_what_is_wrong_with_a_recipe_is_named(make, message):
    with pytest.raises(InputError, match=message):
        make()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["build", "nowhere.py", "--out=o"], "no file nowhere.py"),
        (["build", RECIPE, "--out=o"], "needs its annotations"),
        (["read", "cocoo", "p", "--out=o"], "source kind 'cocoo' is unknown"),
        (["statistics", "nowhere", "--out=o"], "nowhere: no records there"),
        (["export", "nowhere", "--out=o.csv"], "a .json or a .jsonl file is expected"),
        (["statistics", "nowhere", "--out=o", "--config.seed=1"], "unknown argument --config.seed=1"),
    ],
)
def test_bad_input_is_one_line(tmp_path, monkeypatch, arguments, message):
    arguments = [a.replace("--out=o", f"--out={tmp_path / 'o'}") for a in arguments]
    with pytest.raises(InputError, match=message):
        main(arguments)
