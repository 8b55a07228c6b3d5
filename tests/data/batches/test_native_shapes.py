"""Images of any shape: grids next to transformers', pixels next to those of squares, and batches of them."""

import dataclasses
import io
import math
from fractions import Fraction

import numpy as np
import pytest
from PIL import Image
from test_pipeline import FromList

from lrsclip_jax.data.batches import pipeline
from lrsclip_jax.data.batches.augmentation import training_pixels
from lrsclip_jax.data.batches.batch import BatchShape
from lrsclip_jax.data.batches.image_rows import ImageRows
from lrsclip_jax.data.native import cut, grid_of
from lrsclip_jax.data.prepared.records import Record
from lrsclip_jax.data.preprocessing import CLIP_PREPROCESSING, SIGLIP_PREPROCESSING, Preprocessing, preprocess
from lrsclip_jax.data.tokenizer import clip_tokenizer
from lrsclip_jax.errors import InputError

SMALL = CLIP_PREPROCESSING.at(32).native(8, 1)  # a budget of 16 patches
SHAPES = ((40, 20), (8, 9), (100, 30), (32, 32), (24, 8), (5, 60), (16, 16), (33, 31))  # width, height
LAY = ImageRows(patch=8, first=1, length=17)


def picture(width, height, seed=0):
    return Image.fromarray(np.random.default_rng(seed).integers(0, 256, (height, width, 3), np.uint8))


def encoded(image, kind="PNG"):
    file = io.BytesIO()
    image.save(file, kind)
    return file.getvalue()


