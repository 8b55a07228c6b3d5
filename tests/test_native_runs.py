"""Training, evaluation and use of models that take images of any shape."""

import csv
import functools
import json

import jax
import numpy as np
import pytest
from PIL import Image

import lrsclip_jax
from eval.embeddings import open_set
from lrsclip_jax import config as configs
from lrsclip_jax.convert.__main__ import main as convert
from lrsclip_jax.data.native import cut
from lrsclip_jax.data.prepare.__main__ import main as prepare
from lrsclip_jax.data.preprocessing import Preprocessing
from lrsclip_jax.embed.__main__ import main as embed
from lrsclip_jax.errors import InputError
from lrsclip_jax.models.clip import init_params
from lrsclip_jax.models.native import image_rows
from lrsclip_jax.optimizer import create
from lrsclip_jax.run.compiled import describe
from lrsclip_jax.setup import RunLength, set_up
from lrsclip_jax.sharding import make_mesh, to_devices
from lrsclip_jax.step import initial_state, make_train_step, state_shapes, step_options
from lrsclip_jax.train import train_and_evaluate
from lrsclip_jax.weights import build_model

PAIRS = 8
FIELDS = {"width": 32, "layers": 1, "heads": 2, "embed_dim": 16}
GRIDS = np.asarray([(2, 2), (1, 4), (1, 1), (2, 1), (1, 3), (2, 2), (1, 2), (4, 1)])
NATIVE = ("model.image.resolution=native", "model.image.min_patches=1")


def config_of(*overrides):
    config = configs.defaults()
    config.model.name, config.model.init = "custom", "random"
    config.model.image.update(FIELDS | {"size": 32, "patch": 16})
    config.model.text.update(FIELDS | {"context_length": 77})
    config.batch_size, config.data.long_length, config.data.short_length = PAIRS, 24, 12
    for override in overrides:
        key, _, value = override.partition("=")
        configs.set_value(config, key, value)
    configs.checks.check(config)
    return config


def texts(rng):
    ids = {}
    for kind, length in (("long", 24), ("short", 12)):
        rows = rng.integers(1, 49405, (PAIRS, length), dtype=np.int32)
        rows[:, 0], rows[np.arange(PAIRS), rng.integers(2, length, PAIRS)] = 49406, 49407
        ids[kind] = rows
    return ids | {"has_long": np.ones(PAIRS, bool), "has_short": np.ones(PAIRS, bool)}


def pictures(rng, grids=GRIDS):
    return [rng.integers(0, 256, (16 * rows, 16 * columns, 3), np.uint8) for rows, columns in grids]


@functools.cache
def start(adapt=""):
    model = build_model(config_of(*(adapt,) if adapt else ()))
    return jax.jit(lambda: init_params(model, jax.random.key(0)))()


def updated(batch, *overrides, adapt=""):
    """The loss and the parameters after an update."""
    config = config_of(*overrides, "optimizer.learning_rate=0.5", *(adapt,) if adapt else ())
    optimizer = create(config.optimizer, start(adapt), total_steps=9, steps_per_epoch=9)
    mesh = make_mesh(config.mesh)
    shapes = state_shapes(start(adapt), optimizer, mesh, config.mesh.rules)
    state = initial_state(start(adapt), optimizer, shapes)
    squares = Preprocessing(32, (0.5,) * 3, (0.2,) * 3)
    step = make_train_step(build_model(config), optimizer, squares, step_options(config, 9), shapes)
    state, metrics = step(state, to_devices(batch, mesh))
    return float(metrics["loss"]), state.params


def in_rows(pixels, groups=1):
    grids = np.asarray([image.shape[:2] for image in pixels]) // 16
    lay = image_rows(build_model(config_of()).image)
    return lay.shared([cut(image, 16) for image in pixels], grids, groups)


def assert_same(found, wanted):
    assert found[0] == pytest.approx(wanted[0], rel=1e-6)
    moved = jax.tree.map(lambda new, old: np.abs(new - old).max(), wanted[1], start())
    jax.tree.map(lambda a, b, by: np.testing.assert_allclose(a, b, atol=1e-5 * by + 1e-9), found[1], wanted[1], moved)


@pytest.mark.exhaustive  # in CI models/test_native.py
def test_an_update_on_squares_is_that_of_the_fixed_step():
    rng = np.random.default_rng(0)
    pixels, rest = pictures(rng, np.full((PAIRS, 2), 2)), texts(rng)
    assert_same(updated(in_rows(pixels) | rest, *NATIVE), updated({"image": np.stack(pixels)} | rest))


