"""The parts of the measurement, in order of worth: what each measures, its share of the time, what it needs."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

from benchmarks.absent import PACKAGES
from benchmarks.programs import Job
from benchmarks.tables import Row

# Pairs a step, and the bytes that PyTorch, which stores all activations, and our programs take for them together.
PAIRS = {"vitb16": (256, 72e9), "vitl14": (128, 100e9), "vitb32": (256, 60e9)}
# Pairs/s at 45 % and 55 % MFU of an H100 or H200 (989 TFLOP/s), on useful FLOPs of texts as long as LRS2M's.
AIMS = {"vitb16": (3_185, 3_900), "vitl14": (791, 970)}
AIM_OVER_PYTORCH = 2

Tables = Iterator[list[Row]]  # the whole table so far, again and again


@dataclass(frozen=True)
class Machine:
    """The device that the parts run on, and where their files go.

    Attributes:
      memory: bytes of one device.
      out: the folder of the results.
      rehearsal: tiny models instead of those of the zoo.
    """

    memory: int
    out: Path
    rehearsal: bool

    def job(self, model: str) -> Job:
        """Returns the job of a model, with fewer pairs where the device has less memory."""
        if self.rehearsal:
            return Job("tiny", 16, ("model.image.size=32",))
        pairs, room = PAIRS[model]
        while pairs > 8 and room > self.memory:
            pairs, room = pairs // 2, room / 2
        return Job(model, pairs)

    def of_size(self, usual: int, rehearsed: int) -> int:
        """Returns a number that is smaller in a rehearsal."""
        return rehearsed if self.rehearsal else usual


@dataclass(frozen=True)
class Part:
    """A part.

    Attributes:
      title: of its table.
      share: of the time, next to the shares of the other parts.
      tables: measures; runs in a process of its own.
      needs: packages beyond JAX's and NumPy.
    """

    title: str
    share: float
    tables: Callable[[Machine], Tables]
    needs: tuple[str, ...] = ()


def so_far(rows: Iterable[Row]) -> Tables:
    """Yields the table after each row."""
    found: list[Row] = []
    for row in rows:
        found.append(row)
        yield found


def step(model: str) -> Callable[[Machine], Tables]:
    """Returns the part of a model's train step: ours packed, then next to PyTorch, then padded."""

    def tables(machine: Machine) -> Tables:
        from benchmarks.step import measured

        job = machine.job(model)
        stages = [["packed"], ["PyTorch"], ["padded"], ["PyTorch, short at 77"]]
        for result in measured(job, stages, machine.of_size(3, 1)):
            yield step_rows(result)

    return tables


def step_rows(result: dict) -> list[Row]:
    """Returns the rows of `benchmarks.step` with the aims next to the packed step, and what did not run."""
    from benchmarks.step import rows

    head = {"model": result["model"], "pairs": str(result["batch"])}
    found = [head | row for row in rows(result)]
    for row in found:
        if result["model"] in AIMS and row["train step"] == "packed":
            low, high = AIMS[result["model"]]
            row["aim, pairs/s at 45 % MFU of an H100"], row["aim, at 55 %"] = f"{low:,}", f"{high:,}"
            row["aim, × PyTorch"] = str(AIM_OVER_PYTORCH)
    return found + [
        head | {"train step": name, "note": f"did not run: {reason}"} for name, reason in result["failed"].items()
    ]


def attention(machine: Machine) -> Tables:
    from benchmarks.attention import SHAPES, compared, row

    rows, rounds = machine.of_size(256, 2), machine.of_size(5, 1)
    shapes = SHAPES[: machine.of_size(len(SHAPES), 1)]

    yield from so_far(row(compared(shape, rows, rounds)) for shape in shapes)


def largest_batch(machine: Machine) -> Tables:
    from benchmarks.largest_batch import Way, grown, row

    job = machine.job("vitb16")
    way = Way(microbatch=job.pairs, steps=2)
    first = Job(job.model, job.pairs * machine.of_size(16, 1), job.keys)
    up_to = 2 * job.pairs if machine.rehearsal else None
    fits: list = []
    rows: list[Row] = []
    for found in grown(first, way, up_to, growth=machine.of_size(4, 2)):
        fits += [] if isinstance(found, int) else [found]
        rows.append(row(found, fits[0] if fits else None, way))
        yield [*rows, *_by_memory(fits, machine.memory)]


