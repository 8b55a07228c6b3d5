"""Our train step next to PyTorch's: `python -m benchmarks.step --model=vitb16 --batch=8 --lengths=lrs2m`."""

from __future__ import annotations

import functools
import importlib
import importlib.util
import itertools
import json
import multiprocessing
import os
import statistics
import sys
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from typing import Any

from benchmarks.programs import KEPT, OURS, TORCH, Job, Prepared
from benchmarks.tables import Row, markdown, spread
from eval.command import command_line
from lrsclip_jax import chips
from lrsclip_jax.chips import Chip
from lrsclip_jax.errors import InputError, cli
from lrsclip_jax.flops import Texts, train_pair
from lrsclip_jax.models import zoo
from lrsclip_jax.weights import build_model

_DESCRIPTION = """\
Times whole train steps, forward, dual loss, backward and SGD: ours as training runs it, with texts packed, in two
lengths (248 and 77) and padded to 248; and PyTorch's, CLIP with SDPA (benchmarks/torch_clip.py), with both texts padded
to 248 as the reference does, and with the short one at 77. All begin with the same weights and see the same pixels and
texts, and the losses of their first steps must agree. --int8 is the packed step with products in 8-bit integers.

The programs take turns, one step each (ten on an accelerator), every round with texts of its own; a ratio is that of
two programs in the same round. PyTorch and JAX have a process each, which waits while the other computes, and as many
threads as there are cores. On a CPU all is float32; on a GPU bfloat16, PyTorch's by autocast and compiled. Batches lie
on the device before the clock starts. "Useful" are the FLOPs of the model without padding, masked attention and
recomputation; MFU is their rate against the chip's peak, memory the peak of a program on the device.
"""


def main(arguments: Sequence[str] | None = None) -> None:
    """Prints a Markdown table, a row for each program, or JSON."""
    parser = command_line("python -m benchmarks.step", _DESCRIPTION)
    parser.add_argument("--model", default="vitb16", help="of the zoo, with CLIP's text tower; %(default)s")
    parser.add_argument("--batch", type=int, default=8, help="pairs a step; %(default)s")
    parser.add_argument("--lengths", choices=("lrs2m",), default="lrs2m", help="of texts: benchmarks/lengths.py")
    parser.add_argument("--rounds", type=int, default=5, help="%(default)s")
    ours = parser.add_mutually_exclusive_group()
    for name in OURS:
        ours.add_argument(f"--{name}", dest="ours", action="store_const", const=(name,), help="this one alone")
    parser.add_argument("--json", action="store_true", help="print JSON instead of a table")
    options = parser.parse_args(arguments)
    if min(options.batch, options.rounds) < 1:
        raise InputError("--batch and --rounds must be positive")
    if options.model not in zoo.names():
        raise InputError(f"--model={options.model}: the zoo has {', '.join(zoo.names())}")
    ours = options.ours or ("packed", "two-length", "padded")
    names = [name for pair in itertools.zip_longest(ours, TORCH) for name in pair if name]
    (result,) = measured(Job(options.model, options.batch), [names], options.rounds)
    print(json.dumps(result, indent=2) if options.json else table(result))
    for name, reason in result["failed"].items():
        print(f"{name} did not run: {reason}", file=sys.stderr)


def measured(job: Job, stages: Sequence[Sequence[str]], rounds: int, steps: int = 10) -> Iterator[dict[str, Any]]:
    """Runs programs in turns, and yields what is to be told of them after each stage.

    Args:
      job: of all of them.
      stages: names, as in `programs`. A stage prepares its programs, and then they and those of the stages before take
        turns. One that fails, as for want of memory, is named under "failed" and left out.
      rounds: of turns.
      steps: in a turn; on a CPU 1.
    """
    torch_is_here = importlib.util.find_spec("torch") is not None
    # Both may be on one GPU: JAX must not take most of its memory at once.
    os.environ["XLA_PYTHON_CLIENT_PREALLOCATE"] = "false"
    spawn = multiprocessing.get_context("spawn")
    with (
        tempfile.TemporaryDirectory() as folder,
        ProcessPoolExecutor(1, spawn) as jax_process,
        ProcessPoolExecutor(1, spawn) as torch_process,
    ):

        def ask(name: str, method: str, *arguments: Any) -> Any:
            process, module = (torch_process, "torch_step") if name in TORCH else (jax_process, "jax_step")
            made = (module, job, rounds, folder if torch_is_here else None)
            return process.submit(_ask, made, method, *arguments).result()

        # PyTorch's side comes first, as it writes the weights.
        seen = ask("PyTorch", "device_name") if torch_is_here else None
        device = ask("packed", "device_name")
        steps = 1 if device == "cpu" else steps
        failed = {}
        if seen is None or (seen == "cpu" and device != "cpu"):
            failed = dict.fromkeys(TORCH, f"PyTorch sees no {device}" if seen else "PyTorch is not installed")
        prepared: dict[str, Prepared] = {}
        for stage in stages:
            for name in stage:
                if name not in failed:
                    try:
                        prepared[name] = Prepared(*ask(name, "prepare", name))
                    except RuntimeError as error:
                        failed[name] = str(error)
            check_losses(prepared, 1e-5 if device == "cpu" else 1e-2)
            seconds: dict[str, list[float]] = {name: [] for name in prepared}
            for index, name in itertools.product(range(rounds), seconds):
                seconds[name].append(ask(name, "seconds", name, index, steps) / steps)
            theirs, chip = [name for name in prepared if name in TORCH], chips.find(device)
            yield {
                "model": job.model,
                "batch": job.pairs,
                "rounds": rounds,
                "steps": steps,
                "device": device,
                "cores": len(os.sched_getaffinity(0)),
                "programs": [told(job, name, prepared[name], seconds, theirs, chip) for name in prepared],
                "failed": {name: failed[name] for each in stages for name in each if name in failed},
            }


