import jax
import jax.numpy as jnp
import pytest

from lrsclip_jax.plan.accessed import accessed

# A loop of three rounds over a stack of three matrices: each round reads its slice, keeps its product on the chip, and
# puts twice that into a stack of results. A row of 200 numbers takes 256 places, and eight rows are a tile.
PROGRAM = """
HloModule jit_scan, num_partitions=1

%double (from: f32[8,200], stack: f32[3,8,200], at: s32[]) -> f32[3,8,200] {
  %from = f32[8,200]{1,0:T(8,128)S(1)} parameter(0)
  %stack = f32[3,8,200]{2,1,0:T(8,128)} parameter(1)
  %at = s32[]{:T(128)S(6)} parameter(2)
  %twice = f32[8,200]{1,0:T(8,128)} add(%from, %from)
  %row = f32[1,8,200]{2,1,0:T(8,128)} bitcast(%twice)
  %none = s32[] constant(0)
  ROOT %put = f32[3,8,200]{2,1,0:T(8,128)} dynamic-update-slice(%stack, %row, %at, %none, %none)
}

%multiply (stack: bf16[3,8,8], x: f32[8,200], at: s32[]) -> f32[8,200] {
  %at = s32[]{:T(128)S(6)} parameter(2)
  %none = s32[] constant(0)
  %stack = bf16[3,8,8]{2,1,0:T(8,128)(2,1)} parameter(0)
  %cut = bf16[1,8,8]{2,1,0:T(8,128)(2,1)} dynamic-slice(%stack, %at, %none, %none), dynamic_slice_sizes={1,8,8}
  %matrix = bf16[8,8]{1,0:T(8,128)(2,1)} bitcast(%cut)
  %x = f32[8,200]{1,0:T(8,128)} parameter(1)
  ROOT %product = f32[8,200]{1,0:T(8,128)} dot(%matrix, %x), lhs_contracting_dims={1}, rhs_contracting_dims={0}
}

%body (carry: (s32[], f32[8,200], bf16[3,8,8], f32[3,8,200])) -> (s32[], f32[8,200], bf16[3,8,8], f32[3,8,200]) {
  %carry = (s32[], f32[8,200]{1,0:T(8,128)}, bf16[3,8,8]{2,1,0}, f32[3,8,200]{2,1,0}) parameter(0)
  %i = s32[]{:T(128)S(6)} get-tuple-element(%carry), index=0
  %x = f32[8,200]{1,0:T(8,128)} get-tuple-element(%carry), index=1
  %stack = bf16[3,8,8]{2,1,0:T(8,128)(2,1)} get-tuple-element(%carry), index=2
  %results = f32[3,8,200]{2,1,0:T(8,128)} get-tuple-element(%carry), index=3
  %held = f32[8,200]{1,0:T(8,128)S(1)} fusion(%stack, %x, %i), kind=kOutput, calls=%multiply
  %put = f32[3,8,200]{2,1,0:T(8,128)} fusion(%held, %results, %i), kind=kLoop, calls=%double
  ROOT %next = (s32[], f32[8,200]{1,0}, bf16[3,8,8]{2,1,0}, f32[3,8,200]{2,1,0}) tuple(%i, %x, %stack, %put)
}

%condition (carry: (s32[], f32[8,200], bf16[3,8,8], f32[3,8,200])) -> pred[] {
  %carry = (s32[], f32[8,200]{1,0}, bf16[3,8,8]{2,1,0}, f32[3,8,200]{2,1,0}) parameter(0)
  ROOT %more = pred[] constant(true)
}

ENTRY %main (x: f32[8,200], stack: bf16[3,8,8]) -> f32[3,8,200] {
  %x = f32[8,200]{1,0:T(8,128)} parameter(0)
  %stack = bf16[3,8,8]{2,1,0:T(8,128)(2,1)} parameter(1)
  %zero = s32[]{:T(128)S(6)} constant(0)
  %made = f32[3,8,200]{2,1,0:T(8,128)} custom-call(), custom_call_target="AllocateBuffer"
  %first = (s32[], f32[8,200]{1,0}, bf16[3,8,8]{2,1,0}, f32[3,8,200]{2,1,0}) tuple(%zero, %x, %stack, %made)
  %loop = (s32[], f32[8,200]{1,0}, bf16[3,8,8]{2,1,0}, f32[3,8,200]{2,1,0}) while(%first), condition=%condition,\
 body=%body, backend_config={"known_trip_count":{"n":"3"}}
  ROOT %out = f32[3,8,200]{2,1,0:T(8,128)} get-tuple-element(%loop), index=3
}
"""


def test_a_loop_moves_slices_as_often_as_it_runs_and_what_stays_on_the_chip_not_at_all():
    matrix, row = 8 * 128 * 2, 8 * 256 * 4
    assert accessed(PROGRAM) == 3 * (matrix + row + row)


@pytest.mark.parametrize("layers", [2, 6])
def test_the_layers_of_a_compiled_stack_count_each(layers):
    """Next to XLA's own count of a program without a loop: a CPU's, where arrays have no padding."""

    def stack(x, weights, unroll):
        return jax.lax.scan(lambda x, w: (jnp.tanh(x @ w), None), x, weights, unroll=unroll)[0]

    shapes = jnp.zeros((256, 128)), jnp.zeros((layers, 128, 128))
    looped, flat = (jax.jit(stack, static_argnums=2).lower(*shapes, unroll).compile() for unroll in (1, layers))
    once = 4 * (2 * 256 * 128 + 128 * 128)  # a product reads and writes x, and reads a matrix; tanh comes after it
    assert layers * once <= accessed(looped.as_text()) < 3 * layers * once
    assert accessed(flat.as_text()) == pytest.approx(flat.cost_analysis()["bytes accessed"], rel=0.01)


# Two of three matrices come to the chip, and their sum is put back, by copies that run next to other instructions.
PARTS = """
HloModule jit_parts, num_partitions=1

ENTRY %main (stack: bf16[3,8,128], at: s32[]) -> bf16[3,8,128] {
  %stack = bf16[3,8,128]{2,1,0:T(8,128)(2,1)} parameter(0)
  %at = s32[]{:T(128)S(6)} parameter(1)
  %none = s32[] constant(0)
  %begun = ((bf16[3,8,128]{2,1,0:T(8,128)(2,1)}, s32[], s32[], s32[]), bf16[2,8,128]{2,1,0:T(8,128)(2,1)S(1)},\
 s32[]{:S(2)}) dynamic-slice-start(%stack, %at, %none, %none), dynamic_slice_sizes={2,8,128}
  %near = bf16[2,8,128]{2,1,0:T(8,128)(2,1)S(1)} dynamic-slice-done(%begun)
  %sum = bf16[2,8,128]{2,1,0:T(8,128)(2,1)S(1)} add(%near, %near)
  %put = ((bf16[3,8,128]{2,1,0:T(8,128)(2,1)}, bf16[2,8,128]{2,1,0:T(8,128)(2,1)S(1)}, s32[], s32[], s32[]),\
 bf16[3,8,128]{2,1,0:T(8,128)(2,1)}, s32[]{:S(2)}) dynamic-update-slice-start(%stack, %sum, %at, %none, %none)
  ROOT %out = bf16[3,8,128]{2,1,0:T(8,128)(2,1)} dynamic-update-slice-done(%put)
}
"""


def test_copies_next_to_other_work_move_their_part_once():
    """As the compiler for v6e pipelines its loops."""
    part = 2 * 8 * 128 * 2
    assert accessed(PARTS) == part + part
