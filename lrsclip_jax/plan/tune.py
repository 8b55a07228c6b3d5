"""The command `lrsclip tune`: what blocks store and how their loops are compiled, chosen by time on this machine."""

from __future__ import annotations

import argparse
import json
import math
import statistics
import sys
import time
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

from eval.command import command_line, expanded, whole_number
from lrsclip_jax import config as configs
from lrsclip_jax.config.facts import tower_fields
from lrsclip_jax.errors import InputError, cli

if TYPE_CHECKING:
    from lrsclip_jax.plan.ahead import PlannedStep

_EPILOG = """
It compiles the recipe's train step for the devices of this machine, with random weights and no data, and times it. The
keys take turns: what is best for the first is kept while the second is tried. A step that needs more memory than a
device has is passed over.

  model.image.remat, model.text.remat    what blocks store for the backward pass: none, dense, full
  model.image.unroll, model.text.unroll  blocks in one round of their loop: 1, 2, 4
  model.image.token_multiple             tokens are padded to a multiple of it: 1, 64, 128

The batch is the recipe's: where it is for more devices than this machine has, set --config.batch_size to this machine's
share of it. attention="auto" has timed its kernels by then.

examples:
  lrsclip tune --config=vitb16 --config.batch_size=512
  lrsclip tune --config=rsclip --config.data.sources=PREPARED --json
"""

# The keys in the order in which they are tried, and their values.
TRIALS: tuple[tuple[tuple[str, ...], tuple[object, ...]], ...] = (
    (("model.image.remat", "model.text.remat"), ("none", "dense", "full")),
    (("model.image.unroll", "model.text.unroll"), (1, 2, 4)),
    (("model.image.token_multiple",), (1, 64, 128)),
)
_GAIN = 1.02  # what displaces a setting: less is noise


@dataclass(frozen=True)
class Trial:
    """A step as it was timed.

    Attributes:
      keys: what it differs in from the recipe.
      seconds: of one step, the median; None where it did not run.
      memory: bytes on a device, as the compiler says.
      reason: why it did not run.
    """

    keys: dict[str, object]
    seconds: float | None
    memory: int | None
    reason: str = ""


def parser(prog: str) -> argparse.ArgumentParser:
    """Returns the command line of the program; keys of the config, --config.KEY=VALUE, are left over."""
    parse = command_line(
        prog,
        "Times a recipe's train step on this machine and says which keys make it faster.",
        _EPILOG,
        usage="--config=RECIPE [--config.KEY=VALUE …] [options]",
    )
    add = parse.add_argument
    add("--config", required=True, metavar="RECIPE", type=expanded, help="NAME[:ARG] or FILE.py[:ARG]")
    add("--steps", type=whole_number(1, 1000), default=5, metavar="N", help="steps of each setting (%(default)s)")
    add("--json", action="store_true", help="print one JSON document")
    return parse


def main(arguments: Sequence[str] | None = None, prog: str = "python -m lrsclip_jax.plan.tune") -> None:
    """Times as the command line says, and prints the keys to set."""
    options, rest = parser(prog).parse_known_args(arguments)
    overrides = configs.overrides_of(rest)
    trials = []
    for trial in tuned(options.config, overrides, options.steps):
        trials.append(trial)
        print(_line(trial), file=sys.stderr if options.json else sys.stdout, flush=True)
    best = fastest(trials)
    if options.json:
        print(json.dumps({"set": best.keys, "trials": [asdict(trial) for trial in trials]}, indent=2))
    else:
        print("set: " + (_flags(best.keys) or "nothing: the recipe's own keys are the fastest"))


