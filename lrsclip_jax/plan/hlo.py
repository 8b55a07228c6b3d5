"""The collectives of a compiled program, and the bytes that they send, read from its text (`compiled.as_text()`).

XLA's own `cost_analysis()` counts the body of a loop once, and the layers of a tower are a loop. Here a collective in
a loop counts as often as the loop runs.
"""

from __future__ import annotations

import math
import re
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass

_FUSED_COLLECTIVE = "async_collective_fusion"  # of the TPU compiler
_WORK = ("fusion", "dot", "convolution", "custom-call", "while", "call")
KINDS = ("all-gather", "reduce-scatter", "all-reduce", "all-to-all", "collective-permute", "collective-broadcast")


@dataclass(frozen=True)
class Collectives:
    """All collectives of one kind in one execution of a program.

    Attributes:
      kind: one of KINDS.
      count: how many are executed.
      bytes: that one device sends for them, by the ring algorithm: (n−1)/n of the whole array when n devices gather
        or scatter it, twice that for an all-reduce, the operand for a permutation.
      exact: False if one is in a loop whose number of passes the text does not tell; it then counts once.
      overlapped: of the bytes, those that travel while the device works, in the order that the compiler chose.
    """

    kind: str
    count: int
    bytes: int
    exact: bool = True
    overlapped: int = 0


@dataclass(frozen=True)
class Instruction:
    """One line of a computation."""

    name: str
    type: str  # "f32[8,16]{1,0}", or a tuple of types
    opcode: str
    operands: tuple[str, ...]
    text: str  # after the operands: attributes, backend_config
    arguments: str  # the operands as written; the value of a constant, the number of a parameter


@dataclass(frozen=True)
class Computation:
    """Instructions by name, in their order; the root is the result."""

    instructions: dict[str, Instruction]
    root: Instruction


def collectives(text: str) -> list[Collectives]:
    """Returns the collectives that one execution of a compiled program performs, in the order of KINDS.

    Args:
      text: `compiled.as_text()` of a partitioned program, from the CPU, TPU or GPU compiler. An asynchronous pair of
        start and done is one collective.
    """
    computations, entry = parse(text)
    devices = int(found[1]) if (found := re.search(r"num_partitions=(\d+)", text)) else 1
    counts, sent, overlapped = Counter[str](), Counter[str](), Counter[str]()
    in_background = _in_background(computations)
    inexact: set[str] = set()
    for instruction, scope, times, exact in executed(computations, entry):
        kind = instruction.opcode.removesuffix("-start")
        # The TPU compiler spreads an asynchronous collective over several fusions; the first bears a −1.
        if kind not in KINDS or re.search(r'"async_collective_fusion_config":\{"flag_start":"\d', instruction.text):
            continue
        size = sum(array_bytes(scope.instructions[name].type) for name in instruction.operands)
        counts[kind] += times
        bytes_ = times * _sent(kind, size, _group_size(instruction.text, devices))
        sent[kind] += bytes_
        overlapped[kind] += bytes_ if id(instruction) in in_background else 0
        if not exact:
            inexact.add(kind)
    return [
        Collectives(kind, counts[kind], sent[kind], kind not in inexact, overlapped[kind])
        for kind in KINDS
        if counts[kind]
    ]


def _in_background(computations: dict[str, Computation]) -> set[int]:
    """Returns the `id` of every collective that travels while the device works.

    The TPU compiler fuses the middle of a collective with products, and leaves its ends, of the same channel, alone.
    Other collectives have a start and a done, between which something else stands.
    """
    found: set[int] = set()
    fused = {
        _channel(instruction)
        for name, computation in computations.items()
        if name.startswith(_FUSED_COLLECTIVE)
        for instruction in computation.instructions.values()
    } - {None}
    for computation in computations.values():
        order = [*computation.instructions.values()]
        found.update(id(instruction) for instruction in order if _channel(instruction) in fused)
        for place, instruction in enumerate(order):
            if not instruction.opcode.endswith("-start"):
                continue
            for later in order[place + 1 :]:
                if instruction.name in later.operands:
                    break
                if later.opcode in _WORK:
                    found.add(id(instruction))
                    break
    return found


def _channel(collective: Instruction) -> str | None:
    found = re.search(r"channel_id=(\d+)", collective.text)
    return found[1] if found else None


def _sent(kind: str, size: int, group: int) -> int:
    """Returns the bytes that one device sends when each of `group` devices has an operand of `size` bytes."""
    if kind == "all-gather":
        return size * (group - 1)
    if kind in ("reduce-scatter", "all-to-all"):
        return size * (group - 1) // group
    if kind == "all-reduce":
        return 2 * size * (group - 1) // group
    return size


def executed(
    computations: dict[str, Computation], name: str, times: int = 1, exact: bool = True
) -> Iterator[tuple[Instruction, Computation, int, bool]]:
    """Yields every instruction that runs, with its computation, how often, and whether that number is certain."""
    scope = computations[name]
    for instruction in scope.instructions.values():
        yield instruction, scope, times, exact
        if instruction.opcode == "while":
            passes = _passes(instruction, scope, computations)
            yield from executed(
                computations, called(instruction, "body"), times * (passes or 1), exact and passes is not None
            )
        elif instruction.opcode in ("fusion", "call", "async-start"):
            yield from executed(computations, called(instruction, "calls", "to_apply"), times, exact)
        elif instruction.opcode == "conditional":
            # One of the branches runs, unknown which; where they have collectives, these are alike in all of them.
            branches = re.findall(r"(?:true|false)_computation=%([\w.\-]+)", instruction.text) or re.findall(
                r"%([\w.\-]+)", re.findall(r"branch_computations=\{([^}]*)\}", instruction.text)[0]
            )
            yield from executed(computations, branches[0], times, exact)


