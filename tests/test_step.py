import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from lrsclip_jax import config as configs
from lrsclip_jax import host_memory
from lrsclip_jax.config.facts import offloads
from lrsclip_jax.data.preprocessing import Preprocessing
from lrsclip_jax.models import zoo
from lrsclip_jax.models.clip import init_params
from lrsclip_jax.optimizer import create
from lrsclip_jax.parameter_rules import path_of
from lrsclip_jax.pytorch import layout
from lrsclip_jax.pytorch.families import huggingface
from lrsclip_jax.sharding import make_mesh, to_devices
from lrsclip_jax.step import initial_state, make_train_step, placed, state_shapes, step_options

PREPROCESSING = Preprocessing(size=16, mean=(0.5, 0.4, 0.3), std=(0.2, 0.25, 0.3))
IMAGE = {"size": 16, "width": 32, "layers": 2, "heads": 2, "embed_dim": 16}
TEXT = {"width": 32, "layers": 2, "heads": 2, "embed_dim": 16, "vocab_size": 60, "end_token": 59, "context_length": 24}
PAIRS = 8


def model(dtype=None):
    return zoo.create("tiny", image=IMAGE, text=TEXT, dtype=dtype)


@functools.cache
def start():
    return jax.jit(lambda: init_params(model(), jax.random.key(0)))()


def batch(seed=0):
    rng = np.random.default_rng(seed)

    def texts(length):
        ids = np.zeros((PAIRS, length), np.int32)
        for row in ids:
            end = rng.integers(3, length)
            row[: end + 1] = [58, *rng.integers(1, 58, end - 1), 59]
        return ids

    return {
        "image": rng.integers(0, 256, (PAIRS, 16, 16, 3), np.uint8),
        "long": texts(20),
        "short": texts(9),
        "has_long": np.ones(PAIRS, bool),
        "has_short": np.ones(PAIRS, bool),
    }


@functools.cache
def training(overrides=(), dtype=None, freeze=()):
    """What `run` needs of a config: the optimizer, the shapes of the state, and the update, compiled once for all."""
    keys = ("data.packed=False", "optimizer.learning_rate=0.05", "optimizer.weight_decay=0.01", *overrides)
    config = configs.load("configs/vitb16.py", keys)
    optimizer = create(config.optimizer, start(), total_steps=10, steps_per_epoch=5, freeze=freeze)
    shapes = state_shapes(
        start(),
        optimizer,
        make_mesh(config.mesh),
        ema=config.train.ema is not None,
        teacher=config.loss.preserve > 0,
        offload=offloads(config, "optimizer"),
    )
    return optimizer, shapes, make_train_step(model(dtype), optimizer, PREPROCESSING, step_options(config, 10), shapes)


def run(batches, *overrides, params=None, dtype=None, freeze=()):
    """Trains on `batches` and returns the final state and the metrics of every step."""
    optimizer, shapes, step = training(overrides, dtype, freeze)
    state = initial_state(params or start(), optimizer, shapes)
    if shapes.teacher is not None:
        state = state.replace(teacher=placed(start(), shapes.teacher))
    metrics = []
    for each in batches:
        offloaded = 4 * ("train.offload=images" in overrides)
        state, values = step(state, to_devices(each, shapes.step.sharding.mesh, offloaded=offloaded))
        metrics.append({key: float(value) for key, value in values.items()})
    return state, metrics


@pytest.mark.exhaustive
def test_it_learns_a_batch_by_heart():
    _, metrics = run([batch()] * 40, "optimizer.name=adamw", "optimizer.learning_rate=0.003")
    assert metrics[-1]["loss"] < 0.5 * metrics[0]["loss"]
    assert metrics[-1]["accuracy_long"] == 1.0
    assert metrics[0].keys() >= {"loss_long", "loss_short", "learning_rate", "gradient_norm", "logit_scale"}


@pytest.mark.exhaustive
def test_bfloat16_towers_train_float32_parameters():
    state, metrics = run([batch()] * 5, dtype="bfloat16")
    _, exact = run([batch()] * 5)
    assert {leaf.dtype for leaf in jax.tree.leaves(state.params)} == {jnp.dtype("float32")}
    np.testing.assert_allclose([m["loss"] for m in metrics], [m["loss"] for m in exact], rtol=0.02)
    assert metrics[-1] != exact[-1]


