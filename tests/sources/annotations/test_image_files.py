"""The file of an image by its stem."""

import pytest

from lrsclip_jax.errors import InputError
from lrsclip_jax.sources.annotations.image_files import of_stem


def test_an_image_is_found_by_its_stem(tmp_path):
    (tmp_path / "a.b.TIF").write_bytes(b"")
    assert of_stem(tmp_path, "a.b") == tmp_path / "a.b.TIF"
    for stem in ("a", "x" * 5000, "a\0b"):
        with pytest.raises(InputError, match="no image of that name"):
            of_stem(tmp_path, stem)
