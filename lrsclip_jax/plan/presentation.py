"""A plan as lines for a person, and as a document for a program."""

from __future__ import annotations

import dataclasses
import math
from typing import Any, NamedTuple

import jax

from lrsclip_jax.chips import Chip
from lrsclip_jax.parameter_rules import path_of
from lrsclip_jax.plan import advice, roofline
from lrsclip_jax.plan.ahead import PlannedStep, Program, TooLarge, device_bytes, job
from lrsclip_jax.plan.lrs2m_lengths import subsets
from lrsclip_jax.plan.packed_shapes import PackedShapes
from lrsclip_jax.setup import Setup


class Epoch(NamedTuple):
    """What an epoch takes at least: hours of all chips together, and their price, None where an hour's is not known."""

    pairs: int
    chip_hours: float
    cost: float | None


@dataclasses.dataclass(frozen=True)
class Plan:
    """A job whose step was compiled, or refused.

    Attributes:
      planned: the job.
      outcome: of the compiler.
      seconds: that it took.
      compiled_for: the kind of device it compiled for.
      chip: by whose figures the job is judged; None if they are not known.
      memory: bytes of one device.
      note: a remark on these judgements, or "".
      price: of an hour of one chip, in any currency; None: not known.
    """

    planned: PlannedStep
    outcome: Program | TooLarge
    seconds: float
    compiled_for: str
    chip: Chip | None
    memory: int
    note: str
    price: float | None = None

    @property
    def setup(self) -> Setup:
        return self.planned.setup

    @property
    def wanted(self) -> int:
        """Bytes on one device."""
        return self.outcome.memory.peak if isinstance(self.outcome, Program) else self.outcome.wanted

    @property
    def fits(self) -> bool:
        return isinstance(self.outcome, Program) and self.wanted <= self.memory

    @property
    def estimate(self) -> roofline.Estimate | None:
        if self.chip is None or isinstance(self.outcome, TooLarge):
            return None
        found = self.outcome.collectives
        sent = None if found is None else sum(kind.bytes for kind in found)
        return roofline.estimate(job(self.planned), self.chip, sent)

    @property
    def epoch(self) -> Epoch | None:
        """The least that an epoch of LRS2M takes; None without an estimate."""
        if (best := self.estimate) is None:
            return None
        pairs = sum(subset.pairs for subset in subsets())
        hours = self.setup.mesh.size * pairs / best.pairs_per_second / 3600
        return Epoch(pairs, hours, None if self.price is None else hours * self.price)

    @property
    def changes(self) -> tuple[list[str], float]:
        """Flags that should make it fit, and the bytes to be expected then."""
        mesh = self.setup.mesh
        now = advice.settings(job(self.planned), dict(mesh.shape), self.setup.config.loss.chunk)
        return advice.changes(now, self.wanted, self.memory)


def lines(plan: Plan) -> list[str]:
    """Returns the plan as text; the last line is the verdict."""
    return [
        *_headline(plan),
        "",
        *_parameters(plan.setup),
        "",
        *_memory(plan),
        "",
        *_arithmetic(plan),
        "",
        *_accessed(plan),
        *_collectives(plan),
        *_time(plan),
        *([f"note: {plan.note}"] if plan.note else []),
        "",
        verdict(plan),
    ]


def verdict(plan: Plan) -> str:
    """Returns one line: whether it fits, and if not, what to change."""
    if plan.fits:
        return f"fits: {_size(plan.wanted)} of {_size(plan.memory)} a device ({plan.wanted / plan.memory:.0%})"
    flags, expected = plan.changes
    said = f"does not fit: wants {_size(plan.wanted)} of {_size(plan.memory)} a device; "
    if not flags:
        return said + "nothing but a smaller batch or more devices would help"
    tried = f"try {' '.join(flags)}, for about {_size(expected)}"
    return said + (tried if expected <= plan.memory else tried + ", and more devices or a smaller batch")


def document(plan: Plan) -> dict[str, Any]:
    """Returns the plan as JSON types: bytes, FLOPs, seconds."""
    work, config = job(plan.planned), plan.setup.config
    program = plan.outcome if isinstance(plan.outcome, Program) else None
    memory = dataclasses.asdict(program.memory) if program else {}
    return {
        "fits": plan.fits,
        "verdict": verdict(plan),
        "devices": plan.setup.mesh.size,
        "compiled_for": plan.compiled_for,
        "chip": plan.chip and plan.chip.name,
        "mesh": dict(plan.setup.mesh.shape),
        "model": config.model.name,
        "batch_size": config.batch_size,
        "parameters": sum(leaf.size for leaf in jax.tree.leaves(plan.setup.shapes.params)),
        "trained": _trained(plan.setup),
        "memory": {**memory, "peak": plan.wanted, "limit": plan.memory},
        "host": {
            "memory": work.hosted_bytes + work.image_words,
            "to_device": work.from_host,
            "to_host": work.hosted_bytes,
        },
        "flops": {
            "useful_per_pair": work.useful,
            "executed_per_pair": work.pair.executed,
            "executed_per_step": work.pair.executed * work.batch_size,
        },
        "traffic": roofline.traffic(work),
        "accessed": program and program.accessed,
        "packed": plan.planned.packed and dataclasses.asdict(plan.planned.packed),
        "collectives": program and program.collectives and [*map(dataclasses.asdict, program.collectives)],
        "estimate": plan.estimate and dataclasses.asdict(plan.estimate),
        "epoch": plan.epoch and plan.epoch._asdict(),
        "shardings": {path: _axes(leaf) for path, leaf in _paths(plan.setup.shapes.params)},
        "changes": [] if plan.fits else plan.changes[0],
        "seconds_to_compile": round(plan.seconds, 1),
        "note": plan.note,
    }


