"""The losses, values and gradients, against a float64 oracle and against PyTorch's cross entropy."""

from __future__ import annotations

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.sharding import AbstractMesh, AxisType

from lrsclip_jax import losses
from lrsclip_jax.errors import InputError
from lrsclip_jax.losses import LossOptions, Texts
from lrsclip_jax.sharding import AXES

SCALES = (14.3, 100.0)


# Compiled once for each combination of options, and shared by the tests.
VALUE_AND_GRADIENTS = jax.jit(
    jax.value_and_grad(losses.info_nce, (0, 1, 2), has_aux=True), static_argnames=("label_smoothing", "gradient")
)

FORMS = ("full", "gather", "ring")


@partial(jax.jit, static_argnames="form")
def reference_gradient(image, text, scale, *, form):
    """The value of one term in any form, in uneven chunks, and its gradients as LRSCLIP's code has them."""
    mesh = jax.make_mesh((1, 1, 1), AXES, axis_types=(AxisType.Auto,) * 3, devices=jax.devices()[:1])

    options = LossOptions(long_weight=1, form=form, chunk=7, gradient="reference")

    def loss(image, text, scale):
        return losses.dual_loss(image, {"long": Texts(text)}, scale, options, mesh=mesh)[0]

    return jax.value_and_grad(loss, (0, 1, 2))(image, text, scale)


def unit_rows(seed, pairs=24, width=16, alignment=0.3):
    """Image and text features [pairs, width] whose pairs resemble each other."""
    rng = np.random.default_rng(seed)
    image, text = rng.normal(size=(2, pairs, width))
    text = alignment * image + (1 - alignment) * text
    return tuple((x / np.linalg.norm(x, axis=1, keepdims=True)).astype(np.float32) for x in (image, text))


def oracle(image, text, scale, *, valid=None, equal=None, same=None, smoothing=0.0, gradient="full"):
    """InfoNCE in float64, one row at a time, with its gradients to image, text and scale.

    `equal` says which texts are equal, and so no negatives, `same` which images are the same, and so all positives.
    """
    image, text = np.float64(image), np.float64(text)
    pairs = len(image)
    valid = np.ones(pairs, bool) if valid is None else valid
    equal = np.eye(pairs, dtype=bool) if equal is None else equal | np.eye(pairs, dtype=bool)
    same = np.eye(pairs, dtype=bool) if same is None else same | np.eye(pairs, dtype=bool)
    cosines = image @ text.T
    value, slopes = 0.0, np.zeros((2, pairs, pairs))
    for queries, slope in zip((cosines, cosines.T), slopes, strict=True):
        for i in np.flatnonzero(valid):
            candidates = [j for j in range(pairs) if valid[j] and (same[i, j] or not equal[i, j])]
            logits = scale * queries[i, candidates]
            log_p = logits - logits.max()
            log_p -= np.log(np.exp(log_p).sum())
            target = np.full(len(candidates), smoothing / len(candidates))
            target += (1 - smoothing) * same[i, candidates] / same[i, candidates].sum()
            value -= target @ log_p / (2 * valid.sum())
            slope[i, candidates] = (np.exp(log_p) - target) / (2 * valid.sum())
    to_text, to_image = slopes[0], slopes[1].T
    whole = to_text + to_image
    of_image, of_text = (to_text, to_image) if gradient == "reference" else (whole, whole)
    return value, (scale * of_image @ text, scale * of_text.T @ image, (whole * cosines).sum())


def own_texts_oracle(image, right, wrong, scale, valid):
    """How far wrong texts score above right ones, one pair at a time, with gradients to image, both, and scale."""
    image, right, wrong = np.float64(image), np.float64(right), np.float64(wrong)
    value, (d_image, d_right, d_wrong), d_scale, above = 0.0, np.zeros((3, *image.shape)), 0.0, 0
    for i in np.flatnonzero(valid):
        cosines = np.array([image[i] @ right[i], image[i] @ wrong[i]])
        log_p = scale * cosines - np.log(np.exp(scale * (cosines - cosines.max())).sum()) - scale * cosines.max()
        p_wrong = np.exp(log_p[1]) / valid.sum()
        value -= log_p[0] / valid.sum()
        d_image[i] = scale * p_wrong * (wrong[i] - right[i])
        d_right[i], d_wrong[i] = -scale * p_wrong * image[i], scale * p_wrong * image[i]
        d_scale += p_wrong * (cosines[1] - cosines[0])
        above += cosines[0] > cosines[1]
    return value, (d_image, d_right, d_wrong, d_scale), above / max(valid.sum(), 1)


