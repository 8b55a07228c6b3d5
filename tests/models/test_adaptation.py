"""Adapters in the blocks, held against plain twins: a few lines of jnp for each layer, without interception or scan."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from lrsclip_jax.config import checks, defaults
from lrsclip_jax.errors import InputError
from lrsclip_jax.models import adapt_rules, adaptation, layers, lora_dropout, zoo
from lrsclip_jax.models.bert_tower import PostNormBlock
from lrsclip_jax.models.clip import init_params, plain
from lrsclip_jax.models.packed import Packed
from lrsclip_jax.parameter_rules import path_of
from lrsclip_jax.weights import build_model

WIDTH, HEADS, DEPTH, TOKENS = 16, 2, 2, 7
RULES = {
    "lora": ((".*", "lora", 3, 5.0),),
    "lora of some": ((".*/(query|out|fc1)", "lora", 2), (".*/fc2", "lora", 3)),
    "adapter": ((".*/mlp", "adapter", 4),),
    "adapters": ((".*", "adapter", 8),),
    "prefix": ((".*", "prefix", 3),),
    "unipelt": ((".*", "unipelt", 2, 4, 3),),
    "all": ((".*", "unipelt", 2, 4, 3), (".*", "lora", 2), (".*/attention", "adapter", 8)),
}
SEGMENTS = {
    "none": None,
    "padded": np.arange(TOKENS) < np.array([[5], [7]]),
    "packed": np.array([[1, 1, 1, 2, 2, 3, 0], [1, 2, 2, 2, 2, 2, 2]], np.int32),
}


def dense(x, layer):
    return x @ layer["kernel"] + layer["bias"]


def gated(x, layer, name, method):
    return jax.nn.sigmoid(dense(x, layer[name])) if method.gated else 1.0


def twin(params, x, adapt, causal, segments, post_norm):
    """One tower's blocks, layer after layer, head after head."""
    methods = {(place, type(method)): method for place, method in adapt}

    def added(place, p, x):
        method = methods.get((place, adapt_rules.Lora))
        if method is None:
            return 0.0
        low = x @ p["lora_a"] @ p["lora_b"] * method.alpha / method.rank
        return low * gated(x, p, "lora_gate", method)

    def norm(x, p):
        x = x - x.mean(-1, keepdims=True)
        return x / jnp.sqrt((x * x).mean(-1, keepdims=True) + 1e-5) * p["scale"] + p["bias"]

    def bottleneck(y, place, p):
        method = methods.get((place, adapt_rules.Adapter))
        if method is None:
            return y
        p = p["adapter"]
        return y + dense(jax.nn.relu(dense(y, p["down"])), p["up"]) * gated(y, p, "gate", method)

    def attend(x, p):
        kernel, bias = p["qkv"]["kernel"], p["qkv"]["bias"]
        q, k, v = (
            x @ kernel[:, i].reshape(WIDTH, -1) + bias[i].reshape(-1) + added(f"attention/{name}", p.get(name), x)
            for i, name in enumerate(("query", "key", "value"))
        )
        prefix, size = methods.get(("attention", adapt_rules.Prefix)), WIDTH // HEADS

        def of_row(x, q, k, v, segments):
            heads = []
            for head in range(HEADS):
                part = slice(head * size, (head + 1) * size)
                scores = q[:, part] @ k[:, part].T / np.sqrt(size)
                seen = np.tri(TOKENS, dtype=bool) if causal else np.ones((TOKENS, TOKENS), bool)
                scores = jnp.where(seen & (segments[:, None] == segments), scores, -jnp.inf)
                if prefix:
                    gate = gated(x, p["prefix"], "gate", prefix)
                    keys = gate * (q[:, part] @ p["prefix"]["keys"][:, head].T) / np.sqrt(size)
                    weights = jax.nn.softmax(jnp.concatenate([scores, keys], -1))
                    mine, theirs = weights[:, :TOKENS], weights[:, TOKENS:]
                    heads.append(mine @ v[:, part] + gate * (theirs @ p["prefix"]["values"][:, head]))
                else:
                    heads.append(jax.nn.softmax(scores) @ v[:, part])
            return jnp.concatenate(heads, -1)

        mixed = jax.vmap(of_row)(x, q, k, v, jnp.zeros((2, TOKENS)) if segments is None else jnp.asarray(segments))
        y = mixed @ p["out"]["kernel"].reshape(WIDTH, WIDTH) + p["out"]["bias"]
        return bottleneck(y + added("attention/out", p["out"], mixed), "attention", p)

    def mlp(x, p):
        hidden = jax.nn.gelu(dense(x, p["fc1"]) + added("mlp/fc1", p["fc1"], x), approximate=False)
        return bottleneck(dense(hidden, p["fc2"]) + added("mlp/fc2", p["fc2"], hidden), "mlp", p)

    for layer in range(DEPTH):
        p = jax.tree.map(lambda leaf, layer=layer: leaf[layer], params)
        if post_norm:
            x = norm(x + attend(x, p["attention"]), p["norm1"])
            x = norm(x + mlp(x, p["mlp"]), p["norm2"])
        else:
            x = x + attend(norm(x, p["norm1"]), p["attention"])
            x = x + mlp(norm(x, p["norm2"]), p["mlp"])
    return x


