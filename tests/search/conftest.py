"""Without the extra [search] the tests of search are left out."""

from importlib.util import find_spec

if not (find_spec("shapely") and find_spec("rasterio") and find_spec("pystac")):
    collect_ignore_glob = ["test_*.py"]
