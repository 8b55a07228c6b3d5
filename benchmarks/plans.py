"""Plans of large jobs: do they fit, and how fast can they be. Run as `python -m benchmarks.plans`.

Each row is one run of `lrsclip_jax.plan`, in a process of its own, one after the other. Most need libtpu.
"""

from __future__ import annotations

import json
import subprocess
import sys
import time
from collections.abc import Sequence

from eval.command import command_line
from lrsclip_jax.chips import GIB
from lrsclip_jax.errors import InputError, cli

_FULL = ("--config.model.image.remat=full", "--config.model.text.remat=full")
_LARGE = (*_FULL, "--config.mesh.fsdp=16")

_TWO = ("--config.data.packed=False", "--config.data.short_length=77")
_PADDED = ("--config.data.packed=False",)
# Plain products instead of the kernel that a plan for TPUs takes.
_PLAIN = ("--config.model.image.attention=xla", "--config.model.text.attention=xla")

# Name of a row, and the arguments of its plan.
ROWS = {
    "b16-2k": ("configs/vitb16.py", "v5e:4x4", 2_048, *_TWO),
    "b16-32k": ("configs/vitb16.py", "v5e:16x16", 32_768, *_TWO),
    "b16-128k": ("configs/vitb16.py", "v5e:16x16", 131_072, *_TWO, *_FULL),
    "l14-32k": ("configs/vitl14.py", "v5e:16x16", 32_768, *_TWO, *_LARGE),
    "l14-64k": ("configs/vitl14.py", "v5e:16x16", 65_536, *_TWO, *_LARGE),
    "l14-336-32k": ("configs/vitl14.py", "v5p:4x4x4", 32_768, *_TWO, "--config.model.image.size=336", *_FULL),
    "b16-512": ("configs/vitb16.py", "v5p:1x1x1", 512, *_TWO, "--chip=H100-SXM"),
    "b16-4k": ("configs/vitb16.py", "v5p:1x1x1", 4_096, *_TWO, "--chip=H100-SXM", "--config.train.microbatches=8"),
    "v5e-padded": ("configs/vitb16.py", "v5e:4x4", 2_048, *_PADDED),
    "v5e-two-length": ("configs/vitb16.py", "v5e:4x4", 2_048, *_TWO),
    "v5e-packed": ("configs/vitb16.py", "v5e:4x4", 2_048),
    "v5p-padded": ("configs/vitb16.py", "v5p:2x2x2", 4_096, *_PADDED),
    "v5p-two-length": ("configs/vitb16.py", "v5p:2x2x2", 4_096, *_TWO),
    "v5p-packed": ("configs/vitb16.py", "v5p:2x2x2", 4_096),
    "v5e-plain": ("configs/vitb16.py", "v5e:4x4", 2_048, *_PLAIN),
    "v5p-plain": ("configs/vitb16.py", "v5p:2x2x2", 4_096, *_PLAIN),
    "pod-packed": ("configs/vitb16.py", "v5e:16x16", 32_768),
    "pod-plain": ("configs/vitb16.py", "v5e:16x16", 32_768, *_PLAIN),
    "v6e-packed": ("configs/vitb16.py", "v6e:4x4", 4_096),
    "v6e-plain": ("configs/vitb16.py", "v6e:4x4", 4_096, *_PLAIN),
    "l14-packed": ("configs/vitl14.py", "v5e:4x4", 1_024, "--config.mesh.fsdp=16"),
    "l14-plain": ("configs/vitl14.py", "v5e:4x4", 1_024, "--config.mesh.fsdp=16", *_PLAIN),
    "l14-pod-packed": ("configs/vitl14.py", "v5e:16x16", 16_384, "--config.mesh.fsdp=256"),
    "l14-pod-plain": ("configs/vitl14.py", "v5e:16x16", 16_384, "--config.mesh.fsdp=256", *_PLAIN),
    "l14-v5p-packed": ("configs/vitl14.py", "v5p:2x2x2", 1_024, "--config.mesh.fsdp=4"),
    "l14-v5p-plain": ("configs/vitl14.py", "v5p:2x2x2", 1_024, "--config.mesh.fsdp=4", *_PLAIN),
    "l14-v6e-packed": ("configs/vitl14.py", "v6e:4x4", 2_048, "--config.mesh.fsdp=16"),
    "l14-v6e-plain": ("configs/vitl14.py", "v6e:4x4", 2_048, "--config.mesh.fsdp=16", *_PLAIN),
    "b16-512-cpu": ("configs/vitb16.py", "cpu:1", 512, *_TWO, "--chip=H100-SXM"),
    "b16-4k-cpu": ("configs/vitb16.py", "cpu:1", 4_096, *_TWO, "--chip=H100-SXM", "--config.train.microbatches=8"),
}
# The same pairs a chip on 16 and on 256 chips: what a device holds must not grow with the devices.
SCALED = ("b16-2k", "b16-32k")