def assert_close(got, want):
    """Values to 1e-6 relative; every gradient to 1e-5 of its largest entry."""
    (value, gradients), (expected, expected_gradients) = got, want
    np.testing.assert_allclose(value, expected, rtol=1e-6)
    for gradient, other in zip(gradients, expected_gradients, strict=True):
        assert np.abs(gradient - other).max() <= 1e-5 * np.abs(other).max()


def info_nce(*args, **options):
    (value, _), gradients = VALUE_AND_GRADIENTS(*args, **options)
    return value, gradients


@pytest.mark.parametrize("scale", SCALES)
@pytest.mark.parametrize("smoothing", [0.0, 0.1])
@pytest.mark.parametrize("alignment", [0.0, 0.3])
def test_info_nce_equals_the_oracle(scale, smoothing, alignment):
    image, text = unit_rows(0, alignment=alignment)
    got = info_nce(image, text, scale, label_smoothing=smoothing)
    assert_close(got, oracle(image, text, scale, smoothing=smoothing))


@pytest.mark.parametrize("scale", SCALES)
@pytest.mark.parametrize("smoothing", [0.0, 0.1])
def test_pairs_without_a_text_drop_out(scale, smoothing):
    image, text = unit_rows(1)
    valid = np.random.default_rng(1).random(len(image)) < 0.6
    value, (d_image, d_text, d_scale) = info_nce(image, text, scale, valid=valid, label_smoothing=smoothing)
    expected, (e_image, e_text, e_scale) = oracle(image[valid], text[valid], scale, smoothing=smoothing)
    assert_close((value, (d_image[valid], d_text[valid], d_scale)), (expected, (e_image, e_text, e_scale)))
    assert not d_image[~valid].any() and not d_text[~valid].any()


@pytest.mark.parametrize("scale", SCALES)
def test_no_valid_pair_and_a_single_one_cost_nothing(scale):
    image, text = unit_rows(2, pairs=6)
    for valid in (np.zeros(6, bool), np.arange(6) == 3):
        value, gradients = info_nce(image, text, scale, valid=valid, label_smoothing=0.1)
        assert value == 0 and all((np.asarray(gradient) == 0).all() for gradient in gradients)


@pytest.mark.parametrize("scale", SCALES)
@pytest.mark.parametrize("smoothing", [0.0, 0.1])
def test_equal_texts_can_be_ignored(scale, smoothing):
    image, text = unit_rows(3)
    ids = np.random.default_rng(3).integers(0, 9, (len(text), 1)).repeat(5, 1)
    valid = np.arange(len(image)) % 5 != 0
    equal = (ids[:, None] == ids[None]).all(-1)
    assert equal.sum() > 2 * len(ids)
    got = info_nce(image, text, scale, valid=valid, keys=losses.text_keys(ids), label_smoothing=smoothing)
    assert_close(got, oracle(image, text, scale, valid=valid, equal=equal, smoothing=smoothing))


@pytest.mark.parametrize("form", FORMS)
def test_a_small_loss_keeps_its_digits(form):
    """Once learnt, logits are near 100 at scale 100: their float32 difference would be noise of 1e-6."""
    image, text = unit_rows(4, alignment=0.6)
    expected, _ = oracle(image, text, 100.0)
    assert 0 < expected < 1e-6
    np.testing.assert_allclose(reference_gradient(image, text, 100.0, form=form)[0], expected, rtol=1e-5)


@pytest.mark.parametrize("form", FORMS)
def test_a_feature_that_is_no_number_shows(form):
    image, text = unit_rows(4)
    image[5, 3] = np.nan
    value, (d_image, d_text, d_scale) = reference_gradient(image, text, 100.0, form=form)
    assert np.isnan(value) and np.isnan(d_image).any() and np.isnan(d_text).any() and np.isnan(d_scale)


def test_accuracy_counts_valid_images_whose_own_text_is_best():
    image = np.eye(4, dtype=np.float32)
    text = 0.2 * image + 0.8 * image[[0, 1, 3, 2]]
    assert losses.info_nce(image, text, 10.0)[1] == 0.5
    assert losses.info_nce(image, text, 10.0, valid=np.array([True, True, True, False]))[1] == 1.0
    alike = np.array([[0], [1], [7], [7]], np.uint32)
    assert losses.info_nce(image, text, 10.0, keys=alike)[1] == 1.0
    assert losses.info_nce(image, text, 10.0, image_keys=alike)[1] == 1.0


