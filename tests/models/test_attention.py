import importlib

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from lrsclip_jax.errors import InputError
from lrsclip_jax.models import attention as module
from lrsclip_jax.models import row_attention
from lrsclip_jax.models.attention import attention, scored
from lrsclip_jax.models.layers import stack

TOKENS = 9
PACKED = np.array([[1, 1, 1, 2, 2, 2, 2, 0, 0], [1, 2, 2, 2, 2, 2, 3, 3, 3]], np.int32)
PADDED = np.arange(TOKENS) < np.array([5, 9])[:, None]


def drawn(dtype=jnp.float32):
    """Queries, keys, values and weights of what comes out."""
    return [jax.random.normal(key, (2, TOKENS, 3, 8), dtype) for key in jax.random.split(jax.random.key(0), 4)]


def value_and_gradient(function):
    """The results for `drawn`, and the gradient of their weighted sum; weights of padding are 0."""
    q, k, v, weights = drawn()

    @jax.jit
    def both(q, k, v, weights):
        out, backward = jax.vjp(function, q, k, v)
        return out, *backward(weights)

    return both(q, k, v, weights)


def oracle(causal, segments):
    """The same by the equations, in float64."""
    q, k, v, weights = (np.swapaxes(np.asarray(x, np.float64), 1, 2) for x in drawn())
    seen = np.ones((2, 1, TOKENS, TOKENS), bool)
    if causal:
        seen = np.tril(seen)
    if segments is not None:
        seen &= (segments[:, None] == segments[:, :, None])[:, None]
    scale = q.shape[-1] ** -0.5
    shares = np.where(seen, np.exp(scale * q @ k.swapaxes(2, 3)), 0)
    shares /= shares.sum(axis=-1, keepdims=True)
    of_shares = weights @ v.swapaxes(2, 3)
    of_scores = scale * shares * (of_shares - (shares * of_shares).sum(axis=-1, keepdims=True))
    found = shares @ v, of_scores @ k, of_scores.swapaxes(2, 3) @ q, shares.swapaxes(2, 3) @ weights
    return [x.swapaxes(1, 2) for x in found]


@pytest.mark.parametrize(
    ("causal", "segments"), [(False, None), (True, None), (False, PADDED), (False, PACKED), (True, PACKED)]
)
def test_plain_products_equal_the_equations_in_value_and_gradient(causal, segments, monkeypatch):
    monkeypatch.setattr(module, "_QUERIES", 4)  # causal queries go in three blocks
    ours = value_and_gradient(lambda q, k, v: attention(q, k, v, causal, segments))
    for found, expected in zip(ours, oracle(causal, segments), strict=True):
        np.testing.assert_allclose(found, expected, atol=2e-6)


@pytest.mark.parametrize(("causal", "segments"), [(True, PACKED), (False, None)])
@pytest.mark.parametrize("kernel", ["splash", "triton", "rows"])
def test_kernels_equal_the_equations_in_value_and_gradient(kernel, causal, segments):
    """A CPU interprets them; for the first two, nine tokens become 128."""
    ours = value_and_gradient(lambda q, k, v: attention(q, k, v, causal, segments, kernel))
    for found, expected in zip(ours, oracle(causal, segments), strict=True):
        np.testing.assert_allclose(found, expected, atol=5e-6)


@pytest.mark.parametrize(("causal", "segments"), [(False, PADDED), (True, PACKED)])
def test_heads_that_share_lanes_and_rows_in_parts_equal_plain_products(causal, segments, monkeypatch):
    """Six heads of 64: two to 128 lanes, and one such group on the chip at a time."""
    monkeypatch.setattr(row_attention, "_BLOCK", 1)
    keys = jax.random.split(jax.random.key(1), 4)
    q, k, v, weights = (jax.random.normal(key, (2, TOKENS, 6, 64)) for key in keys)
    both = {}
    for way in ("xla", "rows"):
        out, backward = jax.vjp(lambda q, k, v, way=way: attention(q, k, v, causal, segments, way), q, k, v)
        both[way] = out, *backward(weights)
    for found, expected in zip(both["rows"], both["xla"], strict=True):
        np.testing.assert_allclose(found, expected, atol=5e-6)


def test_the_kernel_of_whole_rows_refuses_what_it_cannot_hold():
    x = jnp.zeros((1, 1000, 2, 64))
    with pytest.raises(InputError, match=r"attention='rows' takes up to 640 tokens and heads that divide 128 lanes"):
        attention(x, x, x, False, None, "rows")


