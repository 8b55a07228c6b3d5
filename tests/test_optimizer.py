"""The optimizer against torch.optim, its schedules, and what frozen parameters may not do."""

from __future__ import annotations

import math

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from ml_collections import ConfigDict

from lrsclip_jax import optimizer, parameter_rules
from lrsclip_jax.errors import InputError

SGD = {"name": "sgd", "momentum": 0.9, "dampening": 0.1}
ADAMW = {"name": "adamw", "b1": 0.9, "b2": 0.98, "eps": 1e-6}
LION = {"name": "lion", "b1": 0.9, "b2": 0.99}
MUON = {"name": "muon", "momentum": 0.95, "b1": 0.9, "b2": 0.98, "eps": 1e-6}
FREE = {"name": "schedule_free", "b1": 0.9, "b2": 0.98, "eps": 1e-6}


def config(**values):
    common = {
        "learning_rate": 0.05,
        "schedule": "constant",
        "final_learning_rate": 0.0,
        "warmup_steps": 0,
        "warmup_epochs": 0.0,
        "weight_decay": 0.0,
        "clip_norm": None,
        "lr_rules": (),
        "decay_rules": (),
        "freeze": (),
    }
    return ConfigDict({**common, **values})


def parameters(seed=0):
    rng = np.random.default_rng(seed)
    shapes = {
        "image": {"blocks": {"kernel": (4, 3, 5), "bias": (4, 5)}, "projection": (5, 2)},
        "text": {"position_embedding": (8, 3)},
        "logit_scale": (),
    }
    draw = lambda shape: jnp.float32(rng.normal(size=shape))  # noqa: E731
    return jax.tree.map(draw, shapes, is_leaf=lambda node: isinstance(node, tuple))


def train(made, params, gradients):
    """Applies the updates of a list of gradient trees."""

    @jax.jit
    def step(params, state, gradient):
        updates, state = made.tx.update(gradient, state, params)
        return optax.apply_updates(params, updates), state

    state = made.tx.init(params)
    for gradient in gradients:
        params, state = step(params, state, gradient)
    return params, state


def create(values, params, total_steps=10, **kwargs):
    return optimizer.create(values, params, total_steps=total_steps, steps_per_epoch=5, **kwargs)


def torch_train(params, gradients, make, clip_norm=None):
    """The same with an optimizer of torch over the leaves; `make` gets {path: torch parameter}."""
    torch = pytest.importorskip("torch")
    leaves, treedef = jax.tree.flatten(params)
    tensors = [torch.nn.Parameter(torch.tensor(np.asarray(leaf))) for leaf in leaves]
    paths = [parameter_rules.path_of(path) for path, _ in jax.tree.leaves_with_path(params)]
    inner = make(dict(zip(paths, tensors, strict=True)))
    for gradient in gradients:
        for tensor, value in zip(tensors, jax.tree.leaves(gradient), strict=True):
            tensor.grad = torch.tensor(np.asarray(value))
        if clip_norm:
            torch.nn.utils.clip_grad_norm_(tensors, clip_norm)
        inner.step()
    return treedef.unflatten([tensor.detach().numpy() for tensor in tensors])


def assert_equal_to(got, want, tolerance=1e-6):
    for a, b in zip(jax.tree.leaves(got), jax.tree.leaves(want), strict=True):
        assert np.abs(a - b).max() <= tolerance * np.abs(b).max()


@pytest.mark.parametrize("momentum, dampening", [(0.9, 0.1), (0.9, 0.0), (0.0, 0.1)])
@pytest.mark.parametrize("weight_decay", [0.0, 0.1])
def test_ten_sgd_steps_equal_torch(momentum, dampening, weight_decay):
    torch = pytest.importorskip("torch")
    params, gradients = parameters(), [parameters(1 + step) for step in range(10)]
    values = {"momentum": momentum, "dampening": dampening, "weight_decay": weight_decay}
    got, _ = train(create(config(**{**SGD, **values}), params), params, gradients)
    want = torch_train(params, gradients, lambda named: torch.optim.SGD(named.values(), lr=0.05, **values))
    assert_equal_to(got, want)


@pytest.mark.parametrize("weight_decay", [0.0, 0.1])
def test_ten_adamw_steps_equal_torch(weight_decay):
    torch = pytest.importorskip("torch")
    params, gradients = parameters(), [parameters(1 + step) for step in range(10)]
    got, _ = train(create(config(**ADAMW, weight_decay=weight_decay), params), params, gradients)
    settings = {"lr": 0.05, "betas": (0.9, 0.98), "eps": 1e-6, "weight_decay": weight_decay}
    want = torch_train(params, gradients, lambda named: torch.optim.AdamW(named.values(), **settings))
    assert_equal_to(got, want)


