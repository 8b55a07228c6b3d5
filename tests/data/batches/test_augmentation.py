import io
import random
from dataclasses import replace

import numpy as np
import pytest
import simplejpeg
from PIL import Image

from lrsclip_jax.data.batches.augmentation import check_decoder, random_box, training_pixels
from lrsclip_jax.data.images import read_image
from lrsclip_jax.data.preprocessing import CLIP_PREPROCESSING, SIGLIP_PREPROCESSING, preprocess
from lrsclip_jax.errors import InputError

pytestmark = pytest.mark.filterwarnings("ignore")  # Pillow warns of damaged files before it refuses them


def scene(width: int, height: int) -> Image.Image:
    """Blobs of all sizes, as a photo has."""
    rng = np.random.default_rng(0)
    picture = np.zeros((height, width, 3))
    for cells in (3, 9, 27, 81):
        noise = Image.fromarray(rng.integers(0, 256, (cells, cells, 3), np.uint8))
        picture += np.asarray(noise.resize((width, height), Image.Resampling.BICUBIC), float) / 4
    return Image.fromarray(picture.astype(np.uint8))


def gradient(width: int, height: int) -> Image.Image:
    """Red says the column and green the row, blue nothing."""
    values = np.zeros((height, width, 3), np.uint8)
    values[..., 0], values[..., 1] = np.linspace(0, 255, width)[None], np.linspace(0, 255, height)[:, None]
    return Image.fromarray(values)


def encoded(image: Image.Image, form: str = "JPEG", **options) -> bytes:
    file = io.BytesIO()
    image.save(file, form, **({"quality": 92} | options))
    return file.getvalue()


