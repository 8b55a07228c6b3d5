"""Boxes, crops and regions of images, against PyTorch's sampling and a plain twin of the whole patch term."""

import functools

import jax
import numpy as np
import pytest
import tiny_clip
import tiny_siglip
from tiny_clip import parameters

from lrsclip_jax import losses
from lrsclip_jax.models import regions
from lrsclip_jax.models.regions import cut, drawn_boxes, encode_regions

torch = pytest.importorskip("torch")

LAYOUTS = {
    "CLIP, two heads": {"layers": 2, "heads": 2},
    "DINOv2, the mean": {"layers": 1, "pool": "mean", "activation": "gelu", "patch_bias": True, "pre_norm": False},
}
PAIRS = 3


def boxes(count, seed=0, step=0):
    return np.asarray(drawn_boxes(seed, np.int32(step), count))


def sampled(grid, box):
    """A box of a grid [H, W, C], read by PyTorch at as many places as the grid has cells."""
    height, width = grid.shape[:2]
    top, left, tall, wide = (float(side) for side in box)
    rows = (torch.arange(height, dtype=torch.float64) + 0.5) / height * tall + top
    columns = (torch.arange(width, dtype=torch.float64) + 0.5) / width * wide + left
    y, x = torch.meshgrid(2 * rows - 1, 2 * columns - 1, indexing="ij")
    read = torch.nn.functional.grid_sample(
        grid.permute(2, 0, 1)[None], torch.stack([x, y], -1)[None], padding_mode="border", align_corners=False
    )
    return read[0].permute(1, 2, 0)


def encoded(p, tower, image):
    """The unit row of an image and its patches by the value path [g, g, E], written out in PyTorch."""
    functional, patch = torch.nn.functional, tower.patch

    def norm(x, of):
        return functional.layer_norm(x, x.shape[-1:], of["scale"], of["bias"], tower.norm_eps)

    side = image.shape[0] // patch
    squares = image.reshape(side, patch, side, patch, -1).transpose(1, 2).reshape(side * side, patch, patch, -1)
    patches = torch.einsum("nijc,ijcw->nw", squares, p["patch_embedding"]["kernel"])
    patches = patches + p["patch_embedding"].get("bias", 0)
    x = torch.cat([p["class_embedding"][None], patches]) + p["position_embedding"]
    x = norm(x, p["pre_norm"]) if tower.pre_norm else x
    for layer in range(tower.layers):
        block = jax.tree.map(lambda leaf, layer=layer: leaf[layer], p["blocks"])
        qkv, out = block["attention"]["qkv"], block["attention"]["out"]
        q, k, v = torch.einsum("nw,wphd->phnd", norm(x, block["norm1"]), qkv["kernel"]) + qkv["bias"][:, :, None]
        alone = torch.einsum("hnd,hdw->nw", v, out["kernel"]) + out["bias"]
        mixed = torch.softmax(q @ k.transpose(1, 2) / q.shape[-1] ** 0.5, -1) @ v
        x = x + torch.einsum("hnd,hdw->nw", mixed, out["kernel"]) + out["bias"]
        mlp = norm(x, block["norm2"]) @ block["mlp"]["fc1"]["kernel"] + block["mlp"]["fc1"]["bias"]
        mlp = functional.gelu(mlp) if tower.activation == "gelu" else mlp * torch.sigmoid(1.702 * mlp)
        x = x + mlp @ block["mlp"]["fc2"]["kernel"] + block["mlp"]["fc2"]["bias"]
    pooled = norm(x[0] if tower.pool == "cls" else x[1:].mean(0), p["post_norm"])
    values = norm(alone[1:], p["post_norm"])
    row, patches = (found @ p["projection"]["kernel"] for found in (pooled, values))
    return functional.normalize(row, dim=0), patches.reshape(side, side, -1)


def twin(tower, params, images, drawn):
    """The patch term of a batch and its gradient, image by image in float64; and the rows of the images."""
    p = jax.tree.map(lambda leaf: torch.tensor(np.float64(leaf), requires_grad=True), params)
    rows, apart = [], []
    for image, box in zip(torch.tensor(np.float64(images)), drawn, strict=True):
        row, patches = encoded(p, tower, image)
        _, of_crop = encoded(p, tower, sampled(image, box))
        region, crop = sampled(patches, box).mean((0, 1)), of_crop.mean((0, 1))
        apart.append(1 - torch.nn.functional.cosine_similarity(region, crop, dim=0))
        rows.append(row)
    loss = torch.stack(apart).mean()
    leaves, tree = jax.tree.flatten(p)
    found = torch.autograd.grad(loss, leaves, allow_unused=True)
    gradient = [
        np.zeros(leaf.shape) if each is None else each.numpy() for each, leaf in zip(found, leaves, strict=True)
    ]
    return loss.item(), jax.tree.unflatten(tree, gradient), torch.stack(rows).detach().numpy()


