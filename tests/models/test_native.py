"""Images of any shape that share rows: the features and the gradients of a plain tower that sees each alone."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from lrsclip_jax.data.native import cut
from lrsclip_jax.models.native import PackedImages, image_rows, positions_at, rotary_at
from lrsclip_jax.models.positions import resize_positions, rotary_angles
from lrsclip_jax.models.vit import ViT

PATCH, SIDE, WIDTH, GROUPS = 4, 4, 16, 2
BUDGET = SIDE * SIDE
_SMALL = {"size": SIDE * PATCH, "patch": PATCH, "width": WIDTH, "layers": 2, "heads": 2, "embed_dim": 8}
TOWERS = {
    "clip": ViT(**_SMALL),
    "mean": ViT(**_SMALL, pool="mean", patch_bias=True, pre_norm=False),
    "siglip": ViT(**_SMALL, pool="map", patch_bias=True, pre_norm=False),
    "dinov3": ViT(**_SMALL, rotary_base=100.0, registers=3, patch_bias=True, pre_norm=False),
}
GRIDS = np.asarray([(4, 4), (1, 6), (2, 3), (3, 5), (1, 1), (2, 2)])


def images(grids=GRIDS):
    rng = np.random.default_rng(0)
    return [rng.normal(size=(rows * PATCH, columns * PATCH, 3)).astype(np.float32) for rows, columns in grids]


def parameters(tower):
    params = jax.jit(lambda: tower.init(jax.random.key(0), jnp.zeros((1, tower.size, tower.size, 3)))["params"])()
    return jax.tree.map(lambda leaf: leaf + 0.1 * jax.random.normal(jax.random.key(1), leaf.shape), params)


def packed(tower, pixels, grids=GRIDS, groups=GROUPS):
    lay = image_rows(tower)
    batch = lay.shared([cut(each, PATCH) for each in pixels], grids, groups)
    fields = (batch[name] for name in ("patches", "image_segments", "image_positions", "image_grids"))
    return PackedImages(*fields, batch["image_span"].reshape(groups, -1, 2))


def together(tower, packed):
    return tower.projection(tower.packed_features(packed)).reshape(-1, tower.embed_dim)


def alone(tower, image):
    """The tower of squares, spelled out for one image of any shape."""
    grid = (image.shape[0] // PATCH, image.shape[1] // PATCH)
    patches, rotation = tower.patch_embedding(image[None]), None
    if tower.rotary_base is None:
        resize = resize_positions(np.eye(BUDGET), grid, antialias=True)
        patches += jnp.matmul(resize, tower.position_embedding[tower.class_tokens :], precision="highest")
    else:
        rows, columns = (2 * (np.arange(count) + 0.5) / count - 1 for count in grid)
        places = np.stack(np.meshgrid(rows, columns, indexing="ij"), axis=-1).reshape(-1, 2, 1)
        periods = 100.0 ** (np.arange(WIDTH // 8) / (WIDTH // 8))
        angles = (2 * np.pi * places / periods).reshape(len(places), -1).astype(np.float32)
        rotation = tower._rotation(jnp.asarray(angles), 0)
    x = jnp.concatenate([*tower._before(1), patches], axis=1)
    x = tower.first_norm(x) if tower.pre_norm else x
    x, _ = tower.blocks(x, None, rotation)
    return tower.projection(tower.pooled(x))[0]


def value_and_gradient(of_all, params, weights):
    def total(params):
        found = of_all(params)
        return jnp.sum(found * weights), found

    (_, found), gradient = jax.jit(jax.value_and_grad(total, has_aux=True))(params)
    return found, gradient


def assert_alike(found, wanted):
    np.testing.assert_allclose(found[0], wanted[0], rtol=0, atol=2e-6 * np.abs(wanted[0]).max())
    for (path, ours), theirs in zip(jax.tree.leaves_with_path(found[1]), jax.tree.leaves(wanted[1]), strict=True):
        np.testing.assert_allclose(ours, theirs, atol=1e-5 * np.abs(theirs).max(), err_msg=jax.tree_util.keystr(path))


@pytest.mark.slow
@pytest.mark.parametrize(
    "kind", ["clip", *(pytest.param(name, marks=pytest.mark.exhaustive) for name in [*TOWERS][1:])]
)
def test_features_and_gradients_are_those_of_images_alone(kind):
    tower, pixels = TOWERS[kind], images()
    params = parameters(tower)
    weights = np.random.default_rng(1).normal(size=(len(GRIDS), 8)).astype(np.float32)

    def one_by_one(params):
        return jnp.stack([tower.apply({"params": params}, image, method=alone) for image in pixels])

    rows = packed(tower, pixels)
    assert len(rows.segments) < len(GRIDS) and rows.segments.max() > 1  # some share a row
    found = value_and_gradient(lambda params: tower.apply({"params": params}, rows, method=together), params, weights)
    assert_alike(found, value_and_gradient(one_by_one, params, weights))


@pytest.mark.parametrize(
    "kind", ["clip", *(pytest.param(name, marks=pytest.mark.exhaustive) for name in [*TOWERS][1:])]
)
def test_squares_of_the_towers_size_are_those_of_the_fixed_tower(kind):
    tower, grids = TOWERS[kind], np.full((4, 2), SIDE)
    params, pixels = parameters(tower), images(grids)
    weights = np.random.default_rng(1).normal(size=(4, 8)).astype(np.float32)
    rows = packed(tower, pixels, grids)
    found = value_and_gradient(lambda params: tower.apply({"params": params}, rows, method=together), params, weights)
    wanted = value_and_gradient(lambda params: tower.apply({"params": params}, np.stack(pixels)), params, weights)
    np.testing.assert_allclose(found[0], wanted[0], rtol=0, atol=1e-6 * np.abs(wanted[0]).max())
    assert_alike(found, wanted)


def test_other_images_of_a_row_and_empty_slots_have_no_influence():
    tower, pixels = TOWERS["clip"], images()
    params = parameters(tower)
    encode = jax.jit(lambda rows: tower.apply({"params": params}, rows, method=together))
    rows = packed(tower, pixels)
    noisy = np.where((rows.segments == 0)[..., None], 1e3, rows.patches)
    changed = packed(tower, [image if n == 2 else -image for n, image in enumerate(pixels)])
    before, with_noise, after = (np.asarray(encode(each)) for each in (rows, rows._replace(patches=noisy), changed))
    np.testing.assert_array_equal(before, with_noise)
    np.testing.assert_array_equal(before[2], after[2])
    assert (np.abs(before - after).max(axis=1) > 1e-3).sum() == len(GRIDS) - 1


def test_slots_without_an_image_and_half_precision_stay_finite():
    tower, grids = TOWERS["mean"], np.where(np.arange(len(GRIDS))[:, None] % 3 == 2, 0, GRIDS)
    rows, params = packed(tower, images(), grids), parameters(tower)
    low = dataclasses.replace(tower, dtype=jnp.bfloat16)
    found, gradient = value_and_gradient(
        lambda params: low.apply({"params": params}, rows, method=together), params, np.float32(1)
    )
    assert all(np.isfinite(leaf).all() for leaf in jax.tree.leaves((found, gradient)))
    exact = jax.jit(lambda: tower.apply({"params": params}, rows, method=together))()
    there = grids[:, 0] > 0
    np.testing.assert_allclose(found[there], exact[there], atol=0.05 * np.abs(exact).max())


@pytest.mark.parametrize("side", [4, 14])
def test_positions_are_those_of_torchs_resize(side):
    torch = pytest.importorskip("torch")
    table = np.random.default_rng(0).normal(size=(side * side, 8)).astype(np.float32)
    square = torch.tensor(table.reshape(side, side, 8)).permute(2, 0, 1)[None]
    # To one column torch 2.13 resizes wrongly: it repeats rows.
    for rows, columns in ((1, side), (3, 5), (2 * side, 2), (side + 1, side - 1), (side, side)):
        resized = torch.nn.functional.interpolate(square, size=(rows, columns), mode="bicubic", antialias=True)
        wanted = resized[0].permute(1, 2, 0).reshape(-1, 8).numpy()
        patch, grids = np.arange(rows * columns)[None], np.broadcast_to((rows, columns), (1, rows * columns, 2))
        found = np.asarray(positions_at(table, patch, grids))[0]
        np.testing.assert_allclose(found, wanted, atol=2e-6 * np.abs(table).max())
    np.testing.assert_array_equal(found, table)  # of its own grid


def test_rotary_angles_of_a_square_are_those_of_the_fixed_tower():
    found = rotary_at(np.arange(-2, 49)[None], np.full((1, 51, 2), 7), 16, 100.0)[0]
    assert not np.any(found[:2])
    np.testing.assert_allclose(found[2:], rotary_angles(7, 16, 100.0), atol=1e-6)