def tuned(recipe: str, overrides: Sequence[str], steps: int) -> Iterator[Trial]:
    """Yields the recipe's own step, then a trial for each value of each key of `TRIALS` that differs from the best.

    Args:
      recipe: as `lrsclip train --config` takes it.
      overrides: "KEY=VALUE" of its config.
      steps: how many are timed, after the first.

    Raises:
      InputError: for everything that training would refuse, too.
    """
    import jax

    devices = jax.devices()
    best = _timed(recipe, overrides, {}, devices, steps)
    yield best
    done = [best]
    for keys, values in TRIALS:
        now = configs.load(recipe, (*overrides, *_overrides(best.keys)))
        fields = dict(zip(("image", "text"), tower_fields(now), strict=True))
        keys = tuple(key for key in keys if key.split(".")[2] in fields[key.split(".")[1]])  # a ResNet has not all
        for value in values:
            if not _changes(keys, value, fields):
                continue
            trial = _timed(recipe, overrides, best.keys | dict.fromkeys(keys, value), devices, steps)
            yield trial
            done.append(trial)
        best = fastest(done)


def _changes(keys: Sequence[str], value: Any, fields: dict[str, dict[str, Any]]) -> bool:
    """Whether a value is another one than both towers' own, and one that they can have."""
    named = [(fields[tower], name) for _, tower, name in (key.split(".") for key in keys)]
    if any(name == "unroll" and value > of["layers"] for of, name in named):
        return False
    return any(of[name] != value for of, name in named)


def fastest(trials: Sequence[Trial]) -> Trial:
    """Returns the fastest trial; an earlier one unless a later one is 2 % faster.

    Raises:
      InputError: none of them ran.
    """
    best, least = None, math.inf
    for trial in trials:
        if trial.seconds is not None and trial.seconds * _GAIN < least:
            best, least = trial, trial.seconds
    if best is None:
        raise InputError(f"no setting runs here: {trials[-1].reason}; set --config.batch_size to fewer pairs")
    return best


def _timed(recipe: str, overrides: Sequence[str], keys: dict[str, object], devices: list, steps: int) -> Trial:
    """Compiles and times one setting."""
    import jax

    from lrsclip_jax.plan import ahead

    planned = ahead.plan_step(configs.load(recipe, (*overrides, *_overrides(keys))), devices, devices[0].platform)
    try:
        compiled = planned.lower().compile()
        memory = ahead.memory(compiled)
        if memory.peak > ahead.memory_of(devices):
            return Trial(keys, None, memory.peak, "more memory than a device has")
        return Trial(keys, _seconds(planned, compiled, steps), memory.peak)
    except jax.errors.JaxRuntimeError as error:
        if "RESOURCE_EXHAUSTED" not in str(error):
            raise
        return Trial(keys, None, None, "more memory than a device has")


def _seconds(planned: PlannedStep, compiled: Any, steps: int) -> float:
    """Median seconds of a compiled step, on random weights and an empty batch: no program's time depends on values."""
    import jax
    import jax.numpy as jnp

    from lrsclip_jax.models.clip import init_params
    from lrsclip_jax.step import initial_state

    setup = planned.setup
    placed = jax.tree.map(lambda leaf: leaf.sharding, setup.shapes.params)
    params = jax.jit(lambda key: init_params(setup.model, key), out_shardings=placed)(jax.random.key(0))
    state = initial_state(params, setup.optimizer, setup.shapes)
    batch = {name: jnp.zeros(spec.shape, spec.dtype, device=spec.sharding) for name, spec in planned.batch.items()}
    times = []
    for _ in range(steps + 1):
        begun = time.perf_counter()
        state, _metrics = compiled(state, batch)
        jax.block_until_ready(state)
        times.append(time.perf_counter() - begun)
    return statistics.median(times[1:])


def _overrides(keys: dict[str, object]) -> tuple[str, ...]:
    return tuple(f"{key}={value}" for key, value in keys.items())


def _flags(keys: dict[str, object]) -> str:
    return " ".join(f"--config.{override}" for override in _overrides(keys))


def _line(trial: Trial) -> str:
    took = f"{trial.seconds * 1e3:10.1f} ms" if trial.seconds is not None else f"{trial.reason:>13}"
    size = f"{trial.memory / 2**30:8.2f} GiB" if trial.memory is not None else ""
    return f"{took} {size}  {_flags(trial.keys) or 'the recipe as it is'}"


if __name__ == "__main__":
    cli(main)
