"""Frozen towers from memory: the losses of the towers in the loop, and what is refused."""

import functools
import json
import shutil

import jax
import numpy as np
import pytest
import tiny_clip

from eval.checksums import NAME as CHECKSUMS
from eval.embeddings import open_set
from lrsclip_jax import config as configs
from lrsclip_jax.data.batches import mixture, pipeline
from lrsclip_jax.data.batches.augmentation import random_box
from lrsclip_jax.data.draws import stream
from lrsclip_jax.data.images import read_image
from lrsclip_jax.data.tokenizer import clip_tokenizer
from lrsclip_jax.embed.__main__ import main as embed
from lrsclip_jax.errors import InputError
from lrsclip_jax.run import saved_features
from lrsclip_jax.run.training_data import TrainingData, batches_on_devices
from lrsclip_jax.setup import RunLength, set_up
from lrsclip_jax.step import initial_state
from lrsclip_jax.weights import initial_parameters

SCENES, OTHERS = "scenes:24:3", "scenes:12:4"
FROZEN = "optimizer.freeze=('(image|text)/(?!projection).*',)"
TOWERS = {"width": 64, "layers": 1, "heads": 1, "embed_dim": 16}
KEYS = (
    *(f"model.{tower}.{name}={value}" for tower in ("image", "text") for name, value in TOWERS.items()),
    *("model.name=custom", "model.image.size=32", "model.image.patch=16", "model.text.context_length=77"),
    *("data.long_length=77", "data.short_length=40", "batch_size=8"),
    *("optimizer.name=sgd", "optimizer.learning_rate=0.05", "optimizer.warmup_steps=0", "loss.max_scale=9"),
)


@pytest.fixture(scope="module")
def sets(tmp_path_factory):
    """A checkpoint, and the features of both towers on two sets of scenes."""
    root = tmp_path_factory.mktemp("features")
    tiny_clip.clip_folder(root / "clip")
    for name, source in (("scenes", SCENES), ("others", OTHERS)):
        made = [source, f"--checkpoint={root / 'clip'}", "--features=encoder", "--batch-size=8"]
        embed([*made, f"--out={root / name}_images"])
        embed([*made, f"--out={root / name}_texts", "--tower=text"])
    return root


def config_of(sets, *keys, sources=(SCENES,)):
    given = (f"model.init={sets / 'clip'}", f"data.sources={tuple(sources)!r}", FROZEN)
    return configs.load("quickstart", (*KEYS, *given, *keys))


@functools.cache
def parameters(folder):
    config = configs.load("quickstart", (*KEYS, f"model.init={folder}"))
    return initial_parameters(set_up(config, RunLength(10, 5)).model, config)


def opened(sets, *keys, **options):
    """The set-up of a config and what it trains on, as `lrsclip train` opens them."""
    config = config_of(sets, *keys, **options)
    setup, sources = set_up(config, RunLength(10, 5)), mixture.open_sources(config)
    params, preprocessing = parameters(sets / "clip")
    images = saved_features.of_images(config, setup.model, params, preprocessing, sources)
    texts = saved_features.of_texts(config, setup.model, params, sources)
    return setup, params, TrainingData(sources, clip_tokenizer(), preprocessing, images, texts)


def batches(sets, count, *keys, start=1, **options):
    setup, _, data = opened(sets, *keys, **options)
    report = pipeline.DataReport(0)
    with batches_on_devices(data, setup.config, setup.layout, setup.mesh, report, range(start, 99)) as found:
        return [jax.device_get(next(found)) for _ in range(count)]


def losses_of(sets, steps, *keys, **options):
    """The losses of some steps, and the parameters after them."""
    setup, params, data = opened(sets, *keys, **options)
    step, state, losses = setup.step(data.preprocessing), initial_state(params, setup.optimizer, setup.shapes), []
    report, wanted = pipeline.DataReport(0), range(1, steps + 1)
    with batches_on_devices(data, setup.config, setup.layout, setup.mesh, report, wanted) as found:
        for batch in found:
            specs = setup.batch_specs(len(batch["ids"]) if "ids" in batch else None)
            assert {name: value.shape for name, value in batch.items()} == {n: of.shape for n, of in specs.items()}
            state, metrics = step(state, batch)
            losses.append(float(metrics["loss"]))
    return losses, jax.device_get(state.params)