@pytest.mark.exhaustive  # in CI models/test_native.py
def test_an_update_depends_on_no_rows_and_no_microbatches():
    rng = np.random.default_rng(1)
    pixels, rest = pictures(rng), texts(rng)
    one_a_row = in_rows(pixels, groups=PAIRS)
    one_a_row["image_span"][:, 0] += np.arange(PAIRS) * one_a_row["patches"].shape[1]  # counted through all rows
    alone = updated(one_a_row | rest, *NATIVE)
    shared = in_rows(pixels)
    assert len(shared["patches"]) < PAIRS
    assert_same(updated(shared | rest, *NATIVE), alone)
    assert_same(updated(in_rows(pixels, groups=2) | rest, *NATIVE, "train.microbatches=2"), alone)


@pytest.mark.exhaustive
def test_adapters_and_their_dropout_are_those_of_squares():
    adapt = "model.adapt=(('image/.*','lora',4,8.0,0.5),('image/.*','adapter',4))"
    rng = np.random.default_rng(2)
    pixels, rest = pictures(rng, np.full((PAIRS, 2), 2)), texts(rng)
    found, wanted = (
        updated(batch | rest, *keys, adapt=adapt)
        for batch, keys in ((in_rows(pixels), NATIVE), ({"image": np.stack(pixels)}, ()))
    )
    assert found[0] == pytest.approx(wanted[0], rel=1e-6)
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, atol=1e-5 * np.abs(b).max() + 1e-9), found[1], wanted[1])