@pytest.mark.parametrize("clip_norm, size", [(0.5, 1.0), (1e3, 1.0), (1e-4, 1e-4)])
def test_clipping_equals_torch(clip_norm, size):
    torch = pytest.importorskip("torch")
    params = jax.tree.map(jnp.zeros_like, parameters())  # so that what is compared are the updates
    gradients = [jax.tree.map(lambda g: size * g, parameters(1 + step)) for step in range(10)]
    got, _ = train(create(config(**SGD, clip_norm=clip_norm), params), params, gradients)
    settings = {"lr": 0.05, "momentum": 0.9, "dampening": 0.1}
    make = lambda named: torch.optim.SGD(named.values(), **settings)  # noqa: E731
    assert_equal_to(got, torch_train(params, gradients, make, clip_norm))


@pytest.mark.parametrize("kind", [SGD, ADAMW], ids=lambda kind: kind["name"])
def test_rules_equal_torch_parameter_groups(kind):
    torch = pytest.importorskip("torch")
    params, gradients = parameters(), [parameters(1 + step) for step in range(10)]
    values = config(
        **kind,
        weight_decay=0.1,
        lr_rules=((".*/bias", 0.5), ("image/.*", 0.1)),
        decay_rules=((".*/bias|logit_scale", 0.0), ("text/.*", 0.5)),
    )

    def make(named):
        scales = {
            "image/blocks/bias": (0.5, 0),
            "image/blocks/kernel": (0.1, 1),
            "image/projection": (0.1, 1),
            "text/position_embedding": (1, 0.5),
            "logit_scale": (1, 0),
        }
        groups = [
            {"params": [named[path]], "lr": 0.05 * lr, "weight_decay": 0.1 * decay}
            for path, (lr, decay) in scales.items()
        ]
        if kind is SGD:
            return torch.optim.SGD(groups, momentum=0.9, dampening=0.1)
        return torch.optim.AdamW(groups, betas=(0.9, 0.98), eps=1e-6)

    got, _ = train(create(values, params), params, gradients)
    assert_equal_to(got, torch_train(params, gradients, make))


def test_layer_decay_scales_the_updates_of_the_layers():
    params, gradients = parameters(), [parameters(1)]
    values = config(**SGD, lr_rules=(("image/blocks/.*", 1.0, "layer_decay=0.5"),))
    got, _ = train(create(values, params), params, gradients)
    before, gradient, after = (tree["image"]["blocks"]["bias"] for tree in (params, gradients[0], got))
    scale = 0.05 * np.array([[0.125], [0.25], [0.5], [1.0]])
    np.testing.assert_allclose(before - after, scale * gradient, atol=1e-6)


def test_the_first_sgd_update_is_not_dampened():
    tx = optimizer.sgd_momentum(0.9, 0.1)
    state, seen = tx.init(jnp.zeros(1)), []
    for _ in range(4):
        update, state = tx.update(jnp.ones(1), state)
        seen.append(float(update[0]))
    np.testing.assert_allclose(seen, [1.0, 1.8, 2.52, 3.168], rtol=1e-6)


