"""The schema of the config: equal to the classes that use its values, and a door that no bad value passes."""

from __future__ import annotations

import dataclasses
import functools
import itertools
import re

import jax.numpy as jnp
import numpy as np
import pytest

from eval.facts import classes
from eval.file_names import all_spelled
from lrsclip_jax import config as configs
from lrsclip_jax import sharding
from lrsclip_jax.config import checks, overrides
from lrsclip_jax.config.keys import KEYS, describe_keys
from lrsclip_jax.config.tower_keys import IMAGE_FIELDS, IMAGE_KIND, KIND, TEXT_FIELDS, tower_keys
from lrsclip_jax.config.values import (
    Breakpoints,
    Choice,
    Either,
    Flag,
    Many,
    Matching,
    Named,
    Number,
    OrNone,
    Pattern,
    Row,
    Span,
    Text,
    Whole,
)
from lrsclip_jax.data.tokenizer import tokenizer_for
from lrsclip_jax.errors import InputError
from lrsclip_jax.main import main
from lrsclip_jax.models import attention, layers, precision, zoo

QUICKSTART = "configs/quickstart.py"
ALL = tower_keys() | KEYS


_NO_KEYS = ("parent", "name", "adapt")  # model.adapt is one key for both towers


@pytest.mark.parametrize(
    ("fields", "module"),
    [
        (fields, classes[kind])
        for by_kind, classes in ((IMAGE_FIELDS, zoo.IMAGE_TOWERS), (TEXT_FIELDS, zoo.TEXT_TOWERS))
        for kind, fields in by_kind.items()
    ],
)
def test_the_table_of_a_tower_is_that_of_its_class(fields, module):
    own = {field.name: field.default for field in dataclasses.fields(module) if field.name not in _NO_KEYS}
    assert jnp.dtype(own.pop("dtype")) == jnp.dtype(fields["dtype"].default)
    assert {name: key.default for name, key in fields.items() if name != "dtype"} == own
    assert all(type(fields[name].default) is type(default) for name, default in own.items())


def test_choices_are_those_of_the_code_that_takes_them():
    image, bert = IMAGE_FIELDS["vit"], TEXT_FIELDS["bert"]
    assert set(image["activation"].values.names) == set(layers.ACTIVATIONS) == set(bert["activation"].values.names)
    assert image["attention"].values.names == ("auto", *attention.IMPLEMENTATIONS)
    for name in image["products"].values.names:
        precision.dot_general(name)
    assert KEYS["model.name"].values.names == tuple(zoo.names())
    for kind, towers in ((KIND, zoo.TEXT_TOWERS), (IMAGE_KIND, zoo.IMAGE_TOWERS)):
        assert kind.values.names == tuple(towers) and kind.default == next(iter(towers))
    (_, axes) = KEYS["mesh.rules"].values.values.kinds
    assert axes.values.values.names == sharding.AXES
    named = KEYS["eval.templates"].values.values.kinds[0].names
    assert all(classes.templates(name) for name in named)
    with pytest.raises(InputError, match="no templates are called"):
        classes.templates("plain")
    for kind, fields in TEXT_FIELDS.items():
        if kind == "siglip":  # whose tokenizer comes with the weights
            continue
        assert tokenizer_for(kind).vocab_size == fields["vocab_size"].default
    for policy in ("none", "dense", "full", "names:qkv,mlp_hidden", "names:attention"):
        layers.remat_policy(policy)
        assert not image["remat"].values.fault(policy)


def test_every_default_is_allowed_and_every_key_is_described_in_its_lines(capsys):
    lines = describe_keys()
    assert len(lines) == 3 * len(ALL)
    for name, key in ALL.items():
        assert not key.values.fault(key.default), name
        first = next(number for number, line in enumerate(lines) if line.split(" ")[0] == name)
        assert lines[first + 1].strip() == key.meaning and lines[first + 2].strip() == key.values.words
        assert "\n" not in key.meaning and key.values.words.isprintable()
    checks.check(configs.defaults())
    with pytest.raises(SystemExit) as ended:
        main(["--keys"])
    assert ended.value.code == 0 and capsys.readouterr().out.splitlines() == lines


# The generator: values of all kinds, those near the bounds of a key among them, and a plain twin of the schema that
# says which of them a key may have.

