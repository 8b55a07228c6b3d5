"""Which tiles a search may find: by place, also across the date line, by area, by date, by scene."""

import json
from datetime import UTC, date, datetime

import numpy as np
import pytest
import shapely
from small_index import write_index

from lrsclip_jax.errors import InputError
from lrsclip_jax.search.areas import box_area, read_area
from lrsclip_jax.search.filters import filtered, moment
from lrsclip_jax.search.tiles import Tiles


@pytest.fixture(scope="module")
def tiles(tmp_path_factory):
    return Tiles(write_index(tmp_path_factory.mktemp("index") / "small") / "tiles.parquet")


@pytest.fixture(scope="module")
def shapes(tiles):
    return shapely.from_wkb(tiles.take(range(len(tiles)), ["geometry"]).column(0).to_numpy(zero_copy_only=False))


def brute(shapes, area):
    """Rows of footprints that share more than their edge with an area, one by one."""
    return [
        row
        for row, shape in enumerate(shapes)
        if shape is not None and area.intersects(shape) and not area.touches(shape)
    ]


def rows(tiles, **conditions):
    allowed = filtered(tiles, **conditions).allowed
    return np.flatnonzero(allowed).tolist()


BOXES = (
    (11.0, 47.4, 11.03, 47.5),
    (11.0056, 47.4889, 11.0057, 47.489),  # within a tile
    (179.9, -18, -179.9, -16),  # across the date line
    (179.99, -17.03, 180, -17.0),
    (-180, -17.03, -179.98, -17.0),
    (170, -17.03, 190, -17.0),  # as maps say it
    (-190, -17.03, -170, -17.0),
    (-180, -90, 180, 90),
)


@pytest.mark.parametrize("bbox", BOXES)
def test_a_bounding_box_holds_the_tiles_that_reach_into_it(tiles, shapes, bbox):
    west, south, east, north = bbox
    # Brute force by three boxes, a turn of the Earth apart.
    east = east + 360 if west > east else east
    world = shapely.box(-180, -90, 180, 90)
    turned = shapely.union_all(
        [shapely.box(west + turn, south, east + turn, north).intersection(world) for turn in (-360, 0, 360)]
    )
    found = rows(tiles, bbox=bbox)
    assert found and found == brute(shapes, turned)
    assert rows(tiles, bbox=",".join(map(str, bbox))) == found


def test_a_box_that_is_a_point_holds_the_tiles_around_it(tiles):
    assert rows(tiles, bbox=(11.01, 47.48, 11.01, 47.48)) == [0, 4]


def test_tiles_across_the_date_line_are_found_from_both_sides(tiles):
    names = tiles.take(rows(tiles, bbox=(179.9, -17.0224, 180, -17.0)), ["id"]).column(0).to_pylist()
    assert names[0] == "fiji.tif#L0/r0,c0"
    beyond = tiles.take(rows(tiles, bbox=(-180, -17.0224, -179.999, -17.0)), ["id"]).column(0).to_pylist()
    assert "fiji.tif#L0/r0,c0" in beyond


def test_an_area_holds_what_reaches_into_it(tiles, shapes, tmp_path):
    ring = [[11.0, 47.5], [11.06, 47.49], [11.0, 47.44], [11.0, 47.5]]
    area = {"type": "Polygon", "coordinates": [ring]}
    expected = brute(shapes, shapely.Polygon(ring))
    assert 0 < len(expected) < 16
    file = tmp_path / "area.geojson"
    feature = {"type": "Feature", "properties": {}, "geometry": area}
    for value in (area, feature, {"type": "FeatureCollection", "features": [feature, {**feature, "geometry": None}]}):
        file.write_text(json.dumps(value))
        assert rows(tiles, within=value) == rows(tiles, within=str(file)) == rows(tiles, within=file) == expected
    assert rows(tiles, within=json.dumps(area)) == expected


def test_an_area_drawn_across_the_date_line_is_brought_back(tiles):
    ring = [[179, -18], [181, -18], [181, -16], [179, -16], [179, -18]]
    across = {"type": "Polygon", "coordinates": [ring]}
    assert rows(tiles, within=across) == rows(tiles, bbox=(179, -18, -179, -16)) == list(range(16, 32))


def test_several_conditions_hold_together(tiles):
    both = rows(tiles, bbox=(11, 47.45, 11.03, 47.5), scenes="alps.tif", since="2023", until="2023")
    assert both == rows(tiles, bbox=(11, 47.45, 11.03, 47.5))
    assert rows(tiles, bbox=(11, 47.45, 11.03, 47.5), scenes="fiji.tif") == []


def test_tiles_without_place_or_date_are_left_out_with_a_note(tiles):
    found = filtered(tiles, bbox=(-180, -90, 180, 90), since="1900")
    assert np.flatnonzero(found.allowed).tolist() == list(range(32))
    assert found.notes == [
        "16 of 48 tiles have no place and are left out",
        "16 of 48 tiles have no date and are left out",
    ]
    assert filtered(tiles) == (None, [])