def from_memory(root, name="scenes", towers=("image", "text")):
    return [f"data.{tower}_features={root / name}_{tower}s" for tower in towers]


@pytest.mark.slow
def test_losses_and_projections_are_those_of_the_towers_in_the_loop(sets):
    losses, params = losses_of(sets, 3)
    found, learned = losses_of(sets, 3, *from_memory(sets))
    np.testing.assert_allclose(found, losses, rtol=1e-6)
    for tower in ("image", "text"):
        kernel = params[tower]["projection"]["kernel"]
        np.testing.assert_allclose(learned[tower]["projection"]["kernel"], kernel, rtol=0, atol=1e-6)
        assert np.abs(kernel - parameters(sets / "clip")[0][tower]["projection"]["kernel"]).max() > 1e-4
        rest = {name: value for name, value in learned[tower].items() if name != "projection"}
        start = {name: parameters(sets / "clip")[0][tower][name] for name in rest}
        jax.tree.map(np.testing.assert_array_equal, rest, start)


@pytest.mark.exhaustive
@pytest.mark.parametrize(
    "keys",
    [
        ("data.packed=True", "data.row_length=128"),
        ("train.microbatches=2", "loss.same_text=ignore"),
        ("data.sampling=pairs", "loss.long_weight=1.0"),
        ("loss.same_image=positive",),
    ],
    ids=lambda keys: keys[0],
)
@pytest.mark.parametrize("towers", [("image",), ("text",), ("image", "text")], ids="+".join)
def test_losses_are_equal_however_texts_lie_and_batches_are_taken(sets, keys, towers):
    losses, _ = losses_of(sets, 2, *keys)
    found, _ = losses_of(sets, 2, *keys, *from_memory(sets, towers=towers))
    np.testing.assert_allclose(found, losses, rtol=1e-6)


def test_batches_of_two_sources_have_the_features_of_their_records(sets):
    both, names = (SCENES, OTHERS), ("scenes", "others")
    folders = {tower: tuple(f"{sets / name}_{tower}s" for name in names) for tower in ("image", "text")}
    keys = [f"data.{tower}_features={folder!r}" for tower, folder in folders.items()]
    saved = {tower: [open_set(folder) for folder in of] for tower, of in folders.items()}
    image_of = {
        row["id"]: of.images[n] * of.image_norms[n] for of in saved["image"] for n, row in enumerate(of.image_rows)
    }
    text_of = {
        (row.get("image"), row["kind"], tuple(clip_tokenizer().encode([row["text"]])[0])): of.texts[n]
        * of.text_norms[n]
        for of in saved["text"]
        for n, row in enumerate(of.text_rows)
    }
    config = config_of(sets, sources=both)
    sources = mixture.open_sources(config)
    plain, found = batches(sets, 3, sources=both), batches(sets, 3, *keys, sources=both)
    for step, (batch, in_loop) in enumerate(zip(found, plain, strict=True), 1):
        assert set(batch) - set(in_loop) == {"image_features", "long_features", "short_features"}
        for key in set(batch) & set(in_loop):
            np.testing.assert_array_equal(batch[key], in_loop[key])
        for row, name in enumerate(pipeline.record_ids(sources, config.batch_size, config.seed, step)):
            record = name.split(": ")[1]
            np.testing.assert_allclose(batch["image_features"][row], image_of[record], rtol=1e-6)
            for kind in ("long", "short"):
                ids = batch[kind][row]
                text = tuple(ids[: int(np.argmax(ids == clip_tokenizer().end)) + 1].tolist())
                whole = {
                    key: value
                    for key, value in text_of.items()
                    if key[:2] == (record, kind) and key[2][:70] == text[:70]
                }
                (features,) = whole.values()
                np.testing.assert_allclose(batch[f"{kind}_features"][row], features, rtol=1e-6)


