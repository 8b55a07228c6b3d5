"""Models of more bands: started from RGB weights, trained on a set of bands, and asked about files of bands."""

import json

import jax
import numpy as np
import pytest
import tiny_clip
from ml_collections import ConfigDict
from PIL import Image

import lrsclip_jax
from lrsclip_jax import config as configs
from lrsclip_jax import weights
from lrsclip_jax.convert.export import export
from lrsclip_jax.data.images import read_image
from lrsclip_jax.data.prepare.__main__ import main as prepare
from lrsclip_jax.data.tokenizer import clip_tokenizer
from lrsclip_jax.embed.__main__ import main as embed
from lrsclip_jax.embed.material import open_material, seen_by
from lrsclip_jax.errors import InputError
from lrsclip_jax.localise.__main__ import main as localise
from lrsclip_jax.models import zoo
from lrsclip_jax.models.vit import PatchEmbedding
from lrsclip_jax.run import checkpoint, workdir
from lrsclip_jax.train import train_and_evaluate

rasterio = pytest.importorskip("rasterio")
pytestmark = pytest.mark.filterwarnings("ignore::rasterio.errors.NotGeoreferencedWarning")
NAMES = ("B02", "B03", "B04", "B08", "B11")
BANDS = ("B11", "red", "B08", "560nm", "B02")  # in another order than the files', in all spellings


def write(path, values, names=NAMES):
    count, height, width = values.shape
    shape = {"count": count, "height": height, "width": width, "dtype": values.dtype}
    path.parent.mkdir(exist_ok=True)
    with rasterio.open(path, "w", driver="GTiff", crs="EPSG:32632", **shape) as file:
        file.write(values)
        if names:
            file.descriptions = names
    return path


@pytest.fixture(scope="module")
def clip(tmp_path_factory):
    folder = tmp_path_factory.mktemp("clip")
    tiny_clip.clip_folder(folder / "clip")
    return str(folder / "clip")


def config_of(clip, bands=BANDS, **model) -> ConfigDict:
    """That of a model of the bands started from the weights of `clip`, whose pixels have 8 bits."""
    config, like = configs.defaults(), tiny_clip.PREPROCESSING
    fields = {"width": 64, "layers": 1, "heads": 1, "embed_dim": 16}
    config.model.name = "custom"
    config.model.image.update(fields | {"size": 32, "patch": 16, "bands": bands})
    config.model.text.update(fields | {"context_length": 77})
    of = {name: [dict(zip(("red", "560nm", "B02"), values, strict=True)).get(band, 1.0) for band in bands]
          for name, values in (("band_mean", like.mean), ("band_std", like.std))}  # fmt: skip
    with config.ignore_type():
        config.model.update({"init": clip, "band_scale": 255.0} | of | model)
    return config


def run_of(folder, config):
    """Writes the run folder of a model that was not trained."""
    model = weights.build_model(config, "cpu")
    params, preprocessing = weights.initial_parameters(model, config)
    about = checkpoint.metadata(config, preprocessing, clip_tokenizer())
    checkpoint.write(workdir.new(str(folder)), params, about)
    return params


@pytest.fixture(scope="module")
def run(clip, tmp_path_factory):
    folder = tmp_path_factory.mktemp("runs") / "zero"
    run_of(folder, config_of(clip))
    return str(folder)


@pytest.fixture(scope="module")
def files(tmp_path_factory):
    """RGB images, and TIFFs of five bands that hold the same red, green and blue."""
    folder, rng = tmp_path_factory.mktemp("files"), np.random.default_rng(0)
    for number in range(3):
        values = rng.integers(0, 256, (5, 32, 32)).astype(np.uint16)
        write(folder / f"{number}.tif", values)
        Image.fromarray(values[[2, 1, 0]].transpose(1, 2, 0).astype(np.uint8)).save(folder / f"{number}.png")
    return folder


