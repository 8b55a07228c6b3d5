"""COCO's masks by run lengths, against pycocotools; and texts that make pycocotools write past its memory."""

import json

import numpy as np
import pytest
from PIL import Image
from scipy import ndimage

from lrsclip_jax.corpus.rules import describe
from lrsclip_jax.errors import InputError
from lrsclip_jax.sources.annotations import coco
from lrsclip_jax.sources.annotations.run_lengths import _of_text, outline_of_runs
from lrsclip_jax.sources.item import Fault, Thing

coder = pytest.importorskip("pycocotools.mask")
CATEGORIES = [{"id": 1, "name": "lake"}, {"id": 2, "name": "water"}]


def blobs(seed, shape=(23, 31)):
    return ndimage.gaussian_filter(np.random.default_rng(seed).normal(size=shape), 1.5) > 0.05


def compressed(mask):
    found = coder.encode(np.asfortranarray(mask.astype(np.uint8)))
    return {"size": list(found["size"]), "counts": found["counts"].decode()}


def uncompressed(mask):
    flat = np.concatenate([[0], mask.T.ravel(), [2]]).astype(int)
    edges = np.flatnonzero(np.diff(flat))
    return {"size": list(mask.shape), "counts": np.diff([0, *edges]).tolist()}


def area(polygon):
    x, y = np.array(polygon).T
    return abs(x @ np.roll(y, -1) - y @ np.roll(x, -1)) / 2


@pytest.mark.parametrize("encoded", [compressed, uncompressed])
def test_outlines_have_the_area_and_the_place_that_pycocotools_finds(encoded):
    for seed in range(30):
        mask = blobs(seed)
        theirs = coder.encode(np.asfortranarray(mask.astype(np.uint8)))
        found = outline_of_runs(encoded(mask), (31, 23))
        assert area(found) == coder.area(theirs) == mask.sum()
        x, y, width, height = coder.toBbox(theirs)
        corners = np.array(found)
        assert [*corners.min(0), *corners.max(0)] == [x, y, x + width, y + height]
    assert outline_of_runs(encoded(np.zeros((23, 31), bool)), (31, 23)) == ()
    assert area(outline_of_runs(encoded(np.ones((23, 31), bool)), (31, 23))) == 23 * 31


def test_texts_are_decoded_as_pycocotools_encodes_them():
    rng = np.random.default_rng(0)
    for _ in range(200):
        runs = rng.integers(0, 10 ** rng.integers(1, 8), rng.integers(1, 12)).tolist()
        size = [1, sum(runs)]
        text = coder.frPyObjects({"counts": runs, "size": size}, *size)["counts"].decode()
        assert _of_text(text) == runs


@pytest.mark.parametrize(
    ("segmentation", "words"),
    [
        ({"size": [23, 30], "counts": [5]}, r"for \[23, 30\], \[23, 31\] is expected"),
        ({"size": [0, 4], "counts": "1"}, "is expected"),
        ({"size": [10**9, 10**9], "counts": "1"}, "is expected"),
        ({"size": "big", "counts": "1"}, "is expected"),
        ({"size": [23, 31], "counts": [5, 10**12]}, "more than 31 × 23 pixels"),
        ({"size": [23, 31], "counts": [5, -1]}, "numbers of pixels are expected"),
        ({"size": [23, 31], "counts": [5, 1.5]}, "numbers of pixels are expected"),
        ({"size": [23, 31], "counts": {"a": 1}}, "numbers of pixels are expected"),
        ({"size": [23, 31], "counts": "\x00"}, "no text of run lengths"),
        ({"size": [23, 31], "counts": "é"}, "no text of run lengths"),
        ({"size": [23, 31], "counts": "o" * 50}, "no text of run lengths"),
        ({"size": [23, 31], "counts": "o"}, "cut off"),
        ({"size": [23, 31], "counts": "O"}, "a run of -1 pixels"),
    ],
)
def test_masks_that_are_none_are_refused(segmentation, words):
    with pytest.raises(InputError, match=words):
        outline_of_runs(segmentation, (31, 23))


def test_texts_of_random_characters_are_masks_or_refused():
    rng = np.random.default_rng(0)
    refused = 0
    for _ in range(5000):
        counts = "".join(map(chr, rng.integers(40, 120, rng.integers(0, 12))))
        try:
            found = outline_of_runs({"size": [5, 7], "counts": counts}, (7, 5))
            assert not found or 0 < area(found) <= 35
        except InputError:
            refused += 1
    assert 1000 < refused < 5000


def read(folder, annotations, **image):
    Image.new("RGB", (31, 23)).save(folder / "a.png")
    document = {
        "images": [{"id": 1, "file_name": "a.png", **image}],
        "annotations": [{"id": n, "image_id": 1} | row for n, row in enumerate(annotations)],
        "categories": CATEGORIES,
    }
    (folder / "c.json").write_text(json.dumps(document))
    (found,) = coco.read(folder / "c.json", folder, "set")
    return found


@pytest.mark.parametrize("said", [{}, {"width": 31, "height": 23}])
def test_annotations_with_masks_are_counted_and_placed_by_their_true_area(tmp_path, said):
    lake, water = np.zeros((23, 31), bool), np.zeros((23, 31), bool)
    lake[2:6, 2:9] = lake[12:15, 4:9] = True
    water[:, 16:] = True
    rows = [
        {"category_id": 1, "bbox": [2, 2, 7, 13], "segmentation": compressed(lake)},
        {"category_id": 2, "bbox": [16, 0, 15, 23], "segmentation": uncompressed(water)},
        {"category_id": 1, "bbox": [0, 0, 31, 23], "segmentation": compressed(water), "iscrowd": 1},
    ]
    found = read(tmp_path, rows, **said)
    first, second, crowd = found.things
    assert first.box == (2, 2, 9, 15) and area(first.polygon) == lake.sum() == 43
    assert area(second.polygon) == water.sum() and crowd == Thing("lake")
    assert found.note == "crowds left out: 1"
    told = describe(found.things, found.width, found.height, key=(0,))
    assert "a lake" in told.long and "lakes" not in told.long
    assert "bout half of the image is covered by water" in told.long  # 15 of 31 columns


def test_a_torn_mask_is_a_fault_of_its_image(tmp_path):
    row = {"category_id": 1, "bbox": [2, 2, 7, 13], "segmentation": {"size": [23, 31], "counts": "o"}}
    found = read(tmp_path, [row])
    assert isinstance(found, Fault) and found.reason == "its mask is 'o', which is cut off"
    found = read(tmp_path, [row | {"segmentation": {"size": [23, 30], "counts": "0"}}])
    assert isinstance(found, Fault) and "its mask is for [23, 30], [23, 31] is expected" in found.reason