def test_a_batch_from_memory_follows_from_its_step_alone(sets):
    first = batches(sets, 3, *from_memory(sets))[2]
    again = batches(sets, 1, *from_memory(sets), "data.threads=3", start=3)[0]
    jax.tree.map(np.testing.assert_array_equal, first, again)


@pytest.mark.exhaustive
def test_processes_read_the_same_features(sets):
    plain = batches(sets, 2, *from_memory(sets))
    jax.tree.map(np.testing.assert_array_equal, plain, batches(sets, 2, *from_memory(sets), "data.workers=2"))


def test_views_are_crops_as_training_draws_them_and_all_are_met(sets, tmp_path):
    made = [SCENES, f"--checkpoint={sets / 'clip'}", "--features=encoder", f"--out={tmp_path / 'views'}"]
    embed([*made, "--views=3", "--crop-scale=0.5,0.9"])
    views, keys = open_set(tmp_path / "views"), (f"data.image_features={tmp_path / 'views'}",)
    assert [row["id"] for row in views.image_rows[2:5]] == ["scene-3-0#3", "scene-3-1#1", "scene-3-1#2"]
    (records, _), *_ = mixture.open_sources(config_of(sets))
    image = read_image(records[1].image)
    box = random_box(*image.size, (0.5, 0.9), stream(0, 4, 104))
    from lrsclip_jax import pretrained

    model = pretrained.load(sets / "clip", features="encoder", batch_size=8)
    pixels = np.asarray(image.resize((32, 32), 3, box=box))
    np.testing.assert_allclose(model.encode("image", [pixels])[0], views.images[4] * views.image_norms[4], rtol=1e-4)

    rows = np.concatenate([b["image_features"] for b in batches(sets, 9, *keys, "data.crop_scale=(0.5,0.9)")])
    saved = views.images * views.image_norms[:, None]
    met = {int(np.argmin(np.abs(saved - row).sum(axis=1))) for row in rows}
    assert len(met) > 40 and {number % 3 for number in met} == {0, 1, 2}
    with pytest.raises(InputError, match=r"holds crops of \(0.5, 0.9\) of the area, and data.crop_scale=None"):
        opened(sets, *keys)
    with pytest.raises(InputError, match="central square.*embed with --views=K --crop-scale=0.5,1.0"):
        opened(sets, *from_memory(sets, towers=("image",)), "data.crop_scale=(0.5,1.0)")


def test_turns_from_memory_are_the_turns_of_the_tower_in_the_loop(sets, tmp_path):
    made = [SCENES, f"--checkpoint={sets / 'clip'}", "--features=encoder", "--batch-size=8"]
    embed([*made, "--turns", f"--out={tmp_path / 'turned'}"])
    found, turned = open_set(tmp_path / "turned"), f"data.image_features={tmp_path / 'turned'}"
    assert [(row["id"], row["image"], row["turn"]) for row in found.image_rows[7:9]] == [
        ("scene-3-0@7", "scene-3-0", 7),
        ("scene-3-1@0", "scene-3-1", 0),
    ]
    plain, in_loop = losses_of(sets, 2)[0], losses_of(sets, 2, "data.augmentation.turns=all")[0]
    from_turned = losses_of(sets, 2, "data.augmentation.turns=all", turned)[0]
    np.testing.assert_allclose(from_turned, in_loop, rtol=1e-6)
    np.testing.assert_allclose(losses_of(sets, 2, turned)[0], plain, rtol=1e-6)
    assert abs(in_loop[0] - plain[0]) > 1e-4
    (first, *_), (second, *_) = (batches(sets, 1, turned, f"data.augmentation.turns={of}") for of in ("all", "none"))
    assert set(first) == set(second) and not np.array_equal(first["image_features"], second["image_features"])


