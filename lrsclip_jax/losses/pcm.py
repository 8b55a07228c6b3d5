"""Features reduced to the principal components of their batch: images (PCM of Long-CLIP), long texts (HiMo-CLIP)."""

from __future__ import annotations

from functools import partial

import jax
import jax.numpy as jnp

from lrsclip_jax.errors import InputError

_matmul = partial(jnp.matmul, precision=jax.lax.Precision.HIGHEST)


def reduce_to_components(image: jax.Array, components: int, scope: str = "global") -> jax.Array:
    """Returns the image features with which short texts are matched: mean + P·Pᵀ·(v − mean), not normalised again.

    The columns of P are the directions in which the centred features vary most. This is what Long-CLIP's code
    computes (`PCA` in model_longclip.py) and differentiates: gradients flow through the mean and through P. LRSCLIP's
    paper (V-D-3, Table VI) describes it differently, "aligning the primary components of the short text encoding with
    the image encoding"; the code reduces the images, and no text.

    Long-CLIP takes the components of each GPU's own pairs, so its objective depends on the number of GPUs. Here they
    are those of the global batch, or with "group:N" those of every N consecutive pairs, as on GPUs with N pairs each,
    on any mesh. Where the rank allows every direction, components ≥ min(N − 1, D), the result is `image`.

    Long-CLIP decomposes the features themselves. Here P comes from their covariance [D, D], or where pairs are fewer
    than D from their Gram matrix [N, N]: both are sums, so features that are split over devices stay where they are.

    Args:
        image: [B, D] unit rows.
        components: how many directions are kept, at least 1; Long-CLIP keeps 32.
        scope: "global" or "group:N".

    Returns:
        float32 [B, D].

    Raises:
        InputError: fewer than one component, an unknown scope, or groups that do not divide the batch.
    """
    if components < 1:
        raise InputError(f"loss.pcm_components={components}: keep at least one component; 0 turns PCM off")
    pairs, width = image.shape
    groups = image.astype(jnp.float32).reshape(-1, _group_size(scope, pairs), width)
    return jax.vmap(partial(_reduce, components=components))(groups).reshape(pairs, width)


def principal_part(text: jax.Array, wanted: float | int, valid: jax.Array | None = None) -> jax.Array:
    """Returns the principal part of the texts of a global batch: mean + P·Pᵀ·(t − mean), not normalised again.

    This is what HiMo-CLIP's code computes (`cumratio_PCA` in model_himo.py) for each GPU by itself, and differentiates:
    gradients flow through the mean and through P. How many directions P has is a number without a gradient. As that
    follows from the variances of the batch, a share that two numbers of directions reach but for rounding may have
    either of them.

    Args:
        text: [B, D] unit rows.
        wanted: the number of directions that are kept, an int; or a float, the share of the variance: the fewest
            directions that hold at least so much are kept. HiMo-CLIP keeps 0.85 to 0.9.
        valid: bool [B]; others count for nothing, and their rows in the result mean nothing. None: all.

    Returns:
        float32 [B, D].
    """
    return _reduce(text.astype(jnp.float32), wanted, valid)


def _group_size(scope: str, pairs: int) -> int:
    if scope == "global":
        return pairs
    kind, _, size = scope.partition(":")
    if kind != "group" or not size.isdecimal() or int(size) == 0:
        raise InputError(f"loss.pcm_scope={scope!r} is neither 'global' nor 'group:N', such as 'group:128'")
    if pairs % int(size):
        raise InputError(f"loss.pcm_scope={scope!r}: groups of {size} do not divide a batch of {pairs} pairs")
    return int(size)


def _reduce(rows: jax.Array, components: float | int, valid: jax.Array | None = None) -> jax.Array:
    pairs, width = rows.shape
    if isinstance(components, int) and components >= min(pairs - 1, width):
        return rows
    if valid is None:
        mean = rows.mean(axis=0)
        centred = rows - mean
    else:
        mean = jnp.where(valid[:, None], rows, 0).sum(axis=0) / jnp.maximum(valid.sum(), 1)
        centred = jnp.where(valid[:, None], rows - mean, 0)
    # The projection of the rows on their principal directions is that of the columns on theirs.
    return mean + (_project(centred, components) if width <= pairs else _project(centred.T, components).T)


