"""`lrsclip index` where the packages of the extra [search] are not installed."""

import sys

import pytest

from lrsclip_jax.errors import InputError
from lrsclip_jax.search.index_command import main


@pytest.mark.parametrize("package", ["rasterio", "shapely", "pystac"])
def test_a_missing_package_is_one_line_that_names_the_extra(package, tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, package, None)
    with pytest.raises(InputError, match=rf"indexing needs {package}: pip install 'lrsclip_jax\[search\]'"):
        main(["a.tif", "--checkpoint=b", f"--out={tmp_path / 'index'}"])
    assert not (tmp_path / "index").exists()