@pytest.fixture(scope="module")
def prepared(tmp_path_factory):
    """A set of 16 images of many shapes, and the images."""
    folder, rng = tmp_path_factory.mktemp("native"), np.random.default_rng(3)
    rows = []
    for number in range(16):
        width, height = rng.integers(10, 80, 2).tolist()
        Image.fromarray(rng.integers(0, 256, (height, width, 3), np.uint8)).save(folder / f"{number}.png")
        rows.append({"image": f"{number}.png", "long": f"a long text of {number}", "short": f"number {number}"})
    (folder / "list.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    prepare([str(folder / "list.jsonl"), "--size=64", f"--out={folder / 'set'}", "--workers=1"])
    return folder


def train(folder, prepared, epochs, **keys):
    config = config_of(*NATIVE, "data.crop_scale=(0.5, 1.0)", "eval.batch_size=8", "log.tensorboard=False")
    with config.ignore_type():
        sets = (str(prepared / "set"),)
        values = {"data.sources": sets, "eval.sources": sets, "epochs": epochs, "log.every_steps": 1} | keys
        config.update_from_flattened_dict(values)
    return train_and_evaluate(config, str(folder))


@pytest.fixture(scope="module")
def run(prepared, tmp_path_factory):
    """A run of two steps."""
    folder = tmp_path_factory.mktemp("runs") / "native"
    scores = train(folder, prepared, 1.0)
    assert all(np.isfinite(value) for value in scores.values()) and len(scores) > 10
    return folder


def rows_of(folder):
    found = [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]
    return {row["step"]: row for row in found if "loss" in row}


@pytest.mark.slow
def test_a_run_counts_its_tokens_and_says_its_shapes(run):
    rows = rows_of(run)
    assert sorted(rows) == [1, 2]
    assert all(2 * PAIRS <= row["image_tokens"] <= 5 * PAIRS for row in rows.values())
    preprocessing = lrsclip_jax.load(run).preprocessing
    assert (preprocessing.patch, preprocessing.min_patches, preprocessing.size) == (16, 1, 32)


@pytest.mark.exhaustive
def test_a_run_that_is_continued_has_the_curve_of_a_whole_one(prepared, tmp_path):
    for epochs in (1.0, 2.0):
        train(tmp_path / "continued", prepared, epochs)
    train(tmp_path / "whole", prepared, 2.0)
    found, wanted = rows_of(tmp_path / "continued"), rows_of(tmp_path / "whole")
    assert [found[step]["loss"] for step in (1, 2, 3, 4)] == [wanted[step]["loss"] for step in (1, 2, 3, 4)]


@pytest.mark.slow
def test_embeddings_are_those_of_images_alone_in_every_command(run, prepared, tmp_path):
    model = lrsclip_jax.load(run)
    files = [prepared / f"{number}.png" for number in range(16)]
    together = model.images(files)
    alone = np.concatenate([model.images([file]) for file in files])
    np.testing.assert_allclose(together, alone, atol=1e-6)
    shapes = {model.preprocess(file).shape for file in files}
    assert len(shapes) > 3 and all(height * width <= 32 * 32 for height, width, _ in shapes)
    embed([str(prepared / "list.jsonl"), f"--checkpoint={run}", f"--out={tmp_path / 'set'}"])
    np.testing.assert_allclose(np.load(tmp_path / "set/images.npy"), together, atol=1e-6)
    assert json.loads((tmp_path / "set/meta.json").read_text())["preprocessing"]["patch"] == 16


@pytest.mark.slow
def test_an_index_and_its_search_find_what_embed_gives_of_the_same_tiles(run, prepared, tmp_path):
    for package in ("faiss", "pystac", "rasterio", "shapely"):
        pytest.importorskip(package)
    from lrsclip_jax.search.index_command import main as index
    from lrsclip_jax.search.search_command import main as search

    scenes = [str(prepared / f"{number}.png") for number in range(16)]
    index([*scenes, f"--checkpoint={run}", f"--out={tmp_path / 'index'}", "--tile=48", "--overlap=0"])
    found = open_set(tmp_path / "index")
    lines, sides = [], []
    for number, row in enumerate(found.image_rows):
        top, bottom, left, right = row["window"]
        sides.append(bottom - top)
        tile = Image.open(prepared / row["scene"]).crop((left, top, right, bottom))
        tile.save(tmp_path / f"{number:02d}.png")
        lines.append(json.dumps({"image": f"{number:02d}.png", "short": "a harbour"}))
    assert min(sides) <= 16 < max(sides)  # of one patch, and of more
    (tmp_path / "tiles.jsonl").write_text("\n".join(lines))
    embed([str(tmp_path / "tiles.jsonl"), f"--checkpoint={run}", f"--out={tmp_path / 'set'}"])
    tiles = open_set(tmp_path / "set")
    np.testing.assert_allclose(found.images, tiles.images, atol=1e-6)

    assert search([str(tmp_path / "index"), "a harbour", f"--out={tmp_path / 'found.csv'}"]) == 0
    with open(tmp_path / "found.csv", newline="") as file:
        scores = {hit["id"]: float(hit["cosine"]) for hit in csv.DictReader(file)}
    wanted = {row["id"]: cosine for row, cosine in zip(found.image_rows, tiles.images @ tiles.texts[0], strict=True)}
    assert scores == pytest.approx({name: wanted[name] for name in scores}, abs=1e-6)
    assert next(iter(scores)) == max(wanted, key=wanted.get) and len(scores) > 10


@pytest.mark.slow
def test_an_export_sees_squares_and_says_so(run, prepared, tmp_path, capsys):
    convert(["export", str(run), "--format=hf", f"--out={tmp_path / 'hf'}"])
    assert "takes images of any shape; there they become squares of 32" in capsys.readouterr().out
    assert "images of any shape; here they become squares of 32.\n" in (tmp_path / "hf" / "README.md").read_text()
    squares = [Image.open(prepared / f"{number}.png").resize((32, 32)) for number in range(4)]
    found = lrsclip_jax.load(tmp_path / "hf").images(squares)
    np.testing.assert_allclose(found, lrsclip_jax.load(run).images(squares), atol=1e-6)


@pytest.mark.parametrize(
    ("keys", "line"),
    [
        (["model.image.min_patches=4"], "min_patches=4 is about model.image.resolution='native', and that is 'fixed'"),
        ([*NATIVE[:1], "model.image.min_patches=5"], "min_patches=5 is more than the 4 patches of model.image.size=32"),
        ([*NATIVE, "data.augmentation.turns=all"], "data.augmentation.turns='all' does not go with"),
        ([*NATIVE, "model.image.patch_dropout=0.5"], "patch_dropout=0.5 does not go with .* set it to 0.0"),
        ([*NATIVE, "train.offload=images", "train.microbatches=2"], "train.offload='images' does not go with"),
        ([*NATIVE, "data.image_features=sets/a"], "data.image_features='sets/a'"),
        (["model.image.resolution=natve"], "did you mean 'native'"),
    ],
)
def test_what_does_not_go_with_any_shape_is_one_line(keys, line):
    with pytest.raises(InputError, match=line) as error:
        config_of(*keys)
    assert "\n" not in str(error.value)


def test_a_plan_knows_the_shapes_of_a_batch():
    setup = set_up(config_of(*NATIVE), RunLength(10, 5))
    rng = np.random.default_rng(4)
    batch = to_devices(in_rows(pictures(rng)) | texts(rng), setup.mesh)
    rows = len(batch["patches"])
    specs = {key: (each.shape, each.dtype) for key, each in setup.batch_specs(image_rows=rows).items()}
    assert specs == {key: (each.shape, each.dtype) for key, each in batch.items()}
    assert setup.batch_specs()["patches"].shape[0] == PAIRS > rows  # the most
    assert describe(batch) == f"8 images in {rows} × 5 slots, texts in 8 × 24 + 8 × 12 slots"