def blocks(adapt, causal, post_norm, remat="full"):
    shape = {"heads": HEADS, "mlp_width": 24, "activation": "gelu", "norm_eps": 1e-5}
    block, more = (PostNormBlock, {}) if post_norm else (layers.Block, {"causal": causal})
    return layers.stack(DEPTH, remat, 1, adaptation.adapted(block, adapt), **shape, **more)


def held_against_its_twin(name, causal, kinds):
    adapt = adapt_rules.resolved(RULES[name])["text"]
    post_norm, causal = causal == "post-norm", causal is True
    module, rng = blocks(adapt, causal, post_norm), np.random.default_rng(0)
    x = rng.normal(size=(2, TOKENS, WIDTH)).astype(np.float32)
    shapes = jax.eval_shape(module.init, jax.random.key(0), x, SEGMENTS["padded"])["params"]
    params = jax.tree.map(lambda leaf: rng.normal(0, 0.3, leaf.shape).astype(np.float32), shapes)
    towards = rng.normal(size=x.shape).astype(np.float32)
    for kind, segments in kinds.items():
        shown = np.ones((2, TOKENS, 1)) if kind == "none" else np.asarray(segments > 0)[..., None]

        def ours(params, x, segments=segments, shown=shown):
            y, _ = module.apply({"params": params}, x, segments)
            return jnp.sum(y * towards * shown)

        def theirs(params, x, segments=segments, shown=shown):
            return jnp.sum(twin(params, x, adapt, causal, segments, post_norm) * towards * shown)

        found = jax.jit(jax.value_and_grad(ours, (0, 1)))(params, x)
        expected = jax.jit(jax.value_and_grad(theirs, (0, 1)))(params, x)
        assert abs(found[0] - expected[0]) <= 1e-5 * abs(expected[0]) + 1e-5
        for (path, a), b in zip(jax.tree.leaves_with_path(found[1]), jax.tree.leaves(expected[1]), strict=True):
            assert np.abs(a - b).max() <= 2e-5 * np.abs(b).max(), (kind, path_of(path))
            assert np.abs(b).max() > 0, path_of(path)


def test_methods_are_their_plain_twins_in_value_and_gradient():
    held_against_its_twin("all", True, {"packed": SEGMENTS["packed"]})


@pytest.mark.exhaustive  # in CI all methods at once, above
@pytest.mark.parametrize("causal", [False, True, "post-norm"])
@pytest.mark.parametrize("name", RULES)
def test_a_method_is_its_plain_twin_under_every_mask(name, causal):
    held_against_its_twin(name, causal, SEGMENTS)


TINY = {"width": 16, "layers": 2, "heads": 2, "embed_dim": 8}


def model(rules, text=None):
    adapt = adapt_rules.resolved(rules)
    text = TINY | {"vocab_size": 60, "context_length": 12, "end_token": 59} | (text or {})
    image = TINY | {"size": 16, "patch": 8}
    return zoo.create("tiny", image=image | {"adapt": adapt["image"]}, text=text | {"adapt": adapt["text"]})


def drawn(of, seed=0):
    rng = np.random.default_rng(seed)
    shapes = jax.eval_shape(lambda: init_params(of, jax.random.key(0)))
    return jax.tree.map(lambda leaf: rng.normal(0, 0.3, leaf.shape).astype(np.float32), shapes)