def test_grids_are_those_of_siglip_2():
    theirs = pytest.importorskip("transformers.models.siglip2.image_processing_pil_siglip2")
    rng = np.random.default_rng(0)
    for budget, patch in ((196, 16), (256, 14), (1024, 16)):
        for height, width in np.exp(rng.uniform(np.log(20), np.log(2000), (60, 2))).astype(int).tolist():
            rows, columns = theirs.get_image_size_for_max_num_patches(height, width, patch, budget)
            assert grid_of(height, width, patch, budget) == (rows // patch, columns // patch), (height, width)


def test_a_grid_has_the_largest_scale_that_the_budget_allows():
    rng = np.random.default_rng(1)
    for height, width, budget in rng.integers(1, (300, 300, 40), (40, 3)).tolist():
        scales = [Fraction(7 * count, side) for count in range(1, budget + 1) for side in (height, width)]
        grids = [(s, math.ceil(s * height / 7), math.ceil(s * width / 7)) for s in scales]
        assert grid_of(height, width, 7, budget) == max(each for each in grids if each[1] * each[2] <= budget)[1:]


def test_small_images_are_enlarged_to_the_least_alone():
    assert grid_of(224, 224, 16, 196, least=1) == grid_of(600, 600, 16, 196, least=1) == (14, 14)
    assert grid_of(64, 100, 16, 196, least=1) == (4, 7)
    assert grid_of(64, 64, 16, 196, least=49) == (7, 7) and grid_of(112, 112, 16, 196, least=49) == (7, 7)
    assert grid_of(64, 64, 16, 196) == (14, 14)
    assert grid_of(1, 10_000, 16, 4) == (1, 4) and grid_of(1, 1, 16, 4, least=1) == (1, 1)
    for height, width in ((17, 300), (90, 33), (224, 230)):
        grids = [grid_of(height, width, 16, 196, least) for least in (1, 20, 100, 196)] + [
            grid_of(height, width, 16, 196)
        ]
        patches = [rows * columns for rows, columns in grids]
        assert patches == sorted(patches) and patches[-1] <= 196 and grids[-2] == grids[-1]


@pytest.mark.parametrize("square", [CLIP_PREPROCESSING, SIGLIP_PREPROCESSING])
def test_squares_have_the_pixels_of_the_fixed_size(square):
    native = square.at(32).native(8, None)
    for side in (32, 20, 77):
        image = picture(side, side)
        np.testing.assert_array_equal(preprocess(image, native), preprocess(image, square.at(32)))
    seen = preprocess(picture(90, 40), native)
    assert seen.shape == (24, 40, 3)
    np.testing.assert_array_equal(seen, np.asarray(picture(90, 40).resize((40, 24), Image.Resampling.BICUBIC)))
    assert native.squares() == square.at(32) and "patch" not in native.squares().described()
    assert Preprocessing(**native.described()) == native
    assert native.words() == "shape kept, at most 16 patches of 8, bicubic"


def test_crops_and_the_fast_decoder_have_the_shape_of_the_crop():
    rng = np.random.default_rng
    jpeg = encoded(picture(160, 60), "JPEG")
    for crop in (None, (0.3, 0.6)):
        exact, fast = (training_pixels(jpeg, SMALL, crop, rng(4), decoder) for decoder in ("exact", "fast"))
        assert exact.shape == fast.shape and exact.dtype == fast.dtype == np.uint8
        assert np.abs(exact.astype(int) - fast).mean() < 25  # of noise
    assert exact.shape != training_pixels(jpeg, SMALL, None, rng(4)).shape
    np.testing.assert_array_equal(
        training_pixels(jpeg, SMALL, None, rng(4)), preprocess(Image.open(io.BytesIO(jpeg)), SMALL)
    )


def test_patches_are_cut_row_by_row():
    pixels = np.arange(4 * 6 * 3).reshape(4, 6, 3)
    patches = cut(pixels, 2)
    np.testing.assert_array_equal(patches[1], pixels[:2, 2:4].ravel())
    np.testing.assert_array_equal(patches[3], pixels[2:, :2].ravel())


def records(broken=()):
    files = [b"torn" if n in broken else encoded(picture(*shape, n)) for n, shape in enumerate(SHAPES)]
    return FromList([Record(f"r{n}", "test", file, (f"text {n}",), (f"short {n}",)) for n, file in enumerate(files)])


def take(of, rows=None, groups=2, steps=1, max_torn=0, **options):
    shape = BatchShape(8, long_length=16, short_length=12, groups=groups, image_rows=LAY)
    report = pipeline.DataReport(max_torn)
    arguments = ([(of, 1.0)], clip_tokenizer(), SMALL, shape, report)
    batches = pipeline.batches(*arguments, seed=3, threads=2, rows=rows, **options)
    return [next(batches) for _ in range(steps)]


def images_in(batch, groups):
    """The patches and the grid of every image, in the order of the pairs."""
    flat = {
        key: batch[key].reshape(groups, -1, *batch[key].shape[2:]) for key in batch if key.startswith(("pat", "image"))
    }
    found = []
    for group in range(groups):
        for start, length in batch["image_span"].reshape(groups, -1, 2)[group]:
            here = slice(start, start + length)
            np.testing.assert_array_equal(flat["image_positions"][group, here], np.arange(length))
            assert len(set(flat["image_segments"][group, here])) == 1 and flat["image_segments"][group, start] > 0
            (grid,) = {tuple(each) for each in flat["image_grids"][group, here].tolist()}
            assert grid[0] * grid[1] == length - 1
            found.append((flat["patches"][group, start + 1 : start + length], grid))
    return found


@pytest.mark.parametrize("groups", [1, 2])
def test_a_batch_holds_every_image_once(groups):
    of = records()
    (batch,) = take(of, groups=groups)
    taken = len(batch["patches"])
    assert taken < 8 and taken % groups == 0 and batch["patches"].shape[1:] == (17, 192)
    known = {tuple(clip_tokenizer().encode([f"short {n}"])[0]): n for n in range(8)}
    numbers = [known[tuple(row[row > 0].tolist())] for row in batch["short"]]
    assert sorted(numbers) == list(range(8))
    for number, (patches, grid) in zip(numbers, images_in(batch, groups), strict=True):
        pixels = preprocess(picture(*SHAPES[number], number), SMALL)
        np.testing.assert_array_equal(patches, cut(pixels, 8))
        assert grid == (pixels.shape[0] // 8, pixels.shape[1] // 8)
    assert batch["image_segments"].astype(bool).sum() == batch["image_span"][:, 1].sum()


def test_hosts_have_the_images_of_the_whole_batch_with_a_row_for_each():
    of = records()
    (whole,) = take(of)
    parts = [take(of, rows=np.arange(first, first + 4))[0] for first in (0, 4)]
    assert all(len(part["patches"]) == 4 for part in parts)
    found = [image for part in parts for image in images_in(part, 1)]
    for (ours, grid), (theirs, wanted) in zip(found, images_in(whole, 2), strict=True):
        np.testing.assert_array_equal(ours, theirs)
        assert grid == wanted


def test_a_torn_image_is_one_patch_without_texts():
    (batch,) = take(records(broken=(2,)), max_torn=1)
    (torn,) = np.flatnonzero(~batch["has_long"])
    patches, grid = images_in(batch, 2)[torn]
    assert grid == (1, 1) and not patches.any() and not batch["has_short"][torn]


def test_bad_shapes_are_one_line():
    for fields, line in (
        ({"patch": 5}, "patches of 5 do not go with size 32"),
        ({"patch": 8, "min_patches": 17}, "min_patches 17 is not in 1…16, the budget"),
        ({"min_patches": 1}, "min_patches 1 is not in 1…0"),
    ):
        with pytest.raises(InputError, match=line):
            dataclasses.replace(CLIP_PREPROCESSING.at(32), **fields)
