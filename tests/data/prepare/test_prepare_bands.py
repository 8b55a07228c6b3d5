"""Sets of bands: records hold the values of the files, bands.json their spread, and RGB models are told."""

import json

import numpy as np
import pytest
import tensorflow_datasets as tfds
from ml_collections import ConfigDict

from lrsclip_jax import config as configs
from lrsclip_jax.data.band_image import read_bands
from lrsclip_jax.data.batches import mixture
from lrsclip_jax.data.images import read_image
from lrsclip_jax.data.prepare.__main__ import main
from lrsclip_jax.data.prepared.band_set import read_band_set
from lrsclip_jax.data.prepared.opening import check_bands, open_records
from lrsclip_jax.data.preprocessing import Preprocessing
from lrsclip_jax.errors import InputError

rasterio = pytest.importorskip("rasterio")
pytestmark = pytest.mark.filterwarnings("ignore::rasterio.errors.NotGeoreferencedWarning")
NAMES = ("B02", "B03", "B04", "B08")


def tiff(path, values, names=(), **how):
    count, height, width = values.shape
    shape = {"count": count, "height": height, "width": width, "dtype": values.dtype}
    path.parent.mkdir(parents=True, exist_ok=True)
    with rasterio.open(path, "w", driver="GTiff", **shape, **how) as file:
        file.write(values)
        if names:
            file.descriptions = names