def _passes(loop: Instruction, scope: Computation, computations: dict[str, Computation]) -> int | None:
    """Returns how often a while loop runs, by the compiler's note or a counter's start, step and bound; or None."""
    if noted := re.search(r'"known_trip_count":\{"n":"(\d+)"\}', loop.text):
        return int(noted[1])
    condition, body = (computations[called(loop, role)] for role in ("condition", "body"))
    test = condition.root
    if test.opcode != "compare" or "direction=LT" not in test.text:
        return None
    counter, limit = (condition.instructions[name] for name in test.operands)
    if counter.opcode != "get-tuple-element":
        return None
    index = int(re.findall(r"index=(\d+)", counter.text)[0])
    bound = _constant(limit, condition)
    initial = scope.instructions[loop.operands[0]]
    if initial.opcode != "tuple" or body.root.opcode != "tuple" or bound is None:
        return None
    start = _constant(scope.instructions[initial.operands[index]], scope)
    increment = body.instructions[body.root.operands[index]]
    if increment.opcode != "add" or start is None:
        return None
    steps = [_constant(body.instructions[name], body) for name in increment.operands]
    step = next((step for step in steps if step), None)
    return step and max(0, math.ceil((bound - start) / step))


def _constant(instruction: Instruction, scope: Computation) -> int | None:
    """Returns the value of an integer constant, perhaps copied."""
    while instruction.opcode in ("copy", "bitcast", "convert"):
        instruction = scope.instructions[instruction.operands[0]]
    value = instruction.arguments
    return int(value) if instruction.opcode == "constant" and re.fullmatch(r"-?\d+", value) else None


def called(instruction: Instruction, *roles: str) -> str:
    """Returns the computation that an instruction calls, in the first of these roles that it has."""
    for role in roles:
        if found := re.search(rf"\b{role}=%([\w.\-]+)", instruction.text):
            return found[1]
    raise ValueError(f"{instruction.opcode} {instruction.name} has no {' or '.join(roles)}")


def _group_size(attributes: str, devices: int) -> int:
    """Returns how many devices take part together, from `replica_groups` in any of its notations."""
    found = re.search(r"replica_groups=(.*)", attributes)
    groups = found[1] if found else ""
    if listed := re.match(r"\{\{([\d,]+)\}", groups):
        return len(listed[1].split(","))
    if iota := re.match(r"\[\d+,(\d+)\]<=", groups):  # [groups, devices a group]<=[…]
        return int(iota[1])
    if mesh := re.match(r"mesh\[([^\]]*)\][^{]*\{([^}]*)\}", groups):  # mesh['a'=4,'b'=2] {'a'}, or {'a':(1)2}
        sizes = dict(re.findall(r"'([^']+)'=(\d+)", mesh[1]))
        axes = re.findall(r"'([^']+)'(?::\(\d+\)(\d+))?", mesh[2])
        return math.prod(int(part or sizes[axis]) for axis, part in axes)
    return devices


def array_bytes(type_: str) -> int:
    """Returns the bytes of an array or of a tuple of arrays."""
    total = 0
    for name, dimensions in re.findall(r"(\w+)\[([\d,]*)\]", type_):
        digits = re.search(r"\d+", name)
        bits = 8 if name == "pred" else int(digits[0]) if digits else 0
        total += math.prod(map(int, filter(None, dimensions.split(",")))) * bits // 8
    return total


def parse(text: str) -> tuple[dict[str, Computation], str]:
    """Returns the computations of a module by name, and the name of the one that runs."""
    computations: dict[str, Computation] = {}
    instructions: dict[str, Instruction] = {}
    entry = ""
    for line in text.splitlines():
        if head := re.match(r"(ENTRY )?%([\w.\-]+) \(.*\{$", line):
            name, instructions = head[2], {}
            entry = name if head[1] else entry
        elif found := re.match(r"  (ROOT )?%([\w.\-]+) = (.*)", line):
            instruction = _instruction(found[2], found[3])
            instructions[instruction.name] = instruction
            if found[1]:
                computations[name] = Computation(instructions, instruction)
    return computations, entry


def _instruction(name: str, text: str) -> Instruction:
    """Splits "TYPE opcode(operands), attributes"."""
    end = _closing(text, 0) + 1 if text.startswith("(") else text.index(" ")
    opening = text.index("(", end)
    closing = _closing(text, opening)
    arguments = text[opening + 1 : closing]
    return Instruction(
        name,
        text[:end],
        text[end:opening].strip(),
        tuple(re.findall(r"%([\w.\-]+)", arguments)),
        text[closing + 1 :],
        arguments,
    )


def _closing(text: str, opening: int) -> int:
    """Returns the position of the parenthesis that closes the one at `opening`."""
    depth = 0
    for found in re.compile(r"[()]").finditer(text, opening):
        depth += 1 if found[0] == "(" else -1
        if not depth:
            return found.start()
    raise ValueError(f"unbalanced parentheses in {text[:80]!r}")