def test_a_tie_does_not_count_as_best():
    """Equal texts have equal cosines up to the order in which a matrix product adds up."""
    image, text = unit_rows(10, pairs=64, width=512, alignment=0.5)
    assert losses.info_nce(image, text, 10.0)[1] == 1
    text = np.concatenate([text[:32], text[:32]])
    assert losses.info_nce(image, text, 10.0)[1] == 0


@pytest.mark.parametrize("smoothing", [0.0, 0.1])
def test_the_reference_gradient_is_that_of_queries_alone(smoothing):
    image, text = unit_rows(11)
    got = info_nce(image, text, 14.3, label_smoothing=smoothing, gradient="reference")
    assert_close(got, oracle(image, text, 14.3, smoothing=smoothing, gradient="reference"))
    value, (d_image, d_text, d_scale) = info_nce(image, text, 14.3, label_smoothing=smoothing)
    assert got[0] == value and not np.allclose(got[1][0], d_image, rtol=0.1)


@pytest.mark.parametrize("scale", SCALES)
@pytest.mark.parametrize("smoothing", [0.0, 0.1])
def test_info_nce_equals_torch_cross_entropy(scale, smoothing):
    torch = pytest.importorskip("torch")
    image, text = unit_rows(5)
    leaves = [torch.tensor(x, dtype=torch.float64, requires_grad=True) for x in (image, text, scale)]
    logits = leaves[2] * leaves[0] @ leaves[1].T
    targets = torch.arange(len(image))
    cross_entropy = torch.nn.CrossEntropyLoss(label_smoothing=smoothing)
    value = (cross_entropy(logits, targets) + cross_entropy(logits.T, targets)) / 2
    value.backward()
    expected = value.item(), [leaf.grad.numpy() for leaf in leaves]
    assert_close(info_nce(image, text, scale, label_smoothing=smoothing), expected)


@pytest.mark.parametrize("smoothing", [0.0, 0.1])
def test_all_texts_of_an_image_share_the_target_as_in_torch(smoothing):
    """UniCL's soft targets, and SupCon's sum outside of the logarithm: equal shares for all positives."""
    torch = pytest.importorskip("torch")
    image, text = unit_rows(6)
    keys = np.random.default_rng(6).integers(0, 10, (len(image), 1)).astype(np.uint32)
    leaves = [torch.tensor(x, dtype=torch.float64, requires_grad=True) for x in (image, text, 14.3)]
    logits = leaves[2] * leaves[0] @ leaves[1].T
    target = torch.tensor(keys == keys.T, dtype=torch.float64)
    target /= target.sum(1, keepdim=True)
    cross_entropy = torch.nn.CrossEntropyLoss(label_smoothing=smoothing)
    value = (cross_entropy(logits, target) + cross_entropy(logits.T, target)) / 2
    value.backward()
    expected = value.item(), [leaf.grad.numpy() for leaf in leaves]
    assert_close(info_nce(image, text, 14.3, image_keys=keys, label_smoothing=smoothing), expected)


@pytest.mark.parametrize("scale", SCALES)
@pytest.mark.parametrize("form", FORMS)
def test_the_reference_gradient_is_that_of_features_gathered_without_theirs(form, scale):
    """LRSCLIP gathers with `torch.distributed.all_gather`, whose outputs, on one process too, have no gradient."""
    torch = pytest.importorskip("torch")
    image, text = unit_rows(12)
    leaves = [torch.tensor(x, dtype=torch.float64, requires_grad=True) for x in (image, text, scale)]
    v, t, s = leaves
    image_to_text = s * v @ t.detach().T
    text_to_image = (s * v.detach() @ t.T).T
    targets = torch.arange(len(image))
    cross_entropy = torch.nn.CrossEntropyLoss()
    value = (cross_entropy(image_to_text, targets) + cross_entropy(text_to_image, targets)) / 2
    value.backward()
    expected = value.item(), [leaf.grad.numpy() for leaf in leaves]
    assert_close(reference_gradient(image, text, scale, form=form), expected)


def batch(seed, pairs=16):
    rng = np.random.default_rng(seed)
    image, long = unit_rows(seed, pairs)
    short = unit_rows(seed + 100, pairs)[1]
    return image, long, short, rng.random(pairs) < 0.7, rng.random(pairs) < 0.7


