"""The bytes that a compiled program reads and writes in a device's main memory, read from its text.

As in XLA's `cost_analysis()`, an instruction reads its operands and writes its results, and what happens inside a
fusion is free. Unlike there, what is in a loop counts as often as the loop runs, an array counts with the padding of
its tiles, and one that the compiler keeps on the chip does not count.
"""

from __future__ import annotations

import math
import re

from lrsclip_jax.plan.hlo import Computation, Instruction, array_bytes, called, executed, parse

# These give names to arrays or parts of them, or end what another instruction has begun.
_STILL = {
    *("parameter", "constant", "bitcast", "tuple", "get-tuple-element", "while", "conditional", "call", "after-all"),
    *("opt-barrier", "partition-id", "copy-done", "slice-done", "dynamic-slice-done", "dynamic-update-slice-done"),
    *("async-start", "async-update", "async-done"),
}
_ARRAY = re.compile(r"\w+\[[\d,]*\](?:\{[^}]*\})?")


def accessed(text: str) -> int:
    """Returns the bytes that one execution of a program moves between a device and its main memory.

    Of an array that an instruction cuts a slice from, or puts one into, the slice counts. A kernel, such as fused
    attention, is one instruction: an array that it reads twice counts once.

    Args:
      text: `compiled.as_text()`.
    """
    computations, entry = parse(text)
    inside = {
        id(computations[called(instruction, "calls")])
        for computation in computations.values()
        for instruction in computation.instructions.values()
        if instruction.opcode == "fusion"
    }
    return sum(
        times * _moved(instruction, scope, computations)
        for instruction, scope, times, _ in executed(computations, entry)
        if id(scope) not in inside
    )


def _moved(instruction: Instruction, scope: Computation, computations: dict[str, Computation]) -> int:
    operands = [scope.instructions[name] for name in instruction.operands]
    opcode, result = instruction.opcode, instruction.type
    if opcode in _STILL or '"AllocateBuffer"' in instruction.text:
        return 0
    if opcode == "fusion":
        fused = computations[called(instruction, "calls")]
        read = sum(
            min(_stored(operand.type), _read(name, fused, computations))
            for operand, name in zip(operands, _parameters(fused), strict=True)
        )
        return read + min(_stored(result), _written(fused.root, fused, computations))
    if opcode in ("dynamic-slice", "slice", "gather"):
        return min(_stored(operands[0].type), _whole(result)) + _stored(result)
    if opcode in ("dynamic-update-slice", "dynamic-update-slice-start"):
        return _stored(operands[1].type) + min(_stored(operands[0].type), _whole(operands[1].type))
    if opcode == "copy-start":  # (to, from, context)
        return sum(map(_stored, _ARRAY.findall(result)[:2]))
    if opcode in ("slice-start", "dynamic-slice-start"):  # ((from, indices…), to, context)
        part = _ARRAY.findall(result)[len(operands)]
        return min(_stored(operands[0].type), _whole(part)) + _stored(part)
    return sum(_stored(operand.type) for operand in operands) + _stored(result)


def _read(name: str, scope: Computation, computations: dict[str, Computation]) -> int:
    """Returns the bytes of an array that a fused computation reads: of slices, if it takes nothing else."""
    total, whole = 0, _stored(scope.instructions[name].type)
    for user in scope.instructions.values():
        for place, operand in enumerate(user.operands):
            if operand == name:
                total += _read_by(user, place, scope, computations)
    return min(total, whole)


def _read_by(user: Instruction, place: int, scope: Computation, computations: dict[str, Computation]) -> int:
    whole = _stored(scope.instructions[user.operands[place]].type)
    if user.opcode == "bitcast":
        return _read(user.name, scope, computations)
    if user.opcode in ("dynamic-slice", "slice", "gather") and not place:
        return _whole(user.type)
    if user.opcode == "dynamic-update-slice" and not place:
        return 0
    if user.opcode == "fusion":
        fused = computations[called(user, "calls")]
        return _read(_parameters(fused)[place], fused, computations)
    return whole


def _written(result: Instruction, scope: Computation, computations: dict[str, Computation]) -> int:
    """Returns the bytes that a fused computation writes for a result: of slices that it puts into arrays."""
    operands = [scope.instructions[name] for name in result.operands if name in scope.instructions]
    if result.opcode == "tuple":
        return sum(_written(operand, scope, computations) for operand in operands)
    if result.opcode == "dynamic-update-slice":
        return _whole(operands[1].type)
    if result.opcode == "bitcast":
        return _written(operands[0], scope, computations)
    if result.opcode == "fusion":
        fused = computations[called(result, "calls")]
        return _written(fused.root, fused, computations)
    return _stored(result.type)


def _parameters(fused: Computation) -> list[str]:
    """Returns the names of a computation's parameters, in their order."""
    parameters = [each for each in fused.instructions.values() if each.opcode == "parameter"]
    return [each.name for each in sorted(parameters, key=lambda each: int(each.arguments))]


def _stored(type_: str) -> int:
    """Returns the bytes of arrays in main memory, with the padding of tiles; 0 for what lies on the chip."""
    return sum(_whole(array) for array in _ARRAY.findall(type_) if not re.search(r"S\([1-9]\d*\)", array))


def _whole(array: str) -> int:
    """Returns the bytes of an array "bf16[8,197]{1,0:T(8,128)}", with the padding of its tiles."""
    name, sizes, order, tile = re.findall(r"(\w+)\[([\d,]*)\](?:\{([\d,]*)(?::T\(([\d,]+)\))?)?", array)[0]
    shape = [int(size) for size in sizes.split(",") if size]
    # The tile's last dimension is that of the array's dimension which is first in the order, the fastest one.
    for axis, step in zip(map(int, filter(None, order.split(","))), reversed(tile.split(",")), strict=False):
        if step:
            shape[axis] = math.ceil(shape[axis] / int(step)) * int(step)
    return array_bytes(f"{name}[{','.join(map(str, shape))}]")