JUNK = (
    *(None, True, False, 0, 1, -1, 2**31, 2**70, -(2**70), 10**30, 10**4000, 10**5000, 0.0, -0.0, 0.5, 1.0, 1.5, -0.5),
    *(1e-300, 1e300, -1e300, float("inf"), float("-inf"), float("nan"), np.float32(0.5), np.int64(3), np.zeros(3), 3j),
    *("", " ", "x", "abc", "none", "True", "5", "é", "a\nb", "nul\0", "\ud800", "x" * 5000, "((", "[0:3]"),
    *("a{99999999999}", "names:qkv", "names:", "names:qkv,qkvv", "group:8", "group:0", b"bytes", object(), len, int),
    *({}, {"a": 1}, {1: 2}, {1, 2}, [], [1], ["x"], (), (1,), (5,), (0, 1), (1, 0), (None,), (float("nan"),)),
    *((0.5, 0.9), (0.9, 0.5), ("x",), ("x", "y"), (("x", 1),), (("x", 1.0),), (("x", -1.0),), (("x", "heavy"),)),
    *(((("x",),),), (("x",),), ((0, 0.2), (100, 0.8)), ((100, 0.2), (0, 0.8)), ((0, 2.0),), ((0,),)),
    *(("((",), (("((", 0.1),), ((".*", 0.1, "layer_decay=0.9"),), ((".*", 0.1, "layer_decay=x"),)),
    *(((".*", (None, "fsdp")),), ((".*", ("fdsp",)),), ((".*[0:2]", ("fsdp",)),)),
    *(("a {} b",), ("{}{}",), ("lrsclip",), ("lrslcip",)),
)


def near(values, rng):
    """Values at, just inside and just outside of what a kind allows."""
    match values:
        case Whole():
            drawn = rng.integers(values.least, values.most, endpoint=True, size=4).tolist()
            return [values.least, values.least - 1, values.most, values.most + 1, float(values.least), *drawn]
        case Number():
            ends = [values.least, values.most, np.nextafter(values.least, -1e9).item()]
            return [*ends, np.nextafter(values.most, 1e18).item(), *rng.uniform(values.least, values.most, 4).tolist()]
        case Choice():
            return [*values.names, *(name[:-1] for name in values.names), *(name.upper() for name in values.names)]
        case OrNone():
            return near(values.values, rng)
        case Either():
            return [value for kind in values.kinds for value in near(kind, rng)]
        case Many():
            inner = near(values.values, rng)
            return [*((value,) for value in inner), tuple(inner), tuple(inner[:1]), [inner[0], inner[0]], inner[0]]
        case Row():
            columns = [near(kind, rng) for kind in values.kinds]
            rows = [tuple(column[rng.integers(len(column))] for column in columns) for _ in range(20)]
            return [*rows, rows[0][:-1], (*rows[0], 1)]
        case Named():
            return [value for row in values.rows.values() for value in near(row, rng)]
        case Span() | Breakpoints():
            inner = near(values.values, rng)
            pairs = [(a, b) for a in inner[:5] for b in inner[:5]]
            steps = [tuple((int(rng.integers(-1, 5)), value) for value in inner[:2]) for _ in range(10)]
            shares = [tuple((float(rng.uniform(-0.1, 1.1)), value) for value in inner[:2]) for _ in range(10)]
            return [*pairs, *steps, *shares, tuple(inner)]
        case Pattern():
            slices = [".*[0:6]", ".*[:]", ".*[-3:]", ".*[0:99999999999]", "x[a:b]", "a[0:1"]
            return ["image/.*", *slices, "(", "[", "*", ""]
        case Flag() | Text() | Matching():
            return [True, False, "a b", "DIR:split", "scenes:8:0", "hf:a/b", "layer_decay=0.5", "group:12", "names:qkv"]
    raise AssertionError(f"no values near {values}")


def number(value, least, most):
    return isinstance(value, int | float) and type(value) is not bool and value == value and least <= value <= most