def _headline(plan: Plan) -> list[str]:
    setup, config = plan.setup, plan.setup.config
    axes = " × ".join(f"{name} {size}" for name, size in setup.mesh.shape.items())
    share = config.batch_size // (setup.mesh.shape["data"] * setup.mesh.shape["fsdp"])
    parts = f" in {config.train.microbatches} microbatches" if config.train.microbatches > 1 else ""
    return [
        f"{config.model.name}, {config.batch_size:,} pairs a step, {share:,} a device{parts}",
        f"{setup.mesh.size} × {plan.compiled_for}, mesh {axes}",
        f"{setup.model.image.dtype}, remat {setup.model.image.remat} (image) {setup.model.text.remat} (text), "
        f"loss {config.loss.form}, chunk {config.loss.chunk}; compiled in {plan.seconds:.0f} s",
        *_packed(plan.planned.packed),
    ]


def _packed(packed: PackedShapes | None) -> list[str]:
    """Returns lines on the shapes to expect, each of which is compiled by itself."""
    if packed is None:
        return []
    mix = ", ".join(f"{rows:,} ({share:.0%})" for rows, share in sorted(packed.shares.items()))
    return [
        f"texts packed, of {packed.source}: {packed.tokens:.0f} tokens a pair fill {packed.filled:.1%} of the slots",
        f"  rows of {packed.row_length} in a batch (share of the batches): {mix}; compiled for the most",
    ]


def _trained(setup: Setup) -> int:
    """Returns the number of parameters that are not wholly frozen."""
    sizes = jax.tree.map(lambda leaf, learns: leaf.size * bool(learns), setup.shapes.params, setup.optimizer.trainable)
    return sum(jax.tree.leaves(sizes))


def _parameters(setup: Setup) -> list[str]:
    """Returns lines on how many there are and how each is split; those that are whole on every device share a line."""
    leaves = _paths(setup.shapes.params)
    trained = _trained(setup)
    total = sum(leaf.size for _, leaf in leaves)
    out = [f"parameters {total / 1e6:.1f} M, {trained / 1e6:.1f} M trained", f"  {'bytes a device':>14}  sharding"]
    whole = []
    for path, leaf in leaves:
        part = leaf.sharding.shard_shape(leaf.shape)
        if math.prod(part) == leaf.size:
            whole.append(leaf)
            continue
        split = " × ".join(
            f"{size}/{axis}" if axis and local != size else f"{size}"
            for size, local, axis in zip(leaf.shape, part, _axes(leaf), strict=True)
        )
        out.append(f"  {_size(device_bytes(leaf)):>14}  {path}  [{split}]")
    said = "all" if len(whole) == len(leaves) else "the other"
    out.append(f"  {_size(device_bytes(whole)):>14}  {said} {len(whole)}, whole on every device")
    return out


def _axes(leaf: jax.ShapeDtypeStruct) -> list[Any]:
    spec = list(leaf.sharding.spec)
    return spec + [None] * (leaf.ndim - len(spec))


def _memory(plan: Plan) -> list[str]:
    setup = plan.setup
    state = {"parameters": setup.shapes.params, "optimizer": setup.shapes.opt_state, "batch": plan.planned.batch}
    if setup.shapes.ema is not None:
        state["average"] = setup.shapes.ema
    if setup.shapes.teacher is not None:
        state["teacher"] = setup.shapes.teacher
    inputs = ", ".join(f"{name} {_size(device_bytes(shapes))}" for name, shapes in state.items())
    head = f"memory of a device, {_size(plan.memory)} available"
    if isinstance(plan.outcome, TooLarge):
        return [head, f"  arguments    {inputs}", f"  wanted       {_size(plan.wanted)}, which the compiler refuses"]
    memory = plan.outcome.memory
    return [
        head,
        f"  arguments   {_size(memory.arguments):>10}  {inputs}",
        f"  temporaries {_size(memory.temporaries):>10}",
        f"  outputs     {_size(memory.outputs - memory.aliased):>10}  "
        f"and {_size(memory.aliased)} in the place of arguments",
        f"  program     {_size(memory.program):>10}",
        f"  peak        {_size(memory.peak):>10}  {memory.peak / plan.memory:.0%}",
        *_hosted(plan),
    ]


