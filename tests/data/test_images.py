import importlib.util
import io
import os
import random
import sys
from dataclasses import replace

import numpy as np
import pytest
from PIL import Image

from lrsclip_jax.data.images import as_rgb, read_file, read_image
from lrsclip_jax.data.preprocessing import (
    CLIP_PREPROCESSING,
    SIGLIP_PREPROCESSING,
    Preprocessing,
    preprocess,
    resize_and_crop,
    resize_shorter,
)
from lrsclip_jax.errors import InputError

pytestmark = pytest.mark.filterwarnings("ignore")  # Pillow warns of damaged files before it refuses them


def pixels(height: int, width: int, channels: int = 3, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, (height, width, channels), np.uint8)


def encoded(image: Image.Image, form: str, **options) -> bytes:
    file = io.BytesIO()
    image.save(file, form, **options)
    return file.getvalue()


def write_tiff(path, values: np.ndarray, **profile) -> None:
    rasterio = pytest.importorskip("rasterio")
    bands, height, width = values.shape
    profile = dict(driver="GTiff", count=bands, height=height, width=width, dtype=values.dtype, **profile)
    with rasterio.open(path, "w", **profile) as file:
        file.write(values)


@pytest.mark.parametrize("mode", ["RGB", "L", "LA", "RGBA", "P", "CMYK", "1"])
def test_preprocess_equals_transformers_clip(mode):
    processors = pytest.importorskip("transformers.models.clip.image_processing_pil_clip")
    processor = processors.CLIPImageProcessorPil(do_rescale=False, do_normalize=False)
    preprocessing = replace(CLIP_PREPROCESSING, crop="center_floor")
    sizes = [(224, 224), (300, 224), (150, 150), (226, 340), (97, 441), (640, 512), (227, 224), (224, 231), (231, 401)]
    for height, width in sizes:
        image = Image.fromarray(pixels(height, width)).convert(mode)
        expected = processor(image, return_tensors="np")["pixel_values"][0].transpose(1, 2, 0)
        np.testing.assert_array_equal(preprocess(as_rgb(image), preprocessing), expected, f"{height} × {width}")


@pytest.mark.parametrize("margin, even, floor", [(1, 0, 0), (2, 1, 1), (3, 2, 1), (5, 2, 2), (7, 4, 3), (11, 6, 5)])
def test_half_margins_are_rounded_to_even_as_in_torchvision_or_down_as_in_transformers(margin, even, floor):
    rows = np.broadcast_to(np.arange(32 + margin, dtype=np.uint8)[:, None, None], (32 + margin, 32, 3))
    for crop, offset in (("center", even), ("center_floor", floor)):
        assert resize_and_crop(Image.fromarray(rows.copy()), 32, crop)[0, 0, 0] == offset


def test_crops_equal_torchvision():
    transforms = pytest.importorskip("torchvision.transforms")
    bicubic = transforms.InterpolationMode.BICUBIC
    reference = transforms.Compose([transforms.Resize(33, bicubic), transforms.CenterCrop(33)])
    for height, width in np.random.default_rng(0).integers(20, 120, (40, 2)):
        image = Image.fromarray(pixels(height, width))
        np.testing.assert_array_equal(resize_and_crop(image, 33), np.asarray(reference(image)), f"{height} × {width}")


def test_longer_side_is_truncated():
    assert resize_shorter(Image.new("RGB", (299, 200)), 101).size == (150, 101)  # 150.995
    assert resize_shorter(Image.new("RGB", (200, 299)), 101).size == (101, 150)


@pytest.mark.parametrize("size", [0, -1, 16385, 10**6, 10**30])
def test_sides_that_no_memory_holds_are_refused(size):
    with pytest.raises(InputError, match="size -?[0-9]+: from 1 to 16,384 pixels are expected"):
        replace(CLIP_PREPROCESSING, size=size)


def test_the_middle_of_a_long_image_is_that_of_the_whole_resized(monkeypatch):
    for height, width in ((3, 400), (400, 3), (1, 90), (7, 1000), (77, 900), (900, 77)):
        image = Image.fromarray(pixels(height, width))
        for crop in ("center", "center_floor"):
            whole = resize_and_crop(image, 33, crop)
            monkeypatch.setattr("lrsclip_jax.data.preprocessing._MOST_RESIZED", 1)
            cut = resize_and_crop(image, 33, crop).astype(int)
            np.testing.assert_allclose(cut, whole, atol=1)  # the last bit of where a pixel lies
            monkeypatch.undo()


def test_a_file_is_taken_into_memory_only_if_it_has_an_end(tmp_path):
    os.mkfifo(tmp_path / "pipe")
    (tmp_path / "zero").symlink_to("/dev/zero")
    for name in ("pipe", "zero"):
        with pytest.raises(OSError, match="not a regular file"):
            read_file(tmp_path / name)
    (tmp_path / "file").write_bytes(b"abc")
    assert read_file(tmp_path / "file") == b"abc"


