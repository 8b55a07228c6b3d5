import functools
import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from lrsclip_jax.errors import InputError
from lrsclip_jax.models import zoo
from lrsclip_jax.models.clip import init_params, unit
from lrsclip_jax.models.layers import remat_policy
from lrsclip_jax.models.vit import kept_patches


def shapes(model):
    return jax.eval_shape(lambda key: init_params(model, key), jax.random.key(0))


def count(tree):
    return sum(math.prod(leaf.shape) for leaf in jax.tree.leaves(tree))


@functools.partial(jax.jit, static_argnames=("model", "method", "tokens"))
def run(model, variables, *inputs, **options):
    return model.apply(variables, *inputs, **options)


SMALL_VOCABULARY = {"vocab_size": 100, "end_token": 99}


@pytest.fixture(scope="module")
def tiny():
    """A tiny model whose parameters are all random, norms and biases too."""
    model = zoo.create("tiny", text=SMALL_VOCABULARY)
    rng = np.random.default_rng(0)

    def draw(path, leaf):
        scale = 1.0 if path[-1].key == "scale" else 0.0
        return (scale + 0.15 * rng.normal(size=leaf.shape)).astype(np.float32)

    return model, {"params": jax.tree.map_with_path(draw, shapes(model))}


def texts(*rows, length):
    return jnp.asarray([row + [0] * (length - len(row)) for row in rows], jnp.int32)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "parameters"),
    [
        ("vitb32", 151_277_313),
        ("vitb16", 149_620_737),
        ("vitl14", 427_616_513),
        ("vitl14_336", 427_944_193),
        ("vith14", 986_109_441),
    ],
)
def test_parameter_counts_of_clip(name, parameters):
    assert count(shapes(zoo.create(name))) == parameters


def test_stretched_model_adds_rows_of_positions_only():
    stretched = shapes(zoo.create("vitb16", text={"context_length": 248}))
    assert count(stretched) == 149_620_737 + (248 - 77) * 512


def test_dinov2_tower_has_its_published_size():
    tower = shapes(zoo.create("vits14", image={"size": 518}))["image"]
    # transformers' Dinov2Model ViT-S/14: 22,056,576 parameters with a mask token (384) and LayerScale (12·2·384)
    assert count(tower) - count(tower["projection"]) == 22_056_576 - 384 - 12 * 2 * 384


def test_names_and_shapes_of_all_parameters():
    leaves = jax.tree.leaves_with_path(shapes(zoo.create("tiny")))
    found = {jax.tree_util.keystr(path, simple=True, separator="/"): leaf.shape for path, leaf in leaves}
    assert all(leaf.dtype == jnp.float32 for _, leaf in leaves)
    blocks = {
        "norm1/scale": (2, 64),
        "norm1/bias": (2, 64),
        "attention/qkv/kernel": (2, 64, 3, 2, 32),
        "attention/qkv/bias": (2, 3, 2, 32),
        "attention/out/kernel": (2, 2, 32, 64),
        "attention/out/bias": (2, 64),
        "norm2/scale": (2, 64),
        "norm2/bias": (2, 64),
        "mlp/fc1/kernel": (2, 64, 256),
        "mlp/fc1/bias": (2, 256),
        "mlp/fc2/kernel": (2, 256, 64),
        "mlp/fc2/bias": (2, 64),
    }
    assert found == {
        "logit_scale": (),
        "image/patch_embedding/kernel": (8, 8, 3, 64),
        "image/class_embedding": (64,),
        "image/position_embedding": (65, 64),
        "image/pre_norm/scale": (64,),
        "image/pre_norm/bias": (64,),
        **{f"image/blocks/{name}": shape for name, shape in blocks.items()},
        "image/post_norm/scale": (64,),
        "image/post_norm/bias": (64,),
        "image/projection/kernel": (64, 64),
        "text/token_embedding": (49408, 64),
        "text/position_embedding": (77, 64),
        **{f"text/blocks/{name}": shape for name, shape in blocks.items()},
        "text/final_norm/scale": (64,),
        "text/final_norm/bias": (64,),
        "text/projection/kernel": (64, 64),
    }