def test_the_first_embedding_is_that_of_the_rgb_model(clip, run, files):
    expected = lrsclip_jax.load(clip).images([files / f"{number}.png" for number in range(3)])
    model = lrsclip_jax.load(run)
    assert model.preprocessing.bands == BANDS
    found = model.images([files / f"{number}.tif" for number in range(3)])
    np.testing.assert_allclose(found, expected, rtol=0, atol=1e-6)
    values = rasterio.open(files / "0.tif").read([5, 3, 4, 2, 1]).transpose(1, 2, 0)
    np.testing.assert_array_equal(model.preprocess(values), model.preprocess(files / "0.tif"))


def test_kernels_of_new_bands_start_at_zero_or_as_the_mean(clip):
    theirs = weights.read(clip).params["image"]["patch_embedding"]["kernel"]
    of = {}
    for new in ("zero", "mean"):
        config = config_of(clip, new_bands=new)
        params, _ = weights.initial_parameters(weights.build_model(config, "cpu"), config)
        of[new] = np.asarray(params["image"]["patch_embedding"]["kernel"])
        np.testing.assert_array_equal(of[new][:, :, [1, 3, 4]], theirs)
    assert not of["zero"][:, :, [0, 2]].any()
    np.testing.assert_array_equal(of["mean"][:, :, 2], theirs.mean(axis=2))


def test_the_patch_embedding_is_torchs_convolution_in_value_and_gradient():
    torch = pytest.importorskip("torch")
    rng = np.random.default_rng(0)
    images, kernel, weight = (rng.normal(size=shape) for shape in ((2, 8, 8, 5), (4, 4, 5, 6), (2, 4, 6)))
    images, kernel, weight = (each.astype(np.float32) for each in (images, kernel, weight))
    embedding = PatchEmbedding(4, 6, use_bias=False)

    def ours(kernel, images):
        return (embedding.apply({"params": {"kernel": kernel}}, images) * weight).sum()

    value, gradients = jax.value_and_grad(ours, argnums=(0, 1))(kernel, images)
    theirs = [
        torch.tensor(each, requires_grad=True) for each in (kernel.transpose(3, 2, 0, 1), images.transpose(0, 3, 1, 2))
    ]
    rows = torch.nn.functional.conv2d(theirs[1], theirs[0], stride=4).flatten(2).transpose(1, 2)
    total = (rows * torch.tensor(weight)).sum()
    total.backward()
    np.testing.assert_allclose(value, total.item(), rtol=1e-5)
    for found, wanted, axes in zip(gradients, theirs, ((2, 3, 1, 0), (0, 2, 3, 1)), strict=True):
        np.testing.assert_allclose(found, wanted.grad.numpy().transpose(axes), rtol=1e-5, atol=1e-5)


def test_a_run_of_bands_is_a_source_for_other_bands(clip, run):
    theirs = weights.read(run)
    assert tuple(theirs.image["bands"]) == BANDS
    config = config_of(run, ("B02", "B08", "VV"), band_mean=None, band_std=None)
    params, preprocessing = weights.initial_parameters(weights.build_model(config, "cpu"), config)
    kernel, old = (np.asarray(each["image"]["patch_embedding"]["kernel"]) for each in (params, theirs.params))
    np.testing.assert_array_equal(kernel[:, :, :2], old[:, :, [4, 2]])
    assert (preprocessing.mean, preprocessing.bands) == ((), ("B02", "B08", "VV"))  # the training sets tell
    config = config_of(run, band_mean=None, band_std=None, band_scale=1.0)
    same = weights.initial_parameters(weights.build_model(config, "cpu"), config)[1]
    assert same == theirs.preprocessing  # of the same bands the weights do


def test_what_cannot_start_is_one_line(clip, run):
    for source, bands, line in (
        (clip, ("VV", "VH"), r"has weights of red, green, blue, and none of model.image.bands=\('VV', 'VH'\)"),
        (run, (), r"reads bands B11, red, B08, 560nm, B02: set model.image.bands, by default it is RGB"),
    ):
        config = config_of(source, bands, band_mean=None, band_std=None)
        with pytest.raises(InputError, match=line):
            weights.initial_parameters(weights.build_model(config, "cpu"), config)