@pytest.mark.parametrize(("interpolation", "resample"), [("bicubic", 3), ("bilinear", 2)])
def test_preprocess_equals_transformers_siglip(interpolation, resample):
    processors = pytest.importorskip("transformers.models.siglip.image_processing_pil_siglip")
    size = {"height": 56, "width": 56}
    processor = processors.SiglipImageProcessorPil(do_rescale=False, do_normalize=False, size=size, resample=resample)
    preprocessing = replace(SIGLIP_PREPROCESSING, size=56, interpolation=interpolation)
    for height, width in [(56, 56), (300, 224), (20, 30), (7, 441), (640, 8)]:
        image = Image.fromarray(pixels(height, width))
        expected = processor(image, return_tensors="np")["pixel_values"][0].transpose(1, 2, 0)
        np.testing.assert_array_equal(preprocess(image, preprocessing), expected, f"{height} × {width}")


def test_unknown_preprocessing_is_refused():
    with pytest.raises(InputError, match="resize 'pad' is unknown; known: shorter, squash"):
        Preprocessing(224, (0, 0, 0), (1, 1, 1), resize="pad")
    with pytest.raises(InputError, match="interpolation 'bilinear' needs resize 'squash'"):
        Preprocessing(224, (0, 0, 0), (1, 1, 1), interpolation="bilinear")


@pytest.mark.parametrize("form, options", [("PNG", {}), ("WEBP", {"lossless": True}), ("TIFF", {})])
def test_lossless_formats_are_read_exactly(form, options, tmp_path):
    values = pixels(20, 30)
    path = tmp_path / "image"
    path.write_bytes(encoded(Image.fromarray(values), form, **options))
    for source in (path, str(path), path.read_bytes()):
        image = read_image(source)
        assert image.mode == "RGB" and image.format == form
        np.testing.assert_array_equal(np.asarray(image), values)


def test_modes_become_rgb():
    grey = pixels(20, 30, 1)[..., 0]
    tripled = np.repeat(grey[..., None], 3, 2)
    np.testing.assert_array_equal(np.asarray(read_image(encoded(Image.fromarray(grey), "PNG"))), tripled)
    with_alpha = np.dstack([pixels(20, 30), np.zeros((20, 30), np.uint8)])
    transparent = read_image(encoded(Image.fromarray(with_alpha), "PNG"))
    np.testing.assert_array_equal(np.asarray(transparent), with_alpha[..., :3])  # dropped, as CLIP does
    palette = Image.fromarray(pixels(20, 30)).quantize(16)
    expected = np.asarray(palette.convert("RGB"))
    np.testing.assert_array_equal(np.asarray(read_image(encoded(palette, "PNG"))), expected)
    cmyk = encoded(Image.new("CMYK", (8, 8), (255, 0, 0, 0)), "JPEG")
    red, green, blue = np.asarray(read_image(cmyk))[0, 0].astype(int)
    assert red < 10 and green > 240 and blue > 240


def test_grey_images_resize_alike_before_and_after_conversion():
    grey = Image.fromarray(pixels(60, 81, 1)[..., 0])
    before = np.asarray(resize_shorter(grey, 32).convert("RGB"))
    np.testing.assert_array_equal(np.asarray(resize_shorter(read_image(encoded(grey, "PNG")), 32)), before)


def test_exif_orientation_is_ignored_as_in_clip():
    exif = Image.Exif()
    exif[0x0112] = 6
    assert read_image(encoded(Image.new("RGB", (30, 20)), "JPEG", exif=exif)).size == (30, 20)


def test_sixteen_bit_png_is_stretched():
    ramp = np.linspace(1000, 2000, 64 * 64).reshape(64, 64).astype(np.uint16)
    values = np.asarray(read_image(encoded(Image.fromarray(ramp), "PNG")))
    low, high = np.percentile(ramp, (2, 98))
    expected = np.rint(np.clip((ramp - low) / (high - low), 0, 1) * 255)
    np.testing.assert_array_equal(values, np.repeat(expected[..., None], 3, 2))


def test_geotiff_bands_are_chosen_and_stretched(tmp_path):
    values = np.random.default_rng(1).integers(0, 4000, (5, 24, 32)).astype(np.uint16)
    write_tiff(tmp_path / "s2.tif", values)

    def stretched(band, low, high):
        low, high = np.percentile(values[band - 1], (low, high))
        return np.rint(np.clip((values[band - 1] - low) / (high - low), 0, 1) * 255)

    for bands, stretch in [(None, (2, 98)), ((4, 3, 2), (0, 100))]:
        image = np.asarray(read_image(tmp_path / "s2.tif", bands, stretch))
        expected = np.stack([stretched(band, *stretch) for band in bands or (1, 2, 3)], -1)
        np.testing.assert_array_equal(image, expected)
    grey = np.asarray(read_image(tmp_path / "s2.tif", (5,)))
    np.testing.assert_array_equal(grey, np.repeat(stretched(5, 2, 98)[..., None], 3, 2))
    with pytest.raises(InputError, match=r"s2.tif: bands 4, 3, 6 of 5: choose one or three from 1 to 5"):
        read_image(tmp_path / "s2.tif", (4, 3, 6))


