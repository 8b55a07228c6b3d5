"""Sizes of images by their headers."""

import warnings

import pytest

from lrsclip_jax.errors import InputError
from lrsclip_jax.sources.annotations.image_files import of_stem, size_of


def test_a_large_tiff_is_known_by_its_blocks(tmp_path):
    rasterio = pytest.importorskip("rasterio")
    warnings.simplefilter("ignore", rasterio.errors.NotGeoreferencedWarning)
    kind = {"driver": "GTiff", "width": 20000, "height": 20000, "count": 1, "dtype": "uint8", "SPARSE_OK": True}
    rasterio.open(tmp_path / "tiled.tif", "w", tiled=True, blockxsize=256, blockysize=256, **kind).close()
    rasterio.open(tmp_path / "bomb.tif", "w", tiled=True, blockxsize=20000, blockysize=20000, **kind).close()
    assert size_of(tmp_path / "tiled.tif") == (20000, 20000)
    with pytest.raises(InputError, match="in blocks of 400,000,000, over Pillow's limit"):
        size_of(tmp_path / "bomb.tif")


def test_an_image_is_found_by_its_stem(tmp_path):
    (tmp_path / "a.b.TIF").write_bytes(b"")
    assert of_stem(tmp_path, "a.b") == tmp_path / "a.b.TIF"
    for stem in ("a", "x" * 5000, "a\0b"):
        with pytest.raises(InputError, match="no image of that name"):
            of_stem(tmp_path, stem)