def test_dinov2_layout_has_a_patch_bias_and_no_first_norm():
    image = shapes(zoo.create("vits14", image={"size": 112}))["image"]
    assert image["patch_embedding"]["bias"].shape == (384,)
    assert "pre_norm" not in image
    assert image["position_embedding"].shape == (65, 384)


@pytest.mark.parametrize(
    ("name", "activation", "norm_eps", "image_heads", "text_heads"),
    [
        ("vitb32", "quick_gelu", 1e-5, 12, 8),
        ("vitb16", "quick_gelu", 1e-5, 12, 8),
        ("vitl14", "quick_gelu", 1e-5, 16, 12),
        ("vitl14_336", "quick_gelu", 1e-5, 16, 12),
        ("vith14", "gelu", 1e-5, 16, 16),
        ("vits14", "gelu", 1e-6, 6, 6),
    ],
)
def test_what_parameter_counts_do_not_tell(name, activation, norm_eps, image_heads, text_heads):
    model = zoo.create(name)
    assert (model.image.activation, model.image.norm_eps, model.image.pool) == (activation, norm_eps, "cls")
    assert (model.image.heads, model.text.heads) == (image_heads, text_heads)
    assert model.text.context_length == 77


@pytest.mark.exhaustive
def test_initialisation_is_clips():
    model = zoo.create("tiny", image={"width": 256, "heads": 4}, text={"width": 256, "heads": 4})
    params = jax.jit(lambda key: init_params(model, key))(jax.random.key(0))
    blocks = params["text"]["blocks"]
    for leaf, std in [
        (params["text"]["token_embedding"], 0.02),
        (params["text"]["position_embedding"], 0.01),
        (params["text"]["projection"]["kernel"], 256**-0.5),
        (params["image"]["position_embedding"], 256**-0.5),
        (params["image"]["projection"]["kernel"], 256**-0.5),
        (params["image"]["patch_embedding"]["kernel"], (3 * 192) ** -0.5),
        (blocks["attention"]["qkv"]["kernel"], 256**-0.5),
        (blocks["attention"]["out"]["kernel"], (2 * 256 * 2) ** -0.5),
        (blocks["mlp"]["fc1"]["kernel"], (2 * 256) ** -0.5),
        (blocks["mlp"]["fc2"]["kernel"], (2 * 256 * 2) ** -0.5),
    ]:
        assert float(jnp.std(leaf)) == pytest.approx(std, rel=0.03)
        assert abs(float(jnp.mean(leaf))) < 0.03 * std
    assert not jnp.array_equal(*blocks["mlp"]["fc1"]["kernel"])  # every layer draws its own
    assert float(params["logit_scale"]) == pytest.approx(math.log(1 / 0.07))


@pytest.mark.slow
def test_image_rows_are_unit_and_agree_with_tokens_and_raw_rows(tiny):
    model, variables = tiny
    images = jax.random.normal(jax.random.key(2), (3, 64, 64, 3))
    rows, tokens = run(model, variables, images, tokens=True, method="encode_image")
    assert rows.shape == (3, 64) and tokens.shape == (3, 65, 64) and rows.dtype == tokens.dtype == jnp.float32
    np.testing.assert_allclose(jnp.linalg.norm(rows, axis=1), 1, atol=1e-6)
    np.testing.assert_allclose(unit(tokens[:, 0]), rows, atol=1e-6)
    raw, features = run(model, variables, images, method=lambda clip, x: (clip.image(x), clip.image.features(x)))
    np.testing.assert_allclose(unit(raw), rows, atol=1e-6)
    np.testing.assert_allclose(features @ variables["params"]["image"]["projection"]["kernel"], raw, atol=1e-4)