@pytest.mark.parametrize("kind", [SGD, ADAMW, LION, MUON, FREE], ids=lambda kind: kind["name"])
def test_frozen_parameters_stay_the_same_to_the_bit(kind):
    params = parameters()
    params["image"]["projection"] = params["image"]["projection"].at[0].set(-0.0)
    params["text"]["position_embedding"] = params["text"]["position_embedding"].at[0].set(-0.0)
    gradients = [parameters(1 + step) for step in range(100)]
    gradients[5]["image"]["projection"] *= np.nan
    freeze = ("image/projection", "image/blocks/.*[0:2]", "logit_scale")
    values = config(**kind, weight_decay=0.1, clip_norm=1.0, freeze=freeze)
    made = create(values, params, total_steps=100, freeze=("text/position_embedding[0:5]",))
    got, state = train(made, params, gradients)

    def assert_kept(select):
        assert np.asarray(select(got)).tobytes() == np.asarray(select(params)).tobytes()

    def assert_moved(select):
        assert np.isfinite(select(got)).all() and (np.asarray(select(got)) != select(params)).all()

    assert_kept(lambda p: p["image"]["projection"])
    assert_kept(lambda p: p["logit_scale"])
    for leaf in ("kernel", "bias"):
        assert_kept(lambda p, leaf=leaf: p["image"]["blocks"][leaf][:2])
        assert_moved(lambda p, leaf=leaf: p["image"]["blocks"][leaf][2:])
    assert_kept(lambda p: p["text"]["position_embedding"][:5])
    assert_moved(lambda p: p["text"]["position_embedding"][5:])
    assert made.trainable == {
        "image": {"blocks": {"kernel": True, "bias": True}, "projection": False},
        "text": {"position_embedding": True},
        "logit_scale": False,
    }
    buffers = [leaf for leaf in jax.tree.leaves(state) if leaf.ndim]
    # One or two buffers for each of three parameters; Muon has one for its matrix, and its three coefficients.
    assert len(buffers) == {"sgd": 3, "lion": 3, "muon": 6}.get(kind["name"], 6)
    moments = buffers if kind is not FREE else [leaf for leaf in jax.tree.leaves(state[2].inner_state[4]) if leaf.ndim]
    for leaf in moments:
        assert leaf.dtype == jnp.float32
        assert leaf.shape == (3,) or not leaf[: 5 if leaf.shape == (8, 3) else 2].any()


def test_the_clipped_norm_is_that_of_what_is_trained():
    params, gradients = parameters(), [jax.tree.map(jnp.ones_like, parameters())]
    values = config(**SGD, clip_norm=1.0, freeze=("image/.*", "logit_scale", "text/position_embedding[0:4]"))
    got, _ = train(create(values, params), params, gradients)
    moved = (params["text"]["position_embedding"] - got["text"]["position_embedding"])[4:]
    np.testing.assert_allclose(moved, 0.05 / math.sqrt(4 * 3), rtol=1e-5)


def test_the_state_mirrors_the_parameters():
    """What is said of the parameters, such as their sharding, can be said of the state, too."""
    params = parameters()
    made = create(config(**ADAMW, freeze=("image/projection",)), params)
    state = jax.eval_shape(made.tx.init, params)
    named = optax.tree.map_params(
        made.tx,
        lambda leaf, path: path if hasattr(leaf, "shape") else leaf,
        state,
        jax.tree.map_with_path(lambda path, _: parameter_rules.path_of(path), params),
        transform_non_params=lambda _: "count",
        is_leaf=lambda node: isinstance(node, optax.MaskedNode),
    )
    trained = ["image/blocks/bias", "image/blocks/kernel", "logit_scale", "text/position_embedding"]
    assert sorted(jax.tree.leaves(named)) == sorted(["count", "count", *trained, *trained])
    shapes = {parameter_rules.path_of(path): leaf.shape for path, leaf in jax.tree.leaves_with_path(params)}
    for path, leaf in zip(jax.tree.leaves(named), jax.tree.leaves(state), strict=True):
        assert leaf.shape == shapes.get(path, ())


def test_shapes_suffice():
    shapes = jax.eval_shape(parameters)
    made = create(config(**SGD, freeze=("image/.*",)), shapes)
    assert made.trainable["text"]["position_embedding"] and not made.trainable["image"]["projection"]


@pytest.mark.parametrize("warmup", [{"warmup_steps": 4}, {"warmup_epochs": 0.8}])
def test_cosine_with_warmup_is_that_of_long_clip(warmup):
    values = config(learning_rate=2e-3, schedule="cosine", **warmup)
    learning_rate = optimizer.learning_rate_schedule(values, total_steps=20, steps_per_epoch=5)
    expected = [2e-3 * (k + 1) / 4 for k in range(4)]
    expected += [0.5 * (1 + math.cos(math.pi * (k - 4) / 16)) * 2e-3 for k in range(4, 20)]
    np.testing.assert_allclose(learning_rate(np.arange(20)), expected, rtol=1e-6)
    assert learning_rate(1).dtype == jnp.float32
    np.testing.assert_allclose(learning_rate(np.array([20, 50])), 0, atol=1e-9)


def test_cosine_ends_at_the_final_learning_rate_and_constant_stays():
    values = config(learning_rate=1.0, schedule="cosine", final_learning_rate=0.1)
    learning_rate = optimizer.learning_rate_schedule(values, 10, 5)
    np.testing.assert_allclose(learning_rate(np.array([0, 5, 10])), [1, 0.55, 0.1], rtol=1e-6)
    values = config(learning_rate=1.0, warmup_steps=2)
    learning_rate = optimizer.learning_rate_schedule(values, 10, 5)
    np.testing.assert_allclose(learning_rate(np.arange(5)), [0.5, 1, 1, 1, 1])


