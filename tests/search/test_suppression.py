"""Overlapping tiles of one place count once: within a scene, across levels, across scenes, across the date line."""

import numpy as np
import pytest
import shapely
from small_index import write_index

from lrsclip_jax.search import tiles_table
from lrsclip_jax.search.suppression import kept
from lrsclip_jax.search.tiles import Tiles


def opened(folder, rows):
    """Tiles of rows (scene, window, box or shape or None)."""
    made = []
    for number, (scene, window, place) in enumerate(rows):
        shape = shapely.box(*place) if isinstance(place, tuple) else place
        row = {"id": str(number), "scene": scene, "level": 0}
        row |= dict(zip(("row_start", "row_stop", "col_start", "col_stop"), window, strict=True))
        if shape is not None:
            bbox = dict(zip(("xmin", "ymin", "xmax", "ymax"), shape.bounds, strict=True))
            row |= {"geometry": shapely.to_wkb(shape), "bbox": bbox}
        made.append(row)
    tiles_table.write_tiles(folder / "tiles.parquet", [tiles_table.tile_table(made)])
    return Tiles(folder / "tiles.parquet")


def keep(tiles, most=99, **how):
    return kept(tiles, np.arange(len(tiles)), most, **how).tolist()


def test_neighbours_that_overlap_by_a_quarter_count_once_and_corners_twice(tmp_path):
    windows = [(0, 224, 0, 224), (0, 224, 168, 392), (168, 392, 168, 392), (0, 224, 336, 560)]
    assert keep(opened(tmp_path, [("a", window, None) for window in windows])) == [0, 2, 3]


def test_a_tile_of_another_level_that_holds_a_better_one_is_left_out(tmp_path):
    windows = [(0, 224, 0, 224), (0, 448, 0, 448), (0, 448, 448, 896), (224, 448, 448, 672)]
    assert keep(opened(tmp_path, [("a", window, None) for window in windows])) == [0, 2]


def test_scenes_that_show_one_place_count_once(tmp_path):
    window = (0, 224, 0, 224)
    rows = [
        ("2023", window, (11.00, 47, 11.02, 47.02)),
        ("2024", window, (11.001, 47, 11.021, 47.02)),
        ("coarse", window, (10, 46, 12, 48)),
        ("next", window, (11.02, 47, 11.04, 47.02)),
        ("unknown", window, None),
        ("unknown too", window, None),
    ]
    assert keep(opened(tmp_path, rows)) == [0, 3, 4, 5]


def test_a_turned_footprint_is_measured_and_not_its_bounding_box(tmp_path):
    window = (0, 224, 0, 224)
    diamond = shapely.Polygon([(1, 0), (2, 1), (1, 2), (0, 1)])
    rows = [("a", window, diamond), ("b", window, (0, 0, 0.45, 0.45)), ("c", window, (0.8, 0.8, 1.2, 1.2))]
    assert keep(opened(tmp_path, rows)) == [0, 1]


def test_one_place_at_the_date_line_counts_once(tmp_path):
    window = (0, 224, 0, 224)
    across = shapely.MultiPolygon([shapely.box(179.99, -17, 180, -16.98), shapely.box(-180, -17, -179.99, -16.98)])
    rows = [
        ("a", window, across),
        ("b", window, (-180, -17, -179.99, -16.98)),
        ("c", window, (0, -17, 0.02, -16.98)),
    ]
    assert keep(opened(tmp_path, rows)) == [0, 2]


def test_photographs_taken_at_one_point_all_count(tmp_path):
    point = shapely.Point(11, 47)
    assert keep(opened(tmp_path, [(name, (0, 9, 0, 9), point) for name in "abc"])) == [0, 1, 2]


def test_no_more_are_kept_than_wanted_and_all_with_a_share_of_one(tmp_path):
    tiles = opened(tmp_path, [("a", (0, 224, 56 * n, 56 * n + 224), None) for n in range(20)])
    assert keep(tiles, 2) == [0, 4]
    assert keep(tiles, 99, shared=1.0) == list(range(20))


@pytest.mark.parametrize("seed", range(3))
def test_it_is_the_plain_rule_applied_to_every_pair(tmp_path, seed):
    tiles = Tiles(write_index(tmp_path / "index", tiles=6) / "tiles.parquet")
    order = np.random.default_rng(seed).permutation(len(tiles))
    shapes = shapely.from_wkb(tiles.take(order, ["geometry"]).column(0).to_numpy(zero_copy_only=False))
    names, of_tile = tiles.scenes
    chosen = []
    for place, row in enumerate(order):
        for better in chosen:
            if of_tile[order[better]] == of_tile[row]:
                a, b = tiles.windows[order[better]], tiles.windows[row]
                rows = max(0, min(a[1], b[1]) - max(a[0], b[0]))
                columns = max(0, min(a[3], b[3]) - max(a[2], b[2]))
                if rows * columns > 0.1 * 224 * 224:
                    break
            elif shapes[better] is not None and shapes[place] is not None:
                least = min(shapes[better].area, shapes[place].area)
                if shapes[better].intersection(shapes[place]).area > 0.1 * least:
                    break
        else:
            chosen.append(place)
    assert kept(tiles, order, 10**6).tolist() == chosen and len(chosen) < len(tiles)