def test_patches_are_read_row_by_row(tiny):
    model, variables = tiny
    images = jax.random.normal(jax.random.key(2), (1, 64, 64, 3))
    pair = jnp.concatenate([images, images.at[:, 8:16, 24:32].add(1.0)])
    before, after = run(model, variables, pair, method=lambda clip, x: clip.image.patch_embedding(x))
    assert np.flatnonzero(np.abs(after - before).max(axis=1) > 1e-3).tolist() == [1 * 8 + 3]


def test_mean_pooling_averages_the_patches_before_the_norm(tiny):
    model, variables = tiny
    mean = zoo.create("tiny", image={"pool": "mean"}, text=SMALL_VOCABULARY)
    images = jax.random.normal(jax.random.key(2), (2, 64, 64, 3))
    found, hidden = run(mean, variables, images, method=lambda clip, x: (clip.image.features(x), clip.image.hidden(x)))
    pooled = np.asarray(hidden[:, 1:].mean(axis=1))
    centred = pooled - pooled.mean(-1, keepdims=True)
    norm = variables["params"]["image"]["post_norm"]
    expected = centred / np.sqrt((centred**2).mean(-1, keepdims=True) + 1e-5) * norm["scale"] + norm["bias"]
    np.testing.assert_allclose(found, expected, atol=1e-5)


@pytest.mark.slow
def test_dropped_patches_and_padded_tokens_are_as_if_they_were_not(tiny):
    """The upper left quarter of an image is an image of half the size with those positions; its 17 tokens become 24."""
    model, variables = tiny
    images = jax.random.normal(jax.random.key(2), (2, 64, 64, 3))
    corner = (8 * np.arange(4)[:, None] + np.arange(4)).ravel()
    kept = jnp.tile(jnp.asarray(corner, jnp.int32), (2, 1))
    padded = zoo.create("tiny", image={"token_multiple": 8}, text=SMALL_VOCABULARY)
    assert shapes(padded) == shapes(model) and zoo.fields(padded) == zoo.fields(model)
    found, tokens = run(padded, variables, images, tokens=True, kept=kept, method="encode_image")
    small = zoo.create("tiny", image={"size": 32}, text=SMALL_VOCABULARY)
    image = variables["params"]["image"]
    table = image["position_embedding"][np.concatenate([[0], 1 + corner])]
    params = variables["params"] | {"image": image | {"position_embedding": table}}
    expected = run(small, {"params": params}, images[:, :32, :32], tokens=True, method="encode_image")
    np.testing.assert_allclose(found, expected[0], atol=1e-6)
    np.testing.assert_allclose(tokens, expected[1], atol=1e-5)


def test_fields_reach_the_blocks_of_every_tower():
    fields = {"unroll": 2, "products": "int8"}
    for name in ("tiny", "tiny_bert"):
        clip = zoo.create(name, image=fields, text=fields)
        program = str(jax.make_jaxpr(lambda key, clip=clip: init_params(clip, key))(jax.random.key(0)))
        assert program.count("unroll=2") == 2
        assert program.count("preferred_element_type=int32") == 2 * 4  # the dense layers of a block, and no others


def test_patches_are_drawn_by_seed_step_and_place_in_the_global_batch():
    tower = zoo.create("tiny", image={"patch_dropout": 0.7}).image
    draw = jax.jit(kept_patches, static_argnums=(0, 3))
    drawn = np.asarray(draw(tower, 0, 3, 8))
    assert drawn.shape == (8, 64 - 45) and drawn.dtype == np.int32
    assert (np.diff(drawn, axis=1) > 0).all() and drawn.min() >= 0 and drawn.max() < 64
    assert len({tuple(row) for row in drawn}) == 8
    np.testing.assert_array_equal(draw(tower, 0, 3, 4), drawn[:4])
    for seed, step in ((1, 3), (0, 4)):
        assert (np.asarray(draw(tower, seed, step, 8)) != drawn).any(axis=1).all()


