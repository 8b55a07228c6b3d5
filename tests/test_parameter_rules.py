"""Rules over parameter paths: which rule decides, slices, layer decay, and what each slip is told."""

from __future__ import annotations

import jax
import numpy as np
import pytest

from lrsclip_jax import parameter_rules
from lrsclip_jax.errors import InputError

SHAPES = {
    "image": {
        "patch_embedding": {"kernel": (4, 4, 3, 8)},
        "blocks": {"mlp": {"fc1": {"kernel": (12, 8, 32), "bias": (12, 32)}}},
        "projection": (8, 6),
    },
    "text": {
        "position_embedding": (248, 8),
        "blocks": {"mlp": {"fc1": {"kernel": (6, 8, 32)}}},
    },
    "logit_scale": (),
}
PARAMS = jax.tree.map(
    lambda shape: jax.ShapeDtypeStruct(shape, np.float32), SHAPES, is_leaf=lambda x: isinstance(x, tuple)
)


def flat(tree):
    return {parameter_rules.path_of(path): leaf for path, leaf in jax.tree.leaves_with_path(tree)}


def test_first_matching_rule_gives_the_value():
    values = parameter_rules.match(
        [("image/.*/bias", "first"), ("image/.*", "second"), ("logit_scale", "third")],
        PARAMS,
        where="mesh.rules",
        default="none",
    )
    assert flat(values) == {
        "image/patch_embedding/kernel": "second",
        "image/blocks/mlp/fc1/kernel": "second",
        "image/blocks/mlp/fc1/bias": "first",
        "image/projection": "second",
        "text/position_embedding": "none",
        "text/blocks/mlp/fc1/kernel": "none",
        "logit_scale": "third",
    }


def test_patterns_match_whole_paths():
    marked = flat(parameter_rules.selected(["image/pro.*", ".*/bias"], PARAMS, where="freeze"))
    paths = [path for path, mark in marked.items() if mark]
    assert paths == ["image/blocks/mlp/fc1/bias", "image/projection"]
    with pytest.raises(InputError, match="'image' matches no parameter"):
        parameter_rules.selected(["image"], PARAMS, where="freeze")


@pytest.mark.parametrize(
    "rows, expected",
    [("[0:20]", range(20)), ("[:20]", range(20)), ("[240:]", range(240, 248)), ("[-2:]", (246, 247))],
)
def test_slices_select_rows(rows, expected):
    mark = flat(parameter_rules.selected([f"text/position_embedding{rows}"], PARAMS, where="freeze"))
    assert mark["text/position_embedding"].shape == (248, 1)
    assert np.flatnonzero(mark["text/position_embedding"]).tolist() == list(expected)
    assert not any(rows.any() for path, rows in mark.items() if path != "text/position_embedding")


def test_slices_that_cover_everything_are_the_whole_parameter():
    mark = flat(parameter_rules.selected(["text/blocks/.*[0:4]", "text/blocks/.*[2:6]"], PARAMS, where="freeze"))
    assert mark["text/blocks/mlp/fc1/kernel"].shape == () and mark["text/blocks/mlp/fc1/kernel"]


def test_first_matching_rule_decides_about_each_row():
    given = [("image/blocks/.*[0:3]", 0.25), ("image/blocks/.*[:6]", 0.5), ("image/.*", 2)]
    factors = flat(parameter_rules.scales(given, PARAMS, where="lr"))
    expected = [0.25] * 3 + [0.5] * 3 + [2] * 6
    np.testing.assert_array_equal(factors["image/blocks/mlp/fc1/kernel"], np.reshape(expected, (12, 1, 1)))
    np.testing.assert_array_equal(factors["image/blocks/mlp/fc1/bias"], np.reshape(expected, (12, 1)))
    assert factors["image/projection"] == 2 and factors["image/projection"].dtype == np.float32
    assert factors["logit_scale"] == 1 and factors["text/position_embedding"].shape == ()


def test_layer_decay_runs_down_from_the_last_layer():
    given = [
        ("image/blocks/.*[0:2]", 0.0),
        ("image/blocks/.*", 0.1, "layer_decay=0.75"),
        ("image/patch_embedding/.*", 0.1 * 0.75**12),
    ]
    factors = flat(parameter_rules.scales(given, PARAMS, where="lr"))
    expected = [0, 0] + [0.1 * 0.75 ** (11 - layer) for layer in range(2, 12)]
    np.testing.assert_allclose(factors["image/blocks/mlp/fc1/bias"][:, 0], expected, rtol=1e-6)
    np.testing.assert_allclose(factors["image/patch_embedding/kernel"], 0.1 * 0.75**12, rtol=1e-6)


@pytest.mark.parametrize(
    "pattern, message",
    [
        ("imgae/.*", "freeze: 'imgae/.*' matches no parameter, did you mean 'image/.*'"),
        ("text/positional_embedding[0:20]", "did you mean 'text/position_embedding'"),
        ("zzz", "there are image/blocks/mlp/fc1/bias, image/blocks/mlp/fc1/kernel, image/"),
        ("image/(.*", "is not a regular expression"),
        ("text/position_embedding[0:300]", "is not within the 248 rows of text/position_embedding"),
        ("text/position_embedding[20:20]", "is not within the 248 rows"),
        ("text/.*[0:6]", "not text/blocks/mlp/fc1/kernel [6, 8, 32] and text/position_embedding [248, 8]"),
        ("(image|text)/blocks/.*[0:6]", "one leading axis in common"),
        ("logit_scale[0:1]", "one leading axis in common"),
    ],
)
def test_slips_in_patterns_are_named(pattern, message):
    with pytest.raises(InputError) as error:
        parameter_rules.selected([pattern], PARAMS, where="freeze")
    assert message in str(error.value)


@pytest.mark.parametrize(
    "given, message",
    [
        ([("image/.*", 0.1), ("image/blocks/.*", 1.0)], "earlier rules decide about all that 'image/blo"),
        ([("image/.*", 1.0, "layer_decay=0.75")], "one leading axis in common"),
        ([("image/blocks/.*", 1.0, "layerdecay=0.75")], "is not a rule"),
        ([("image/.*", "0.1")], "is not a rule"),
        (("image/.*", 0.1), "'image/.*' is not a rule"),
    ],
)
def test_slips_in_scales_are_named(given, message):
    with pytest.raises(InputError) as error:
        parameter_rules.scales(given, PARAMS, where="optimizer.lr_rules")
    assert message in str(error.value)


def test_a_lone_string_is_not_taken_for_a_tuple_of_patterns():
    with pytest.raises(InputError, match=r"freeze must be a tuple of patterns, write \('image/.\*',\)"):
        parameter_rules.selected("image/.*", PARAMS, where="optimizer.freeze")


def test_values_of_whole_parameters_cannot_be_given_to_rows():
    with pytest.raises(InputError, match="selects rows"):
        parameter_rules.match([("image/blocks/.*[0:6]", "fsdp")], PARAMS, where="mesh.rules")