@pytest.mark.parametrize("warmup", [0, 4, 18])
def test_warmup_stable_decay_is_constant_until_the_last_share_of_the_run(warmup):
    values = config(learning_rate=1.0, schedule="wsd", final_learning_rate=0.2, cooldown=0.25, warmup_steps=warmup)
    learning_rate = optimizer.learning_rate_schedule(values, total_steps=20, steps_per_epoch=5)
    fall = min(5, 20 - warmup)  # steps
    expected = [(k + 1) / warmup for k in range(warmup)] + [1.0] * (20 - warmup - fall)
    expected += [1 - 0.8 * k / fall for k in range(fall)]
    np.testing.assert_allclose(learning_rate(np.arange(20)), expected, rtol=1e-6)
    np.testing.assert_allclose(learning_rate(np.array([20, 50])), 0.2, rtol=1e-6)


def newton_schulz(matrix):
    """Five rounds of Jordan's quintic iteration in plain NumPy, on the wide side."""
    wide = matrix if matrix.shape[0] <= matrix.shape[1] else matrix.T
    wide = wide / (np.linalg.norm(wide) + 1e-8)
    for _ in range(5):
        gram = wide @ wide.T
        wide = 3.4445 * wide + (-4.7750 * gram + 2.0315 * gram @ gram) @ wide
    return wide if matrix.shape[0] <= matrix.shape[1] else wide.T


def test_muon_treats_a_stack_as_that_many_matrices_and_the_rest_as_adamw():
    rng = np.random.default_rng(0)
    blocks = {
        "attention": {"qkv": {"kernel": (2, 6, 3, 2, 3), "bias": (2, 3, 2, 3)}, "out": {"kernel": (2, 2, 3, 6)}},
        "mlp": {"fc1": {"kernel": (2, 6, 24)}},
    }
    shapes = {"image": {"blocks": blocks, "projection": {"kernel": (6, 4)}, "position_embedding": (5, 6)}}
    draw = lambda shape: rng.normal(size=shape).astype(np.float32)  # noqa: E731
    params, *gradients = (jax.tree.map(draw, shapes, is_leaf=lambda node: isinstance(node, tuple)) for _ in range(4))
    got, _ = train(create(config(**MUON, weight_decay=0.1), params), params, gradients)

    def of_matrices(select, shape):  # [matrices, in, out] of each parameter
        p, momentum = np.float64(select(params)), np.zeros(shape)
        for count, gradient in enumerate((np.float64(select(g)).reshape(shape) for g in gradients), 1):
            momentum = 0.95 * momentum + 0.05 * gradient
            # optax corrects the bias of both parts of Nesterov's momentum; a constant factor is normalised away.
            ahead = 0.95 * momentum / (1 - 0.95 ** (count + 1)) + 0.05 * gradient / (1 - 0.95**count)
            update = np.stack([newton_schulz(matrix) for matrix in ahead]) * 0.2 * np.sqrt(max(shape[1:]))
            p = p - 0.05 * (update.reshape(p.shape) + 0.1 * p)
        return p

    def block(tree):
        return tree["image"]["blocks"]

    np.testing.assert_allclose(
        block(got)["mlp"]["fc1"]["kernel"],
        of_matrices(lambda t: block(t)["mlp"]["fc1"]["kernel"], (2, 6, 24)),
        atol=1e-5,
    )
    np.testing.assert_allclose(
        block(got)["attention"]["out"]["kernel"],
        of_matrices(lambda t: block(t)["attention"]["out"]["kernel"], (2, 6, 6)),
        atol=1e-5,
    )
    by_part = of_matrices(lambda t: block(t)["attention"]["qkv"]["kernel"].transpose(0, 2, 1, 3, 4), (6, 6, 6))
    np.testing.assert_allclose(block(got)["attention"]["qkv"]["kernel"], by_part.transpose(0, 2, 1, 3, 4), atol=1e-5)
    adamw, _ = train(create(config(**ADAMW, weight_decay=0.1), params), params, gradients)
    for path in (("projection", "kernel"), ("position_embedding",), ("blocks", "attention", "qkv", "bias")):
        of_muon, of_adamw = got["image"], adamw["image"]
        for name in path:
            of_muon, of_adamw = of_muon[name], of_adamw[name]
        np.testing.assert_array_equal(of_muon, of_adamw)