def test_keys_that_do_not_fit_are_one_line():
    for keys, line in (
        ({"model.image.bands": "('B04','B04')"}, "'B04' stands twice in it"),
        ({"model.image.bands": "('B04','B03')", "model.band_mean": "(0.1,)"}, "set both, or neither"),
        (
            {"model.image.bands": "('B04','B03')", "model.band_mean": "(0.1,)", "model.band_std": "(1.0,2.0)"},
            r"model.band_mean=\(0.1,\): 1 numbers for 2 of model.image.bands",
        ),
        ({"model.new_bands": "'copy'"}, "expected 'zero' or 'mean'"),
        ({"model.band_std": "(0.0,)"}, "above 0"),
    ):
        with pytest.raises(InputError, match=line):
            configs.load("quickstart", [f"{key}={value}" for key, value in keys.items()])


def test_a_model_of_rgb_says_nothing_of_bands(clip):
    image, _ = zoo.fields(lrsclip_jax.load(clip).clip)
    assert "bands" not in image
    assert not {"bands", "scale"} & tiny_clip.PREPROCESSING.described().keys()
    keys = {"model.image.bands", "model.new_bands", "model.band_scale", "model.band_mean", "model.band_std"}
    assert keys <= {*configs.LATER}  # so that old runs keep their hash


def test_no_format_takes_it(run):
    model = lrsclip_jax.load(run)
    for format in ("hf", "openai", "open_clip", "longclip"):
        with pytest.raises(InputError, match="reads bands B11, red, B08, 560nm, B02: no format says which"):
            export(model.clip, model.params, model.preprocessing, format=format, out="x", source=run)


@pytest.mark.slow
def test_commands_read_its_bands_and_name_what_a_file_lacks(run, files, tmp_path):
    rng = np.random.default_rng(1)
    large = rng.integers(0, 256, (5, 48, 80)).astype(np.uint16)
    scene = write(tmp_path / "images/scene.tif", large)
    embed([str(tmp_path / "images"), f"--checkpoint={run}", f"--out={tmp_path / 'set'}", "--tile=32"])
    rows = [json.loads(line) for line in (tmp_path / "set/images.jsonl").read_text().splitlines()]
    model = lrsclip_jax.load(run)
    r0, r1, c0, c1 = rows[-1]["window"]
    tile = large[[4, 2, 3, 1, 0], r0:r1, c0:c1].transpose(1, 2, 0)
    np.testing.assert_allclose(np.load(tmp_path / "set/images.npy")[-1], model.images([tile])[0], atol=1e-6)

    unnamed = write(tmp_path / "unnamed.tif", large, names=())
    flags = [f"--checkpoint={run}", "--text=a field", "--steps=32", f"--out={tmp_path / 'found'}"]
    localise([str(unnamed), *flags, f"--layout={','.join(NAMES)}"])
    first = json.loads(next((tmp_path / "found").glob("*-found.json")).read_text())["windows"]
    localise([str(scene), *flags[:-1], f"--out={tmp_path / 'named'}"])
    assert json.loads(next((tmp_path / "named").glob("*-found.json")).read_text())["windows"] == first
    with pytest.raises(InputError, match=r"unnamed\.tif: no band B11: it has 5 without a name; --layout"):
        localise([str(unnamed), *flags[:-1], f"--out={tmp_path / 'none'}"])
    with pytest.raises(InputError, match="reads bands"):
        model.images([Image.new("RGB", (32, 32))])
    with pytest.raises(InputError, match=r"an array \[H, W, 5\] is expected, not uint8 \[32, 32, 3\]"):
        model.images([np.zeros((32, 32, 3), np.uint8)])
    with pytest.raises(InputError, match=r"0\.png: no TIFF or JPEG 2000"):
        model.images([files / "0.png"])


