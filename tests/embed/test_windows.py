import json

import numpy as np
import pytest
from PIL import Image

from eval.selo import windows
from lrsclip_jax.embed.windows import windows_of
from lrsclip_jax.errors import InputError
from lrsclip_jax.sources import open_source

SQUARE = [[10.5, 10], [40, 10], [40, 30], [10, 30]]
QUERIES = [
    {"jpg_name": "1.png", "caption": "a pier\n", "points": [SQUARE]},
    {"jpg_name": "2.png", "caption": "a field", "points": [SQUARE, SQUARE[:3]]},
    {"jpg_name": "1.png", "caption": "two boats", "points": [SQUARE]},
]


def write(root, queries=QUERIES):
    rng = np.random.default_rng(0)
    (root / "imgs").mkdir(parents=True)
    (root / "annotations").mkdir()
    for name, size in (("1.png", (70, 90, 3)), ("2.png", (64, 64, 3))):
        Image.fromarray(rng.integers(0, 256, size, np.uint8)).save(root / "imgs" / name)
    (root / "annotations" / "anno.json").write_text(json.dumps(queries))
    return str(root)


def open_scenes(folder, steps=(256,), reference=False):
    return windows_of(open_source(f"air-slt:{folder}"), steps, reference)


def test_scenes_are_cut_into_windows_and_queries_name_their_scene(tmp_path):
    material = open_scenes(write(tmp_path / "AIR"), steps=(32, 64))
    assert material.name == "AIR"
    assert material.scenes["1.png"] | {"file": ""} == {"height": 70, "width": 90, "file": ""}
    of_first = windows(70, 90, (32, 64)).tolist()
    assert [row["window"] for row in material.images] == of_first + windows(64, 64, (32, 64)).tolist()
    assert len({row["id"] for row in material.images}) == len(material.images)
    assert [(text["text"], text["scene"], text["kind"]) for text in material.texts] == [
        ("a pier", "1.png", "query"),
        ("a field", "2.png", "query"),
        ("two boats", "1.png", "query"),
    ]
    assert material.texts[1]["points"] == [
        [list(map(float, point)) for point in polygon] for polygon in (SQUARE, SQUARE[:3])
    ]
    scenes = {name: np.asarray(Image.open(tmp_path / "AIR" / "imgs" / name)) for name in material.scenes}
    for row in (0, len(of_first), 3, len(material.images) - 1):  # back and forth between the scenes
        r0, r1, c0, c1 = material.images[row]["window"]
        expected = scenes[material.images[row]["scene"]][r0:r1, c0:c1]
        np.testing.assert_array_equal(material.read(row), expected)


def test_the_reference_way_of_cropping_makes_every_window_256_pixels_wide(tmp_path):
    material = open_scenes(write(tmp_path / "AIR"), steps=(32,), reference=True)
    assert material.read(0).size == (256, 256)


@pytest.mark.parametrize(
    ("queries", "steps", "message"),
    [
        (QUERIES, (256,), "2.png|1.png"),
        ([QUERIES[0] | {"jpg_name": "3.png"}], (32,), "the scene .3.png. is not below"),
        ([QUERIES[0] | {"points": [SQUARE[:2]]}], (32,), "query 1: a polygon has fewer than three points"),
        ([QUERIES[0], {"caption": "x"}], (32,), "query 2: .*; jpg_name, caption and points"),
        ({"a": 1}, (32,), "a list of queries is expected"),
        ([QUERIES[0] | {"caption": None}], (32,), "query 1: .*; jpg_name, caption and points"),
        ([QUERIES[0] | {"caption": " "}], (32,), "query 1: jpg_name and caption are texts that hold something"),
        ([3], (32,), "query 1: a int where an object"),
    ],
)
def test_what_is_wrong_with_the_annotations_is_named(tmp_path, queries, steps, message):
    with pytest.raises(InputError, match=message):
        open_scenes(write(tmp_path / "AIR", queries), steps)


def test_annotations_and_scenes_must_be_there(tmp_path):
    with pytest.raises(InputError, match="no anno.json in it"):
        open_scenes(str(tmp_path))
    root = write(tmp_path / "AIR")
    (tmp_path / "AIR" / "imgs" / "2.png").write_bytes(b"torn")
    with pytest.raises(InputError, match="2.png: not a JPEG, .* or its header is torn"):
        open_scenes(root, (32,))


def test_two_scenes_of_one_name_are_both_named(tmp_path):
    root = write(tmp_path / "AIR")
    (tmp_path / "AIR" / "more").mkdir()
    Image.new("RGB", (70, 90)).save(tmp_path / "AIR" / "more" / "1.png")
    with pytest.raises(InputError, match="the scene .1.png. is there twice: .*imgs/1.png and .*more/1.png"):
        open_scenes(root, (32,))


def test_what_systems_leave_next_to_scenes_is_passed_over(tmp_path):
    root = write(tmp_path / "AIR")
    for folder in ("__MACOSX", ".cache"):
        (tmp_path / "AIR" / folder).mkdir()
        (tmp_path / "AIR" / folder / "anno.json").write_text("[]")
        (tmp_path / "AIR" / folder / "1.png").write_bytes(b"")
    assert len(open_scenes(root, (32,)).scenes) == 2


@pytest.mark.filterwarnings("ignore:Dataset has no geotransform")
def test_scenes_may_be_rasters_of_16_bits(tmp_path):
    rasterio = pytest.importorskip("rasterio")
    (tmp_path / "anno.json").write_text(json.dumps([QUERIES[0] | {"jpg_name": "1.tif"}]))
    values = np.random.default_rng(0).integers(0, 4000, (4, 96, 128)).astype(np.uint16)
    with rasterio.open(tmp_path / "1.tif", "w", driver="GTiff", count=4, height=96, width=128, dtype="uint16") as file:
        file.write(values)
    material = open_scenes(str(tmp_path), (32, 64))
    assert len(material.images) == len(windows(96, 128, (32, 64))) and material.read(0).size == (32, 32)