@pytest.mark.exhaustive
@pytest.mark.parametrize(
    ("weight", "kind", "other"),
    [("0.0", "short", "long"), ("1.0", "long", "short")],
)
def test_a_text_of_weight_zero_plays_no_part(weight, kind, other):
    first = batch()
    second = first | {other: batch(1)[other]}
    states, metrics = zip(*(run([each] * 2, f"loss.long_weight={weight}") for each in (first, second)), strict=True)
    assert metrics[0] == metrics[1] and f"loss_{kind}" in metrics[0][0] and f"loss_{other}" not in metrics[0][0]
    jax.tree.map(np.testing.assert_array_equal, states[0].params, states[1].params)


@pytest.mark.exhaustive
def test_the_weight_may_follow_the_steps():
    _, metrics = run([batch()] * 3, "loss.long_weight=((0, 0.0), (2, 1.0))")
    for step, m in enumerate(metrics):
        assert m["loss"] == pytest.approx(step / 2 * m["loss_long"] + (1 - step / 2) * m["loss_short"], rel=1e-6)


@pytest.mark.slow
def test_a_pair_without_texts_has_no_influence():
    present = np.arange(PAIRS) != 3
    first = batch() | {"has_long": present, "has_short": present}
    second = {key: value.copy() for key, value in first.items()}
    second["image"][3], second["long"][3] = 0, second["long"][4]
    states, metrics = zip(*(run([each] * 2) for each in (first, second)), strict=True)
    assert metrics[0][0]["loss"] == metrics[1][0]["loss"]
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, atol=1e-7), states[0].params, states[1].params)


@pytest.mark.slow
def test_what_is_frozen_stays_to_the_bit_and_the_rest_moves():
    params = start()
    patterns = ("image/(?!projection).*", "text/position_embedding[0:5]", "logit_scale")
    state, _ = run([batch(), batch(1), batch(2)], params=params, freeze=patterns)
    moved = {
        path_of(path): np.asarray(new != old)
        for (path, new), old in zip(jax.tree.leaves_with_path(state.params), jax.tree.leaves(params), strict=True)
    }
    assert not any(change.any() for name, change in moved.items() if name.startswith("image/") and "proj" not in name)
    assert not moved["logit_scale"].any() and moved["image/projection/kernel"].any()
    assert not moved["text/position_embedding"][:5].any() and moved["text/position_embedding"][5:20].all()


@pytest.mark.exhaustive  # in CI losses/test_losses.py
def test_the_scale_is_clamped():
    params = start() | {"logit_scale": jnp.float32(np.log(99.99))}
    state, _ = run([batch()] * 5, "loss.max_scale=100.0", "optimizer.learning_rate=1.0", params=params)
    assert float(jnp.exp(state.params["logit_scale"])) <= 100.001