def _hosted(plan: Plan) -> list[str]:
    """Returns a line on what lies in host memory, if anything does."""
    work = job(plan.planned)
    kept = {"images": work.image_words, "optimizer": work.hosted_bytes}
    said = ", ".join(f"{name} {_size(count)}" for name, count in kept.items() if count)
    back = f", {_size(work.hosted_bytes)} return" if work.hosted_bytes else ""
    return [f"  in host memory: {said}; a step brings {_size(work.from_host)} to the device{back}"] if said else []


def _arithmetic(plan: Plan) -> list[str]:
    work = job(plan.planned)
    pair = work.pair
    texts = "".join(
        f", {rows.per_pair:.3g} rows of {rows.slots} {_flop(text.executed)}"
        if plan.planned.packed
        else f", text of {rows.slots} {_flop(text.executed)}"
        for rows, text in zip(work.rows, pair.texts, strict=True)
    )
    rows = {
        "forward": (pair.forward.executed, f"image {_flop(pair.image.executed)}{texts}"),
        "backward": (pair.backward.executed, ""),
        "remat": (pair.remat.executed, "computed again for the backward pass"),
        "teacher": (pair.teacher.executed, "the model to which loss.preserve holds it"),
        "microbatches": (pair.accumulation.executed, "a second forward pass"),
        "loss": (pair.loss, f"{_flop(pair.logits)} of it useful"),
        "executed": (pair.executed, f"{_flop(pair.executed * work.batch_size)} a step"),
        "useful": (work.useful, "what MFU counts: nothing behind a causal mask, nothing twice"),
    }
    return [
        "arithmetic of a pair",
        *(f"  {name:<12}{_flop(count):>12}  {remark}".rstrip() for name, (count, remark) in rows.items() if count),
    ]


def _accessed(plan: Plan) -> list[str]:
    if isinstance(plan.outcome, TooLarge) or plan.outcome.accessed is None:
        return []
    moved, setup = plan.outcome.accessed, plan.setup
    pair = moved * setup.mesh.size / setup.layout.batch_size
    rate = f", {_seconds(moved / plan.chip.bandwidth)} at the memory's rate" if plan.chip else ""
    return [f"the program reads and writes {_size(moved)} in a device's memory, {_size(pair)} a pair{rate}", ""]


def _collectives(plan: Plan) -> list[str]:
    if isinstance(plan.outcome, TooLarge):
        return []
    found = plan.outcome.collectives
    if found is None:
        return ["collectives: unknown, this jaxlib cannot read what this libtpu compiled; 'jax[tpu]' pairs them", ""]
    if not found:
        return ["collectives: none", ""]
    rows = [
        f"  {kind.kind:<20}{kind.count:>8,}{_size(kind.bytes):>14}{_size(kind.overlapped):>16}"
        + ("" if kind.exact else "  at least")
        for kind in found
    ]
    return [f"{'collectives in a step':<22}{'count':>8}{'a device sends':>16}{'while it works':>16}", *rows, ""]


def _time(plan: Plan) -> list[str]:
    best = plan.estimate
    if best is None or plan.chip is None:
        why = "the step was refused" if isinstance(plan.outcome, TooLarge) else "this chip's peak is not known"
        return [f"no estimate of the time: {why}"]
    chips = f"{plan.setup.mesh.size} × {plan.chip.name}"
    return [
        f"a step takes at least {_seconds(best.seconds)} on {chips}, bound by {best.bound}",
        f"  arithmetic {_seconds(best.arithmetic)}, memory {_seconds(best.memory)}, "
        f"interconnect {'unknown' if best.interconnect is None else _seconds(best.interconnect)}"
        + ("" if best.host is None else f", host {_seconds(best.host)}"),
        f"  at most {best.pairs_per_second:,.0f} pairs/s and {best.mfu:.0%} MFU",
        *_epoch(plan),
    ]


def _epoch(plan: Plan) -> list[str]:
    if (epoch := plan.epoch) is None:
        return []
    cost = "" if epoch.cost is None else f", {epoch.cost:,.2f} at {plan.price:g} an hour of a chip"
    return [f"  an epoch of LRS2M's {epoch.pairs:,} pairs: at least {epoch.chip_hours:,.3g} chip-hours{cost}"]


def _paths(tree: Any) -> list[tuple[str, jax.ShapeDtypeStruct]]:
    return [(path_of(path), leaf) for path, leaf in jax.tree.leaves_with_path(tree)]


def _size(count: float) -> str:
    return _scaled(count, 1024, ("B", "KiB", "MiB", "GiB", "TiB"))


def _flop(count: float) -> str:
    return _scaled(count, 1000, ("FLOP", "kFLOP", "MFLOP", "GFLOP", "TFLOP", "PFLOP", "EFLOP"))


def _scaled(count: float, base: int, units: tuple[str, ...]) -> str:
    power = min(int(math.log(count, base)), len(units) - 1) if count >= base else 0
    scaled = count / base**power
    digits = 0 if not power or scaled >= 100 else 1 if scaled >= 10 else 2
    return f"{scaled:.{digits}f} {units[power]}"


def _seconds(seconds: float) -> str:
    return f"{seconds:.2f} s" if seconds >= 1 else f"{seconds * 1e3:.2f} ms"
