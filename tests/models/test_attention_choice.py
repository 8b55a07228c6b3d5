"""The fastest way to compute attention: found, remembered, agreed; what crashes or computes nonsense is passed over."""

import json

import jax
import jax.numpy as jnp
import pytest

from lrsclip_jax.errors import MissingPackage
from lrsclip_jax.models import attention as attention_module
from lrsclip_jax.models import attention_choice, zoo
from lrsclip_jax.models.attention import attention, way
from lrsclip_jax.models.attention_choice import Case, fastest
from lrsclip_jax.models.clip import init_params

CASE = Case("causal", "float32", rows=2, tokens=8, heads=2, width=4)


@pytest.mark.parametrize(
    ("case", "expected"),
    [
        (("tpu", "bfloat16", 197, 12, 64), "rows"),
        (("tpu", "bfloat16", 785, 12, 64), "xla"),  # more tokens than the chip holds
        (("tpu", "bfloat16", 256, 8, 80), "xla"),  # heads that do not divide the lanes
        (("gpu", "bfloat16", 197, 12, 64), "xla"),
        (("cpu", "float32", 197, 12, 64), "xla"),
    ],
)
def test_a_device_that_is_not_here_has_the_way_that_moves_the_fewest_bytes(case, expected):
    assert attention_module.untimed(*case) == expected


def plain(q, k, v, segments):
    return attention(q, k, v, True, segments, "xla")


def slow(q, k, v, segments):
    return plain(q, k, v, segments) + 0 * jax.lax.fori_loop(0, 300, lambda _, x: jnp.sin(x), v)


@pytest.fixture
def start(tmp_path, monkeypatch):
    """Lets this process forget what it chose, as a new one would; its file lies in `tmp_path`."""
    before = jax.config.jax_compilation_cache_dir
    jax.config.update("jax_compilation_cache_dir", str(tmp_path))
    yield lambda: monkeypatch.setattr(attention_choice, "_chosen", {})
    jax.config.update("jax_compilation_cache_dir", before)


@pytest.fixture
def told(monkeypatch):
    """Lets `slow` take twice as long as the others by a word, where the times themselves are not the question."""

    def timed(case, ways, refused, before):
        tried = {name: way for name, way in ways.items() if name not in refused}
        for name in tried:
            before(name)
        return {name: [2.0 if way is slow else 1.0] for name, way in tried.items()}

    monkeypatch.setattr(attention_choice, "timed", timed)


@pytest.mark.exhaustive
def test_the_faster_way_is_found_ten_times_of_ten(start, tmp_path):
    for _ in range(5):
        for ways, expected in (({"a": slow, "b": plain}, "b"), ({"a": plain, "b": slow}, "a")):
            start()
            (tmp_path / "attention.json").unlink(missing_ok=True)
            assert fastest(CASE, ways) == expected


def test_the_rows_with_which_a_shape_is_first_met_decide_nothing(start, monkeypatch):
    timed = []
    monkeypatch.setattr(
        attention_choice, "timed", lambda case, *_, **__: timed.append(case.rows) or {"a": [1.0], "b": [2.0]}
    )
    start()
    assert fastest(CASE._replace(rows=1), {"a": plain, "b": slow}) == "a" and timed == [64]
    assert fastest(CASE._replace(rows=4096), {"a": plain, "b": slow}) == "a" and timed == [64]
    start()
    assert fastest(CASE._replace(tokens=2048), {"a": plain, "b": slow}) == "a" and timed == [64, 8]


def test_where_the_plain_way_cannot_run_nothing_is_kept(start, monkeypatch, tmp_path):
    monkeypatch.setattr(attention_choice, "timed", lambda case, ways, refused, **_: refused.update(a="full") or {})
    start()
    assert fastest(CASE, {"a": plain, "b": slow}) == "a"
    assert all(not answer["chosen"] for answer in json.loads((tmp_path / "attention.json").read_text()).values())


def test_making_parameters_times_nothing(monkeypatch):
    monkeypatch.setattr(attention_module, "offered", lambda platform, dtype: ("xla", "splash"))
    monkeypatch.setattr(attention_choice, "timed", lambda *_, **__: pytest.fail("timed"))
    model = zoo.create("tiny")
    jax.eval_shape(lambda: init_params(model, jax.random.key(0)))


def test_a_second_start_measures_nothing(start, monkeypatch, capsys):
    start()
    assert fastest(CASE, {"a": slow, "b": plain}) == "b"
    assert "causal attention, float32, 8 tokens, 2 heads of 4: b (a " in capsys.readouterr().err
    start()
    monkeypatch.setattr(attention_choice, "program", lambda way: pytest.fail("measured again"))
    assert fastest(CASE, {"a": slow, "b": plain}) == "b"
    assert fastest(CASE._replace(tokens=9), {"a": slow}) == "a"  # nothing to choose from
    assert not capsys.readouterr().err