@pytest.mark.slow
def test_training_equals_torch():
    """Ten updates of the whole model equal those of transformers' CLIPModel, torch's cross entropy and torch's SGD."""
    torch = pytest.importorskip("torch")
    transformers = pytest.importorskip("transformers")
    fields = {"hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 128}
    torch.manual_seed(0)
    reference = transformers.CLIPModel(
        transformers.CLIPConfig(
            vision_config=fields | {"image_size": 16, "patch_size": 8},
            text_config=fields | {"vocab_size": 60, "eos_token_id": 59, "max_position_embeddings": 24},
            projection_dim=16,
            logit_scale_init_value=2.6592,
        )
    )

    def parameters():
        tensors = {key: value.detach().numpy() for key, value in reference.state_dict().items()}
        return layout.to_ours(huggingface.table(), layout.shapes(model()), tensors)

    initial = jax.tree.map(np.array, parameters())
    batches = [batch(seed) for seed in range(10)]
    state, metrics = run(batches, params=initial)

    mean, std = (torch.tensor(values).view(3, 1, 1) for values in (PREPROCESSING.mean, PREPROCESSING.std))
    sgd = torch.optim.SGD(reference.parameters(), lr=0.05, momentum=0.9, dampening=0.1, weight_decay=0.01)
    labels = torch.arange(PAIRS)
    for each, ours in zip(batches, metrics, strict=True):
        pixels = (torch.from_numpy(each["image"]).permute(0, 3, 1, 2) / 255 - mean) / std
        image = torch.nn.functional.normalize(reference.get_image_features(pixels).pooler_output, dim=-1)
        loss = 0
        for kind, weight in (("long", 0.8), ("short", 0.2)):
            text = reference.get_text_features(torch.from_numpy(each[kind]).long()).pooler_output
            logits = reference.logit_scale.exp() * image @ torch.nn.functional.normalize(text, dim=-1).T
            cross_entropy = torch.nn.functional.cross_entropy
            loss = loss + weight * (cross_entropy(logits, labels) + cross_entropy(logits.T, labels)) / 2
        sgd.zero_grad()
        loss.backward()
        sgd.step()
        assert ours["loss"] == pytest.approx(loss.item(), rel=1e-5)
    for (path, ours), theirs in zip(
        jax.tree.leaves_with_path(state.params), jax.tree.leaves(parameters()), strict=True
    ):
        np.testing.assert_allclose(
            ours, theirs, rtol=0, atol=1e-6 * max(1, np.abs(theirs).max()), err_msg=path_of(path)
        )


@pytest.mark.slow
def test_a_batch_that_is_not_finite_changes_nothing():
    """An id outside the vocabulary makes the loss NaN; the state stops before it, or passes over it if allowed."""
    good, other = batch(0), batch(1)
    bad = batch(2) | {"long": np.full_like(batch(2)["long"], 60)}
    before, _ = run([good])
    stopped, metrics = run([good, bad, other])
    assert (int(stopped.step), int(stopped.skipped)) == (1, 1)
    assert [m["finite"] for m in metrics[:2]] == [1, 0] and np.isnan(metrics[1]["loss"])
    jax.tree.map(np.testing.assert_array_equal, (before.params, before.opt_state), (stopped.params, stopped.opt_state))

    passed, metrics = run([good, bad, other], "train.max_skipped=1")
    assert (int(passed.step), int(passed.skipped)) == (3, 1)
    expected, _ = run([good, other])
    jax.tree.map(np.testing.assert_array_equal, expected.params, passed.params)


@pytest.mark.slow
def test_an_average_of_the_weights_follows_them_and_leaves_what_is_frozen_and_what_is_skipped():
    bad = batch(2) | {"long": np.full_like(batch(2)["long"], 60)}
    keys = ("train.ema=0.75", "train.max_skipped=1", "optimizer.freeze=('text/token_embedding',)")
    expected = start()
    for batches in ([batch(0)], [batch(0), batch(1)]):
        state, _ = run(batches, *keys)
        expected = jax.tree.map(lambda mean, new: 0.75 * mean + 0.25 * new, expected, state.params)
    state, _ = run([batch(0), batch(1), bad], *keys)
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-7), state.ema, expected)
    assert state.weights is state.ema and run([batch(0)])[0].ema is None
    frozen = (tree["text"]["token_embedding"] for tree in (state.ema, start()))
    np.testing.assert_array_equal(*frozen)
    plain, _ = run([batch(0), batch(1)], *keys[1:])
    jax.tree.map(np.testing.assert_array_equal, plain.params, state.params)


@pytest.mark.exhaustive
@pytest.mark.parametrize("kind", ["features", "similarity"])
def test_a_preserved_model_stays_near_its_teacher_in_microbatches_too(kind):
    keys = ("model.init=there", f"loss.preserve_kind={kind}", "optimizer.learning_rate=0.003")
    batches = [batch(0), batch(1)] * 4
    state, held = run(batches, *keys, "loss.preserve=10.0")
    _, free = run(batches, *keys, "loss.preserve=1e-9")
    assert held[0]["loss_preserve"] == pytest.approx(0, abs=1e-6)
    assert 0 < held[-1]["loss_preserve"] < 0.5 * free[-1]["loss_preserve"]
    jax.tree.map(np.testing.assert_array_equal, state.teacher, start())
    _, in_parts = run(batches, *keys, "loss.preserve=10.0", "train.microbatches=2")
    for one, other in zip(held, in_parts, strict=True):
        assert one["loss_preserve"] == pytest.approx(other["loss_preserve"], rel=1e-4, abs=1e-6)


