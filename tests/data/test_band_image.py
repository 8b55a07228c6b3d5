"""Images of bands: what rasterio wrote comes back, and they are resized as Pillow resizes RGB."""

import numpy as np
import pytest
from PIL import Image

from lrsclip_jax.data.band_image import BandImage, picture, read_bands, seen, write_bands
from lrsclip_jax.data.bands import LAYOUTS
from lrsclip_jax.data.images import read_image
from lrsclip_jax.data.preprocessing import IMAGENET_PREPROCESSING, Preprocessing, preprocess
from lrsclip_jax.data.rasters import open_bands
from lrsclip_jax.errors import InputError

rasterio = pytest.importorskip("rasterio")
pytestmark = pytest.mark.filterwarnings("ignore::rasterio.errors.NotGeoreferencedWarning")
# Pillow rounds 8 bits along the width, then along the height, where the weights' absolute values sum up to 1.25.
ROUNDED = 0.5 * 1.25 + 0.5 + 1e-3
NAMES = ("B02", "B03", "B04", "B08")


def values(dtype="uint16", count=4, height=20, width=30, seed=0):
    return np.random.default_rng(seed).integers(0, 200, (count, height, width)).astype(dtype)


def write(path, bands, names=NAMES, tags=(), **how):
    count, height, width = bands.shape
    shape = {"count": count, "height": height, "width": width, "dtype": bands.dtype}
    with rasterio.open(path, "w", driver="GTiff", **shape, **how) as file:
        file.write(bands)
        if names:
            file.descriptions = names
        for number, (tag, text, namespace) in enumerate(tags, 1):
            file.update_tags(number, ns=namespace, **{tag: text})
    return path


@pytest.mark.parametrize("dtype", ["uint8", "uint16", "int16", "float32"])
def test_a_record_keeps_its_values_and_names_to_the_bit(dtype):
    bands = values(dtype) - (100 if dtype in ("int16", "float32") else 0)
    data = write_bands(bands.astype(dtype), NAMES)
    read = read_bands(data, NAMES)
    assert read.dtype == dtype
    assert np.array_equal(read.data, bands)
    assert not read.mask.any()
    assert data == write_bands(bands.astype(dtype), NAMES)
    with rasterio.MemoryFile(data) as file, file.open() as raster:
        assert raster.descriptions == NAMES


def test_bands_are_picked_by_name_wavelength_and_layout(tmp_path):
    bands = values()
    named = write(tmp_path / "named.tif", bands)
    unnamed = write(tmp_path / "unnamed.tif", bands, names=())
    tags = [("CENTRAL_WAVELENGTH_UM", text, "IMAGERY") for text in ("0.49", "0.56", "0.665", "0.83")]
    tagged = write(tmp_path / "tagged.tif", bands, names=(), tags=tags)
    envi = [("wavelength", text, None) for text in ("490", "560", "665", "833")]
    of_envi = write(tmp_path / "envi.tif", bands, names=(), tags=envi)
    wanted = bands[[3, 2]]
    assert np.array_equal(read_bands(named, ("B08", "red")), wanted)
    assert np.array_equal(read_bands(unnamed, ("B08", "red"), NAMES), wanted)
    assert np.array_equal(read_bands(tagged, ("nir", "665nm")), wanted)
    assert np.array_equal(read_bands(of_envi, ("B08", "B04")), wanted)
    assert np.array_equal(read_bands(named, ("x", "y"), ("a", "b", "x", "y")), bands[2:])  # a layout goes first


def test_no_data_and_nan_become_zero(tmp_path):
    bands = values("float32")
    bands[0, 0, 0], bands[1, 2, 3], bands[2, 4, 5] = np.nan, -1, np.inf
    image = np.asarray(BandImage.of(read_bands(write(tmp_path / "gaps.tif", bands, nodata=-1), NAMES)))
    assert image.dtype == np.float32
    assert image[0, 0, 0] == image[2, 3, 1] == image[4, 5, 2] == 0
    bands[0, 0, 0] = bands[1, 2, 3] = bands[2, 4, 5] = 0
    assert np.array_equal(image, bands.transpose(1, 2, 0))