@pytest.mark.parametrize("long_weight", [0.8, ((0, 0.0), (10, 1.0))])
def test_dual_loss_weights_the_long_text(long_weight):
    image, long, short, has_long, has_short = batch(6)

    def loss(image, long, short, scale, step):
        texts = {"long": Texts(long, has_long), "short": Texts(short, has_short)}
        return losses.dual_loss(image, texts, scale, LossOptions(long_weight), step=step)

    compiled = jax.jit(jax.value_and_grad(loss, (0, 1, 2, 3), has_aux=True))
    (value, metrics), gradients = compiled(image, long, short, 14.3, 8)

    loss_long, (image_long, text_long, scale_long) = oracle(image, long, 14.3, valid=has_long)
    loss_short, (image_short, text_short, scale_short) = oracle(image, short, 14.3, valid=has_short)
    expected = (
        0.8 * image_long + 0.2 * image_short,
        0.8 * text_long,
        0.2 * text_short,
        0.8 * scale_long + 0.2 * scale_short,
    )
    assert_close((value, gradients), (0.8 * loss_long + 0.2 * loss_short, expected))
    np.testing.assert_allclose(metrics["loss_long"], loss_long, rtol=1e-6)
    np.testing.assert_allclose(metrics["loss_short"], loss_short, rtol=1e-6)
    assert metrics["loss"] == value and metrics["logit_scale"] == np.float32(14.3)


@pytest.mark.parametrize("scale", SCALES)
@pytest.mark.parametrize("some", [True, False])
def test_long_texts_score_above_short_ones(scale, some):
    image, long, short, has_long, has_short = batch(8)
    long, short = (np.where(np.arange(len(image))[:, None] % 2, *pair) for pair in ((long, short), (short, long)))
    has_long &= some
    longer, lengths = np.arange(len(image)) % 5 > 0, np.full(len(image), 40)  # drawn texts may be as long

    def loss(image, long, short, scale, rising):
        texts = {"long": Texts(long, has_long, None, lengths), "short": Texts(short, has_short, None, lengths - longer)}
        value, metrics = losses.dual_loss(image, texts, scale, LossOptions(0.8, rising=rising))
        return value, metrics

    def compiled(rising):
        return jax.jit(jax.value_and_grad(partial(loss, rising=rising), (0, 1, 2, 3), has_aux=True))

    (without, _), others = compiled(0.0)(image, long, short, scale)
    (value, metrics), gradients = compiled(0.5)(image, long, short, scale)
    want, want_gradients, right = own_texts_oracle(image, long, short, scale, has_long & has_short & longer)
    np.testing.assert_allclose(value - without, 0.5 * want, rtol=1e-5)
    np.testing.assert_allclose(metrics["loss_rising"], want, rtol=1e-6)
    np.testing.assert_allclose(metrics["accuracy_rising"], right, rtol=1e-6)
    assert (0 < right < 1 and want > 0) if some else right == want == 0
    for found, other, expected in zip(gradients, others, want_gradients, strict=True):
        assert np.abs(found - other - 0.5 * expected).max() <= 1e-5 * np.abs(found).max()


@pytest.mark.parametrize("scale", SCALES)
@pytest.mark.parametrize("name", ["info_nce", "sigmoid"])
def test_short_texts_score_above_their_hard_negatives(scale, name):
    image, long, short, has_long, has_short = batch(9)
    negative, has_negative = unit_rows(300, len(image))[1], np.random.default_rng(3).random(len(image)) < 0.7

    @partial(jax.jit, static_argnames="weight")
    @partial(jax.value_and_grad, argnums=(0, 1, 2, 3), has_aux=True)
    def compiled(image, short, negative, scale, weight):
        texts = {"long": Texts(long, has_long), "short": Texts(short, has_short)}
        texts["negative"] = Texts(negative, has_negative)
        options = LossOptions(0.8, name=name, hard_negatives=weight)
        return losses.dual_loss(image, texts, scale, options, logit_bias=-10.0)

    (without, _), others = compiled(image, short, negative, scale, weight=0.0)
    (value, metrics), gradients = compiled(image, short, negative, scale, weight=0.5)
    both = has_short & has_negative
    want, want_gradients, right = own_texts_oracle(image, short, negative, scale, both)
    assert 0 < right < 1 and 0 < both.sum() < min(has_short.sum(), has_negative.sum())
    np.testing.assert_allclose(value - without, 0.5 * want, rtol=1e-5)
    np.testing.assert_allclose(metrics["loss_hard_negatives"], want, rtol=1e-6)
    np.testing.assert_allclose(metrics["accuracy_hard_negatives"], right, rtol=1e-6)
    for found, other, expected in zip(gradients, others, want_gradients, strict=True):
        assert np.abs(found - other - 0.5 * expected).max() <= 1e-5 * np.abs(found).max()
    elsewhere = np.where(both[:, None], negative, -negative)  # of pairs without one, anything
    assert compiled(image, short, elsewhere, scale, weight=0.5)[0][0] == value and not gradients[2][~both].any()