@pytest.mark.slow
def test_the_patch_term_adds_to_the_loss_by_its_weight_and_draws_other_boxes_at_each_step():
    _, metrics = run([batch(0)] * 2, "loss.patches=0.5", "optimizer.learning_rate=0.0")
    for m in metrics:
        terms = 0.8 * m["loss_long"] + 0.2 * m["loss_short"] + 0.5 * m["loss_patches"]
        assert m["loss_patches"] > 0 and m["loss"] == pytest.approx(terms, rel=1e-6)
    assert metrics[0]["loss_long"] == metrics[1]["loss_long"]
    assert metrics[0]["loss_patches"] != metrics[1]["loss_patches"]


@pytest.mark.exhaustive
def test_the_patch_term_goes_with_microbatches_bfloat16_an_average_and_a_teacher():
    keys = ("loss.patches=0.5", "train.ema=0.9", "loss.preserve=0.5", "model.init=there")
    batches = [batch(0), batch(1)]
    _, exact = run(batches, *keys)
    _, in_parts = run(batches, *keys, "train.microbatches=4")
    _, metrics = run(batches, *keys, dtype="bfloat16")
    for half, part, full in zip(metrics, in_parts, exact, strict=True):
        assert half["loss_patches"] == pytest.approx(full["loss_patches"], rel=0.1)
        assert part["loss_patches"] == pytest.approx(full["loss_patches"], rel=1e-4)
        more = full["loss_patches"] + full["loss_preserve"]
        terms = 0.8 * full["loss_long"] + 0.2 * full["loss_short"] + 0.5 * more
        assert full["loss"] == pytest.approx(terms, rel=1e-6)


@pytest.mark.exhaustive  # in CI test_sharding.py
def test_images_in_host_memory_change_no_bit():
    batches = [batch(0), batch(1)]
    keys = ("train.microbatches=4", "optimizer.name=adamw")
    state, metrics = run(batches, *keys)
    offloaded, same = run(batches, *keys, "train.offload=images")
    assert metrics == same
    jax.tree.map(np.testing.assert_array_equal, state, offloaded)


@pytest.mark.slow
@pytest.mark.parametrize(
    "keys",
    [
        ("optimizer.name=adamw", "train.ema=0.75", "optimizer.freeze=('image/blocks/.*[0:1]', 'text/token_embedding')"),
        pytest.param(("optimizer.name=muon",), marks=pytest.mark.exhaustive),
    ],
    ids=["adamw", "muon"],
)
def test_an_optimizers_state_in_host_memory_changes_no_bit(keys, monkeypatch):
    """Nor does one that a batch leaves as it was because its loss is not finite."""
    monkeypatch.setattr(host_memory, "_LEAST", 20_000)
    batches = [batch(0), batch(1), batch(2) | {"long": np.full_like(batch(2)["long"], 60)}, batch(3)]
    keys = (*keys, "train.max_skipped=1")
    state, metrics = run(batches, *keys)
    offloaded, same = run(batches, *keys, "train.offload=optimizer")
    np.testing.assert_equal(metrics, same)
    jax.tree.map(np.testing.assert_array_equal, state, offloaded)
    assert (int(offloaded.step), int(offloaded.skipped)) == (4, 1)
    kinds = {path_of(path): leaf.sharding.memory_kind for path, leaf in jax.tree.leaves_with_path(offloaded.opt_state)}
    assert {"pinned_host", "device"} == set(kinds.values())
    assert all(kind == "pinned_host" for path, kind in kinds.items() if path.endswith("image/blocks/mlp/fc1/kernel"))
    assert all(kind == "device" for path, kind in kinds.items() if "bias" in path or "count" in path)