@pytest.mark.parametrize("size", [(37, 53), (53, 37), (20, 20), (16, 90)])
def test_they_are_resized_and_cropped_as_rgb_is(size):
    """Up to the rounding of 8 bits."""
    pixels = np.kron(np.random.default_rng(1).integers(60, 200, (9, 9, 3)), np.ones((12, 12, 1)))[: size[0], : size[1]]
    rgb = Preprocessing(20, IMAGENET_PREPROCESSING.mean, IMAGENET_PREPROCESSING.std)
    bands = Preprocessing(20, rgb.mean, rgb.std, bands=("red", "green", "blue"))
    expected = preprocess(Image.fromarray(pixels.astype(np.uint8)), rgb)
    found = preprocess(BandImage.of(pixels.transpose(2, 0, 1)), bands)
    assert found.dtype == np.float32 and found.shape == expected.shape
    assert np.abs(np.clip(found, 0, 255) - expected).max() <= (0 if size == (20, 20) else ROUNDED)


def test_of_a_long_thin_one_the_central_square_alone_is_resized():
    pixels = np.random.default_rng(1).integers(60, 200, (2, 3000, 3))
    rgb = Preprocessing(224, IMAGENET_PREPROCESSING.mean, IMAGENET_PREPROCESSING.std)
    expected = preprocess(Image.fromarray(pixels.astype(np.uint8)), rgb)
    found = preprocess(BandImage.of(pixels.transpose(2, 0, 1)), rgb)
    assert np.abs(np.clip(found, 0, 255) - expected).max() <= ROUNDED


def test_a_scene_by_windows_has_the_same_values(tmp_path):
    bands = values("int16")
    bands[:, :3] = -9
    path = write(tmp_path / "scene.tif", bands, nodata=-9, crs="EPSG:32632")
    scene = open_bands(path, ("B08", "B04"))
    whole = np.asarray(BandImage.of(read_bands(path, ("B08", "B04"))))
    assert np.array_equal(scene.read(np.array([2, 9, 5, 25])), whole[2:9, 5:25])
    assert scene.georeference is not None
    seen_pixels, gaps = scene.look((0, 20, 0, 30), 10, 15)
    assert seen_pixels.shape == (10, 15, 2) and seen_pixels.dtype == np.float32
    assert gaps is not None and gaps[0].all() and not gaps[2:].any()
    assert scene.empty(np.array([[0, 3, 0, 30], [0, 9, 0, 30]])).tolist() == [True, False]


def test_people_see_red_green_and_blue(tmp_path):
    path = write(tmp_path / "a.tif", values())
    assert np.array_equal(picture(path), read_image(path, (3, 2, 1)))
    layout = LAYOUTS["sentinel2-l2a"][:4]
    unnamed = write(tmp_path / "b.tif", values(), names=())
    assert np.array_equal(picture(unnamed, layout), read_image(unnamed, (4, 3, 2)))
    assert np.array_equal(picture(unnamed), read_image(unnamed))
    assert np.array_equal(seen(unnamed, IMAGENET_PREPROCESSING, layout), read_image(unnamed, (4, 3, 2)))


def test_what_cannot_be_read_is_one_line(tmp_path):
    bands = Preprocessing(20, (), (), bands=("B04",))
    Image.new("RGB", (8, 8)).save(tmp_path / "a.jpg")
    with pytest.raises(InputError, match=r"a\.jpg: no TIFF or JPEG 2000, which hold bands such as B04$"):
        seen(tmp_path / "a.jpg", bands)
    with pytest.raises(InputError, match=r"gone\.tif: image can't be read \(No such file"):
        seen(tmp_path / "gone.tif", bands)
    wide = write(tmp_path / "wide.tif", values("float64"))
    with pytest.raises(InputError, match=r"wide\.tif: values of float64: save them as uint8, uint16, int16 or float32"):
        seen(wide, bands)
    unnamed = write(tmp_path / "b.tif", values(), names=())
    with pytest.raises(InputError, match=r"b\.tif: no band B04: it has 4 without a name; --layout=… says"):
        seen(unnamed, bands)
    with pytest.raises(InputError, match=r"b\.tif: it has 4 bands, and its layout names 13$"):
        seen(unnamed, bands, LAYOUTS["eurosat"])
    with pytest.raises(InputError, match=r"b\.tif: no red, green and blue among its bands VV, VH, a, b$"):
        seen(unnamed, IMAGENET_PREPROCESSING, ("VV", "VH", "a", "b"))
    torn = tmp_path / "torn.tif"
    torn.write_bytes(write(tmp_path / "c.tif", values(height=200)).read_bytes()[:4000])
    with pytest.raises(InputError, match=r"torn\.tif: torn or damaged TIFF"):
        seen(torn, bands)