def test_a_weight_of_zero_leaves_its_term_out():
    image, long, short, has_long, has_short = batch(7)
    texts = {"long": Texts(long, has_long)}
    value, metrics = losses.dual_loss(image, texts, 100.0, LossOptions(long_weight=1.0))
    np.testing.assert_allclose(value, oracle(image, long, 100.0, valid=has_long)[0], rtol=1e-6)
    assert set(metrics) == {"loss", "logit_scale", "loss_long", "accuracy_long"}
    texts = {"long": Texts(long, has_long), "short": Texts(short, has_short)}
    value, metrics = losses.dual_loss(image, texts, 100.0, LossOptions(long_weight=0))
    np.testing.assert_allclose(value, oracle(image, short, 100.0, valid=has_short)[0], rtol=1e-6)
    assert set(metrics) == {"loss", "logit_scale", "loss_short", "accuracy_short"}


def test_dual_loss_ignores_equal_texts_of_each_kind_by_itself():
    image, long, short, _, _ = batch(8)
    long_ids = np.arange(16).reshape(16, 1) // 2
    short_ids = np.arange(16).reshape(16, 1) // 4
    texts = {
        "long": Texts(long, keys=losses.text_keys(long_ids)),
        "short": Texts(short, keys=losses.text_keys(short_ids)),
    }
    value, _ = losses.dual_loss(image, texts, 14.3, LossOptions(same_text="ignore"))
    expected = 0.8 * oracle(image, long, 14.3, equal=long_ids == long_ids.T)[0]
    expected += 0.2 * oracle(image, short, 14.3, equal=short_ids == short_ids.T)[0]
    np.testing.assert_allclose(value, expected, rtol=1e-6)


@pytest.mark.parametrize(
    ("options", "mesh", "message"),
    [
        ({"form": "ring"}, None, "loss.form='ring' needs the mesh"),
        ({"form": "gather"}, AbstractMesh((2, 3, 1), AXES), "batch_size is 16: .* multiple of the 6"),
        ({"pcm_components": -1}, None, "loss.pcm_components=-1"),
        ({"pcm_components": 4, "pcm_scope": "group:5"}, None, "groups of 5 do not divide a batch of 16"),
    ],
    ids=str,
)
def test_options_that_do_not_suit_the_batch_are_named(options, mesh, message):
    image, long, short, _, _ = batch(8)
    with pytest.raises(InputError, match=message):
        losses.dual_loss(image, {"long": Texts(long), "short": Texts(short)}, 14.3, LossOptions(**options), mesh=mesh)


def test_text_keys_tell_texts_apart():
    """Each half of the key is as good as a random 32-bit word, also for texts that differ in little."""
    rng = np.random.default_rng(9)
    base = rng.integers(0, 49408, 16)
    one_changed = np.tile(base, (40_000, 1))
    one_changed[:, 7] = np.arange(40_000)
    shuffled = np.stack([rng.permutation(base) for _ in range(40_000)])
    digits = np.arange(40_000)[:, None] // 2 ** np.arange(16) % 2
    texts = np.unique(np.concatenate([one_changed, shuffled, digits]).astype(np.int32), axis=0)
    keys = np.asarray(losses.text_keys(texts))
    assert keys.shape == (len(texts), 2) and len(np.unique(keys, axis=0)) == len(texts)
    for half in keys.T:  # 1.7 of 120,000 words are expected to collide
        assert len(texts) - len(np.unique(half)) <= 10
    np.testing.assert_array_equal(keys[:5], losses.text_keys(np.copy(texts[:5])))


def test_the_logit_scale_is_clamped_between_one_and_the_limit():
    for log_scale, expected in ((5.0, np.log(100)), (-0.5, 0.0), (2.66, 2.66)):
        params = {"image": {}, "logit_scale": jnp.float32(log_scale)}
        clamped = losses.clamp_logit_scale(params, 100.0)
        np.testing.assert_allclose(clamped["logit_scale"], expected, rtol=1e-6)
        assert losses.clamp_logit_scale(params, None) is params
