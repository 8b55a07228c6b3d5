"""The preservation loss: how far a model has moved from a frozen teacher, such as the weights that it started from."""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial

import jax
import jax.numpy as jnp
from jax.sharding import Mesh, PartitionSpec

from lrsclip_jax.losses.blocks import NEVER, in_chunks, joined, mean, products
from lrsclip_jax.losses.options import LossOptions
from lrsclip_jax.sharding import BATCH

Rows = Mapping[str, jax.Array]  # "image" and each kind of text: [B, D] unit rows


def preservation(
    student: Rows,
    teacher: Rows,
    present: Mapping[str, jax.Array],
    scale: jax.Array | float,
    options: LossOptions,
    mesh: Mesh,
) -> jax.Array:
    """Returns the preservation loss of a global batch, a float32 scalar; 0 where the model is its teacher.

    With `options.preserve_kind="features"` it is the squared distance of a row from the teacher's, which of unit rows
    is 2·(1 − cosine): the mean over the images, and over each kind of text, in equal shares. Rows may be of no other
    width.

    With "similarity" it is the divergence KL(teacher ‖ student) of what an image finds among the batch's texts, and a
    text among its images, by the softmax of cosines: the mean of both directions, over each kind of text in equal
    shares (as ZSCL has it, arXiv 2303.06628). The space may turn as a whole, what lies close to what may not.

    Args:
        student: features of the model; their gradient is the loss's.
        teacher: features of the teacher; they have none.
        present: bool [B] of each kind of text, which pairs have one; others count for nothing.
        scale: of the cosines, the teacher's, for both models: the student can't lower the loss by its temperature.
        options: of them `preserve_kind` and `chunk`, the rows of logits that a device holds at a time.
        mesh: over whose BATCH axes the rows are split.
    """
    student = {name: rows.astype(jnp.float32) for name, rows in student.items()}
    teacher = {name: jax.lax.stop_gradient(rows.astype(jnp.float32)) for name, rows in teacher.items()}
    everywhere = jnp.ones(len(student["image"]), bool)
    if options.preserve_kind == "features":
        moved = {name: jnp.square(rows - teacher[name]).sum(1) for name, rows in student.items()}
        return jnp.stack([mean(rows, present.get(name, everywhere)) for name, rows in moved.items()]).mean()
    scale = jax.lax.stop_gradient(jnp.asarray(scale, jnp.float32))
    rows, whole = PartitionSpec(BATCH), PartitionSpec()
    diverged = jax.shard_map(
        partial(_diverged, chunk=options.chunk), mesh=mesh, in_specs=(rows, rows, rows, whole), out_specs=rows
    )
    terms = [
        mean(diverged((student["image"], student[kind]), (teacher["image"], teacher[kind]), valid, scale), valid)
        for kind, valid in present.items()
    ]
    return jnp.stack(terms).mean()


def _diverged(
    student: tuple[jax.Array, jax.Array],
    teacher: tuple[jax.Array, jax.Array],
    valid: jax.Array,
    scale: jax.Array,
    *,
    chunk: int,
) -> jax.Array:
    """Returns, on one device, the divergence of its pairs, [B]: the mean of its image's and its text's."""
    scale = jax.lax.pcast(scale, BATCH, to="varying")
    all_student, all_teacher, all_valid = jax.lax.all_gather((student, teacher, valid), BATCH, tiled=True)

    def of_side(side: int) -> jax.Array:
        @jax.checkpoint
        def of_chunk(queries: tuple[jax.Array, jax.Array]) -> jax.Array:
            found, wanted = (
                jax.nn.log_softmax(jnp.where(all_valid, scale * products(rows, candidates[1 - side]), NEVER))
                for rows, candidates in zip(queries, (all_student, all_teacher), strict=True)
            )
            return (jnp.exp(wanted) * jnp.where(all_valid, wanted - found, 0)).sum(1)

        queries = (student[side], teacher[side])
        return joined(jax.lax.map(of_chunk, in_chunks(queries, chunk)), len(valid))

    return (of_side(0) + of_side(1)) / 2