def allows(values, value):
    """The twin: whether a kind allows a value."""
    many = isinstance(value, tuple | list)
    match values:
        case Whole():
            return number(value, values.least, values.most) and not isinstance(value, float)
        case Number():
            ends = {values.least: values.above, values.most: values.below}
            return number(value, values.least, values.most) and not ends.get(value, False)
        case Flag():
            return value is True or value is False
        case Choice():
            return isinstance(value, str) and value in list(values.names)
        case Text():
            return isinstance(value, str) and bool(value.strip()) and "\0" not in value
        case Matching():
            return isinstance(value, str) and re.match(f"(?:{values.form})\\Z", value) is not None
        case Pattern():
            if not isinstance(value, str) or not value:
                return False
            head, _, tail = value.rpartition("[")
            sliced = bool(re.fullmatch(r"-?\d{0,9}:-?\d{0,9}\]", tail, re.ASCII)) and "[" in value
            try:
                re.compile(head if sliced else value)
            except (re.error, OverflowError):
                return False
            return values.rows or not sliced
        case OrNone():
            return value is None or allows(values.values, value)
        case Either():
            return any(allows(kind, value) for kind in values.kinds)
        case Many():
            return many and all(allows(values.values, item) for item in value)
        case Named():
            return many and any(allows(row, value) for row in values.rows.values())
        case Row():
            sizes = range(len(values.kinds) - values.optional, len(values.kinds) + 1)
            return many and len(value) in sizes and all(map(allows, values.kinds, value))
        case Span():
            pair = many and len(value) == 2 and all(allows(values.values, end) for end in value)
            return pair and value[0] <= value[1]
        case Breakpoints():
            if not many or not value or not all(isinstance(pair, tuple | list) and len(pair) == 2 for pair in value):
                return False
            sound = all(allows(values.places, place) and allows(values.values, end) for place, end in value)
            return sound and all(first[0] < second[0] for first, second in itertools.pairwise(value))
    raise AssertionError(f"the twin does not know {values}")


def tried_values(name):
    rng = np.random.default_rng([*name.encode()])
    return [*JUNK, *near(ALL[name].values, rng)]


def put(config, name, value):
    *groups, last = name.split(".")
    for group in groups:
        config = config[group]
    setattr(config, last, value)


def taken(config, name):
    return functools.reduce(lambda inner, group: inner[group], name.split("."), config)


def assert_names(error, name):
    message = str(error.value)
    assert name in message and "\n" not in message and message.isprintable() and len(message) < 700, message


TRIED = {"recipe": 0, "command line": 0}


@pytest.mark.exhaustive
@pytest.mark.filterwarnings("ignore::FutureWarning")
@pytest.mark.parametrize("name", ALL)
def test_a_recipe_may_give_a_key_what_the_schema_allows_and_nothing_else(name):
    for value in tried_values(name):
        config = configs.defaults()
        try:
            put(config, name, value)
        except (TypeError, AttributeError, OverflowError):  # of ml_collections: a recipe is told its file and line
            assert not allows(ALL[name].values, value)
            continue
        TRIED["recipe"] += 1
        value = taken(config, name)  # ml_collections makes a float of True, where a float was
        if allows(ALL[name].values, value):
            assert ALL[name].values.fault(value) == ""
            try:
                checks.check(config)
            except InputError as error:  # together with other values
                assert name in str(error) and "expected" not in str(error), error
        else:
            with pytest.raises(InputError) as error:
                checks.check(config, "recipe.py: ")
            assert_names(error, name)
            assert str(error.value).startswith("recipe.py: ")


@pytest.mark.exhaustive  # the values pass the same checks as a recipe's
@pytest.mark.filterwarnings("ignore::FutureWarning")
@pytest.mark.parametrize("name", ALL)
def test_the_command_line_may_give_a_key_what_the_schema_allows_and_nothing_else(name):
    for value in tried_values(name):
        try:
            text = value if isinstance(value, str) else repr(value)
        except ValueError:  # 5,000 digits
            text = "1" * 5000
        meant = overrides.parsed(text)
        if isinstance(ALL[name].values, Many) and not isinstance(meant, tuple):
            meant = (meant,)
        TRIED["command line"] += 1
        if allows(ALL[name].values, meant):
            try:
                config = configs.load(QUICKSTART, [f"{name}={text}"])
            except InputError as error:
                assert name in str(error) and "expected" not in str(error), error
            else:
                found = dict(checks.leaves(config))[name]
                # What no file can hold as UTF-8 is spelled.
                expected = float(meant) if isinstance(found, float) else all_spelled(meant)
                assert ascii(found) == ascii(expected)
        else:
            with pytest.raises(InputError) as error:
                configs.load(QUICKSTART, [f"{name}={text}"])
            assert_names(error, name)


