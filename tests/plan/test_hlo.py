import importlib.util
import json
import os
import subprocess
import sys

import pytest

from lrsclip_jax.plan import hlo

# Two programs on 8 devices whose collectives are known: one that names each itself, and one that leaves a scanned
# stack of layers, weights and batch both split, to the partitioner.
CHILD = """
import json, sys
from lrsclip_jax.plan import topology
place = topology.parse(sys.argv[1])
topology.prepare(place)
import jax, jax.numpy as jnp
from jax.sharding import AxisType, NamedSharding, PartitionSpec as P
from lrsclip_jax.plan.hlo import collectives

mesh = jax.make_mesh((4, 2), ("data", "fsdp"), axis_types=(AxisType.Auto,) * 2, devices=topology.devices(place))
both = ("data", "fsdp")

def shaped(shape, *axes):
    return jax.ShapeDtypeStruct(shape, jnp.float32, sharding=NamedSharding(mesh, P(*axes)))

def named(x):
    whole = jax.lax.all_gather(x, both, tiled=True)
    part = jax.lax.psum_scatter(jnp.sin(whole), "data", tiled=True)
    moved = jax.lax.all_to_all(part.reshape(2, -1, 128), "fsdp", 0, 0)
    def turn(x, _):
        x = jax.lax.ppermute(x, both, [(i, (i + 1) % 8) for i in range(8)])
        return x * 1.5 + jnp.sin(x), None
    x, _ = jax.lax.scan(turn, x, length=5)
    return jax.lax.psum(jnp.cos(x), "fsdp"), moved

def stacked(weights, x):
    def layer(x, w):
        return jnp.tanh(x @ jax.lax.with_sharding_constraint(w, NamedSharding(mesh, P()))), None
    return jax.lax.scan(layer, x, weights)[0]

programs = {
    "named": jax.jit(jax.shard_map(named, mesh=mesh, in_specs=P(both), out_specs=(P("data"), P(both)), check_vma=False))
    .lower(shaped((8 * 256, 128), both)),
    "stacked": jax.jit(stacked).lower(shaped((6, 256, 256), None, both), shaped((64, 256), both)),
}
print(json.dumps({
    name: {c.kind: (c.count, c.bytes, c.exact) for c in collectives(program.compile().as_text())}
    for name, program in programs.items()
}))
"""