def scenes(folder, count=5, names=NAMES, side=16):
    """Four-band images of int16 with a no-data pixel each, and their list."""
    rows, rng = [], np.random.default_rng(0)
    for number in range(count):
        values = rng.integers(100, 4000, (4, side, side)).astype(np.int16)
        values[:, number, 0] = -9
        tiff(folder / f"{number}.tif", values, names, nodata=-9)
        rows.append({"image": f"{number}.tif", "short": f"field {number}", "long": f"A field, number {number}."})
    (folder / "list.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    return folder / "list.jsonl"


def prepared(source, out, *flags):
    main([str(source), f"--out={out}", "--workers=1", *flags])
    return out


@pytest.fixture(scope="module")
def a_set(tmp_path_factory):
    folder = tmp_path_factory.mktemp("bands")
    return prepared(scenes(folder / "files"), folder / "set", "--bands=B04,B03,B02,nir")


def test_records_hold_the_values_and_bands_json_their_spread(a_set):
    records, found = open_records(str(a_set)), read_band_set(a_set, "train")
    files = [a_set.parent / f"files/{number}.tif" for number in range(5)]
    theirs = [read_bands(file, ("B04", "B03", "B02", "B08")) for file in files]
    ours = [read_bands(record.image, ("B04", "B03", "B02", "nir")) for record in records]
    for ours_one, theirs_one in zip(ours, theirs, strict=True):
        assert ours_one.dtype == np.int16
        assert np.array_equal(ours_one, theirs_one.filled(0))
    valid = np.ma.concatenate([each.reshape(4, -1) for each in theirs], axis=1)
    assert found.bands == ("B04", "B03", "B02", "nir")
    assert found.spread["pixels"] == [5 * 255] * 4
    np.testing.assert_allclose(found.spread["mean"], valid.mean(axis=1), rtol=1e-12)
    np.testing.assert_allclose(found.spread["std"], valid.std(axis=1), rtol=1e-9)


def test_tfds_gives_the_bytes_of_the_images(a_set):
    theirs = tfds.builder_from_directory(a_set).as_data_source("train")
    assert [each["image"] for each in theirs] == [record.image for record in open_records(str(a_set))]


def test_the_same_command_finds_it_finished_and_another_one_refuses(a_set):
    list_of = a_set.parent / "files/list.jsonl"
    prepared(list_of, a_set, "--bands=B04,B03,B02,nir")
    with pytest.raises(InputError, match=r"was prepared with bands=\['B04', 'B03', 'B02', 'nir'\], not \['B02'"):
        prepared(list_of, a_set, "--bands=B02,B03,B04,B08")


def test_larger_images_are_reduced_in_their_own_type(tmp_path):
    out = prepared(
        scenes(tmp_path / "files", names=()),
        tmp_path / "set",
        f"--layout={','.join(NAMES)}",
        "--bands=B08,B02",
        "--size=8",
    )
    read = read_bands(open_records(str(out))[0].image, ("B08", "B02"))
    assert read.shape == (2, 8, 8) and read.dtype == np.int16


@pytest.mark.parametrize(
    ("flags", "line"),
    [
        (["--bands=B02,B11"], r"0\.tif: no band B11: it has B02, B03, B04, B08"),
        (["--bands=B02,B02"], "bands B02, B02: one of them stands twice"),
        (["--bands=B02", "--layout=eurosat"], r"0\.tif: it has 4 bands, and its layout names 13"),
    ],
)
def test_what_the_files_lack_is_one_line(tmp_path, flags, line):
    with pytest.raises(InputError, match=line):
        prepared(scenes(tmp_path / "files"), tmp_path / "set", "--max-bad=0", *flags)


def test_eurosat_of_13_bands_knows_its_order(tmp_path):
    values = np.arange(13, dtype=np.uint16)[:, None, None] * 100 + np.arange(64, dtype=np.uint16).reshape(8, 8)
    for name in ("Forest", "SeaLake"):
        tiff(tmp_path / f"EuroSAT_MS/{name}/{name}_1.tif", values)
    source = f"eurosat-ms:{tmp_path}/EuroSAT_MS"
    record = open_records(str(prepared(source, tmp_path / "set", "--bands=B8A,B09,B04")))[1]
    assert (record.label, record.short) == ("SeaLake", ("a satellite photo of sea lake",))
    assert read_bands(record.image, ("B8A", "B09", "B04"))[:, 0, 0].tolist() == [1200, 800, 300]
    rgb = open_records(str(prepared(source, tmp_path / "rgb")))[0]
    shown = np.asarray(read_image(tmp_path / "EuroSAT_MS/Forest/Forest_1.tif", (4, 3, 2)), int)
    assert np.abs(np.asarray(read_image(rgb.image), int) - shown).mean() < 4  # of JPEG
    (tmp_path / "EuroSAT_MS/SeaLake").rename(tmp_path / "EuroSAT_MS/Ocean")
    with pytest.raises(InputError, match="^eurosat-ms:.*: 'Ocean' is no class of EuroSAT"):
        prepared(source, tmp_path / "other")


def run_config(sources, bands, **model) -> ConfigDict:
    config = configs.defaults()
    config.data.sources = sources
    config.model.image.bands = bands
    config.model.update(model)
    return config


def test_a_model_is_held_against_the_bands_of_its_sets(a_set):
    records = open_records(str(a_set))
    check_bands("a set", records, ("B02", "665nm"))
    with pytest.raises(InputError, match="^a set holds the bands B04, B03, B02, nir, and the model reads RGB: set"):
        check_bands("a set", records, ())
    with pytest.raises(InputError, match=r"^data.sources: .*set: no band B11: it has B04, B03, B02, nir"):
        mixture.open_sources(run_config((str(a_set),), ("B11",)))
    with pytest.raises(InputError, match="scenes:4:0 holds RGB images, and model.image.bands reads B04: prepare"):
        mixture.open_sources(run_config(("scenes:4:0",), ("B04",)))


def test_a_run_is_normalised_by_its_sets_in_reflectance(a_set):
    config = run_config((str(a_set), (str(a_set), 2.0)), ("B08", "B04"))
    unknown = Preprocessing(8, (), (), bands=("B08", "B04"), scale=10000.0)
    found = mixture.measured(unknown, config, mixture.open_sources(config))
    spread = read_band_set(a_set, "train").spread
    np.testing.assert_allclose(found.mean, np.array(spread["mean"])[[3, 0]] / 10000)
    np.testing.assert_allclose(found.std, np.array(spread["std"])[[3, 0]] / 10000)
    known = Preprocessing(8, (0.1, 0.2), (1.0, 1.0), bands=("B08", "B04"))
    assert mixture.measured(known, config, mixture.open_sources(config)) is known


def test_a_damaged_bands_json_is_one_line(a_set, tmp_path):
    (tmp_path / "bands.json").write_text(
        '{"bands": ["B04"], "splits": {"train": {"pixels": [], "mean": [], "std": []}}}'
    )
    with pytest.raises(InputError, match=r"bands.json: train lacks numbers for each of the bands: prepare the set"):
        read_band_set(tmp_path, "train")
