import numpy as np
import pytest
from PIL import Image

from lrsclip_jax.errors import InputError
from lrsclip_jax.models.positions import resize_positions, stretch_positions


def column(values):
    return np.asarray(values, np.float32)[:, None]


def test_stretching_a_ramp_reads_it_at_quarter_steps():
    new = stretch_positions(column(range(77)))[:, 0]
    assert new.shape == (248,)
    np.testing.assert_array_equal(new[:20], np.arange(20))
    np.testing.assert_array_equal(new[20:], 20 + (np.arange(20, 248) - 20) / 4)


def test_stretching_squares_gives_the_reference_values():
    new = stretch_positions(column(np.arange(77) ** 2))[:, 0]
    assert new[21] == 410.25
    np.testing.assert_array_equal(new[244:], [5776, 5813.75, 5851.5, 5889.25])
    np.testing.assert_array_equal(new[20:248:4], np.arange(20, 77) ** 2)


def test_stretching_equals_the_rule_row_by_row_to_the_bit():
    old = np.random.default_rng(0).normal(size=(77, 16)).astype(np.float32)
    rows = list(old[:20])
    for i in range(20, 77):
        for j in range(4):
            if i < 76:
                rows.append((4 - j) * old[i] / 4 + j * old[i + 1] / 4)
            else:
                rows.append(old[76] + j * (old[76] - old[75]) / 4)
    new = stretch_positions(old)
    assert new.dtype == np.float32
    np.testing.assert_array_equal(new, np.stack(rows))


@pytest.mark.parametrize(("rows", "keep", "ratio"), [(77, 20, 1), (77, 0, 3), (10, 9, 5), (12, 4, 7)])
def test_stretching_for_any_keep_and_ratio(rows, keep, ratio):
    old = np.random.default_rng(1).normal(size=(rows, 3)).astype(np.float32)
    new = stretch_positions(old, keep, ratio)
    assert new.shape == (keep + ratio * (rows - keep), 3)
    extended = np.concatenate([old, 2 * old[-1:] - old[-2:-1]])
    where = keep + (np.arange(keep, len(new)) - keep) / ratio
    for channel in range(3):
        expected = np.interp(where, np.arange(rows + 1), extended[:, channel])
        np.testing.assert_allclose(new[keep:, channel], expected, atol=1e-6)


@pytest.mark.parametrize(("length", "ratio"), [(248, 4), (249, 5), (120, 2), (78, 2), (77, 1), (30, 1), (10, 1)])
def test_length_takes_the_smallest_ratio_that_reaches_it_and_cuts(length, ratio):
    old = column(np.arange(77) ** 2)
    np.testing.assert_array_equal(stretch_positions(old, length=length), stretch_positions(old, ratio=ratio)[:length])
    assert len(stretch_positions(old, length=length)) == length


def test_a_ratio_may_be_more_than_the_length_needs_and_not_less():
    old = column(np.arange(77) ** 2)
    np.testing.assert_array_equal(stretch_positions(old, 30, 6, 248), stretch_positions(old, 30, 6)[:248])
    with pytest.raises(InputError, match="77 position rows, of which 30 are kept, become 218 by ratio 4, .* 5 or more"):
        stretch_positions(old, 30, 4, 248)


@pytest.mark.parametrize(
    "options", [{"keep": 77}, {"keep": -1}, {"ratio": 0}, {"length": 0}, {"length": 9, "ratio": 0}]
)
def test_stretching_out_of_range_is_an_error(options):
    with pytest.raises(InputError):
        stretch_positions(np.zeros((77, 4)), **options)


def test_stretching_needs_two_rows():
    with pytest.raises(InputError, match=r"\[1, 4\]"):
        stretch_positions(np.zeros((1, 4)), keep=0)


@pytest.mark.parametrize("antialias", [True, False])
@pytest.mark.parametrize("grid", [8, 16, 37, 5, (3, 20), (40, 7), 1])
@pytest.mark.parametrize("side", [7, 16])
def test_resizing_equals_torch(side, grid, antialias):
    torch = pytest.importorskip("torch")
    table = np.random.default_rng(side).normal(size=(1 + side * side, 12)).astype(np.float32)
    size = (grid, grid) if isinstance(grid, int) else grid
    square = torch.from_numpy(table[1:]).reshape(1, side, side, 12).permute(0, 3, 1, 2)
    expected = (
        torch.nn.functional.interpolate(square, size=size, mode="bicubic", align_corners=False, antialias=antialias)
        .permute(0, 2, 3, 1)
        .reshape(-1, 12)
    )
    new = resize_positions(table, grid, antialias)
    np.testing.assert_array_equal(new[0], table[0])
    np.testing.assert_allclose(new[1:], expected, atol=1e-5)


@pytest.mark.parametrize("grid", [5, 16, 40])
def test_resizing_with_antialias_equals_pillow(grid):
    table = np.random.default_rng(2).normal(size=(16 * 16, 1)).astype(np.float32)
    image = Image.fromarray(table.reshape(16, 16), mode="F")
    expected = np.asarray(image.resize((grid, grid), Image.Resampling.BICUBIC)).reshape(-1, 1)
    np.testing.assert_allclose(resize_positions(table, grid, antialias=True), expected, atol=1e-5)


@pytest.mark.parametrize("antialias", [True, False])
@pytest.mark.parametrize("first", [0, 1])
def test_resizing_to_its_own_grid_changes_nothing(first, antialias):
    table = np.random.default_rng(3).normal(size=(first + 36, 4)).astype(np.float32)
    np.testing.assert_array_equal(resize_positions(table, 6, antialias), table)


@pytest.mark.parametrize("shape", [(0, 4), (35, 4), (38, 4), (37,)])
def test_resizing_what_is_no_square_grid_is_an_error(shape):
    with pytest.raises(InputError, match="no square grid"):
        resize_positions(np.zeros(shape), 4, antialias=True)


def test_resizing_to_an_empty_grid_is_an_error():
    with pytest.raises(InputError, match="0×4"):
        resize_positions(np.zeros((17, 4)), (0, 4), antialias=True)
