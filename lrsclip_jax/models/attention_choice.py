"""Which way to compute attention is the fastest on this device: timed when it is first needed, and kept on disk.

A step asks while JAX traces it, before it is compiled. A trial runs as a block with rematerialisation does:
forward, then forward again and backward, on values drawn for the purpose. The answers lie next to JAX's compiled
programs, each with the versions that it depends on. Where processes run together, the first one times.
"""

from __future__ import annotations

import json
import statistics
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass, field
from typing import NamedTuple

import jax
import jax.numpy as jnp
import jaxlib
import numpy as np
from etils import epath

from eval.reading import parse_json
from eval.whole import write_text
from lrsclip_jax.errors import InputError
from lrsclip_jax.hosts import distributed

Way = Callable[[jax.Array, jax.Array, jax.Array, jax.Array | None], jax.Array]  # of q, k, v and segments

FILE = "attention.json"
_FOLDER = "~/.cache/lrsclip_jax"  # as train.compilation_cache, for commands without a config

_ROUNDS = 5  # in which the ways take turns
_ROUND_SECONDS = 0.02  # of each way
_FASTER = 1.05  # what displaces the plain way: less is within the noise of a shared machine
_SCORES = 2**26  # the most scores of a trial: 256 MB in float32, as a model may lie next to it
_ROWS = 64  # of a trial, also where a shape is first met with fewer, as by one image that is embedded


class Case(NamedTuple):
    """What attention is asked for: all that decides which way is the fastest.

    Attributes:
      mask: "full", "causal", "padded", "packed", "padded causal" or "packed causal".
      dtype: of queries, keys and values.
      rows, tokens, heads, width: of the queries. The choice does not depend on the rows.
    """

    mask: str
    dtype: str
    rows: int
    tokens: int
    heads: int
    width: int

    def __str__(self) -> str:
        return f"{self.mask} attention, {self.dtype}, {self.tokens} tokens, {self.heads} heads of {self.width}"


@dataclass
class _Answer:
    """One entry of the file; `trying` names the way at work while it is timed, and stays if the process dies of it."""

    chosen: str = ""
    trying: str = ""
    milliseconds: dict[str, float] = field(default_factory=dict)
    refused: dict[str, str] = field(default_factory=dict)


_chosen: dict[str, str] = {}  # in this process, by case; the same in all processes that run together


def fastest(case: Case, ways: Mapping[str, Way]) -> str:
    """Returns the name of the fastest way for a case on this process's first device.

    Args:
      case: what is computed; where processes run together, all ask for the same cases in the same order.
      ways: by name, the plain one first. It is taken unless another one is 5 % faster and agrees with it within the
        rounding of the dtype. A way that raises is passed over, and so is one that ended an earlier process.
    """
    if len(ways) == 1:
        return next(iter(ways))
    if str(case) not in _chosen:
        # A thread of its own knows nothing of the trace that is under way, nor of its mesh.
        def answer() -> str:
            with ThreadPoolExecutor(1) as alone:
                return alone.submit(_answer, case, ways).result()

        _chosen[str(case)] = distributed.from_first(answer)
    return _chosen[str(case)]


def inputs(case: Case) -> tuple:
    """Returns drawn queries, keys and values, the gradient of what they become, and segments or None (see `attention`).

    The rows are those of the case. Lengths are those of LRS2M's captions, 111 tokens of 248; three texts share a row.
    """
    rng = np.random.default_rng(0)
    drawn = rng.standard_normal((4, case.rows, case.tokens, case.heads, case.width), np.float32)
    segments = None
    if case.mask.startswith("padded"):
        lengths = rng.normal(0.45 * case.tokens, 0.1 * case.tokens, case.rows).clip(1, case.tokens).astype(int)
        segments = jnp.asarray(np.arange(case.tokens) < lengths[:, None])
        drawn[3] *= np.asarray(segments)[:, :, None, None]
    elif case.mask.startswith("packed"):
        starts = np.sort(rng.integers(1, max(2, case.tokens), (case.rows, 2)), axis=1)
        segments = jnp.asarray(1 + (np.arange(case.tokens) >= starts[:, :, None]).sum(axis=1), jnp.int32)
    return *(jnp.asarray(each, case.dtype) for each in drawn), segments


def program(way: Way) -> Callable[..., tuple[jax.Array, ...]]:
    """Returns a jitted function of `inputs`: what a way makes of them, and the gradients of q, k and v."""

    @jax.jit
    def both(q: jax.Array, k: jax.Array, v: jax.Array, gradient: jax.Array, segments: jax.Array | None) -> tuple:
        out, backward = jax.vjp(jax.checkpoint(lambda q, k, v: way(q, k, v, segments)), q, k, v)
        return out, *backward(gradient)

    return both