def test_each_source_has_turns_of_its_own_from_memory(sets, tmp_path):
    made = [SCENES, f"--checkpoint={sets / 'clip'}", "--features=encoder", "--batch-size=8"]
    embed([*made, "--turns", "--views=2", "--crop-scale=0.5,0.9", f"--out={tmp_path / 'turned'}"])
    embed([OTHERS, *made[1:], "--views=3", "--crop-scale=0.5,0.9", f"--out={tmp_path / 'plain'}"])
    folders, crops = f"('{tmp_path / 'turned'}','{tmp_path / 'plain'}')", "data.crop_scale=(0.5,0.9)"
    keys = (f"data.image_features={folders}", crops, "data.augmentation.turns=('all','none')")
    met = np.concatenate([b["image_features"] for b in batches(sets, 9, *keys, sources=(SCENES, OTHERS))])
    saved = [open_set(tmp_path / name) for name in ("turned", "plain")]
    rows = np.concatenate([of.images * of.image_norms[:, None] for of in saved])
    nearest = [int(np.argmin(np.abs(rows - row).sum(axis=1))) for row in met]
    assert {number % 8 for number in nearest if number < len(saved[0].images)} >= {0, 2, 4, 6}
    assert {(number - len(saved[0].images)) % 3 for number in nearest} >= {0, 1, 2}
    with pytest.raises(InputError, match=f"{tmp_path / 'plain'} has one turn .*turns='flips'"):
        opened(sets, *keys[:2], "data.augmentation.turns=('all','flips')", sources=(SCENES, OTHERS))


def changed(sets, tmp_path, side, **changes):
    """A copy of a set, with other fields in its meta.json, and without checksums."""
    folder = tmp_path / "changed"
    shutil.copytree(sets / f"scenes_{side}s", folder)
    (folder / CHECKSUMS).unlink()
    meta = json.loads((folder / "meta.json").read_text())
    (folder / "meta.json").write_text(json.dumps(meta | changes))
    return folder