def test_many_values_were_tried():
    # Of each key at least 80 in either door. A part of the file that runs alone has tried fewer.
    if all(TRIED.values()):
        assert min(TRIED.values()) > 60 * len(ALL), TRIED


@pytest.mark.parametrize(
    "text",
    ["((((" * 4000, "[" * 300, "{[1]:2}", "1" * 5000, "1e999", "'\\d'", "x\ny", "0x", "nan", "\ud800", "b'x'", "()=()"],
)
@pytest.mark.parametrize(
    "name", ["seed", "epochs", "model.init", "optimizer.freeze", "eval.sources", "loss.long_weight"]
)
def test_whatever_the_command_line_says_is_taken_or_one_line(name, text, recwarn):
    try:
        configs.load(QUICKSTART, [f"{name}={text}"])
    except InputError as error:
        assert name in str(error) and "\n" not in str(error) and len(str(error)) < 700
    assert not recwarn.list


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("log.every_steps=0", "--config.log.every_steps=0: expected a whole number from 1 to"),
        ("checkpoint.every_steps=-5", "checkpoint.every_steps=-5: expected a whole number from 1"),
        ("seed=1180591620717411303424", "seed=1180591620717411303424: expected a whole number from 0 to 4294967295"),
        ("loss.temperature=0", "loss.temperature=0: expected a number from 1e-06 to 1000"),
        ("loss.label_smoothing=5", "label_smoothing=5: expected a number from 0 to 1"),
        ("model.dtype=float99", "expected 'auto', 'float32', 'bfloat16' or 'float16', did you mean 'float32'?"),
        ("model.dtype=int8", "model.dtype=int8: expected 'auto'"),
        ("model.image.patch=0", "model.image.patch=0: expected a whole number from 1"),
        ("model.image.size=1000000", "model.image.size=1000000: expected a whole number from 1 to 16384"),
        ("model.image.mlp_width=-4", "mlp_width=-4: expected a whole number from 1 to 262144, or None"),
        ("model.text.context_length=100000000", "expected a whole number from 2 to 65536"),
        ("data.sources=5", "data.sources=5: 5 in it: expected a set such as 'DIR'"),
        ("data.sources=(('scenes:8','heavy'),)", "('scenes:8', 'heavy') in it: expected a set"),
        ("data.crop_scale=(-1,0)", "expected two shares of an image's area, such as (0.8, 1.0)"),
        ("eval.truncations=0", "eval.truncations=0: 0 in it: expected a whole number from 2"),
        ("eval.templates=lrslcip", "did you mean 'lrsclip'?"),
        ("optimizer.freeze=('((',)", "'((' in it: not a regular expression (missing ), unterminated subpattern"),
        ("optimizer.lr_rules=(('image/.*',),)", "('image/.*',) in it: expected (pattern, factor) or"),
        ("mesh.rules=(('.*[0:3]', ('fsdp',)),)", "the pattern selects rows: leave out its slice"),
        ("mesh.rules=(('.*', ('fdsp',)),)", "expected 'data', 'fsdp' or 'tensor', or None, did you mean 'fsdp'?"),
        ("optimizer.clip_norm=big", "optimizer.clip_norm=big: expected a number above 0 to 1e+38, or None"),
        ("epochs=1e300", "epochs=1e300: expected a number above 0 to 1000000"),
        ("loss.pcm_scope=group:0", "expected 'global', or 'group:N' with N pairs"),
        ("model.image.remat=half", "or 'names:qkv,attention,mlp_hidden'"),
        ("model.image.sise=64", "model.image.sise: unknown key, did you mean 'model.image.size'?"),
        ("model.image=5", "model.image is a group of keys: set one of them, such as model.image.size"),
        ("a\nb=5", r"a\nb: unknown key"),
    ],
)
def test_a_message_says_the_key_the_value_what_is_allowed_and_what_is_near(override, message):
    with pytest.raises(InputError) as error:
        configs.load(QUICKSTART, [override])
    assert message in str(error.value) and "\n" not in str(error.value)
    assert str(error.value).startswith("--config.")