IMAGES = np.random.default_rng(1).normal(size=(3, 16, 16, 3)).astype(np.float32)


def images(of, params):
    return jax.jit(lambda params: of.apply({"params": params}, IMAGES, method="encode_image"))(params)


@pytest.mark.parametrize("name", ["lora", "adapters"])
def test_before_the_first_step_the_model_is_its_base_to_the_bit(name):
    of = model(RULES[name])
    params = jax.jit(lambda: init_params(of, jax.random.key(0)))()
    np.testing.assert_array_equal(images(of, params), images(plain(of), params))


@pytest.mark.parametrize("name", ["lora", "lora of some"])
def test_lora_merged_is_lora_apart(name):
    of = model(RULES[name])
    params = drawn(of)
    merged = {"blocks": adaptation.merged(params["image"]["blocks"], of.image.adapt)}
    merged = params | {"image": params["image"] | merged}
    paths = {path_of(path) for path, _ in jax.tree.leaves_with_path(merged["image"])}
    shapes = jax.eval_shape(lambda: init_params(plain(of), jax.random.key(0)))["image"]
    assert paths == {path_of(path) for path, _ in jax.tree.leaves_with_path(shapes)}
    assert np.abs(images(of, params) - images(plain(of), merged)).max() <= 1e-6
    assert np.abs(images(of, params) - images(plain(of), params)).max() > 1e-3


def test_what_no_kernel_can_express_is_named():
    words = {name: adaptation.unmergeable(adapt_rules.resolved(rules)["text"]) for name, rules in RULES.items()}
    assert words.pop("unipelt") == "gated LoRA and gated prefixes and gated adapters"
    assert words.pop("all") == "gated LoRA and gated prefixes and gated adapters and adapters"
    assert words == {
        "lora": None,
        "lora of some": None,
        "adapter": "adapters",
        "adapters": "adapters",
        "prefix": "prefixes",
    }


# Texts of 4, 3 and 5 tokens: padded, and in two rows of 8 that they share.
LONG = [[58, 4, 7, 59], [58, 9, 59], [58, 3, 2, 8, 59]]
PADDED = np.array([text + [0] * (8 - len(text)) for text in LONG], np.int32)
PACKED = Packed(
    ids=np.array([[*LONG[0], *LONG[1], 0], [*LONG[2], 0, 0, 0]], np.int32),
    segments=np.array([[1, 1, 1, 1, 2, 2, 2, 0], [1, 1, 1, 1, 1, 0, 0, 0]], np.int32),
    positions=np.array([[0, 1, 2, 3, 0, 1, 2, 0], [0, 1, 2, 3, 4, 0, 0, 0]], np.int32),
    spans=np.array([[[0, 4], [4, 3], [8, 5], [0, 0]]], np.int32),
)


@pytest.mark.parametrize("text", [{}, pytest.param({"kind": "bert"}, marks=pytest.mark.exhaustive)])
def test_packed_texts_are_adapted_and_dropped_as_alone(text):
    fields = {"context_length": 12, "kind": "bert"} if text else {}
    rules = ((".*", "lora", 3, 3.0, 0.5), (".*/mlp", "adapter", 4), (".*/attention", "prefix", 2))
    of = model(rules)
    if fields:
        tower = TINY | {"vocab_size": 60, "adapt": of.text.adapt} | fields
        of = of.clone(text=zoo.tower("text", tower))
    params, samples, key = drawn(of), jnp.array([5, 2, 9]), jax.random.key(3)
    rngs = {lora_dropout.KEY: key}

    def alone(params, key):
        variables = {"params": params} | lora_dropout.of_rows("text", samples)
        return of.apply(variables, PADDED, method="encode_text", rngs={lora_dropout.KEY: key})

    def together(params):
        owners = {"long": jnp.append(samples, 77)}
        variables = {"params": params} | lora_dropout.of_packed("text", PACKED, owners)
        return of.apply(variables, PACKED, method="encode_packed", rngs=rngs)[0, :3]

    found, expected = jax.jit(together)(params), jax.jit(alone)(params, key)
    np.testing.assert_allclose(found, expected, atol=2e-6)
    whole = jax.jit(lambda params: of.apply({"params": params}, PADDED, method="encode_text"))(params)
    other = jax.jit(alone)(params, jax.random.key(4))
    assert all(np.abs(expected - rows).max() > 1e-2 for rows in (whole, other))