@pytest.mark.slow
@pytest.mark.parametrize("topology", ["cpu:8", "v5e:2x4"])
def test_collectives_of_compiled_programs(topology):
    if topology != "cpu:8" and not importlib.util.find_spec("libtpu"):
        pytest.skip("libtpu is not installed")
    # libtpu has an XLA of its own, which refuses flags that it does not know.
    environment = os.environ | ({} if topology == "cpu:8" else {"XLA_FLAGS": ""})
    child = subprocess.run([sys.executable, "-c", CHILD, topology], env=environment, capture_output=True, text=True)
    assert child.returncode == 0, child.stderr
    found = json.loads(child.stdout)
    rows = 256 * 128 * 4  # bytes of a device's rows
    assert found["named"] == {
        "all-gather": [1, 7 * rows, True],  # it passes on the rows of all others
        "reduce-scatter": [1, 8 * rows * 3 // 4, True],
        "all-reduce": [1, 2 * rows // 2, True],
        "all-to-all": [1, 2 * rows // 2, True],
        "collective-permute": [5, 5 * rows, True],  # a scan of five
    }
    count, sent, exact = found["stacked"]["all-gather"]
    # Six layers, each gathered once; the TPU's compiler gathers in bfloat16 what it multiplies in bfloat16.
    itemsize = 4 if topology == "cpu:8" else 2
    assert (count, sent, exact) == (6, 6 * 7 * 256 * 256 * itemsize // 8, True)


def module(body: str, groups: str = "{{0,1},{2,3}}") -> str:
    """A small module in the compiler's notation, with an all-reduce of 64 bytes in a loop."""
    return f"""HloModule jit_f, num_partitions=8

%add (a: f32[], b: f32[]) -> f32[] {{
  %a = f32[] parameter(0)
  %b = f32[] parameter(1)
  ROOT %sum = f32[] add(%a, %b)
}}

%body (carry: (s32[], f32[16])) -> (s32[], f32[16]) {{
  %carry = (s32[]{{:T(128)}}, f32[16]{{0:T(128)}}) parameter(0)
  %one = s32[]{{:T(128)}} constant(2)
  %i = s32[]{{:T(128)}} get-tuple-element(%carry), index=0
  %x = f32[16]{{0:T(128)}} get-tuple-element(%carry), index=1
  %next = s32[]{{:T(128)}} add(%i, %one)
  %start = (f32[16]{{0}}, f32[16]{{0}}) all-reduce-start(%x), replica_groups={groups}, to_apply=%add
  %done = f32[16]{{0}} all-reduce-done(%start)
  ROOT %out = (s32[]{{:T(128)}}, f32[16]{{0}}) tuple(%next, %done)
}}

%condition (carry: (s32[], f32[16])) -> pred[] {{
  %carry = (s32[], f32[16]{{0}}) parameter(0)
  %i = s32[] get-tuple-element(%carry), index=0
  %limit = s32[] constant(12)
  ROOT %test = pred[] compare(%i, %limit), direction={body}
}}

ENTRY %main (x: f32[16]) -> f32[16] {{
  %x = f32[16]{{0}} parameter(0)
  %first = s32[] constant(1)
  %copied = s32[] copy(%first)
  %initial = (s32[], f32[16]{{0}}) tuple(%copied, %x)
  %loop = (s32[], f32[16]{{0}}) while(%initial), condition=%condition, body=%body
  ROOT %out = f32[16]{{0}} get-tuple-element(%loop), index=1
}}
"""


def test_a_loop_without_a_noted_count_is_counted_from_its_counter():
    (found,) = hlo.collectives(module("LT"))
    assert found == hlo.Collectives("all-reduce", count=6, bytes=6 * 64, exact=True)  # 1, 3, 5, 7, 9, 11


def test_a_loop_that_cannot_be_counted_is_said_to_be():
    (found,) = hlo.collectives(module("NE"))
    assert found == hlo.Collectives("all-reduce", count=1, bytes=64, exact=False)


def test_a_collective_overlaps_what_stands_between_its_start_and_its_end():
    alone = module("LT")
    (found,) = hlo.collectives(alone)
    assert found.overlapped == 0
    busy = alone.replace("  %done = ", "  %other = f32[16]{0} custom-call(%x)\n  %done = ")
    (found,) = hlo.collectives(busy)
    assert found.overlapped == found.bytes == 6 * 64
    small = alone.replace("  %done = ", "  %other = f32[16]{0} bitcast(%x)\n  %done = ")
    assert hlo.collectives(small)[0].overlapped == 0


def test_a_collective_whose_middle_is_fused_with_a_product_overlaps_it():
    gathered = "all-gather(%x), channel_id=3, replica_groups={{0,1,2,3},{4,5,6,7}}, dimensions={0}"
    flag = 'backend_config={"async_collective_fusion_config":{"flag_start":"FLAG"}}'
    fused = f"""HloModule jit_f, is_scheduled=true, num_partitions=8

%begun (x: f32[4]) -> f32[16] {{
  %x = f32[4]{{0}} parameter(0)
  ROOT %start = f32[16]{{0}} {gathered}, {flag.replace("FLAG", "-1")}
}}

%NAME (x: f32[4], y: f32[8,8]) -> (f32[16], f32[8,8]) {{
  %x = f32[4]{{0}} parameter(0)
  %y = f32[8,8]{{1,0}} parameter(1)
  %middle = f32[16]{{0}} {gathered}, {flag.replace("FLAG", "2")}
  %z = f32[8,8]{{1,0}} dot(%y, %y), lhs_contracting_dims={{1}}, rhs_contracting_dims={{0}}
  ROOT %out = (f32[16]{{0}}, f32[8,8]{{1,0}}) tuple(%middle, %z)
}}

ENTRY %main (x: f32[4], y: f32[8,8]) -> (f32[16], f32[8,8]) {{
  %x = f32[4]{{0}} parameter(0)
  %y = f32[8,8]{{1,0}} parameter(1)
  %first = f32[16]{{0}} fusion(%x), kind=kLoop, calls=%begun
  ROOT %fusion = (f32[16]{{0}}, f32[8,8]{{1,0}}) fusion(%x, %y), kind=kLoop, calls=%NAME
}}
"""
    for name, overlapped in (("async_collective_fusion.7", 48), ("fused_computation", 0)):
        (found,) = hlo.collectives(fused.replace("%NAME", f"%{name}"))
        assert (found.kind, found.count, found.bytes, found.overlapped) == ("all-gather", 1, 48, overlapped)


@pytest.mark.parametrize(
    ("groups", "size"),
    [
        ("{{0,2,4,6},{1,3,5,7}}", 4),
        ("{}", 8),
        ("[2,4]<=[8]", 4),
        ("[4,2]<=[2,4]T(1,0)", 2),
        ("mesh['data'=4,'fsdp'=2] {'data'}", 4),
        ("mesh['data'=4,'fsdp'=2] {'data','fsdp'}", 8),
        ("mesh['axis_0'=8] {'axis_0':(2)4}", 4),
    ],
)
def test_notations_of_groups(groups, size):
    (found,) = hlo.collectives(module("LT", groups))
    assert found.bytes == 6 * (2 * 64 * (size - 1) // size)
