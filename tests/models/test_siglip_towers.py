"""SigLIP's towers beside plain sums, and what is not theirs."""

import jax
import numpy as np
import pytest
import tiny_siglip
from tiny_clip import parameters

from lrsclip_jax.errors import InputError
from lrsclip_jax.flops import Texts, products, tokens, train_pair
from lrsclip_jax.models import zoo
from lrsclip_jax.models.clip import unit
from lrsclip_jax.models.packed import Packed
from lrsclip_jax.models.patches import patch_values
from lrsclip_jax.pytorch import layout

VOCABULARY = 50


@pytest.fixture(scope="module")
def model():
    return tiny_siglip.model(VOCABULARY)


@pytest.fixture(scope="module")
def params(model):
    return parameters(model)


def ids(*lengths):
    rng = np.random.default_rng(0)
    return [rng.integers(2, VOCABULARY, length).astype(np.int32) for length in lengths]


def test_a_row_is_filled_up_with_padding_that_the_text_sees(model, params):
    encode = jax.jit(lambda rows: model.apply({"params": params}, rows, method="encode_text"))
    (text,) = ids(5)
    whole = np.pad(text, (0, 11), constant_values=1)
    np.testing.assert_array_equal(encode(text[None]), encode(whole[None]))
    other = np.pad(text, (0, 11), constant_values=2)
    assert np.abs(encode(other[None]) - encode(whole[None])).max() > 1e-3
    np.testing.assert_array_equal(model.text.lengths(np.stack([whole, other])), [5, 16])


def test_what_is_not_of_this_tower_is_refused(model, params):
    def text(*args, method, **kwargs):
        return model.text.apply({"params": params["text"]}, *args, method=method, **kwargs)

    (long,) = ids(17)
    with pytest.raises(InputError, match="texts are 17 tokens long, the context length is 16"):
        text(long[None], method="hidden")
    with pytest.raises(InputError, match="its tokens can't be moved"):
        text(long[None, :4], np.zeros(1, np.int32), method="hidden")
    with pytest.raises(InputError, match="data.packed must be False"):
        text(Packed(*[long[None]] * 3, np.zeros((1, 1, 2), np.int32)), method="packed_features")


def test_the_head_takes_one_token_as_the_mean_of_copies(model, params):
    """One query's weights sum to 1: so copies of one token pool to that token alone."""
    head = model.image.apply
    rng = np.random.default_rng(1)
    row = rng.normal(size=(2, 1, 32)).astype(np.float32)
    variables = {"params": params["image"]}
    pooled = head(variables, np.repeat(row, 16, axis=1), method=lambda tower, x: tower.head(x))
    alone = head(variables, row, method=lambda tower, x: tower.head.alone(x))
    np.testing.assert_allclose(pooled, alone[:, 0], atol=1e-5)


def test_patches_have_embeddings_and_no_class_token(model, params):
    images = np.random.default_rng(2).normal(size=(2, 32, 32, 3)).astype(np.float32)
    rows, all_tokens = model.apply({"params": params}, images, tokens=True, method="encode_image")
    assert rows.shape == (2, 32) and all_tokens.shape == (2, 16, 32)
    assert "projection" not in params["image"] and "class_embedding" not in params["image"]
    features = model.apply({"params": params}, images, method=lambda clip, x: clip.image.features(x))
    np.testing.assert_allclose(unit(features), rows, atol=1e-6)
    values = patch_values(model.image, params["image"], images)
    assert values.shape == (2, 16, 32)
    np.testing.assert_allclose(np.linalg.norm(values, axis=-1), 1, atol=1e-5)


def test_patch_dropout_leaves_the_patches_that_are_kept(model, params):
    images = np.random.default_rng(3).normal(size=(1, 32, 32, 3)).astype(np.float32)
    hidden = model.image.apply({"params": params["image"]}, images, np.arange(16)[None], method="hidden")
    np.testing.assert_allclose(
        hidden, model.image.apply({"params": params["image"]}, images, method="hidden"), atol=1e-6
    )
    assert model.image.apply({"params": params["image"]}, images, np.array([[3, 5]]), method="hidden").shape[1] == 2


def test_another_width_of_the_embedding_has_a_projection():
    small = {"width": 32, "heads": 2, "layers": 1, "embed_dim": 24}
    shapes = layout.shapes(zoo.create("siglip_vitb16", small | {"size": 32, "patch": 8}, small | {"vocab_size": 9}))
    assert shapes["image/projection/kernel"] == (32, 24)


def test_the_models_have_the_published_numbers_of_parameters():
    published = {"siglip_vitb16": 203.2, "siglip_so400m14": 877.4, "siglip2_vitb16": 375.2}  # millions
    for name, count in published.items():
        found = sum(np.prod(shape) for shape in layout.shapes(zoo.create(name)).values())
        assert found / 1e6 == pytest.approx(count, abs=0.1)


def test_flops_are_of_all_positions_and_of_the_head(model):
    assert tokens(model.image) == 16
    names = [product.name for product in products(model.image, 16)]
    assert "projection" not in names and names[-6:] == [f"head_{n}" for n in "qkv scores values out fc1 fc2".split()]
    assert products(model.image, 16, in_memory=True) == []
    of_three, of_all = (train_pair(model, [text], batch_size=4) for text in (3, 16))
    assert of_three == of_all == train_pair(model, [Texts.of([5])], batch_size=4)
