"""Hits as files: others read them back with the right places; nothing that comes from a file is taken for markup."""

import csv
import io
import json
import re
from datetime import UTC, datetime

import numpy as np
import pyarrow as pa
import pytest
import shapely

from eval.html.frame import POLICY
from lrsclip_jax.errors import InputError
from lrsclip_jax.search.exports import csv_text, geojson
from lrsclip_jax.search.footprint_map import Place, footprint_map
from lrsclip_jax.search.found_page import found_page, percentile_words
from lrsclip_jax.search.hits import Hit, Hits

NASTY = '<script>alert("1")</script>\n,=1+1'
CLOCKWISE = shapely.Polygon([(11, 47), (11, 48), (12, 48), (12, 47)])
ACROSS = shapely.MultiPolygon([shapely.box(179, -17, 180, -16), shapely.box(-180, -17, -179, -16)])


def hit(rank, geometry, bbox, **changed):
    made = {
        "rank": rank,
        "row": rank,
        "id": f"a.tif#L0/r0,c{rank}",
        "scene": "a.tif",
        "window": (0, 224, rank, rank + 224),
        "level": 0,
        "cosine": 0.3 - rank / 100,
        "percentile": 100 - rank,
        "z": 5.0 - rank,
        "geometry": geometry,
        "bbox": bbox,
        "crs": "EPSG:32632",
        "gsd": 0.5,
        "date": datetime(2024, 5, 31, 12, 30, tzinfo=UTC),
    }
    return Hit(**(made | changed))


@pytest.fixture(scope="module")
def hits():
    found = (
        hit(1, CLOCKWISE, CLOCKWISE.bounds),
        hit(2, ACROSS, (179.0, -17.0, -179.0, -16.0), scene=NASTY, id=f"={NASTY}"),
        hit(3, None, None, crs=None, gsd=None, date=None, scene="+nowhere"),
    )
    return Hits(found, f"“{NASTY}”", 1000, 900, (4.0, 3.0), (f"a note {NASTY}",), index_name=NASTY)


def test_geojson_is_as_rfc_7946_has_it(hits, tmp_path):
    hits.write(tmp_path / "found.geojson")
    found = json.loads((tmp_path / "found.geojson").read_text(encoding="utf-8"))
    assert found == json.loads(json.dumps(geojson(hits)))
    assert found["type"] == "FeatureCollection" and "crs" not in found and len(found["features"]) == 3
    first, across, nowhere = found["features"]
    ring = shapely.LinearRing(first["geometry"]["coordinates"][0])
    assert ring.is_ccw and not shapely.LinearRing(CLOCKWISE.exterior).is_ccw
    assert across["bbox"] == [179, -17, -179, -16] and across["geometry"]["type"] == "MultiPolygon"
    assert nowhere["geometry"] is None and "bbox" not in nowhere
    assert across["properties"]["scene"] == NASTY and across["id"] == f"={NASTY}"
    assert first["properties"]["date"] == "2024-05-31T12:30:00+00:00" and first["properties"]["cosine"] == 0.29


@pytest.mark.parametrize("name", ["found.geojson", "found.GPKG"])
def test_geopandas_reads_the_places_back(hits, tmp_path, name):
    geopandas = pytest.importorskip("geopandas")
    pytest.importorskip("pyogrio")
    hits.write(tmp_path / name)
    frame = geopandas.read_file(tmp_path / name)
    assert frame.crs.to_epsg() == 4326 and len(frame) == 3
    assert frame.geometry[0].equals(CLOCKWISE) or frame.geometry[0].equals(shapely.MultiPolygon([CLOCKWISE]))
    assert frame.geometry[1].equals(ACROSS) and frame.geometry[2] is None
    assert frame.scene.tolist() == ["a.tif", NASTY, "+nowhere"] and frame.cosine.tolist() == [0.29, 0.28, 0.27]
    assert frame["rank"].tolist() == [1, 2, 3] and frame.gsd[0] == 0.5 and np.isnan(frame.gsd[2])
    assert (str(frame.date[0]).startswith("2024-05-31 12:30") and frame.date[2] is None) or frame.date.isna()[2]


def test_photographs_are_points_in_a_geopackage(tmp_path):
    geopandas = pytest.importorskip("geopandas")
    pytest.importorskip("pyogrio")
    Hits((hit(1, shapely.Point(11, 47), (11, 47, 11, 47)),), "a", 1, 1).write(tmp_path / "found.gpkg")
    assert geopandas.read_file(tmp_path / "found.gpkg").geometry[0].equals(shapely.Point(11, 47))