def test_lion_is_that_of_its_paper():
    params, gradients = parameters(), [parameters(1 + step) for step in range(5)]
    got, _ = train(create(config(**LION, weight_decay=0.1), params), params, gradients)
    p, momentum = np.float64(params["image"]["projection"]), 0.0
    for gradient in (np.float64(g["image"]["projection"]) for g in gradients):
        p = p - 0.05 * (np.sign(0.9 * momentum + 0.1 * gradient) + 0.1 * p)
        momentum = 0.99 * momentum + 0.01 * gradient
    np.testing.assert_allclose(got["image"]["projection"], p, rtol=1e-5)


def test_schedule_free_keeps_the_average_and_takes_its_gradient_where_optax_does():
    target, params = parameters(7), parameters()
    values = config(**FREE, weight_decay=0.1, warmup_steps=4)
    made = create(values, params)

    def gradient(at):
        return jax.tree.map(lambda p, t: jnp.sin(p - t), at, target)

    inner = optax.chain(
        optax.scale_by_rms(0.98, 1e-6, eps_in_sqrt=False, bias_correction=True),
        optax.add_decayed_weights(0.1),
        optax.scale_by_learning_rate(made.learning_rate),
    )
    theirs = optax.contrib.schedule_free(inner, lambda count: made.learning_rate(count - 1), 0.9)
    x, state, y, their_state = params, made.tx.init(params), params, theirs.init(params)
    for _ in range(10):
        at = made.point(x, state)
        jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, atol=2e-6), at, y)
        updates, state = made.tx.update(gradient(at), state, x)
        x = optax.apply_updates(x, updates)
        updates, their_state = theirs.update(gradient(y), their_state, y)
        y = optax.apply_updates(y, updates)
        averaged = optax.contrib.schedule_free_eval_params(their_state, y)
        jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, atol=2e-6), x, averaged)


def test_the_learning_rate_follows_the_schedule():
    params, gradients = parameters(), [jax.tree.map(jnp.ones_like, parameters())] * 3
    values = config(name="sgd", momentum=0.0, dampening=0.0, warmup_steps=4)
    got, _ = train(create(values, params), params, gradients)
    np.testing.assert_allclose(params["logit_scale"] - got["logit_scale"], 0.05 * (1 + 2 + 3) / 4, rtol=1e-5)


@pytest.mark.parametrize(
    "values, message",
    [
        (
            {**SGD, "name": "adamm"},
            "optimizer.name='adamm': expected 'sgd', 'adamw', 'muon', 'lion' or 'schedule_free', did you mean 'adamw'?",
        ),
        ({**SGD, "name": "adamw"}, "config.optimizer lacks b1, b2, eps, which optimizer.name='adamw' needs"),
        (
            {**SGD, "schedule": "cosin"},
            "optimizer.schedule='cosin': expected 'constant', 'cosine' or 'wsd', did you mean",
        ),
        (
            {**SGD, "warmup_steps": 3, "warmup_epochs": 1.0},
            "optimizer.warmup_steps=3 and optimizer.warmup_epochs=1.0",
        ),
        (
            {**SGD, "warmup_steps": 11},
            "warmup_steps=11: the warm-up of 11 steps is longer than the run of 10",
        ),
        ({**SGD, "learning_rate": -0.1}, "optimizer.learning_rate=-0.1: expected a number from 0"),
        ({**SGD, "schedule": "wsd"}, "config.optimizer lacks cooldown, which optimizer.schedule='wsd' needs"),
        ({**FREE, "schedule": "cosine"}, "takes the place of a falling learning rate, set it to 'constant'"),
        ({**FREE, "b1": 0.0}, "optimizer.b1=0: optimizer.name='schedule_free' needs a share above 0"),
        ({**SGD, "clip_norm": 0.0}, "optimizer.clip_norm=0.0: expected a number above 0"),
        ({**SGD, "freeze": ("imagine/.*",)}, "optimizer.freeze: 'imagine/.*' matches no parameter"),
        ({**SGD, "lr_rules": (("vision/.*", 0.1),)}, "optimizer.lr_rules: 'vision/.*' matches no parameter"),
        ({**SGD, "decay_rules": ((".*/scale", 0.0),)}, "decay_rules: '.*/scale' matches no parameter"),
    ],
)
def test_bad_values_are_named(values, message):
    with pytest.raises(InputError) as error:
        create(config(**values), parameters())
    assert message in str(error.value)