def test_dates_include_the_whole_of_what_they_name(tiles):
    alps, fiji = list(range(16)), list(range(16, 32))
    assert rows(tiles, since="2023-07-14", until="2023-07-14") == alps  # taken at 10:00
    assert rows(tiles, until="2023") == rows(tiles, until="2023-07") == alps
    assert rows(tiles, since="2023-07-14T10:00:01") == fiji
    assert rows(tiles, since="2023-07-14T12:00+02:00") == alps + fiji
    assert rows(tiles, since=date(2024, 2, 1)) == rows(tiles, since=datetime(2024, 1, 31, 23, tzinfo=UTC)) == fiji
    assert rows(tiles, since="2024-02-02") == []


def test_moments_are_the_first_and_the_last_of_a_span():
    assert str(moment("2024-02", "until", end=True)) == "2024-02-29T23:59:59.999"
    assert str(moment("2024", "since")) == "2024-01-01T00:00:00.000"


def test_scenes_are_named_or_matched_by_a_pattern(tiles):
    assert rows(tiles, scenes="nowhere.tif") == list(range(32, 48))
    assert rows(tiles, scenes=["alps.tif", "no*.tif"]) == [*range(16), *range(32, 48)]


@pytest.mark.parametrize(
    "conditions, said",
    [
        ({"bbox": "1,2,3"}, "expected west,south,east,north"),
        ({"bbox": "a,b,c,d"}, "expected west,south,east,north"),
        ({"bbox": (1, 2, 3, None)}, "expected west,south,east,north"),
        ({"bbox": "nan,0,1,1"}, "not a number"),
        ({"bbox": "0,50,10,40"}, "south ≤ north"),
        ({"bbox": "47,11,48,120"}, "south ≤ north"),
        ({"bbox": "600000,40,610000,50"}, "no degrees"),
        ({"since": "yesterday"}, "since is 'yesterday': expected a date"),
        ({"until": "2024-13"}, "until is '2024-13': expected a date"),
        ({"since": "2024", "until": "2023"}, "since 2024 is later than until 2023"),
        ({"scenes": "alp.tif"}, "no scene 'alp.tif' .*did you mean 'alps.tif'"),
    ],
)
def test_a_condition_that_is_none_is_refused(tiles, conditions, said):
    with pytest.raises(InputError, match=said) as caught:
        filtered(tiles, **conditions)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    "text, said",
    [
        ("", "empty, expected JSON"),
        ("[1]", "expected"),
        ('{"type": "Point", "coordinates": [1, 2]}', "expected GeoJSON of polygons, found 'Point'"),
        ('{"type": "Polygon"}', "no valid polygon|no corners"),
        ('{"type": "Polygon", "coordinates": []}', "no corners"),
        ('{"type": "Polygon", "coordinates": [[[0, 0], [1, 1]]]}', "no valid polygon"),
        ('{"type": "Polygon", "coordinates": [[[0, 0], [1, "x"], [1, 1], [0, 0]]]}', "no valid polygon"),
        ('{"type": "Polygon", "coordinates": [[[0, 0], [1, 1], [2, 2], [0, 0]]]}', "encloses nothing"),
        ('{"type": "Polygon", "coordinates": [[[6e5, 5e6], [7e5, 5e6], [7e5, 6e6], [6e5, 5e6]]]}', "no degrees"),
        ('{"type": "FeatureCollection"}', "without a list"),
        ('{"type": "FeatureCollection", "features": [3]}', "no object"),
        ('{"type": "FeatureCollection", "features": []}', "no geometry in it"),
        (
            '{"type": "Polygon", "crs": {"type": "name", "properties": {"name": "EPSG:25832"}}, "coordinates": '
            "[[[0, 0], [1, 0], [1, 1], [0, 0]]]}",
            "in EPSG:25832; convert it",
        ),
    ],
)
def test_geojson_that_is_no_area_is_refused(tmp_path, text, said):
    path = tmp_path / "area.geojson"
    path.write_text(text)
    with pytest.raises(InputError, match=said) as caught:
        read_area(path)
    assert "area.geojson" in str(caught.value) and "\n" not in str(caught.value)


def test_a_missing_area_is_named(tmp_path):
    with pytest.raises(InputError, match="none.geojson is missing"):
        read_area(tmp_path / "none.geojson")


def test_a_polygon_that_crosses_itself_is_mended():
    bow = {"type": "Polygon", "coordinates": [[[0, 0], [2, 2], [2, 0], [0, 2], [0, 0]]]}
    assert read_area(bow).area == pytest.approx(2)


def test_the_whole_world_is_a_box():
    assert box_area("-180,-90,180,90").area == 360 * 180