def test_a_text_runs_at_its_own_length_and_ends_at_the_first_end_token(tiny):
    model, variables = tiny
    encode = functools.partial(run, model, variables, method="encode_text")
    rows = [[98, 5, 6, 7, 99], [98, 8, 99]]
    short = encode(texts(*rows, length=5))
    np.testing.assert_allclose(jnp.linalg.norm(short, axis=1), 1, atol=1e-6)
    np.testing.assert_allclose(encode(texts(*rows, length=77)), short, atol=1e-6)
    padded_with_end = texts(rows[0] + [99, 3, 99], rows[1] + [99] * 5, length=77)
    np.testing.assert_allclose(encode(padded_with_end), short, atol=1e-6)
    assert not np.allclose(encode(texts([98, 5, 6, 9, 99], rows[1], length=5))[0], short[0], atol=1e-3)


def test_text_tokens_are_causal_and_hold_the_pooled_one(tiny):
    model, variables = tiny
    ids = texts([98, 5, 6, 7, 99], [98, 5, 6, 8, 99], length=6)
    rows, tokens = run(model, variables, ids, tokens=True, method="encode_text")
    assert tokens.shape == (2, 6, 64)
    np.testing.assert_allclose(unit(tokens[:, 4]), rows, atol=1e-6)
    np.testing.assert_allclose(tokens[0, :3], tokens[1, :3], atol=1e-5)
    assert np.abs(tokens[0, 3:] - tokens[1, 3:]).max(axis=1).min() > 0.01


def test_one_image_batch_with_several_texts(tiny):
    model, variables = tiny
    images = jax.random.normal(jax.random.key(2), (2, 64, 64, 3))
    long, short = texts([98, 5, 6, 7, 99], [98, 99], length=77), texts([98, 99], [98, 3, 99], length=5)
    image_rows, text_rows, logit_scale = run(model, variables, images, long, short)
    alone, _ = run(model, variables, images, tokens=True, method="encode_image")
    np.testing.assert_allclose(image_rows, alone, atol=1e-6)
    for rows, ids in zip(text_rows, (long, short), strict=True):
        np.testing.assert_allclose(rows, run(model, variables, ids, method="encode_text"), atol=1e-6)
    assert logit_scale == variables["params"]["logit_scale"]


@pytest.mark.slow
def test_frozen_positions_receive_no_gradient(tiny):
    model, variables = tiny
    frozen = zoo.create("tiny", text=SMALL_VOCABULARY | {"frozen_positions": 2})
    ids = texts([98, 5, 6, 7, 99], length=5)

    @functools.partial(jax.jit, static_argnames="tower")
    def gradient(tower, params):
        def first(table):
            return tower.apply({"params": params | {"position_embedding": table}}, ids)[0, 0]

        return jax.grad(first)(params["position_embedding"])

    free, held = (gradient(m.text, variables["params"]["text"]) for m in (model, frozen))
    np.testing.assert_array_equal(held[:2], 0)
    np.testing.assert_allclose(held[2:], free[2:], atol=1e-7)
    assert np.abs(free[:5]).max(axis=1).min() > 1e-4


def test_bfloat16_towers_keep_fp32_parameters_and_rows(tiny):
    model, variables = tiny
    half = zoo.create("tiny", text=SMALL_VOCABULARY, dtype="bfloat16")
    assert all(leaf.dtype == jnp.float32 for leaf in jax.tree.leaves(shapes(half)))
    images, ids = jax.random.normal(jax.random.key(2), (2, 64, 64, 3)), texts([98, 5, 99], [98, 99], length=5)
    hidden = jax.eval_shape(lambda: half.apply(variables, images, method=lambda clip, x: clip.image.hidden(x)))
    assert hidden.dtype == jnp.bfloat16
    full_rows = run(model, variables, images, ids)
    for rows, full in zip(run(half, variables, images, ids)[:2], full_rows[:2], strict=True):
        assert jax.tree.leaves(rows)[0].dtype == jnp.float32
        np.testing.assert_allclose(jax.tree.leaves(rows)[0], jax.tree.leaves(full)[0], atol=0.02)