_EPILOG = f"""\
rows: {", ".join(ROWS)}

A row takes one to several minutes on two cores. "peak" is the compiler's account of a device's memory; a row whose
chip is not the one that it is compiled for says so. Times are lower bounds: lrsclip plan --help.
"""


def main(arguments: Sequence[str] | None = None) -> None:
    parser = command_line(
        "python -m benchmarks.plans", "Plans large jobs and prints the table of benchmarks/README.md.", _EPILOG
    )
    parser.add_argument("rows", nargs="*", metavar="ROW", help="rows to plan (all)")
    names = parser.parse_args(arguments).rows or list(ROWS)
    if unknown := [name for name in names if name not in ROWS]:
        raise InputError(f"unknown row {unknown[0]!r}; there are {', '.join(ROWS)}")
    print(
        "| job | pairs a step | compiled for | judged as | executed a step | memory traffic a device "
        "| as compiled, a pair | temporaries | peak a device, of | step, at least | pairs/s, at most | MFU, at most "
        "| a device sends |\n|" + "---|" * 13,
        flush=True,
    )
    plans = {}
    for number, name in enumerate(names, 1):
        print(f"{number}/{len(names)} {name}: {command(name)}", file=sys.stderr, flush=True)
        begun = time.perf_counter()
        plans[name] = plan(name)
        print(row(name, plans[name]), flush=True)
        print(f"{number}/{len(names)} {name}: {time.perf_counter() - begun:.0f} s", file=sys.stderr, flush=True)
    print()
    if plans.keys() >= set(SCALED):
        small, large = (plans[name]["memory"]["peak"] for name in SCALED)
        few, many = (plans[name]["devices"] for name in SCALED)
        print(f"From {few} to {many} chips, with as many pairs a chip, the peak changes by {large / small - 1:+.1%}.\n")
    for name in names:
        print(f"    {command(name)}")


def command(name: str) -> str:
    """Returns the command line of a row."""
    return " ".join(["python", "-m", *_arguments(name)])


def plan(name: str) -> dict:
    """Returns the document of a row's plan."""
    done = subprocess.run([sys.executable, "-m", *_arguments(name), "--json"], stdout=subprocess.PIPE, text=True)
    if done.returncode > 1:
        raise InputError(f"{name}: the plan failed, see above")
    return json.loads(done.stdout)


def row(name: str, document: dict) -> str:
    """Returns a row of the table."""
    memory, best, sent = document["memory"], document["estimate"], document["collectives"]
    accessed = document["accessed"]
    peak = f"{memory['peak'] / GIB:.1f} of {memory['limit'] / GIB:.1f} GiB"
    cells = [
        name,
        f"{document['batch_size']:,}",
        f"{document['devices']} × {document['compiled_for']}",
        document["chip"] or "",
        f"{document['flops']['executed_per_step'] / 1e12:,.0f} TFLOP",
        f"{document['traffic'] / GIB:.0f} GiB",
        f"{accessed * document['devices'] / document['batch_size'] / 2**20:.0f} MiB" if accessed else "",
        f"{memory['temporaries'] / GIB:.1f} GiB" if "temporaries" in memory else "",
        peak if document["fits"] else f"**{peak}**: {document['verdict']}",
        f"{best['seconds']:.3f} s ({best['bound']})" if best else "",
        f"{best['pairs_per_second']:,.0f}" if best else "",
        f"{best['mfu']:.0%}" if best else "",
        f"{sum(kind['bytes'] for kind in sent) / GIB:.2f} GiB" if sent is not None else "",
    ]
    return f"| {' | '.join(cells)} |"


def _arguments(name: str) -> list[str]:
    recipe, topology, pairs, *rest = ROWS[name]
    return ["lrsclip_jax.plan", f"--config={recipe}", f"--topology={topology}", f"--config.batch_size={pairs}", *rest]


if __name__ == "__main__":
    cli(main)
