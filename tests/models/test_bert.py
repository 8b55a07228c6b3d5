import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy.special import erf

from lrsclip_jax.errors import InputError
from lrsclip_jax.models import zoo
from lrsclip_jax.models.bert_tower import Bert
from lrsclip_jax.models.clip import init_params

SMALL = {"vocab_size": 40, "context_length": 12, "width": 16, "layers": 3, "heads": 2, "embed_dim": 8, "norm_eps": 1e-3}
LENGTHS = (12, 5, 1, 0)  # the last row is padding alone: a record without this text


def ids():
    rng = np.random.default_rng(0)
    rows = rng.integers(1, SMALL["vocab_size"], (len(LENGTHS), 12)).astype(np.int32)
    return np.where(np.arange(12) < np.array(LENGTHS)[:, None], rows, 0)


def parameters(tower, seed=0):
    """Every value is drawn anew, norms and biases too."""
    shapes = jax.eval_shape(lambda: tower.init(jax.random.key(0), jnp.ones((1, 1), jnp.int32))["params"])
    rng = np.random.default_rng(seed)
    return jax.tree.map(lambda leaf: rng.normal(0, 0.3, leaf.shape).astype(np.float32), shapes)


def norm(x, params, eps):
    mean, var = x.mean(-1, keepdims=True), x.var(-1, keepdims=True)
    return (x - mean) / np.sqrt(var + eps) * params["scale"] + params["bias"]


def oracle(params, row, tower):
    """One text without its padding, in float64, written from the paper's equations: [L, width] after the last block."""
    params = jax.tree.map(np.float64, params)
    x = params["token_embedding"][row] + params["position_embedding"][: len(row)] + params["type_embedding"][0]
    x = norm(x, params["embedding_norm"], tower.norm_eps)
    for layer in range(tower.layers):
        block = jax.tree.map(lambda leaf, layer=layer: leaf[layer], params["blocks"])
        qkv = np.einsum("nw,wphd->phnd", x, block["attention"]["qkv"]["kernel"])
        q, k, v = qkv + block["attention"]["qkv"]["bias"][:, :, None]
        scores = np.exp(q @ k.swapaxes(1, 2) / np.sqrt(q.shape[-1]))
        mixed = scores / scores.sum(-1, keepdims=True) @ v
        out = block["attention"]["out"]
        x = norm(x + np.einsum("hnd,hdw->nw", mixed, out["kernel"]) + out["bias"], block["norm1"], tower.norm_eps)
        hidden = x @ block["mlp"]["fc1"]["kernel"] + block["mlp"]["fc1"]["bias"]
        hidden = hidden * (1 + erf(hidden / np.sqrt(2))) / 2
        x = norm(
            x + hidden @ block["mlp"]["fc2"]["kernel"] + block["mlp"]["fc2"]["bias"], block["norm2"], tower.norm_eps
        )
    return x


@pytest.mark.parametrize("pool", ["pooler", "cls"])
def test_equals_the_equations_of_the_paper(pool):
    tower = Bert(**SMALL, pool=pool)
    params = parameters(tower)
    assert ("pooler" in params) == (pool == "pooler")
    found = jax.jit(tower.apply)({"params": params}, ids())
    for row, length in enumerate(LENGTHS[:3]):
        first = oracle(params, ids()[row, :length], tower)[0]
        if pool == "pooler":
            first = np.tanh(first @ params["pooler"]["kernel"] + params["pooler"]["bias"])
        np.testing.assert_allclose(found[row], first @ params["projection"]["kernel"], atol=2e-6)


def test_tokens_are_projected_last_states():
    tower = Bert(**SMALL)
    params = parameters(tower)
    tokens = jax.jit(
        lambda params, ids: tower.apply(params, ids, method=lambda tower, x: tower.tokens(tower.hidden(x)))
    )
    found = tokens({"params": params}, ids())
    expected = oracle(params, ids()[1, :5], tower) @ params["projection"]["kernel"]
    np.testing.assert_allclose(found[1, :5], expected, atol=2e-6)


@pytest.mark.slow
def test_padding_has_no_influence_and_no_gradient():
    tower = Bert(**SMALL, remat="full")
    params = parameters(tower)

    def total(params, ids):
        return jnp.sum(tower.apply({"params": params}, ids)[:3] ** 2)

    short = ids()[1:3, :5]
    long = np.pad(short, ((0, 0), (0, 7)))
    run = jax.jit(jax.value_and_grad(total))
    value, gradient = run(params, long)
    expected, expected_gradient = run(params, short)
    np.testing.assert_allclose(value, expected, rtol=1e-6)
    for ours, theirs in zip(jax.tree.leaves(gradient), jax.tree.leaves(expected_gradient), strict=True):
        np.testing.assert_allclose(ours, theirs, atol=1e-5 * np.abs(theirs).max())
    # A batch with a missing text gives finite gradients, too.
    assert all(np.isfinite(leaf).all() for leaf in jax.tree.leaves(run(params, ids())))


def test_frozen_positions_receive_no_gradient():
    tower = Bert(**SMALL, frozen_positions=3)
    params = parameters(tower)
    gradient = jax.jit(jax.grad(lambda params: jnp.sum(tower.apply({"params": params}, ids()[:1]) ** 2)))(params)
    rows = np.abs(gradient["position_embedding"]).sum(axis=1)
    assert not rows[:3].any() and rows[3:].all()


def test_bfloat16_keeps_close():
    params = parameters(Bert(**SMALL))
    exact, rounded = (
        jax.jit(Bert(**SMALL, dtype=dtype).apply)({"params": params}, ids()[:3]) for dtype in ("float32", "bfloat16")
    )
    assert rounded.dtype == np.float32
    np.testing.assert_allclose(rounded, exact, atol=0.05 * np.abs(exact).max())


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"heads": 3}, "width 16 does not divide into 3 heads"),
        ({"pool": "mean"}, "pool is 'mean', must be pooler or cls"),
        ({"positions": "learnt"}, "positions is 'learnt', must be native or stretched"),
        ({"frozen_positions": 13}, "frozen_positions is 13"),
        ({"context_length": 4}, "texts are 12 tokens long, the context length is 4"),
    ],
)
def test_bad_fields_are_errors(fields, message):
    tower = Bert(**SMALL | fields)
    with pytest.raises(InputError, match=message):
        jax.eval_shape(tower.init, jax.random.key(0), ids())


def test_rsclip_has_the_size_of_the_paper():
    model = zoo.create("rsclip_vitb16_448_bert")
    shapes = jax.eval_shape(lambda: init_params(model, jax.random.key(0)))
    assert shapes["image"]["position_embedding"].shape == (785, 768)
    # The paper's 197 M: image tower, BERT-base with pooler and 512 positions, of which 248 are kept, two projections.
    count = sum(leaf.size for leaf in jax.tree.leaves(shapes))
    assert count == 86_250_240 + 109_482_240 + 2 * 768 * 512 + 1 - (512 - 248) * 768


def test_the_zoo_makes_a_model_again_from_its_fields():
    for name in ("tiny", "tiny_bert", "vitb16", "rsclip_vitb16_448_bert"):
        model = zoo.create(name, text={"context_length": 100})
        image, text = zoo.fields(model)
        again = zoo.create("custom", image=image, text=text)
        assert zoo.fields(again) == (image, text)
        shapes = [jax.eval_shape(lambda m=m: init_params(m, jax.random.key(0))) for m in (model, again)]
        assert shapes[0] == shapes[1]
    with pytest.raises(InputError, match="unknown kind 'lstm'; known: transformer, bert"):
        zoo.create("tiny", text={"kind": "lstm"})