def test_an_index_holds_what_the_model_sees(run, tmp_path):
    pytest.importorskip("shapely")
    index = pytest.importorskip("lrsclip_jax.search.index_command").main
    large = np.random.default_rng(2).integers(0, 256, (5, 32, 64)).astype(np.uint16)
    scene = write(tmp_path / "archive/scene.tif", large, names=())
    index([str(scene.parent), f"--checkpoint={run}", f"--layout={','.join(NAMES)}", f"--out={tmp_path / 'index'}"])
    model = lrsclip_jax.load(run)
    tiles = [large[[4, 2, 3, 1, 0], :, at : at + 32].transpose(1, 2, 0) for at in (0, 24, 32)]
    np.testing.assert_allclose(np.load(tmp_path / "index/images.npy"), model.images(tiles), atol=1e-6)
    with pytest.raises(InputError, match="not one tile of 1 scenes: no band B11: it has 5 without a name; --layout="):
        index([str(scene.parent), f"--checkpoint={run}", f"--out={tmp_path / 'other'}"])


def test_the_page_takes_dropped_images_of_bands(run, files):
    dropped = pytest.importorskip("lrsclip_jax.search.page.dropped")
    model = lrsclip_jax.load(run)
    found = dropped.decoded((files / "0.tif").read_bytes(), model.preprocessing, model.layout)
    np.testing.assert_array_equal(found.pixels, model.preprocess(files / "0.tif"))
    with pytest.raises(dropped.Refusal, match=r"^The image: no TIFF or JPEG 2000, which hold bands such as B11\.$"):
        dropped.decoded((files / "0.png").read_bytes(), model.preprocessing)


@pytest.mark.exhaustive
def test_it_trains_on_a_set_of_bands(clip, files, tmp_path):
    """The loss falls, held-out sets are scored, and the run says how it was normalised."""
    rows = []
    for number in range(24):
        values = np.random.default_rng(number).normal(2000 + 200 * (number % 4), 300, (5, 32, 32)).astype(np.int16)
        write(tmp_path / f"{number}.tif", values)
        rows.append({"image": f"{number}.tif", "short": f"field {number % 4}", "label": f"field{number % 4}"})
    (tmp_path / "list.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    prepare([str(tmp_path / "list.jsonl"), f"--bands={','.join(NAMES)}", f"--out={tmp_path / 'set'}", "--workers=1"])
    as_rgb = seen_by(open_material(str(tmp_path / "set")), tiny_clip.PREPROCESSING)
    np.testing.assert_array_equal(as_rgb.read(0), read_image(tmp_path / "0.tif", (3, 2, 1)))
    config = config_of(clip, ("B04", "B03", "B02", "B08"), band_mean=None, band_std=None, band_scale=10000.0)
    with config.ignore_type():
        config.update_from_flattened_dict(
            {
                "data.sources": (str(tmp_path / "set"),),
                "eval.sources": (str(tmp_path / "set"),),
                "eval.templates": ("lrsclip",),
                "eval.batch_size": 8,
                "data.augmentation.turns": "all",
                "data.crop_scale": (0.5, 1.0),
                "data.long_length": 16,
                "data.short_length": 16,
                "data.packed": False,
                "batch_size": 8,
                "epochs": 8,
                "optimizer.name": "adamw",
                "optimizer.learning_rate": 3e-3,
                "log.every_steps": 1,
                "log.tensorboard": False,
                "train.compilation_cache": None,
            }
        )
    scores = train_and_evaluate(config, str(tmp_path / "run"))
    metrics = [json.loads(line) for line in (tmp_path / "run/metrics.jsonl").read_text().splitlines()]
    losses = [row["loss"] for row in metrics if "loss" in row]
    assert np.mean(losses[-4:]) < 0.9 * np.mean(losses[:4])
    assert scores["eval/set/zeroshot/accuracy"] > 0
    preprocessing = lrsclip_jax.load(tmp_path / "run").preprocessing
    assert preprocessing.bands == ("B04", "B03", "B02", "B08") and preprocessing.scale == 10000
    np.testing.assert_allclose(preprocessing.mean, 0.23, atol=0.005)
