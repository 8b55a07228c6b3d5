"""Positions are rasterio's to a thousandth of a pixel: across the date line, around a pole, by control points, too."""

import numpy as np
import pytest
import shapely
from rasterio.control import GroundControlPoint
from rasterio.crs import CRS
from rasterio.transform import Affine, GCPTransformer
from rasterio.warp import transform

from lrsclip_jax.data.rasters import Georeference, Survey
from lrsclip_jax.data.tiling import windows
from lrsclip_jax.search.places import bounds, footprints, place_of

PLACES = {
    "UTM": ("EPSG:32632", Affine(0.5, 0, 346000, 0, -0.5, 5648000)),
    "WGS 84": ("EPSG:4326", Affine(1e-4, 0, 11, 0, -1e-4, 48)),
    "Web Mercator": ("EPSG:3857", Affine(1.2, 0, -8843764, 0, -1.2, 4848553)),
    "rotated": ("EPSG:32632", Affine(0.433, 0.25, 5e5, 0.25, -0.433, 5e6)),
    "polar": ("EPSG:3413", Affine(100, 0, -1e6, 0, -100, -1e6)),
    "south up": ("EPSG:32755", Affine(10, 0, 4e5, 0, 10, 6e6)),
}


def survey(crs, affine, height=700, width=900, points=()):
    return Survey(height, width, Georeference(CRS.from_string(crs), affine, points))


def corners(shape):
    return np.array(shape.exterior.coords)[:-1]


@pytest.mark.parametrize("name", PLACES)
def test_corners_lie_where_rasterio_puts_them(name):
    crs, affine = PLACES[name]
    chosen = windows(700, 900, 224, 168)
    shapes = footprints(place_of(survey(crs, affine)), chosen)
    assert len(shapes) == len(chosen) == 24
    for (r0, r1, c0, c1), shape in zip(chosen.tolist(), shapes, strict=True):
        assert shape.geom_type == "Polygon" and shape.is_valid and shapely.is_ccw(shape.exterior)
        points = corners(shape)
        columns, rows = ~affine * np.array(transform("EPSG:4326", crs, *points.T.tolist()))
        for row, column in ((r0, c0), (r0, c1), (r1, c0), (r1, c1)):
            assert np.hypot(rows - row, columns - column).min() < 1e-3


def test_an_edge_that_bends_gets_more_corners():
    straight, bent = (
        footprints(place_of(survey(*PLACES["UTM"])), np.array([[0, 224, 0, 224]])),
        footprints(place_of(survey("EPSG:32632", Affine(900, 0, 1e5, 0, -900, 7e6))), np.array([[0, 700, 0, 900]])),
    )
    assert len(corners(straight[0])) == 4 and len(corners(bent[0])) == 64


def test_a_footprint_is_split_at_the_date_line():
    place = place_of(survey("EPSG:32660", Affine(100, 0, 570585, 0, -100, 5847615), 2355, 2325))
    shapes = footprints(place, windows(2355, 2325, 224, 168))
    split = [shape for shape in shapes if shape.geom_type == "MultiPolygon"]
    assert 5 < len(split) < 40
    for shape in split:
        assert shape.is_valid and len(shape.geoms) == 2 and shape.bounds[0] == -180 and shape.bounds[2] == 180
        assert all(part.bounds[2] - part.bounds[0] < 1 and shapely.is_ccw(part.exterior) for part in shape.geoms)
    whole = footprints(place, np.array([[0, 224, 0, 224], [0, 224, 2101, 2325]]))
    assert whole[0].bounds[0] > 178 and whole[1].bounds[2] < -178
    areas = shapely.area(np.array(shapes))
    assert areas.max() / areas.min() < 1.2  # halves are whole in sum


@pytest.mark.parametrize("crs, latitude", [("EPSG:3413", 90), ("EPSG:3031", -90)])
def test_a_footprint_around_a_pole_holds_it(crs, latitude):
    place = place_of(survey(crs, Affine(1000, 0, -100000, 0, -1000, 120000), 224, 224))
    [shape] = footprints(place, np.array([[0, 224, 0, 224]]))
    assert shape.is_valid and shape.bounds[0] == -180 and shape.bounds[2] == 180
    assert abs(shape.bounds[3] if latitude > 0 else shape.bounds[1]) == 90
    for longitude in (-170, -40, 0, 95, 179):
        assert shape.covers(shapely.Point(longitude, latitude * 0.999))
        assert not shape.covers(shapely.Point(longitude, latitude * 0.9))


def test_control_points_place_a_scene():
    rng = np.random.default_rng(0)
    points = tuple(
        GroundControlPoint(row, column, 10 + column * 1e-3 + row * 1e-4 + rng.normal() * 1e-6, 50 - row * 1e-3)
        for row in (0, 350, 700)
        for column in (0, 450, 900)
    )
    [shape] = footprints(
        place_of(survey("EPSG:4326", Affine.identity(), points=points)), np.array([[100, 324, 200, 424]])
    )
    with GCPTransformer(points) as control:
        xs, ys = control.xy([100, 100, 324, 324], [200, 424, 200, 424], offset="ul")
    assert np.abs(np.sort(corners(shape), axis=0) - np.sort(np.stack([xs, ys], axis=1), axis=0)).max() < 1e-9


def test_metres_are_those_on_the_ground():
    def metres(name):
        return place_of(survey(*PLACES[name])).metres

    assert metres("UTM") == pytest.approx(0.5, rel=1e-3) and metres("rotated") == pytest.approx(0.5, rel=1e-3)
    assert metres("Web Mercator") == pytest.approx(1.2 * np.cos(np.radians(39.87)), rel=5e-3)
    assert metres("WGS 84") == pytest.approx(11.13 * np.cos(np.radians(48)) ** 0.5, rel=5e-3)


def test_what_has_no_place_on_earth_says_why():
    degrees = 'PRIMEM["R",0],UNIT["Degree",0.0174532925199433]'
    globe = f'GEOGCS["M",DATUM["M",SPHEROID["M",1737400,0]],{degrees}]'
    moon = f'PROJCS["Moon",{globe},PROJECTION["Equirectangular"],UNIT["metre",1]]'
    place = place_of(survey(moon, Affine(20, 0, 0, 0, -20, 0)))
    assert place.to_earth is None and "on Earth" in place.unplaced and place.metres == 20
    assert footprints(place, np.array([[0, 9, 0, 9]])) == [None] and bounds([None]) == [None]
    assert place_of(Survey(5, 5)).unplaced == "it has no coordinates"
    assert "rational" in place_of(Survey(5, 5, None, "is placed by rational polynomials")).unplaced
    assert "no named system" in place_of(Survey(5, 5, Georeference(None, Affine.scale(2)))).unplaced
    out_of_domain = place_of(survey("EPSG:32632", Affine(1e6, 0, 1e12, 0, 1e6, 1e12)))
    assert out_of_domain.to_earth is None
