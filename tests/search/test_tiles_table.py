"""The tables of an index: GeoParquet that others read, bytes that depend on the rows alone, and what is refused."""

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import shapely
from small_index import write_index

from eval.embeddings import open_set
from lrsclip_jax.errors import InputError
from lrsclip_jax.search import tiles_table


@pytest.fixture(scope="module")
def index(tmp_path_factory):
    return write_index(tmp_path_factory.mktemp("index") / "small")


def test_an_index_is_an_embedding_set_row_for_row(index):
    found, table = open_set(index), tiles_table.read_tiles(index / "tiles.parquet")
    assert table.column("id").to_pylist() == [row["id"] for row in found.image_rows]
    assert len(table) == 48 == len(found.images)


def test_geopandas_reads_places_and_bounding_boxes(index):
    geopandas = pytest.importorskip("geopandas")
    frame = geopandas.read_parquet(index / "tiles.parquet")
    assert frame.crs.equals("OGC:CRS84")
    assert set(frame.geometry.dropna().geom_type) == {"Polygon", "MultiPolygon"} and frame.geometry.isna().sum() == 16
    near = geopandas.read_parquet(index / "tiles.parquet", bbox=(10, 47, 11.01, 48))
    assert set(near.scene) == {"alps.tif"} and 0 < len(near) < 16
    west, south, east, north = frame.geometry.bounds.dropna().to_numpy().T
    boxes = [box for box in tiles_table.read_tiles(index / "tiles.parquet", ["bbox"]).column(0).to_pylist() if box]
    assert np.array_equal(np.array([list(box.values()) for box in boxes]).T, [west, south, east, north])


def test_duckdb_reads_the_columns(index):
    duckdb = pytest.importorskip("duckdb")
    found = duckdb.sql(
        f"select scene, count(*), min(bbox.xmin) from '{index}/tiles.parquet' where bbox.ymin > 40 group by scene"
    ).fetchall()
    assert found == [("alps.tif", 16, 11.0)]


def test_the_bytes_do_not_depend_on_how_rows_are_handed_over(index, tmp_path):
    table = tiles_table.read_tiles(index / "tiles.parquet")
    cut = [table.slice(start, 5) for start in range(0, len(table), 5)]
    assert tiles_table.write_tiles(tmp_path / "cut", cut) == 48
    assert (tmp_path / "cut").read_bytes() == (index / "tiles.parquet").read_bytes()


def test_regrouped_keeps_every_row_in_order():
    tables = [pa.table({"a": list(range(start, start + n))}) for start, n in ((0, 3), (3, 0), (3, 11), (14, 1))]
    groups = list(tiles_table.regrouped(tables, 4))
    assert [len(group) for group in groups] == [4, 4, 4, 3]
    assert pa.concat_tables(groups).column("a").to_pylist() == list(range(15))


def test_a_torn_table_a_missing_one_and_another_are_named(index, tmp_path):
    path = tmp_path / "tiles.parquet"
    with pytest.raises(InputError, match="is missing"):
        tiles_table.read_tiles(path)
    data = (index / "tiles.parquet").read_bytes()
    path.write_bytes(data[:-20])
    with pytest.raises(InputError, match="torn, or no Parquet file"):
        tiles_table.read_tiles(path)
    path.write_bytes(data[:300] + bytes([data[300] ^ 1]) + data[301:])
    with pytest.raises(InputError, match="torn, or no Parquet file"):
        tiles_table.read_tiles(path)
    pq.write_table(pa.table({"geometry": [b""]}), path)
    with pytest.raises(InputError, match="the column 'bbox' is missing"):
        tiles_table.read_tiles(path)


def test_rings_run_counterclockwise(index):
    shapes = shapely.from_wkb(tiles_table.read_tiles(index / "tiles.parquet", ["geometry"]).column(0).to_pylist())
    parts = shapely.get_parts(shapes[[shape is not None for shape in shapes]])
    assert shapely.is_ccw(shapely.get_exterior_ring(parts)).all()