def test_no_hits_are_files_too(tmp_path):
    nothing = Hits((), "a", 10, 0)
    for ending in ("geojson", "csv", "html"):
        nothing.write(tmp_path / f"found.{ending}")
        assert (tmp_path / f"found.{ending}").stat().st_size
    assert json.loads((tmp_path / "found.geojson").read_text())["features"] == []
    if geopandas := pytest.importorskip("geopandas"):
        nothing.write(tmp_path / "found.gpkg")
        assert len(geopandas.read_file(tmp_path / "found.gpkg")) == 0


def test_a_table_becomes_a_geodataframe(hits):
    geopandas = pytest.importorskip("geopandas")
    frame = geopandas.GeoDataFrame.from_arrow(hits.table())
    assert frame.crs.equals("OGC:CRS84") and frame.geometry[1].equals(ACROSS) and frame.id[1] == f"={NASTY}"
    assert isinstance(hits.table(), pa.Table)


def test_csv_cells_are_no_formulas_and_keep_their_text(hits):
    rows = list(csv.DictReader(io.StringIO(csv_text(hits), newline="")))
    assert [row["scene"] for row in rows] == ["a.tif", NASTY, "'+nowhere"] and rows[1]["id"] == f"'={NASTY}"
    assert shapely.from_wkt(rows[0]["wkt"]).equals(CLOCKWISE) and rows[2]["wkt"] == "" == rows[2]["longitude"]
    assert (float(rows[1]["west"]), float(rows[1]["east"]), float(rows[1]["longitude"])) == (179, -179, 180)


def test_the_page_escapes_what_it_is_given_and_fetches_nothing(hits):
    page = found_page(hits, lambda row: b"\xff\xd8picture" if row == 1 else None)
    assert POLICY in page and POLICY.startswith("default-src 'none'")
    assert "<script" not in page and page.count("&lt;script&gt;") >= 4
    assert 'src="data:image/jpeg;base64,' in page and "no picture" in page
    fetched = re.findall(r'(?:src|href|url)\s*[=(]\s*"?([^")\s>]+)', page)
    assert fetched and all(address.startswith(("data:image/jpeg;base64,", "#")) for address in fetched)
    assert "1 of 3 tiles have no place on Earth." in page and "Found: the best z is 4.0" not in page
    assert hits.verdict in page


def test_the_verdict_tells_found_from_nothing():
    one = (hit(1, None, None),)
    assert (
        Hits(one, "a", 10, 10, (3.5,)).verdict == "Found: the best z is 4.0, texts of absent things reach 3.5 at most."
    )
    assert Hits(one, "a", 10, 10, (4.5, 1)).verdict.startswith("Maybe nothing: the best z is 4.0, ")
    assert Hits((), "a", 0, 0).verdict == "The index holds no tiles."


def test_the_map_puts_places_across_the_date_line_next_to_each_other():
    drawn = footprint_map([Place(shapely.box(179, -17, 179.5, -16), 1, "one"), Place(ACROSS, 2, "two")])
    xs = [float(x) for path in re.findall(r'<path d="([^"]+)"', drawn) for x in re.findall(r"[ML](-?[\d.]+),", path)]
    assert len(xs) == 12 + 3 and 0 < min(xs) and max(xs) < 960 and max(xs) - min(xs) < 900
    assert "180.0°<" in drawn and "179.5°E" in drawn and "179.5°W" in drawn


@pytest.mark.parametrize(
    "shape",
    [
        shapely.Point(0, 0),
        shapely.box(-180, -90, 180, 90),
        shapely.box(10, 89.99, 11, 90),
        shapely.box(7, 50, 7.0000001, 50.0000001),
    ],
)
def test_a_map_of_any_size_has_numbers_and_no_overflow(shape):
    drawn = footprint_map([Place(shape, 1, "one")], [(-10, -10, 10, 10), (170, -10, -170, 10)])
    assert "nan" not in drawn and "inf" not in drawn and len(drawn) < 20_000


def test_percentiles_near_the_top_keep_their_digits():
    assert [percentile_words(value) for value in (100, 99.9987, 97.5, 3)] == [
        "100.00 %",
        "99.9987 %",
        "97.50 %",
        "3.00 %",
    ]


@pytest.mark.parametrize("name", ["found", "found.shp", "found.geojson.gz"])
def test_another_ending_is_refused(hits, tmp_path, name):
    with pytest.raises(InputError, match=r"expected a name that ends in \.geojson, \.json, \.gpkg, \.csv or \.html"):
        hits.write(tmp_path / name)


def test_a_file_that_cannot_be_written_is_one_line(hits, tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(InputError, match="can't write"):
        hits.write(tmp_path / "file" / "found.csv")
