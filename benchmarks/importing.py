"""What importing a checkpoint costs: `python -m benchmarks.importing [--model=vitl14]`.

Writes a checkpoint of random weights as open_clip's safetensors, imports it in a process of its own, 77 positions
stretched to 248, and prints seconds and peak memory next to the file's size. The process's memory before it reads
anything, JAX and all, is given apart.
"""

from __future__ import annotations

import multiprocessing
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from safetensors.numpy import save_file

from eval.command import command_line
from lrsclip_jax.errors import cli
from lrsclip_jax.models import zoo
from lrsclip_jax.pytorch.families import openai
from lrsclip_jax.pytorch.layout import keys_of, shapes

_MODULES = "lrsclip_jax.convert.import_checkpoint"  # what the command imports


def main(arguments: Sequence[str] | None = None) -> None:
    """Prints a Markdown table of one row."""
    parser = command_line("python -m benchmarks.importing", __doc__.split("\n\n")[1])
    parser.add_argument("--model", default="vitl14", help="of the zoo, with CLIP's towers; vitl14")
    name = parser.parse_args(arguments).model
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "open_clip_model.safetensors"
        # A child's peak is never below its parent's size: the weights are drawn in a third process.
        writer = multiprocessing.get_context("spawn").Process(target=_write, args=(name, file))
        writer.start()
        writer.join()
        command = ["-m", "lrsclip_jax.convert", "import", str(file), f"--workdir={folder}/run", "--context-length=248"]
        seconds, peak = _child([*command, f"--activation={zoo.create(name).image.activation}"])
        _, before = _child(["-c", f"import {_MODULES}"])
        size = file.stat().st_size
    print("| file | seconds | peak memory | of the file | of it before reading |\n|---:|---:|---:|---:|---:|")
    print(
        f"| {size / 1e9:.2f} GB | {seconds:.1f} | {peak / 1e9:.2f} GB | {peak / size:.2f} × | {before / 1e9:.2f} GB |"
    )


def _write(name: str, file: Path) -> None:
    model = zoo.create(name)
    rng = np.random.default_rng(0)
    sizes = keys_of(openai.table(model), shapes(model))
    save_file({key: rng.standard_normal(shape, np.float32) for key, shape in sizes.items()}, file)


def _child(arguments: list[str]) -> tuple[float, float]:
    """Seconds and peak bytes of a Python process."""
    begun = time.perf_counter()
    process = subprocess.Popen([sys.executable, *arguments], stdout=subprocess.DEVNULL)
    _, status, usage = os.wait4(process.pid, 0)
    if status:
        raise SystemExit("the import failed")
    return time.perf_counter() - begun, usage.ru_maxrss * 1024


if __name__ == "__main__":
    cli(main)
