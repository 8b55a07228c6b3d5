import base64
import io

import numpy as np
import pytest
from PIL import Image

from lrsclip_jax.corpus.generators.encoded_images import RSCLIP_FIT, Fit, data_url
from lrsclip_jax.errors import InputError


def smooth(width, height):
    """An image whose pixels survive JPEG and a resize: gradients."""
    y, x = np.mgrid[:height, :width]
    return np.stack([255 * x / width, 255 * y / height, 255 * (1 - x / width)], axis=-1).astype(np.uint8)


def sent(path, fit):
    head, data = data_url(str(path), fit).split(",")
    assert head == "data:image/jpeg;base64"
    image = Image.open(io.BytesIO(base64.b64decode(data)))
    assert image.mode == "RGB" and not image.getexif()
    return np.asarray(image, np.float64)


@pytest.fixture
def path(tmp_path):
    exif = Image.Exif()
    exif[274] = 6  # turned, which `read_image` and hence every server ignores
    Image.fromarray(smooth(300, 200)).save(tmp_path / "a.png", exif=exif)
    return tmp_path / "a.png"


def test_small_images_keep_their_size(path):
    np.testing.assert_allclose(sent(path, Fit(1024)), smooth(300, 200), atol=6)


def test_the_longer_side_is_limited(path):
    np.testing.assert_allclose(sent(path, Fit(150)), smooth(150, 100), atol=6)


def test_rsclip_sends_the_central_square():
    assert RSCLIP_FIT == Fit(512, crop=True)


def test_the_central_square_of_the_shorter_side(path):
    np.testing.assert_allclose(sent(path, Fit(100, crop=True)), smooth(150, 100)[:, 25:125], atol=6)


def test_a_file_that_is_no_image(tmp_path):
    (tmp_path / "b.png").write_bytes(b"no image")
    with pytest.raises(InputError, match="b.png: not a JPEG"):
        data_url(str(tmp_path / "b.png"), Fit())