@pytest.mark.slow
@pytest.mark.parametrize("layout", LAYOUTS)
def test_rows_term_and_gradient_are_those_of_the_plain_twin(layout):
    model = tiny_clip.model(image=LAYOUTS[layout] | {"size": 48})
    tower, params = model.image, tiny_clip.parameters(model, seed=3)["image"]
    params |= {"blocks": jax.tree.map(lambda leaf: 2 * leaf, params["blocks"])}  # so that regions differ from crops
    images = np.random.default_rng(0).normal(size=(PAIRS, 48, 48, 3)).astype(np.float32)
    drawn = boxes(PAIRS)

    def term(params):
        rows = encode_regions(tower, params, images, drawn)
        return losses.region_loss(rows["region"], rows["crop"]), rows["image"]

    (value, rows), gradient = jax.jit(jax.value_and_grad(term, has_aux=True))(params)
    wanted, wanted_gradient, wanted_rows = twin(tower, params, images, drawn)
    assert wanted > 0.001
    assert value == pytest.approx(wanted, rel=1e-6)
    np.testing.assert_allclose(rows, wanted_rows, atol=1e-5)
    for found, leaf in zip(jax.tree.leaves(gradient), jax.tree.leaves(wanted_gradient), strict=True):
        np.testing.assert_allclose(found, leaf, rtol=0, atol=1e-5 * np.abs(leaf).max())


@pytest.mark.parametrize("side", [5, 14])
def test_a_box_is_read_as_pytorch_reads_it(side):
    drawn = np.concatenate([boxes(8), [[0, 0, 1, 1], [0, 0, 0.6, 0.9], [0.4, 0.1, 0.6, 0.9]]]).astype(np.float32)
    grids = np.random.default_rng(1).normal(size=(len(drawn), side, side, 4)).astype(np.float32)
    wanted = [sampled(torch.tensor(np.float64(grid)), box) for grid, box in zip(grids, drawn, strict=True)]
    np.testing.assert_allclose(cut(grids, drawn), np.stack(wanted), atol=1e-6 * side)


def test_boxes_lie_within_images_and_have_the_published_shapes():
    top, left, height, width = boxes(4000).T
    assert min(top.min(), left.min()) >= 0 and max((top + height).max(), (left + width).max()) <= 1 + 1e-6
    area, aspect = height * width, width / height
    low, high = regions.AREA
    assert low <= area.min() < low + 0.01 and high - 0.01 < area.max() <= high + 1e-6
    assert area.mean() == pytest.approx(0.5, abs=0.01)
    assert np.log(aspect).mean() == pytest.approx(0, abs=0.01)
    assert 3 / 4 - 1e-6 <= aspect.min() < 0.76 and 1.32 < aspect.max() <= 4 / 3 + 1e-6
    for before, side in ((top, height), (left, width)):  # anywhere in the room that is left
        assert (before / (1 - side)).mean() == pytest.approx(0.5, abs=0.02)


def test_a_box_follows_from_seed_step_and_place():
    first = boxes(6)
    np.testing.assert_array_equal(boxes(12)[:6], first)
    others = [boxes(6, seed=1), boxes(6, step=1), first[::-1]]
    assert all((np.abs(other - first) > 1e-3).any(axis=1).all() for other in others)


@pytest.mark.exhaustive
def test_every_kind_of_pooling_has_regions_and_rows_of_its_own():
    model = tiny_siglip.model(50)
    params = parameters(model)
    images = np.random.default_rng(2).normal(size=(2, 32, 32, 3)).astype(np.float32)
    encode = jax.jit(functools.partial(encode_regions, model.image))
    rows = encode(params["image"], images, boxes(2))
    np.testing.assert_allclose(rows["image"], model.apply({"params": params}, images, method="encode_image"), atol=1e-6)
    whole = np.array([[0, 0, 1, 1]] * 2, np.float32)
    same = encode(params["image"], images, whole)
    np.testing.assert_allclose(same["region"], same["crop"], atol=1e-6)
    assert np.abs(rows["region"] - rows["crop"]).max() > 1e-3


def test_regions_that_agree_have_no_loss():
    rows = np.eye(3, 5, dtype=np.float32)
    assert losses.region_loss(rows, rows) == 0
    assert losses.region_loss(rows, np.roll(rows, 1, axis=0)) == 1