def test_dropout_leaves_out_its_share_and_keeps_the_mean():
    x = jnp.ones((4, 50, 100))
    samples, positions = jnp.broadcast_to(jnp.arange(4)[:, None], (4, 50)), jnp.broadcast_to(jnp.arange(50), (4, 50))
    drop = functools.partial(lora_dropout.dropped, x, 0.3)
    kept = drop("mlp/fc1", lora_dropout.Draws(jax.random.key(0), samples, positions))
    assert set(np.unique(kept).round(5)) == {0.0, np.float32(1 / 0.7).round(5)}
    assert abs(float((kept == 0).mean()) - 0.3) < 4 * np.sqrt(0.3 * 0.7 / x.size)
    assert np.abs(np.asarray(kept == 0).mean(axis=(0, 1)) - 0.3).max() < 0.2
    other = drop("mlp/fc2", lora_dropout.Draws(jax.random.key(0), samples, positions))
    assert 0.5 < float((kept == other).mean()) < 0.7
    assert drop("mlp/fc1", None) is x


def test_a_prefix_is_computed_by_plain_products_alone():
    config = defaults()
    config.model.name, config.model.init, config.model.adapt = "tiny", "random", ((".*", "prefix", 2),)
    config.model.image.size, config.model.text.attention = 64, "splash"
    with pytest.raises(InputError, match="model.text.attention='splash' computes no prefix: set it to 'xla'"):
        checks.check(config)
    of = model(RULES["prefix"]).clone()
    of = of.clone(image=of.image.clone(attention="splash"))
    with pytest.raises(InputError, match="attention='splash' computes no prefix; write xla"):
        images(of, drawn(of))


@pytest.mark.parametrize(
    ("rules", "message"),
    [
        ((("image/block/.*", "lora", 8),), "'image/block/.*' matches no place for 'lora', did you mean"),
        (((".*/norm1", "lora", 8),), "matches no place for 'lora'"),
        (((".*/fc1", "adapter", 8),), "matches no place for 'adapter'"),
        (((".*", "lora", 8), ("image/.*", "lora", 4)), "earlier rules decide about all that 'image/.*' matches; move"),
        (((".*", "lora", 65),), "rank 65 is larger than the matrix of image/blocks/attention/query, 64 × 64"),
        (((".*/mlp", "adapter", 65),), "reduction 65 leaves nothing of the width 64 of image/blocks/mlp"),
        (((".*", "lorra", 8),), "'lorra' is none of 'lora', 'adapter', 'prefix', 'unipelt', did you mean 'lora'"),
        (((".*", "lora"),), "expected \\(pattern, 'lora', rank\\)"),
        (((".*", "lora", 8, 8.0, 1.0),), "1.0 in it: expected a number from 0 to below 1"),
        (((".*[0:2]", "lora", 8),), "leave out its slice"),
        ((("(", "lora", 8),), "not a regular expression"),
        (((".*", 3),), "expected \\(pattern, 'lora', rank\\)"),
    ],
)
def test_rules_that_cannot_hold_are_refused_in_one_line(rules, message):
    config = defaults()
    config.model.name, config.model.init, config.model.adapt = "tiny", "random", rules
    config.model.image.size = 64
    with pytest.raises(InputError, match=message) as caught:
        checks.check(config)
    assert "\n" not in str(caught.value)


def test_the_first_rule_of_a_kind_decides_and_kinds_go_together():
    rules = ((".*/(query|value)", "lora", 2), ("image/.*", "lora", 4), ("text/.*", "unipelt"), (".*", "prefix", 5))
    config = defaults()
    config.model.name, config.model.adapt = "tiny", rules
    of = build_model(config)
    ranks = {place: method.rank for place, method in of.image.adapt if isinstance(method, adapt_rules.Lora)}
    others = {"attention/key": 4, "attention/out": 4, "mlp/fc1": 4, "mlp/fc2": 4}
    assert ranks == {"attention/query": 2, "attention/value": 2} | others
    assert ("attention", adapt_rules.Prefix(5)) in of.image.adapt
    assert ("attention", adapt_rules.Prefix(10, gated=True)) in of.text.adapt
    assert ("attention/query", adapt_rules.Lora(2, 2.0)) in of.text.adapt
