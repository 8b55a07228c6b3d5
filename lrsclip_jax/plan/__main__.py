"""The command `lrsclip plan`: before you rent a machine, does a job fit, and how fast can it be?"""

from __future__ import annotations

import argparse
import json
import re
import sys
import time
from collections.abc import Sequence

from eval.command import command_line, expanded, number
from lrsclip_jax import chips
from lrsclip_jax import config as configs
from lrsclip_jax.errors import InputError, cli
from lrsclip_jax.plan import topology

_EPILOG = """\
examples:
  lrsclip plan --config=vitb16 --topology=v5e:16x16 --config.batch_size=32768
      256 TPU v5e chips; nothing but the package libtpu is needed: pip install 'lrsclip_jax[tpu]'
  lrsclip plan --config=vitl14 --topology=v5p:4x4x4 --config.batch_size=32768 \\
      --config.model.image.size=336 --config.mesh.fsdp=16
  lrsclip plan --config=vitb16 --topology=v5p:1x1x1 --chip=H100-SXM
      judged by the memory and the peak of another chip than is compiled for; --topology=cpu:1 needs no libtpu, but
      overestimates memory
  lrsclip plan --config=vitb16 --topology=v5p:1x1x1 --chip=L40S --price-per-hour=1.10
      adds the least price of an epoch
  lrsclip plan --config=quickstart --topology=cpu:8 --json

topologies:
  v4:AxBxC  v5e:AxB  v5p:AxBxC  v6e:AxB    a TPU slice, which need not be here
  cpu:N                                    N devices of this machine's CPU
  gpu  gpu:N                               the GPUs of this machine

The step is the one that trains (lrsclip_jax/step.py), compiled by the real compiler; it needs neither weights nor
data. Memory is the compiler's own account. FLOPs are counted from the model's dimensions, collectives in the compiled
program, those in a loop as often as it runs, and so are the bytes that it reads and writes. The least time of a step is
the longest of three: arithmetic at the chip's peak, bytes to and from its memory if every product reads and writes its
matrices once and all else is free, scores of attention too, bytes sent over all links at once; with train.offload also
bytes from the host's memory over PCIe. So pairs per second and MFU are ceilings.

exit status: 0 it fits, 1 it does not, 2 bad input
"""

_CPU_STANDS_IN = (
    "a CPU's compiler fuses less and computes bfloat16 in float32: its temporaries are an upper estimate, about twice "
    "an accelerator's. The new state is counted in the place of the old one, as on an accelerator."
)


def main(arguments: Sequence[str] | None = None, prog: str = "python -m lrsclip_jax.plan") -> int:
    """Plans as the command line says, prints, and returns the exit status."""
    options, overrides = _parse(arguments, prog)
    place = topology.parse(options.topology)
    chip = chips.named(options.chip) if options.chip else None
    memory = _bytes(options.memory) if options.memory else chip and chip.memory
    config = configs.load(options.config, overrides)
    topology.prepare(place)

    # JAX starts here, in the environment that `topology.prepare` has set.
    from lrsclip_jax.plan import ahead, presentation

    devices = topology.devices(place)
    kind = devices[0].device_kind
    # A CPU that is judged by another memory stands for an accelerator, where towers are bfloat16.
    stands_in = bool(memory) and place.platform == "cpu"
    planned = ahead.plan_step(config, devices, "accelerator" if stands_in else place.platform)
    print(f"compiling for {len(devices)} × {kind} …", file=sys.stderr, flush=True)
    begun = time.perf_counter()
    outcome = ahead.compile_step(planned)
    seconds = time.perf_counter() - begun
    if stands_in and isinstance(outcome, ahead.Program):
        outcome = ahead.donated(planned, outcome)
    if isinstance(outcome, ahead.TooLarge):
        memory = min(memory or outcome.granted, outcome.granted)
    plan = presentation.Plan(
        planned=planned,
        outcome=outcome,
        seconds=seconds,
        compiled_for=kind,
        chip=chip or chips.find(kind),
        memory=memory or ahead.memory_of(devices),
        note=_CPU_STANDS_IN if stands_in else f"arranged in memory as for a {kind}" if chip else "",
        price=options.price_per_hour,
    )
    print(json.dumps(presentation.document(plan), indent=2) if options.json else "\n".join(presentation.lines(plan)))
    return 0 if plan.fits else 1


def _parse(arguments: Sequence[str] | None, prog: str) -> tuple[argparse.Namespace, list[str]]:
    parser = command_line(
        prog,
        "Compiles a recipe's train step for devices that need not be here, and says whether it fits.",
        _EPILOG,
        usage="--config=RECIPE --topology=NAME [--config.KEY=VALUE …] [options]",
    )
    parser.add_argument("--config", required=True, metavar="RECIPE", type=expanded, help="NAME[:ARG] or FILE.py[:ARG]")
    parser.add_argument("--topology", required=True, metavar="NAME", help="the devices, such as v5e:16x16 or cpu:8")
    parser.add_argument("--chip", metavar="NAME", help="judge by this chip's memory and peak, such as H100-SXM")
    parser.add_argument("--memory", metavar="SIZE", help="judge by this memory of a device, such as 80GiB")
    parser.add_argument(
        "--price-per-hour",
        type=number(0, 1e6),
        metavar="PRICE",
        help="of one chip, in any currency: adds the price of an epoch of LRS2M",
    )
    parser.add_argument("--json", action="store_true", help="print one JSON document")
    options, rest = parser.parse_known_args(arguments)
    return options, configs.overrides_of(rest)


def _bytes(size: str) -> int:
    found = re.fullmatch(r"([0-9]{1,9}(?:\.[0-9]{1,9})?)\s*([KMGT])(i?)B", size)
    size_in_bytes = int(float(found[1]) * (1024 if found[3] else 1000) ** (1 + "KMGT".index(found[2]))) if found else 0
    if not size_in_bytes:
        raise InputError(f"--memory={size}: write a size above zero, such as 80GiB or 40GB")
    return size_in_bytes


if __name__ == "__main__":
    cli(main)