def test_sixteen_bit_rgb_tiff_is_not_cut_to_its_high_byte(tmp_path):
    values = np.random.default_rng(1).integers(0, 1000, (3, 24, 32)).astype(np.uint16)
    write_tiff(tmp_path / "rgb.tif", values, photometric="RGB")
    assert np.asarray(Image.open(tmp_path / "rgb.tif")).max() < 4  # what Pillow alone would give
    assert np.asarray(read_image(tmp_path / "rgb.tif")).max() == 255


def test_no_data_and_nan_are_left_out_of_the_stretch(tmp_path):
    values = np.linspace(10, 20, 400, dtype=np.float32).reshape(1, 20, 20)
    values[0, 0, :] = -9999
    values[0, 1, :] = np.nan
    write_tiff(tmp_path / "height.tif", values, nodata=-9999)
    image = np.asarray(read_image(tmp_path / "height.tif", stretch=(0, 100)))
    assert not image[:2].any()
    assert image[2, 0, 0] == 0 and image[-1, -1, 0] == 255 and (np.diff(image[2:, :, 0].ravel().astype(int)) >= 0).all()


def test_eight_bit_bands_are_taken_as_they_are(tmp_path):
    values = pixels(20, 30, 7).transpose(2, 0, 1)
    write_tiff(tmp_path / "eight.tif", values)
    np.testing.assert_array_equal(np.asarray(read_image(tmp_path / "eight.tif")), values[:3].transpose(1, 2, 0))
    png = encoded(Image.fromarray(values[:3].transpose(1, 2, 0)), "PNG")
    np.testing.assert_array_equal(np.asarray(read_image(png, bands=(3, 2, 1))), values[2::-1].transpose(1, 2, 0))


def test_rasterio_is_asked_for_by_name(tmp_path, monkeypatch):
    write_tiff(tmp_path / "s2.tif", np.zeros((5, 8, 8), np.uint16))
    monkeypatch.setitem(sys.modules, "rasterio", None)
    with pytest.raises(InputError, match=r"s2.tif: .*rasterio: pip install 'lrsclip_jax\[geo\]'"):
        read_image(tmp_path / "s2.tif")


@pytest.mark.parametrize("form", ["JPEG", "PNG", "WEBP", "TIFF"])
def test_torn_files_are_input_errors_that_name_the_file(form, tmp_path):
    whole = encoded(Image.fromarray(pixels(64, 64)), form)
    path = tmp_path / "torn.img"
    # What Pillow can't read of a TIFF may be sound to rasterio: without it nobody can tell, and it is asked for.
    untold = "|.*needs rasterio" if form == "TIFF" and importlib.util.find_spec("rasterio") is None else ""
    for length in [0, 3, 30, len(whole) // 2, len(whole) - 200]:
        path.write_bytes(whole[:length])
        with pytest.raises(InputError, match=f"torn.img: (torn|not a JPEG{untold})") as caught:
            read_image(path)
        assert "\n" not in str(caught.value)


def test_torn_geotiff(tmp_path):
    write_tiff(tmp_path / "s2.tif", np.random.default_rng(0).integers(0, 999, (5, 64, 64)).astype(np.uint16))
    data = (tmp_path / "s2.tif").read_bytes()
    with pytest.raises(InputError, match="tile 7: torn or damaged TIFF"):
        read_image(data[: len(data) // 2], name="tile 7")


def test_damaged_bytes_never_raise_anything_else():
    rng = random.Random(0)
    for form in ("JPEG", "PNG", "WEBP", "TIFF"):
        whole = encoded(Image.fromarray(pixels(24, 24)), form)
        for _ in range(60):
            data = bytearray(whole)
            for _ in range(8):
                data[rng.randrange(len(data))] = rng.randrange(256)
            try:
                assert read_image(bytes(data)).mode == "RGB"
            except InputError:
                pass


def test_missing_file_other_format_and_bomb(tmp_path, monkeypatch):
    with pytest.raises(InputError, match=r"none.jpg: image can't be read \(No such file or directory\)"):
        read_image(tmp_path / "none.jpg")
    with pytest.raises(InputError, match="record 3: not a JPEG, PNG, WebP, TIFF, BMP or JPEG 2000"):
        read_image(encoded(Image.new("RGB", (8, 8)), "GIF"), name="record 3")
    bomb = encoded(Image.new("RGB", (64, 64)), "PNG")
    write_tiff(tmp_path / "bomb.tif", np.zeros((5, 64, 64), np.uint16))
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 1000)
    for source in (bomb, tmp_path / "bomb.tif"):
        with pytest.raises(InputError, match="over 2,000 pixels, Pillow's limit: cut it into tiles"):
            read_image(source)