@functools.cache
def _side(module: str, *arguments: Any) -> Any:
    return importlib.import_module(f"benchmarks.{module}").Side(*arguments)


def _ask(made: tuple, method: str, *arguments: Any) -> Any:
    try:
        return getattr(_side(*made), method)(*arguments)
    except Exception as error:  # not all of JAX's and PyTorch's pass from one process to another
        raise RuntimeError(f"{type(error).__name__}: {str(error).partition(chr(10))[0][:200]}") from None


def check_losses(prepared: Mapping[str, Prepared], tolerance: float) -> None:
    """Raises RuntimeError unless programs that keep as much of the texts have the same loss before any update.

    Integers round: theirs is not compared.
    """
    for kept in set(KEPT.values()):
        losses = {name: prepared[name].loss for name in prepared if KEPT[name] == kept and name != "int8"}
        if losses and max(losses.values()) - min(losses.values()) > tolerance * max(losses.values()):
            raise RuntimeError(f"the programs do not compute the same: their first losses are {losses}")


def told(
    job: Job,
    name: str,
    prepared: Prepared,
    seconds: Mapping[str, list[float]],
    theirs: Sequence[str],
    chip: Chip | None,
) -> dict[str, Any]:
    median = statistics.median(seconds[name])
    rates = [useful(job, index, KEPT[name]) / each for index, each in enumerate(seconds[name])]

    def times_faster(other: str) -> list[float]:
        ratios = [slow / fast for slow, fast in zip(seconds[other], seconds[name], strict=True)]
        return [statistics.median(ratios), min(ratios), max(ratios)]

    return {
        "program": name,
        "seconds": median,
        "pairs_per_second": job.pairs / median,
        "slowest": job.pairs / max(seconds[name]),
        "fastest": job.pairs / min(seconds[name]),
        "times_faster": {other: times_faster(other) for other in theirs},
        "useful_flops_per_second": statistics.median(rates),
        "mfu": statistics.median(rates) / chip.flops if chip else None,
        "compile_seconds": prepared.compiling,
        "memory": prepared.memory,
        "first_loss": prepared.loss,
    }


def useful(job: Job, index: int, kept: int) -> float:
    """Returns the useful FLOPs of a step with a batch of which `kept` tokens of each short text are kept."""
    lengths = job.lengths(index)
    texts = Texts.of([*lengths.long.tolist(), *lengths.short.clip(max=kept).tolist()]) * (1 / job.pairs)
    return job.pairs * train_pair(build_model(job.config(), "cpu"), [texts], batch_size=job.pairs).useful


def table(result: Mapping[str, Any]) -> str:
    """Returns the result as a Markdown table under a line that says what was run."""
    cores = f", {result['cores']} cores" if result["device"] == "cpu" else ""
    return (
        f"{result['model']}, {result['batch']} pairs, {result['device']}{cores}, {result['rounds']} rounds of "
        f"{result['steps']} steps; pairs/s and ratios: median (lowest to highest)\n\n{markdown(rows(result))}"
    )


def rows(result: Mapping[str, Any]) -> list[Row]:
    """Returns the rows of the table."""
    found = []
    for each in result["programs"]:
        ratios = {f"× {name}": spread(*times, ".2f") for name, times in each["times_faster"].items()}
        compiling, memory = each["compile_seconds"], each["memory"]
        found.append(
            {
                "train step": each["program"],
                "s": f"{each['seconds']:.3g}",
                "pairs/s": spread(each["pairs_per_second"], each["slowest"], each["fastest"], ",.4g"),
                **ratios,
                "useful TFLOP/s": f"{each['useful_flops_per_second'] / 1e12:.3g}",
                "MFU": f"{each['mfu']:.1%}" if each["mfu"] else "",
                "compiling": f"{compiling:.0f} s" if compiling is not None else "",
                "memory": f"{memory / 2**30:.1f} GiB" if memory else "",
            }
        )
    return found


if __name__ == "__main__":
    cli(main)
