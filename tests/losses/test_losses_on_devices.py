"""Every form of the loss on meshes of 1 to 8 devices, against a float64 oracle.

The devices are forced on the host, which a process can do before it imports JAX only: this file is also a program,
which one child process runs. It prints how far each case is from the oracle, and the tests read that.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from functools import cache, partial
from itertools import combinations
from pathlib import Path
from typing import NamedTuple

import jax
import numpy as np
import pytest
import test_preserve
from jax.sharding import AxisType
from test_losses import oracle, own_texts_oracle, unit_rows
from test_sigmoid import sigmoid_oracle

from lrsclip_jax import losses
from lrsclip_jax.sharding import AXES, batch_sharded

PAIRS, WIDTH, COMPONENTS = 40, 16, 4
OMEGA, BIAS, TEXT_PCA_WEIGHT, RISING, NEGATIVES = 0.8, -10.0, 0.5, 0.7, 0.6
TEXTS = ("long", "short", "negative")
VARIANTS = [(scale, missing) for scale in (14.3, 100.0) for missing in ("none", "some", "all long")]


class Case(NamedTuple):
    form: str
    mesh: tuple[int, int, int]
    chunk: int
    label_smoothing: float
    same_text: str
    pcm_scope: str | None
    gradient: str
    terms: str = "both"
    same_image: str = "negative"
    loss: str = "info_nce"
    text_pca: float | int | None = None
    rising: bool = False
    negatives: bool = False

    @property
    def name(self) -> str:
        return "-".join(str(field).replace(" ", "") for field in self)

    @property
    def chunks(self) -> str:
        """How the chunk divides the rows of a device."""
        rows = PAIRS // (self.mesh[0] * self.mesh[1])
        return "all" if self.chunk == 0 else "uneven" if rows % self.chunk else "even"


CASES = [
    Case("gather", (1, 1, 1), 0, 0.1, "negative", "group:10", "full", text_pca=6, negatives=True),
    Case("gather", (1, 1, 1), 3, 0.0, "ignore", "global", "reference", same_image="positive"),
    Case("gather", (2, 1, 1), 5, 0.0, "negative", "group:10", "reference", "short"),
    Case("gather", (2, 2, 1), 5, 0.0, "ignore", "global", "reference", same_image="positive", negatives=True),
    Case("gather", (2, 2, 1), 0, 0.1, "ignore", None, "reference", "long", text_pca=0.6),
    Case("gather", (2, 2, 2), 5, 0.1, "negative", None, "full", "both", "positive", "info_nce", 0.6, True, True),
    Case("gather", (8, 1, 1), 0, 0.0, "negative", "global", "full"),
    Case("ring", (1, 1, 1), 5, 0.1, "ignore", None, "reference", same_image="positive"),
    Case("ring", (2, 1, 1), 3, 0.1, "ignore", "global", "full", negatives=True),
    Case("ring", (2, 1, 1), 0, 0.0, "negative", None, "full", "long", same_image="positive", text_pca=0.6),
    Case("ring", (2, 2, 1), 3, 0.1, "negative", "group:10", "full", same_image="positive"),
    Case("ring", (2, 2, 2), 0, 0.0, "ignore", "group:10", "reference", "short", same_image="positive"),
    Case("ring", (2, 2, 2), 3, 0.1, "ignore", "global", "reference"),
    Case("ring", (8, 1, 1), 3, 0.0, "negative", None, "reference", rising=True, negatives=True),
    Case("ring", (8, 1, 1), 1, 0.1, "ignore", "group:10", "full", same_image="positive", text_pca=0.6),
    Case("full", (2, 2, 2), 0, 0.1, "ignore", None, "full", negatives=True),
    Case("full", (8, 1, 1), 0, 0.0, "negative", "global", "reference"),
    Case("full", (8, 1, 1), 0, 0.0, "ignore", "global", "full", same_image="positive", loss="sigmoid"),
    Case("gather", (2, 1, 1), 3, 0.0, "ignore", "global", "full", loss="sigmoid"),
    Case("gather", (2, 2, 2), 0, 0.0, "negative", None, "full", "short", "positive", "sigmoid", negatives=True),
    Case("ring", (1, 1, 1), 3, 0.0, "negative", None, "full", loss="sigmoid"),
    Case(
        "ring", (2, 1, 1), 0, 0.0, "ignore", None, "full", "long", same_image="positive", loss="sigmoid", text_pca=0.6
    ),
    Case("ring", (2, 2, 1), 3, 0.0, "negative", "group:10", "full", loss="sigmoid"),
    Case("ring", (8, 1, 1), 0, 0.0, "ignore", "global", "full", same_image="positive", loss="sigmoid", rising=True),
]


def test_the_cases_cover_every_pair_of_options():
    """Of `gather` and `ring`; the full form has no chunks and is tested by itself, on one device, in test_losses.

    The sigmoid loss has fewer options.
    """
    cases = [case for case in CASES if case.form != "full" and case.loss == "info_nce"]
    options = [
        {"form": c.form, "mesh": c.mesh, "chunks": c.chunks}
        | {key: getattr(c, key) for key in ("label_smoothing", "same_text", "pcm_scope", "gradient", "same_image")}
        for c in cases
    ]
    for a, b in combinations(options[0], 2):
        every = {(x[a], y[b]) for x in options for y in options}
        assert every == {(x[a], x[b]) for x in options}, (a, b)


# CI measures those whose mesh has all axes, and the rings of eight.
MARKED = [
    pytest.param(
        case,
        id=case.name,
        marks=() if case.mesh == (2, 2, 2) or (case.form, case.mesh) == ("ring", (8, 1, 1)) else pytest.mark.exhaustive,
    )
    for case in CASES
]


@pytest.fixture(scope="module")
def reports(request) -> dict[str, dict]:
    calls = [getattr(item, "callspec", None) for item in request.session.items if item.module is request.module]
    names = [call.params["case"].name for call in calls if call and "case" in call.params]
    environment = os.environ | {
        "JAX_PLATFORMS": "cpu",
        "JAX_NUM_CPU_DEVICES": "8",
        "PYTHONPATH": str(Path(__file__).parents[2]),
    }
    child = subprocess.run(
        [sys.executable, __file__, *names], env=environment, capture_output=True, text=True, timeout=300
    )
    assert child.returncode == 0, child.stderr
    return dict(json.loads(line) for line in child.stdout.splitlines())


@pytest.mark.slow
@pytest.mark.parametrize("case", MARKED)
def test_every_form_equals_the_oracle_on_any_mesh(reports, case):
    report = reports[case.name]
    for variant, errors in report["errors"].items():
        assert errors["value"] <= 1e-6, variant
        assert max(errors["gradients"]) <= 1e-5, (variant, errors["gradients"])
        assert errors["accuracies"] == 0, variant
    if case.form == "ring" and case.pcm_scope is None:
        assert report["collectives"] == ["collective-permute"]


@pytest.mark.slow
@pytest.mark.parametrize(("kind", "chunk"), test_preserve.VARIANTS)
def test_the_preservation_loss_equals_its_oracle_on_several_devices(reports, kind, chunk):
    value, gradient = reports[f"preserve {kind} {chunk}"]
    assert value <= 1e-6 and gradient <= 1e-5


@cache
def batch(missing: str) -> dict[str, np.ndarray]:
    """Features whose images vary most in a few directions, so that their principal components are well defined."""
    rng = np.random.default_rng(0)
    image, long = unit_rows(0, PAIRS, WIDTH)
    image *= np.where(np.arange(WIDTH) < COMPONENTS, 3, 1)
    short = 0.3 * image + unit_rows(1, PAIRS, WIDTH)[1]
    image, short = (x / np.linalg.norm(x, axis=1, keepdims=True) for x in (image, short))
    has_long, has_short = rng.random((2, PAIRS)) < (0.7 if missing == "some" else 2)
    return {
        "image": image.astype(np.float32),
        "long": long,
        "short": short.astype(np.float32),
        "negative": unit_rows(2, PAIRS, WIDTH)[1],
        "has_long": has_long & (missing != "all long"),
        "has_short": has_short,
        "has_negative": np.arange(PAIRS) % 3 > 0,
        "long_ids": rng.integers(0, 25, (PAIRS, 1)).repeat(5, 1).astype(np.int32),
        "short_ids": rng.integers(0, 12, (PAIRS, 1)).repeat(3, 1).astype(np.int32),
        "image_keys": rng.integers(0, 30, (PAIRS, 1)).astype(np.uint32),
        "long_lengths": rng.integers(4, 9, PAIRS, np.int32),
        "short_lengths": rng.integers(3, 6, PAIRS, np.int32),
    }


def components_of(image: np.ndarray, scope: str) -> np.ndarray:
    """Images [..., B, D] reduced to their principal components, in float64."""
    size = PAIRS if scope == "global" else int(scope.removeprefix("group:"))
    groups = image.reshape(*image.shape[:-2], -1, size, WIDTH)
    mean = groups.mean(-2, keepdims=True)
    *_, directions = np.linalg.svd(groups - mean, full_matrices=False)
    kept = directions[..., :COMPONENTS, :]
    return (mean + (groups - mean) @ kept.swapaxes(-1, -2) @ kept).reshape(image.shape)


@cache
def components_and_jacobian(scope: str) -> tuple[np.ndarray, np.ndarray]:
    """The reduced images, and how every entry of them depends on every entry of the images, [B·D, B·D]."""
    image = np.float64(batch("none")["image"])
    step = 1e-5 * np.eye(image.size).reshape(-1, *image.shape)
    jacobian = (components_of(image + step, scope) - components_of(image - step, scope)) / 2e-5
    return components_of(image, scope), jacobian.reshape(image.size, -1)


@cache
def principal_texts_and_jacobian(wanted: float | int, missing: str) -> tuple[np.ndarray, np.ndarray]:
    """The principal parts of the long texts that are there, and how they depend on these texts, [N·D, N·D]."""
    data = batch(missing)
    long = np.float64(data["long"][data["has_long"]])
    variances = np.linalg.svd(long - long.mean(0), compute_uv=False) ** 2
    shares = np.cumsum(variances) / variances.sum()
    count = int((shares < wanted).sum()) + 1 if isinstance(wanted, float) else wanted

    def part(text: np.ndarray) -> np.ndarray:
        mean = text.mean(-2, keepdims=True)
        kept = np.linalg.svd(text - mean, full_matrices=False)[2][..., :count, :]
        return mean + (text - mean) @ kept.swapaxes(-1, -2) @ kept

    step = 1e-5 * np.eye(long.size).reshape(-1, *long.shape)
    jacobian = (part(long + step) - part(long - step)) / 2e-5
    return part(long), jacobian.reshape(long.size, -1)


def expected(case: Case, scale: float, missing: str) -> tuple[float, list[np.ndarray], dict[str, float]]:
    """Loss, gradients to image, texts, scale and bias, and the accuracy of each term."""
    data = batch(missing)
    sigmoid = case.loss == "sigmoid"
    options = {} if sigmoid else {"smoothing": case.label_smoothing, "gradient": case.gradient}
    omega = {"both": OMEGA, "long": 1.0, "short": 0.0}[case.terms]
    weights = {"long": omega, "short": 1 - omega, "text_pca": TEXT_PCA_WEIGHT if case.text_pca else 0.0}
    loss, accuracies = 0.0, {}
    gradients = {"image": 0.0, **{kind: np.zeros((PAIRS, WIDTH)) for kind in TEXTS}, "logits": 0.0}
    for term, weight in weights.items():
        kind = "short" if term == "short" else "long"
        ids, valid, image, text = data[f"{kind}_ids"], data[f"has_{kind}"], data["image"], data[kind]
        if not weight or (term == "text_pca" and not valid.any()):
            continue
        if term == "text_pca":
            text = np.zeros_like(text, np.float64)
            text[valid], text_jacobian = principal_texts_and_jacobian(case.text_pca, missing)
        equal = (ids[:, None] == ids[None]).all(-1) if case.same_text == "ignore" else np.eye(PAIRS, dtype=bool)
        if reduced := kind == "short" and case.pcm_scope is not None:
            image, jacobian = components_and_jacobian(case.pcm_scope)
        same = (data["image_keys"] == data["image_keys"].T) & (case.same_image == "positive")
        of_kind = partial(sigmoid_oracle, bias=BIAS) if sigmoid else oracle
        value, (d_image, d_text, *d_logits) = of_kind(
            image, text, scale, valid=valid, equal=equal, same=same, **options
        )
        if reduced:
            d_image = (jacobian @ d_image.ravel()).reshape(d_image.shape)
        if term == "text_pca":
            d_text[valid] = (text_jacobian @ d_text[valid].ravel()).reshape(-1, WIDTH)
        loss += weight * value
        accuracies[term] = accuracy(image, text, valid, equal | same)
        for name, gradient in (("image", d_image), (kind, d_text), ("logits", np.array(d_logits))):
            gradients[name] = gradients[name] + weight * gradient
    own_texts = {"rising": (RISING, "long", "short"), "hard_negatives": (NEGATIVES, "short", "negative")}
    for term, there in (("rising", case.rising), ("hard_negatives", case.negatives)):
        if not there:
            continue
        weight, *kinds = own_texts[term]
        both = data[f"has_{kinds[0]}"] & data[f"has_{kinds[1]}"]
        if term == "rising":
            both &= data["long_lengths"] > data["short_lengths"]
        features = [data[name] for name in ("image", *kinds)]
        value, (*slopes, d_scale), accuracies[term] = own_texts_oracle(*features, scale, both)
        loss += weight * value
        slopes.append(np.array([d_scale, 0.0] if sigmoid else [d_scale]))
        for name, slope in zip(("image", *kinds, "logits"), slopes, strict=True):
            gradients[name] = gradients[name] + weight * slope
    logits = gradients.pop("logits")
    return loss, [*gradients.values(), *np.broadcast_to(logits, 2 if sigmoid else 1)], accuracies


def accuracy(image: np.ndarray, text: np.ndarray, valid: np.ndarray, excused: np.ndarray) -> float:
    cosines = np.float64(image) @ np.float64(text).T
    rivals = np.where(valid & ~excused & ~np.eye(PAIRS, dtype=bool), cosines, -np.inf).max(1)
    return float((np.diag(cosines) > rivals)[valid].mean()) if valid.any() else 0.0


def relative(got: np.ndarray, want: np.ndarray) -> float:
    """The largest error relative to the largest entry; what should vanish must."""
    error, largest = np.abs(got - want).max(), np.abs(want).max()
    return float(error / largest) if largest else (np.inf if error else 0.0)


def measure(case: Case) -> dict:
    mesh = jax.make_mesh(
        case.mesh, AXES, axis_types=(AxisType.Auto,) * 3, devices=jax.devices()[: int(np.prod(case.mesh))]
    )

    options = losses.LossOptions(
        # The weight of both terms is traced: it rises from 0 to 1, and the step says how far.
        long_weight={"both": ((0, 0.0), (1, 1.0)), "long": 1, "short": 0}[case.terms],
        label_smoothing=case.label_smoothing,
        same_text=case.same_text,
        gradient=case.gradient,
        pcm_components=COMPONENTS if case.pcm_scope else 0,
        pcm_scope=case.pcm_scope or "global",
        form=case.form,
        chunk=case.chunk,
        name=case.loss,
        same_image=case.same_image,
        text_pca=case.text_pca,
        text_pca_weight=TEXT_PCA_WEIGHT,
        rising=RISING if case.rising else 0.0,
        hard_negatives=NEGATIVES if case.negatives else 0.0,
    )

    def loss(image, long, short, negative, scale, bias, omega, data):
        texts = {
            kind: losses.Texts(
                features, data[f"has_{kind}"], losses.text_keys(data[f"{kind}_ids"]), data[f"{kind}_lengths"]
            )
            for kind, features in (("long", long), ("short", short))
        }
        texts["negative"] = losses.Texts(negative, data["has_negative"])
        keys = data["image_keys"]
        return losses.dual_loss(image, texts, scale, options, logit_bias=bias, image_keys=keys, step=omega, mesh=mesh)

    def arguments(scale, missing):
        data = jax.device_put(batch(missing), batch_sharded(mesh))
        features = [data.pop(key) for key in ("image", *TEXTS)]
        return *features, np.float32(scale), np.float32(BIAS), np.float32(OMEGA), data

    learnt = (0, 1, 2, 3, 4, 5) if case.loss == "sigmoid" else (0, 1, 2, 3, 4)
    compiled = jax.jit(jax.value_and_grad(loss, learnt, has_aux=True)).lower(*arguments(1.0, "none")).compile()
    errors = {}
    for scale, missing in VARIANTS:
        (value, metrics), gradients = jax.device_get(compiled(*arguments(scale, missing)))
        want, want_gradients, want_accuracies = expected(case, scale, missing)
        off = [abs(metrics[f"accuracy_{term}"] - want) for term, want in want_accuracies.items()]
        errors[f"scale {scale}, {missing} missing"] = {
            "value": relative(value, want),
            "gradients": [relative(*pair) for pair in zip(gradients, want_gradients, strict=True)],
            "accuracies": float(np.round(max(off), 6)),
        }
    names = ("all-gather", "all-to-all", "reduce-scatter", "collective-permute")
    return {"errors": errors, "collectives": [name for name in names if f" {name}" in compiled.as_text()]}


if __name__ == "__main__":
    for case in CASES:
        if case.name in sys.argv[1:]:
            print(json.dumps([case.name, measure(case)]), flush=True)
    for kind, chunk in test_preserve.VARIANTS:
        shape = (2, 2, 2) if chunk else (4, 1, 1)
        print(json.dumps([f"preserve {kind} {chunk}", test_preserve.measure(kind, chunk, "some", shape)]), flush=True)
