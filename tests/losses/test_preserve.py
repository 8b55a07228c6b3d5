"""The preservation loss against a float64 twin, in value and gradient; tests on several devices are next door."""

from __future__ import annotations

import jax
import numpy as np
import pytest
from jax.sharding import AxisType

from lrsclip_jax import losses
from lrsclip_jax.sharding import AXES

PAIRS, WIDTH, SCALE = 24, 8, 14.3
KINDS = ("long", "short")
# (what is preserved, rows of logits at a time)
VARIANTS = [("features", 0), ("similarity", 0), ("similarity", 5)]


def rows(seed: int) -> dict[str, np.ndarray]:
    """Unit rows of images and both kinds of text."""
    drawn = np.random.default_rng(seed).normal(size=(3, PAIRS, WIDTH))
    unit = drawn / np.linalg.norm(drawn, axis=-1, keepdims=True)
    return dict(zip(("image", *KINDS), unit.astype(np.float32), strict=True))


def present(missing: str) -> dict[str, np.ndarray]:
    """Which pairs have a text: all of them, some, or of long ones none."""
    drawn = np.random.default_rng(9).random((2, PAIRS)) < (2 if missing == "none" else 0.7)
    drawn[0] &= missing != "all long"
    return dict(zip(KINDS, drawn, strict=True))


def softmax(logits: np.ndarray) -> np.ndarray:
    powers = np.exp(logits - logits.max(1, keepdims=True))
    return powers / powers.sum(1, keepdims=True)


def oracle(kind: str, missing: str) -> tuple[float, dict[str, np.ndarray]]:
    """The loss of `rows(0)` against `rows(1)` and its gradient, written out in NumPy."""
    student, teacher = ({name: np.float64(value) for name, value in rows(seed).items()} for seed in (0, 1))
    there, gradient = present(missing), {name: np.zeros((PAIRS, WIDTH)) for name in student}
    if kind == "features":
        value = 0.0
        for name in student:
            valid = np.flatnonzero(there.get(name, np.ones(PAIRS, bool)))
            for row in valid:
                moved = student[name][row] - teacher[name][row]
                value += (moved @ moved) / len(valid) / 3
                gradient[name][row] = 2 * moved / len(valid) / 3
        return value, gradient
    value = 0.0
    for name in KINDS:
        valid = np.flatnonzero(there[name])
        if not len(valid):
            continue
        image, text = student["image"][valid], student[name][valid]
        wanted = SCALE * teacher["image"][valid] @ teacher[name][valid].T
        found = SCALE * image @ text.T
        of_found = np.zeros_like(found)
        for transposed in (False, True):
            p, q = (softmax(logits.T if transposed else logits) for logits in (wanted, found))
            value += (p * np.log(p / q)).sum(1).mean() / 4
            part = (q - p) / len(valid) / 4
            of_found += part.T if transposed else part
        gradient["image"][valid] += SCALE * of_found @ text
        gradient[name][valid] += SCALE * of_found.T @ image
    return value, gradient


def measure(kind: str, chunk: int, missing: str, shape: tuple[int, int, int]) -> tuple[float, float]:
    """The relative errors of the value and of the gradient on a mesh."""
    mesh = jax.make_mesh(shape, AXES, axis_types=(AxisType.Auto,) * 3, devices=jax.devices()[: int(np.prod(shape))])
    options = losses.LossOptions(preserve=1.0, preserve_kind=kind, chunk=chunk)
    loss = jax.jit(
        jax.value_and_grad(
            lambda student, teacher: losses.preservation(student, teacher, present(missing), SCALE, options, mesh)
        )
    )
    value, gradient = jax.device_get(loss(rows(0), rows(1)))
    want, wanted = oracle(kind, missing)
    errors = [np.abs(gradient[name] - wanted[name]).max() / max(np.abs(wanted[name]).max(), 1e-9) for name in wanted]
    return abs(value - want) / want, max(errors)


@pytest.mark.parametrize("missing", ["none", "some", "all long"])
@pytest.mark.parametrize(("kind", "chunk"), VARIANTS)
def test_value_and_gradient_equal_the_oracle(kind, chunk, missing):
    value, gradient = measure(kind, chunk, missing, (1, 1, 1))
    assert value <= 1e-6 and gradient <= 1e-5


@pytest.mark.parametrize("kind", ["features", "similarity"])
def test_a_model_that_is_its_teacher_has_no_loss_and_the_teacher_no_gradient(kind):
    mesh = jax.make_mesh((1, 1, 1), AXES, axis_types=(AxisType.Auto,) * 3)
    options = losses.LossOptions(preserve=1.0, preserve_kind=kind)

    def loss(student, teacher, scale):
        return losses.preservation(student, teacher, present("some"), scale, options, mesh)

    both = jax.jit(jax.value_and_grad(loss, (0, 1, 2)))
    value, (gradient, _, _) = both(rows(0), rows(0), SCALE)
    assert value == pytest.approx(0, abs=1e-6)
    jax.tree.map(lambda leaf: np.testing.assert_allclose(leaf, 0, atol=1e-6), gradient)
    _, (_, of_teacher, of_scale) = both(rows(0), rows(1), SCALE)
    assert of_scale == 0 and not any(leaf.any() for leaf in of_teacher.values())


def test_similarity_lets_the_whole_space_turn_and_features_do_not():
    mesh = jax.make_mesh((1, 1, 1), AXES, axis_types=(AxisType.Auto,) * 3)
    turn = np.linalg.qr(np.random.default_rng(3).normal(size=(WIDTH, WIDTH)))[0].astype(np.float32)
    turned = {name: value @ turn for name, value in rows(0).items()}
    value = {
        kind: float(
            losses.preservation(turned, rows(0), present("none"), SCALE, losses.LossOptions(preserve_kind=kind), mesh)
        )
        for kind in ("features", "similarity")
    }
    assert value["similarity"] == pytest.approx(0, abs=1e-5) and value["features"] > 0.5