def _by_memory(fits: list, memory: int) -> list[Row]:
    """The largest batch on a line through the compiler's accounts of the last two, which is no measurement."""
    if len(fits) < 2 or not memory:  # of a CPU JAX names none
        return []
    small, large = fits[-2:]
    a_pair = (large.memory - small.memory) / (large.pairs - small.pairs)
    pairs = int(large.pairs + (memory - large.memory) / a_pair) if a_pair > 0 else 0
    return [{"pairs": f"{pairs:,}", "s": "not run: what the memory has room for by the compiler's account"}]


def loss_forms(machine: Machine) -> Tables:
    import jax

    from benchmarks.loss_memory import times

    devices = len(jax.devices())
    pairs, width, rounds = machine.of_size(8_192, 8) * devices, machine.of_size(768, 16), machine.of_size(9, 1)
    forms = (("full", 0), ("gather", 1024), ("ring", 1024), ("ring", 0))

    def each() -> Iterator[Row]:
        for form, chunk in forms:
            about = {"form": form, "chunk": str(chunk or "all"), "pairs": f"{pairs:,}", "devices": str(devices)}
            yield about | times(form, chunk, pairs, width, rounds)

    yield from so_far(each())


def integers(machine: Machine) -> Tables:
    from benchmarks.encoding import WIDTHS, rows
    from benchmarks.step import measured

    job = machine.job("vitb16")
    found: list[Row] = []
    # The step first: it has the device in another process, which this one must not have begun to use by then.
    for result in measured(job, [["packed", "int8"]], machine.of_size(3, 1)):
        rates = {each["program"]: each["pairs_per_second"] for each in result["programs"]}
        row = {"of": f"{job.model}, train step, packed", "in": "pairs/s"}
        for kind, name in (("float", "packed"), ("int8", "int8")):
            row[kind] = f"{rates[name]:,.4g}" if name in rates else f"did not run: {result['failed'][name]}"
        if len(rates) == 2:
            row["int8 × float"] = f"{rates['int8'] / rates['packed']:.2f}"
        found.append(row)
        yield found
    for encoded in so_far(rows(job, machine.of_size(5, 1), WIDTHS[: machine.of_size(len(WIDTHS), 1)])):
        yield found + encoded


def decoding(machine: Machine) -> Tables:
    from benchmarks import data, epoch
    from lrsclip_jax.run.startup import machine as devices

    job = machine.job("vitb16")
    with tempfile.TemporaryDirectory() as folder:
        Path(folder, "set").mkdir()
        side = machine.of_size(512, 64)
        data.made(Path(folder, "set"), side, count=machine.of_size(2048, 64))
        keys = [f"model.name={job.model}", f"batch_size={job.pairs}", "log.tensorboard=False", *job.keys]
        steps = machine.of_size(200, 20)
        metrics, config = epoch.train(f"{folder}/set", f"{folder}/run", steps, keys)
        about = {"steps": str(steps), "images": f"JPEG of {side} px", "cores": str(os.cpu_count())}
        measured, *arithmetic = epoch.rows(metrics, config, devices())
        yield [measured | about, *arithmetic]


def start(machine: Machine) -> Tables:
    from benchmarks.start import rows

    yield from so_far(rows(machine.job("vitb16")))


def restart(machine: Machine) -> Tables:
    from benchmarks.restart import rows

    yield from so_far(rows(machine.job("vitb16"), steps=machine.of_size(20, 4)))


def kernels(machine: Machine) -> Tables:
    from benchmarks.kernels import longest, trace

    yield longest(trace(machine.job("vitb16"), machine.out / "profile"), 10)


_DATA = (*PACKAGES, "jinja2", "matplotlib", "sklearn")

PARTS = {
    "step-b16": Part("Train step, ViT-B/16", 32, step("vitb16")),
    "step-l14": Part("Train step, ViT-L/14", 24, step("vitl14")),
    "step-b32": Part("Train step, ViT-B/32", 8, step("vitb32")),
    "attention": Part("Attention, forward, and forward again and backward", 8, attention),
    "largest": Part("Largest exact batch, ViT-B/16, packed", 8, largest_batch),
    "loss": Part("Loss and its gradient next to info_nce's full form", 3, loss_forms),
    "int8": Part("Products in 8-bit integers", 5, integers),
    "data": Part("Steps with real decoding, ViT-B/16, and the wait for data", 7, decoding, _DATA),
    "start": Part("Start, ViT-B/16", 5, start),
    "restart": Part("Restart, ViT-B/16, and what determinism costs", 6, restart),
    "kernels": Part("The longest kernels of a step, ViT-B/16, packed", 5, kernels),
}


def shares(left: Iterable[str], seconds: float) -> float:
    """Returns the seconds of the first of the parts that are left, by its share: what one saves, the next ones have."""
    names = list(left)
    return seconds * PARTS[names[0]].share / sum(PARTS[name].share for name in names)