def both(data: bytes, size: int, crop_scale=None, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """The pixels by "fast" and by "exact", which must have drawn the same numbers."""
    rngs, pixels = [np.random.default_rng(seed) for _ in range(2)], []
    for decoder, rng in zip(("fast", "exact"), rngs, strict=True):
        pixels.append(training_pixels(data, replace(CLIP_PREPROCESSING, size=size), crop_scale, rng, decoder))
    assert rngs[0].random() == rngs[1].random()
    assert all(each.shape == (size, size, 3) and each.dtype == np.uint8 for each in pixels)
    return pixels[0], pixels[1]


@pytest.mark.parametrize("mode", ["RGB", "L"])
@pytest.mark.parametrize("options", [{"subsampling": 0}, {"subsampling": 1, "progressive": True}, {"subsampling": 2}])
def test_an_image_of_the_wanted_size_is_the_same_to_both(mode, options):
    fast, exact = both(encoded(scene(96, 96).convert(mode), **options), 96)
    np.testing.assert_array_equal(fast, exact)


@pytest.mark.parametrize("side, decibels", [(75, 40), (128, 38), (150, 38), (224, 34), (256, 35), (400, 32), (900, 30)])
def test_fast_is_close_to_antialiased_bicubic(side, decibels):
    fast, exact = both(encoded(scene(side, side)), 112)
    error = np.mean((fast.astype(float) - exact) ** 2)
    assert 10 * np.log10(255**2 / error) > decibels


@pytest.mark.parametrize("crop_scale", [None, (0.2, 1.0)])
def test_both_take_the_same_part(crop_scale):
    sides = np.random.default_rng(0).integers(30, 700, (25, 2)).tolist()
    for seed, (width, height) in enumerate(sides):
        fast, exact = (
            part.astype(int) for part in both(encoded(gradient(width, height), subsampling=0), 48, crop_scale, seed)
        )
        pixel = 255 / min(width, height) * max(1, min(width, height) / 48)  # of the result, or of a smaller image
        assert np.abs(fast - exact)[..., :2].max() < 4 + pixel, (width, height)


def test_both_decoders_squash_a_whole_image():
    image = scene(90, 40)
    preprocessing = replace(SIGLIP_PREPROCESSING, size=32)
    fast, exact = (
        training_pixels(encoded(image, subsampling=0), preprocessing, None, np.random.default_rng(0), decoder)
        for decoder in ("fast", "exact")
    )
    np.testing.assert_array_equal(exact, preprocess(read_image(encoded(image, subsampling=0)), preprocessing))
    assert np.abs(fast.astype(int) - exact).mean() < 4


@pytest.mark.parametrize("crop_scale", [None, (0.5, 1.0)])
def test_what_fast_does_not_read_is_exact(crop_scale):
    picture = scene(90, 70)
    alpha = picture.copy()
    alpha.putalpha(100)
    deep = Image.fromarray(np.arange(90 * 70, dtype=np.uint16).reshape(70, 90))
    odd = encoded(picture)
    odd = odd[:-2] + b"\0\0\0" + odd[-2:]  # harmless to Pillow; libjpeg-turbo warns of it
    with pytest.raises(ValueError, match="extraneous bytes"):
        simplejpeg.decode_jpeg(odd)
    others = [encoded(picture.convert("CMYK")), encoded(alpha, "PNG"), encoded(deep, "PNG"), odd]
    for data in [*others, encoded(picture, "WEBP"), encoded(picture, "TIFF")]:
        fast, exact = both(data, 32, crop_scale)
        np.testing.assert_array_equal(fast, exact)


def test_exif_orientation_is_ignored():
    exif = Image.Exif()
    exif[0x0112] = 6
    np.testing.assert_array_equal(*both(encoded(scene(48, 48), exif=exif), 48))


def test_torn_jpeg_is_the_same_error():
    whole = encoded(scene(80, 64))
    for length in [0, 3, 30, len(whole) // 2, len(whole) - 200, len(whole) - 3, len(whole) - 1]:
        with pytest.raises(InputError) as expected:
            read_image(whole[:length])
        for crop_scale in (None, (0.5, 1.0)):
            with pytest.raises(InputError) as caught:
                both(whole[:length], 16, crop_scale)
            assert str(caught.value) == str(expected.value)


def test_damaged_scans_are_refused_as_by_pillow():
    whole, rng = encoded(scene(64, 64)), random.Random(0)
    start = whole.index(b"\xff\xda")
    refused = 0
    for _ in range(150):
        data = bytearray(whole)
        for _ in range(6):
            data[rng.randrange(start, len(data))] = rng.choice((0xFF, rng.randrange(256)))
        try:
            read_image(bytes(data))
        except InputError:
            refused += 1
            with pytest.raises(InputError):
                training_pixels(bytes(data), CLIP_PREPROCESSING, None, rng, "fast")
        else:
            assert training_pixels(bytes(data), CLIP_PREPROCESSING, None, rng, "fast").shape == (224, 224, 3)
    assert 5 < refused < 145


def test_bombs_are_refused_before_they_are_decoded(monkeypatch):
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 1000)
    monkeypatch.setattr(simplejpeg, "decode_jpeg", lambda *_, **__: pytest.fail("decoded"))
    with pytest.raises(InputError, match="over 2,000 pixels, Pillow's limit"):
        both(encoded(scene(64, 64)), 16)


def test_random_crops_stay_within_scale_and_aspect():
    for seed in range(50):
        left, top, right, bottom = random_box(90, 60, (0.5, 0.6), np.random.default_rng(seed))
        assert 0 <= left < right <= 90 and 0 <= top < bottom <= 60
        width, height = right - left, bottom - top
        assert 0.48 < width * height / (60 * 90) < 0.62
        assert 0.7 < width / height < 1.4
    assert random_box(200, 10, (1.0, 1.0), np.random.default_rng(0)) == (93, 0, 106, 10)  # no try can succeed


def test_unknown_decoder():
    with pytest.raises(InputError, match="data.decoder is 'quick': 'exact' and 'fast' are known"):
        check_decoder("quick")