def test_another_version_measures_again(start, told, monkeypatch):
    start()
    assert fastest(CASE, {"a": slow, "b": plain}) == "b"
    start()
    monkeypatch.setattr(jax, "__version__", "99")
    assert fastest(CASE, {"a": plain, "b": slow}) == "a"


def test_ways_that_cannot_run_or_compute_something_else_are_passed_over(start, capsys):
    def refuses(q, k, v, segments):
        raise NotImplementedError("no such kernel here")

    def of_nan(q, k, v, segments):
        return v * jnp.nan

    start()
    assert fastest(CASE, {"a": slow, "b": refuses, "c": of_nan, "d": lambda q, k, v, segments: 2 * v}) == "a"
    told = capsys.readouterr().err
    assert "note: attention=b is passed over for causal attention" in told and "no such kernel here" in told
    assert told.count("it computes something else than the plain way") == 2


def test_a_way_that_ended_an_earlier_process_is_not_tried_again(start, told, tmp_path, capsys):
    start()
    assert fastest(CASE, {"a": slow, "b": plain}) == "b"
    file = tmp_path / "attention.json"
    answers = json.loads(file.read_text())
    file.write_text(json.dumps({key: {"trying": "b"} for key in answers}))
    start()
    assert fastest(CASE, {"a": slow, "b": plain}) == "a"
    assert "an earlier process ended while it was tried; delete" in capsys.readouterr().err


@pytest.mark.parametrize("content", ["{torn", "[1]", '{"a": {"chosen": 3}}'])
def test_a_file_that_is_not_ours_is_written_over(start, told, tmp_path, capsys, content):
    file = tmp_path / "attention.json"
    file.write_text(content)
    start()
    assert fastest(CASE, {"a": slow, "b": plain}) == "b"
    assert f"note: {file}" in capsys.readouterr().err
    assert [answer["chosen"] for answer in json.loads(file.read_text()).values()] == ["b"]


def test_a_machine_without_the_package_that_reads_the_file_times_again(start, told, tmp_path, monkeypatch, capsys):
    def missing(*_):
        raise MissingPackage("msgspec is missing")

    monkeypatch.setattr(attention_choice, "parse_json", missing)
    for _ in range(2):
        start()
        assert fastest(CASE, {"a": slow, "b": plain}) == "b"
    assert "note: msgspec is missing; ways to compute attention are timed again" in capsys.readouterr().err


def test_a_folder_that_cannot_be_written_costs_the_memory_alone(start, told, tmp_path, capsys):
    jax.config.update("jax_compilation_cache_dir", str(tmp_path / "file" / "folder"))
    (tmp_path / "file").write_text("")
    start()
    assert fastest(CASE, {"a": slow, "b": plain}) == "b"
    assert "will be timed again" in capsys.readouterr().err


@pytest.mark.parametrize("mask", ["full", "causal", "padded", "packed", "packed causal"])
def test_every_mask_is_timed_by_inputs_of_its_kind(mask):
    case = Case(mask, "float32", rows=3, tokens=8, heads=2, width=4)
    *drawn, segments = attention_choice.inputs(case)
    assert {x.shape for x in drawn} == {case[2:]}
    assert attention_module.mask_kind("causal" in mask, segments) == mask
    refused: dict[str, str] = {}
    ways = {name: way(name, "causal" in mask) for name in ("xla", "splash")}
    times = attention_choice.timed(case, ways, refused, rounds=2)
    assert {name: len(each) for name, each in times.items()} == {"xla": 2, "splash": 2} and not refused


def test_auto_asks_under_a_trace_and_takes_the_answer(start, monkeypatch):
    """Within jit, scan, rematerialisation and a mesh, where values are abstract."""
    monkeypatch.setattr(attention_module, "offered", lambda platform, dtype: ("xla", "splash"))
    monkeypatch.setattr(attention_choice, "_seconds", lambda call, arguments, calls: next(times))
    q = jnp.ones((2, 8, 2, 4))

    def nested(q):
        body = jax.checkpoint(lambda carry, _: (attention(carry, carry, carry, False), None))
        return jax.grad(lambda q: jax.lax.scan(body, q, length=2)[0].sum())(q)

    mesh = jax.make_mesh((1, 1, 1), ("data", "fsdp", "tensor"), axis_types=(jax.sharding.AxisType.Auto,) * 3)
    for of_xla, kernels in ((1.0, False), (9.0, True)):
        # Once to learn how many calls, then in rounds: xla first each time.
        times = iter([of_xla, 5.0] * 6)
        start()
        attention_choice._file().unlink(missing_ok=True)
        with jax.sharding.set_mesh(mesh):
            assert ("pallas_call" in str(jax.make_jaxpr(jax.jit(lambda q: nested(q)))(q))) == kernels