def test_fused_attention_is_not_computed_again_by_dense_rematerialisation():
    """The backward pass needs its result for the next product's gradient: with remat="dense" that is stored."""
    x = jax.random.normal(jax.random.key(0), (2, TOKENS, 24))

    def kernels(remat):
        blocks, params = small_blocks(remat, "rows", x)
        return str(jax.make_jaxpr(jax.grad(lambda x: blocks.apply(params, x)[0].sum()))(x)).count("pallas_call[")

    assert (kernels("dense"), kernels("full")) == (2, 3)


@pytest.mark.parametrize("remat", ["dense", "full", "none", "names:qkv,attention,mlp_hidden"])
def test_fused_attention_makes_the_backward_pass_store_no_more(remat):
    """With remat="dense" the kernel's result is stored in place of the next product's, which is computed again."""
    x = jax.random.normal(jax.random.key(0), (2, TOKENS, 24))

    def stored(way):
        blocks, params = small_blocks(remat, way, x)
        value, backward = jax.vjp(lambda params, x: blocks.apply(params, x)[0], params, x)
        return sum(leaf.size for leaf in jax.tree.leaves(backward)), jax.tree.leaves((value, backward(value)))

    (plain, expected), (fused, found) = stored("xla"), stored("rows")
    assert fused <= plain
    for one, other in zip(found, expected, strict=True):
        np.testing.assert_allclose(one, other, rtol=1e-4, atol=1e-5)


def small_blocks(remat, way, x):
    blocks = stack(2, remat, 1, heads=3, causal=False, mlp_width=8, activation="gelu", norm_eps=1e-5, attention=way)
    return blocks, blocks.init(jax.random.key(0), x)


@pytest.mark.parametrize(
    ("tokens", "causal", "segments", "mask", "bias"),
    [
        (8, False, None, "NO_MASK", False),
        (9, False, None, "PADDING", False),
        (9, True, None, "CAUSAL", False),
        (9, False, PADDED, "PADDING", False),
        (9, True, PACKED, "CAUSAL", True),
    ],
)
def test_cudnn_is_called_forward_and_backward(tokens, causal, segments, mask, bias, monkeypatch):
    """What is lowered for a GPU, without one: the kernel's names, and the mask that it is told."""
    private = importlib.import_module("jax._src.cudnn.fused_attention_stablehlo")
    monkeypatch.setattr(private, "check_cudnn_version", lambda: 91000)
    q, k, v, weights = (x[:, :tokens] for x in drawn(jnp.bfloat16))

    def both(q, k, v, weights):
        out, backward = jax.vjp(lambda q, k, v: attention(q, k, v, causal, segments, "cudnn"), q, k, v)
        return out, *backward(weights)

    program = jax.jit(both).trace(q, k, v, weights).lower(lowering_platforms=("cuda",))
    assert all(out.shape == q.shape and out.dtype == q.dtype for out in jax.tree.leaves(program.out_info))
    text = program.as_text()
    kernel = "__cudnn$fmhaScaleBiasSoftmax" if bias else "__cudnn$fmhaSoftmax"
    assert f"@{kernel}(" in text and f"@{kernel}Backward(" in text
    assert text.count(f"\\22mask_type\\22: \\22{mask}\\22") == 2


def test_causal_blocks_leave_out_most_of_what_is_masked():
    assert scored(77, True) == scored(77, False) == 77**2
    assert scored(256, True) == 256**2 * 3 / 4
    assert scored(248, True) == 124 * (124 + 248)
    assert scored(300, False) == 300**2


def test_what_a_device_does_not_have_is_an_error(monkeypatch):
    q, k, v, _ = drawn()
    with pytest.raises(InputError, match="attention='flash' is none of auto, xla, cudnn, splash, triton, rows"):
        attention(q, k, v, True, None, "flash")
    with pytest.raises(InputError, match=r"attention='cudnn' cannot take float32 \[2, 9, 3, 8\] here: "):
        attention(q, k, v, True, None, "cudnn")
    monkeypatch.setattr(module, "_device", lambda: ("gpu", "NVIDIA H200"))
    with pytest.raises(InputError, match="attention='splash' is a kernel for TPUs, and this is NVIDIA H200"):
        attention(q, k, v, True, None, "splash")
    monkeypatch.setattr(module, "_device", lambda: ("tpu", "TPU v5e"))
    with pytest.raises(InputError, match="attention='triton' is a kernel for GPUs, and this is TPU v5e"):
        attention(q, k, v, True, None, "triton")