def test_a_zero_row_has_a_finite_gradient():
    assert np.isfinite(jax.grad(lambda x: unit(x).sum())(jnp.zeros((1, 4)))).all()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"name": "vitb6"}, "unknown model 'vitb6', did you mean 'vitb16'.*vith14.*tiny"),
        ({"name": "tiny", "image": {"sise": 64}}, "image tower has no field 'sise', did you mean 'size'"),
        ({"name": "tiny", "text": {"parent": None}}, "text tower has no field 'parent'.*context_length"),
        ({"name": "tiny", "text": {"activation": "gelo"}}, "text tower: unknown activation 'gelo'.*quick_gelu, gelu"),
        ({"name": "tiny", "text": {"embed_dim": 32}}, "image.embed_dim is 64, text.embed_dim is 32"),
    ],
)
def test_wrong_names_are_errors_that_list_the_known(arguments, message):
    with pytest.raises(InputError, match=message):
        zoo.create(**arguments)


@pytest.mark.parametrize(
    ("tower", "fields", "message"),
    [
        ("image", {"size": 65}, "size 65 is not a multiple of patch 8"),
        ("image", {"heads": 3}, "width 64 does not divide into 3 heads"),
        ("image", {"pool": "max"}, "pool is 'max'"),
        ("image", {"token_multiple": 0}, "token_multiple is 0, must be at least 1"),
        ("image", {"patch_dropout": 1.0}, "patch_dropout is 1.0, must lie in 0…1, below 1"),
        ("image", {"unroll": 3}, "unroll is 3, must lie in 1…2, the layers of the tower"),
        ("text", {"attention": "flash"}, "attention='flash' is none of auto, xla, cudnn, splash, triton, rows"),
        ("text", {"heads": 3}, "width 64 does not divide into 3 heads"),
        ("text", {"frozen_positions": 78}, "frozen_positions is 78"),
    ],
)
def test_shapes_that_do_not_fit_are_errors(tower, fields, message):
    with pytest.raises(InputError, match=message):
        shapes(zoo.create("tiny", **{tower: fields}))


def test_wrong_input_shapes_are_errors(tiny):
    model, variables = tiny
    with pytest.raises(InputError, match=r"images are \[2, 32, 32, 3\], must be \[batch, 64, 64, 3\]"):
        model.apply(variables, jnp.zeros((2, 32, 32, 3)), method="encode_image")
    with pytest.raises(InputError, match="texts are 78 tokens long, the context length is 77"):
        model.apply(variables, jnp.zeros((2, 78), jnp.int32), method="encode_text")


@pytest.mark.parametrize("name", ["some", "names:", "names:qkv,mlp", "names", "dens"])
def test_an_unknown_remat_policy_is_named(name):
    with pytest.raises(InputError, match=f"remat='{name}' is none of none, dense, full or names:qkv,attention,mlp_hid"):
        remat_policy(name)


def test_what_is_stored_for_the_backward_pass_follows_the_policy():
    """Fewer bytes from "none" to "full", and "names:" in between; all give the same gradient (test_sharding)."""

    def stored(remat):
        clip = zoo.create("tiny", image={"remat": remat, "size": 16}, text={"context_length": 8})
        params = jax.eval_shape(lambda: init_params(clip, jax.random.key(0)))
        images = jax.ShapeDtypeStruct((64, 16, 16, 3), jnp.float32)

        def residuals(params, images):
            return jax.vjp(lambda p: clip.apply({"params": p}, images, method="encode_image"), params)[1]

        return sum(leaf.size for leaf in jax.tree.leaves(jax.eval_shape(residuals, params, images)))

    everything, dense, named, nothing = map(stored, ("none", "dense", "names:qkv", "full"))
    assert everything > dense > named > nothing