@pytest.mark.parametrize(
    ("keys", "message"),
    [
        (("data.image_features={others_images}",), "holds 12 images, and scenes:24:3 24 records: embed scenes:24:3"),
        (("data.text_features={others_texts}",), "holds .* texts, and scenes:24:3 .*: embed scenes:24:3"),
        (("data.image_features={scenes_texts}",), "is of text features: embed with --features=encoder --tower=image"),
        (("data.image_features={nowhere}",), "data.image_features: .*nowhere: no finished embedding set"),
        (
            ("data.text_features={scenes_texts}", "data.long_length=30"),
            "longer than data.long_length=30.*--text-lengths=30",
        ),
        (("data.image_features={scenes_images}", "optimizer.freeze=()"), "is trained: set optimizer.freeze="),
        (("data.text_features={scenes_texts}", "optimizer.freeze=('image/.*',)"), "frozen tower gave, and text/"),
        (("data.image_features=('a','b')",), "2 for 1 data.sources, name one for each"),
        (("data.image_features={scenes_images}", "data.augmentation.turns=all"), "one turn of each .*with --turns"),
        (("data.image_features={scenes_images}", "model.image.patch_dropout=0.5"), "set it to 0.0"),
        (("data.text_features={scenes_texts}", "data.short_text=first_sentence"), "set it to 'short'"),
        (("data.text_features={scenes_texts}", "data.augmentation.turns=flips"), "do not turn, set it to 'none'"),
        (("data.text_features={scenes_texts}", "data.long_draw.drop=0.1"), "data.long_draw.drop: .*default"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_features_that_cannot_stand_for_a_tower_are_one_line(sets, keys, message):
    names = ("others_images", "others_texts", "scenes_texts", "scenes_images", "nowhere")
    with pytest.raises(InputError, match=message) as caught:
        opened(sets, *(key.format(**{name: sets / name for name in names}) for key in keys))
    assert "\n" not in str(caught.value)


def test_another_tower_size_or_preprocessing_is_named(sets, tmp_path):
    other, made = tmp_path / "other", ["--features=encoder", f"--out={tmp_path / 'set'}"]
    tiny_clip.clip_folder(other, seed=5)
    embed([SCENES, f"--checkpoint={other}", *made])
    with pytest.raises(InputError, match=f"made by {other}, whose image tower is not the one"):
        opened(sets, f"data.image_features={tmp_path / 'set'}")
    folder = changed(sets, tmp_path, "image", encoder={"tower": "image", "hash": "0" * 16, "positions": 5})
    with pytest.raises(InputError, match="is not the one that this run starts from"):
        opened(sets, f"data.image_features={folder}")
    preprocessing = json.loads((folder / "meta.json").read_text())["preprocessing"]
    for change, message in (({"size": 48}, "embed with --size=32"), ({"mean": [0, 0, 0]}, "images with mean")):
        shutil.rmtree(folder)
        changed(sets, tmp_path, "image", preprocessing=preprocessing | change)
        with pytest.raises(InputError, match=message):
            opened(sets, f"data.image_features={folder}")


@pytest.mark.exhaustive
def test_texts_cut_as_training_cuts_them_are_taken(sets, tmp_path):
    made = [SCENES, f"--checkpoint={sets / 'clip'}", "--features=encoder", "--tower=text", "--text-lengths=30"]
    embed([*made, f"--out={tmp_path / 'cut'}"])
    losses, _ = losses_of(sets, 1, "data.long_length=30")
    found, _ = losses_of(sets, 1, "data.long_length=30", f"data.text_features={tmp_path / 'cut'}")
    np.testing.assert_allclose(found, losses, rtol=1e-6)


@pytest.mark.parametrize("side", ["image", "text"])
def test_rows_in_another_order_are_found(sets, tmp_path, side):
    folder = changed(sets, tmp_path, side)
    path = folder / f"{side}s.jsonl"
    lines = path.read_text().splitlines()
    path.write_text("\n".join([lines[-1], *lines[1:-1], lines[0]]) + "\n")
    with pytest.raises(InputError, match=f"data.{side}_features: .*(is not of record|in its place)"):
        opened(sets, f"data.{side}_features={folder}")


def test_two_rows_exchanged_are_found_when_they_are_met(sets, tmp_path):
    folder = changed(sets, tmp_path, "image")
    path = folder / "images.jsonl"
    lines = path.read_text().splitlines()
    tried = set(np.linspace(0, 23, 16).astype(int).tolist())
    one, two = [row for row in range(24) if row not in tried][:2]
    lines[one], lines[two] = lines[two], lines[one]
    path.write_text("\n".join(lines) + "\n")
    with pytest.raises(InputError, match=rf"image ({one}|{two}) is not of record 'scene-3-\d+' of {SCENES}: embed"):
        batches(sets, 4, f"data.image_features={folder}")


def test_torn_damaged_and_not_finite_rows_are_named(sets, tmp_path):
    folder = changed(sets, tmp_path, "image")
    rows = np.load(folder / "images.npy")
    rows[3, 2] = np.nan
    np.save(folder / "images.npy", rows)
    with pytest.raises(InputError, match="images.npy, row 3: NaN or infinite"):
        batches(sets, 4, f"data.image_features={folder}")
    (folder / "images.npy").write_bytes((sets / "scenes_images" / "images.npy").read_bytes()[:-100])
    with pytest.raises(InputError, match="torn or damaged"):
        opened(sets, f"data.image_features={folder}")
    shutil.rmtree(folder)
    shutil.copytree(sets / "scenes_images", folder)
    content = bytearray((folder / "images.npy").read_bytes())
    content[-9] ^= 1
    (folder / "images.npy").write_bytes(content)
    with pytest.raises(InputError, match="images.npy is damaged"):
        opened(sets, f"data.image_features={folder}")