@partial(jax.custom_jvp, nondiff_argnums=(1,))
def _project(rows: jax.Array, components: float | int) -> jax.Array:
    """Projects the rows, [n, d], on directions in which they vary most, see `_kept`.

    JAX's derivative of `eigh` divides by the gaps between all eigenvalues, and repeated images make some of them
    equal. The projection depends on the gaps between kept and dropped directions alone.
    """
    directions, kept = _principal_directions(rows, components)
    if isinstance(components, int):
        directions = directions[:, -components:]
        return _matmul(_matmul(rows, directions), directions.T)
    return _matmul(jnp.where(kept, _matmul(rows, directions), 0), directions.T)


@_project.defjvp
def _project_jvp(
    components: float | int, primals: tuple[jax.Array], tangents: tuple[jax.Array]
) -> tuple[jax.Array, jax.Array]:
    (rows,), (tangent,) = primals, tangents
    directions, kept = _principal_directions(rows, components)
    rows, tangent = _matmul(rows, directions), _matmul(tangent, directions)
    covariance, change = _matmul(rows.T, rows), _matmul(rows.T, tangent)
    variances = jnp.diagonal(covariance)
    # Directions without variance may fill up the kept ones. Which of them do is an accident of rounding, on which no
    # gradient may depend: they count as dropped.
    varying = kept & (variances > _rounding(variances))
    turn = _turn(covariance, change + change.T, varying)
    moved = jnp.where(varying, tangent, 0) + _matmul(rows, turn + turn.T)
    return _matmul(jnp.where(kept, rows, 0), directions.T), _matmul(moved, directions.T)


def _principal_directions(rows: jax.Array, components: float | int) -> tuple[jax.Array, jax.Array]:
    """Returns orthonormal columns, [d, d], along the last of which the rows vary most, and which are kept, bool [d].

    `eigh` errs by the rounding of the largest eigenvalue, and a small gap magnifies that. One Newton step on the
    rotated rows, whose products are rounded to the directions' own variances, gives the digits that a singular value
    decomposition of the rows would have.
    """
    variances, directions = jnp.linalg.eigh(_matmul(rows.T, rows))
    kept = _kept(variances, components)
    directions = _orthonormal(directions)
    rows = _matmul(rows, directions)
    covariance = _matmul(rows.T, rows)
    turn = _turn(covariance, covariance, kept)
    return _orthonormal(directions + _matmul(directions, turn.T - turn)), kept


def _kept(variances: jax.Array, components: float | int) -> jax.Array:
    """Returns which of the directions are kept, bool [d]; their variances ascend.

    They are the last ones: that many, or the fewest that hold this share of the variance.
    """
    if isinstance(components, int):
        return jnp.arange(len(variances)) >= len(variances) - components
    variances = jnp.maximum(variances, 0)
    greater = jnp.cumsum(variances[::-1])[::-1] - variances
    return greater < components * variances.sum()


def _turn(covariance: jax.Array, coupling: jax.Array, kept: jax.Array) -> jax.Array:
    """Returns the angles T, [d, d], by which kept directions (rows) turn towards dropped ones (columns) in a coupling.

    They solve the Sylvester equation C·T − T·C = coupling between kept and dropped directions, where C is the
    covariance along all of them, diagonal but for rounding. Dividing by the gaps of the diagonal solves it, and one
    step of refinement makes up for the rounding. A gap that `eigh` can't tell from 0 does not count: nothing turns.
    """
    variances = jnp.diagonal(covariance)
    gaps = variances[:, None] - variances
    turns = kept[:, None] & ~kept & (gaps > _rounding(variances))
    inverse = jnp.where(turns, 1 / jnp.where(turns, gaps, 1), 0)
    turn = inverse * coupling
    return turn + inverse * (coupling - _matmul(covariance, turn) + _matmul(turn, covariance))


def _rounding(variances: jax.Array) -> jax.Array:
    """Returns the largest variance that `eigh` can't tell from 0."""
    return len(variances) * jnp.finfo(variances.dtype).eps * variances.max()


def _orthonormal(matrix: jax.Array) -> jax.Array:
    """One Newton–Schulz step: columns that are orthonormal up to a small error become so up to its square."""
    return 1.5 * matrix - 0.5 * _matmul(matrix, _matmul(matrix.T, matrix))