def timed(
    case: Case,
    ways: Mapping[str, Way],
    refused: dict[str, str],
    rounds: int = _ROUNDS,
    before: Callable[[str], None] = lambda name: None,
) -> dict[str, list[float]]:
    """Returns the seconds of each way in each of some rounds, in which the ways take turns.

    Args:
      case: what is computed, all its rows.
      ways: by name, the plain one first.
      refused: of those that can't run, or whose gradients are further from the plain way's than bfloat16 rounds, the
        reason is added here. Those that are here already are left out.
      rounds: each takes 0.02 s or one call.
      before: called with the name of each way before it is tried.
    """
    arguments = inputs(case)
    programs: dict[str, tuple[Callable, int]] = {}
    plain = None
    for name, way in ways.items():
        if name in refused:
            continue
        before(name)
        try:
            each = program(way)
            found = jax.block_until_ready(each(*arguments))
            plain = found if plain is None else plain
            _check_agreement(found, plain)
            once = _seconds(each, arguments, 1)
        except Exception as error:  # of a compiler or a driver: the other ways will do
            refused[name] = next(iter(str(error).splitlines()), type(error).__name__)[:300]
            continue
        programs[name] = each, max(1, min(100, int(_ROUND_SECONDS / max(once, 1e-6))))
    turns = [{name: _seconds(each, arguments, n) for name, (each, n) in programs.items()} for _ in range(rounds)]
    return {name: [turn[name] for turn in turns] for name in programs}


def _check_agreement(found: tuple[jax.Array, ...], plain: tuple[jax.Array, ...]) -> None:
    """Raises ValueError where gradients differ; the results themselves are left out: those of padding mean nothing."""
    for ours, theirs in zip(found[1:], plain[1:], strict=True):
        ours, theirs = (np.asarray(each, np.float32) for each in (ours, theirs))
        if not np.abs(ours - theirs).max() <= 0.03 * np.abs(theirs).max():
            raise ValueError("it computes something else than the plain way")


def _seconds(call: Callable[..., tuple], arguments: tuple, calls: int) -> float:
    begun = time.perf_counter()
    for _ in range(calls):
        result = call(*arguments)
    jax.block_until_ready(result)
    return (time.perf_counter() - begun) / calls


def _answer(case: Case, ways: Mapping[str, Way]) -> str:
    """Returns the fastest way by the file, or times all and writes it there."""
    path, key = _file(), f"{case} on {_device_and_versions()}"
    known = _read(path).get(key, _Answer())
    if known.chosen in ways:
        return known.chosen
    refused = dict(known.refused)
    if known.trying:
        refused[known.trying] = f"an earlier process ended while it was tried; delete {path} to try it again"
    plain = next(iter(ways))
    refused.pop(plain, None)
    answer = _Answer(refused=refused)

    def before(name: str) -> None:
        answer.trying = name
        _write(path, key, answer)

    rows = max(1, min(_ROWS, _SCORES // (case.heads * case.tokens**2)))
    with _noted(path, key, answer):
        turns = timed(case._replace(rows=rows), ways, refused, before=before)
        times = {name: statistics.median(each) for name, each in turns.items()}
        if plain not in times:  # nothing to compare with, as for want of memory: the next start tries again
            answer.refused = {}
            return plain
        best = min(times, key=lambda name: times[name])
        answer.chosen = plain if times[plain] < _FASTER * times[best] else best
        answer.milliseconds = {name: round(1e3 * value, 4) for name, value in times.items()}
    _tell(case, answer)
    return answer.chosen


@contextmanager
def _noted(path: epath.Path, key: str, answer: _Answer) -> Iterator[None]:
    """Writes the answer when the block is done, whether or not it raises: the process did not die."""
    try:
        yield
    finally:
        answer.trying = ""
        _write(path, key, answer)


def _tell(case: Case, answer: _Answer) -> None:
    for name, reason in answer.refused.items():
        print(f"note: attention={name} is passed over for {case}: {reason}", file=sys.stderr)
    times = ", ".join(f"{name} {value:.3g} ms" for name, value in answer.milliseconds.items())
    print(f"{case}: {answer.chosen} ({times})", file=sys.stderr)


def _device_and_versions() -> str:
    device = jax.local_devices()[0]
    platform = device.client.platform_version.splitlines()[0]
    return f"{device.device_kind}, jax {jax.__version__}, jaxlib {jaxlib.__version__}, {platform}"


def _file() -> epath.Path:
    return epath.Path(jax.config.jax_compilation_cache_dir or _FOLDER).expanduser() / FILE  # type: ignore[attr-defined]


def _read(path: epath.Path) -> dict[str, _Answer]:
    """The answers on disk; a file that is not theirs counts as empty, and is written over."""
    with suppress(FileNotFoundError):
        try:
            return parse_json(path.read_bytes(), str(path), dict[str, _Answer])
        except (InputError, OSError) as error:
            if isinstance(error, FileNotFoundError):
                raise
            print(f"note: {error}; ways to compute attention are timed again", file=sys.stderr)
    return {}


def _write(path: epath.Path, key: str, answer: _Answer) -> None:
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        answers = {name: asdict(each) for name, each in (_read(path) | {key: answer}).items()}
        write_text(path, json.dumps(answers, indent=1))
    except (InputError, OSError) as error:
        print(f"note: {error}; ways to compute attention will be timed again", file=sys.stderr)
