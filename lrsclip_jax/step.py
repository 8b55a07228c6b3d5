"""The training state and one pure update of it."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import flax.struct
import jax
import jax.numpy as jnp
import numpy as np
import optax
from jax.sharding import Mesh, NamedSharding

from lrsclip_jax import losses
from lrsclip_jax.config import ConfigDict
from lrsclip_jax.data.batches.batch import BatchShape
from lrsclip_jax.data.images import Preprocessing
from lrsclip_jax.encoders import normalise
from lrsclip_jax.models.clip import CLIP
from lrsclip_jax.models.dropout import kept_patches
from lrsclip_jax.models.packed import Packed
from lrsclip_jax.optimizer import Optimizer
from lrsclip_jax.sharding import (
    BATCH,
    batch_sharded,
    batch_shards,
    constrain,
    like_parameters,
    on_mesh,
    parameter_shardings,
    replicated,
)

Batch = dict[str, jax.Array]
Metrics = dict[str, jax.Array]


@flax.struct.dataclass
class TrainState:
    """Everything that an update changes.

    Attributes:
      step: int32, the batches done.
      params: the parameters.
      opt_state: the optimizer's state.
      skipped: int32, the batches among them whose update was left out because its loss or gradient was not finite.
    """

    step: jax.Array
    params: Any
    opt_state: Any
    skipped: jax.Array


def state_shapes(params: Any, optimizer: Optimizer, mesh: Mesh, rules: Sequence = ()) -> TrainState:
    """Returns shapes, dtypes and shardings of the state (jax.ShapeDtypeStruct) for parameters or their shapes.

    `rules` are those of `config.mesh`; the optimizer's state is split as the parameters it belongs to.
    """
    shapes = jax.eval_shape(
        lambda params: TrainState(jnp.int32(0), params, optimizer.tx.init(params), jnp.int32(0)), params
    )
    shardings = parameter_shardings(params, mesh, rules)
    whole = replicated(mesh)
    split = TrainState(whole, shardings, like_parameters(shapes.opt_state, shardings, mesh), whole)
    return jax.tree.map(
        lambda leaf, sharding: jax.ShapeDtypeStruct(leaf.shape, leaf.dtype, sharding=sharding), shapes, split
    )


def initial_state(params: Any, optimizer: Optimizer, shapes: TrainState) -> TrainState:
    """Returns the state before the first update, split over the devices as `shapes` from `state_shapes` says."""
    shardings = _shardings(shapes)

    def placed(value: Any, sharding: NamedSharding) -> jax.Array:
        host = np.asarray(value)  # equal in all processes; each takes what its devices hold
        return jax.make_array_from_callback(host.shape, sharding, lambda index: host[index])

    params = jax.tree.map(placed, params, shardings.params)
    opt_state = jax.jit(optimizer.tx.init, out_shardings=shardings.opt_state)(params)
    return TrainState(placed(np.int32(0), shardings.step), params, opt_state, placed(np.int32(0), shardings.skipped))


def batch_shape(config: ConfigDict, mesh: Mesh) -> BatchShape:
    """Returns what the batches of a config look like on a mesh; InputError for rows shorter than a text may be."""
    return BatchShape(
        config.batch_size,
        config.data.long_length,
        config.data.short_length,
        kinds=losses.kinds_used(config.loss.long_weight),
        row_length=config.data.row_length if config.data.packed else None,
        groups=batch_shards(mesh) * config.train.microbatches,
    )


def batch_shapes(config: ConfigDict, mesh: Mesh, rows: int | None = None) -> dict[str, jax.ShapeDtypeStruct]:
    """Returns shapes, dtypes and shardings of a batch (lrsclip_jax.data.batches.pipeline).

    `rows` are those of packed texts, in the whole batch: batches with `data.packed` have one of a few numbers of them.
    """
    pairs, size, slots = config.batch_size, config.model.image.size, config.data.row_length
    shapes = {
        "image": ((pairs, size, size, 3), jnp.uint8),
        "has_long": ((pairs,), jnp.bool_),
        "has_short": ((pairs,), jnp.bool_),
    }
    if config.data.packed:
        shapes |= {name: ((rows, slots), jnp.int32) for name in ("ids", "segments", "positions")}
        shapes |= {name: ((pairs, 2), jnp.int32) for name in ("long_span", "short_span")}
    else:
        lengths = {"long": config.data.long_length, "short": config.data.short_length}
        kinds = losses.kinds_used(config.loss.long_weight)
        shapes |= {kind: ((pairs, lengths[kind]), jnp.int32) for kind in kinds}
    sharding = batch_sharded(mesh)
    return {key: jax.ShapeDtypeStruct(*shape, sharding=sharding) for key, shape in shapes.items()}


def make_train_step(
    model: CLIP, optimizer: Optimizer, preprocessing: Preprocessing, config: ConfigDict, shapes: TrainState
) -> Callable[[TrainState, Batch], tuple[TrainState, Metrics]]:
    """Returns the jitted update (state, batch) -> (state, metrics); metrics are scalars of this batch.

    The loss is a function of the global batch, however that is split over devices and microbatches. An update whose
    loss or gradient is not finite leaves parameters and optimizer as they were (`finite` is False then): up to
    `train.max_skipped` such batches are passed over. The next one stops the state for good, at the step before it.

    Args:
      model: as the config describes it.
      optimizer: made for the same parameters.
      preprocessing: whose mean and standard deviation are taken off the pixels.
      config: its groups `loss`, `train` and `data`.
      shapes: of the state, from `state_shapes`.
    """
    mesh = shapes.step.sharding.mesh
    microbatches = config.train.microbatches
    kinds = losses.kinds_used(config.loss.long_weight)

    def encode(params: Any, batch: Batch) -> dict[str, jax.Array]:
        pixels = normalise(batch["image"], preprocessing)
        rows = {"image": model.apply({"params": params}, pixels, kept=batch.get("kept"), method="encode_image")}
        if config.data.packed:
            packed = _packed(batch, kinds, batch_shards(mesh))
            texts = model.apply({"params": params}, packed, method="encode_packed")
            return rows | _apart(texts, kinds)
        encoded = {kind: model.apply({"params": params}, batch[kind], method="encode_text") for kind in kinds}
        return rows | encoded

    def keys_of(batch: Batch) -> dict[str, jax.Array]:
        if not config.data.packed:
            return {kind: losses.text_keys(batch[kind]) for kind in kinds}
        packed = _packed(batch, kinds, batch_shards(mesh) * microbatches)
        return _apart(losses.packed_text_keys(packed.ids, packed.positions, packed.spans), kinds)

    def token_counts(batch: Batch) -> Metrics:
        """What the texts weigh: their tokens, which dense layers grow with, and the squares, which attention does."""
        counts = [
            batch[f"{kind}_span"][:, 1]
            if config.data.packed
            else jnp.where(batch[f"has_{kind}"], model.text.lengths(batch[kind]), 0)
            for kind in kinds
        ]
        tokens = jnp.stack(counts).astype(jnp.float32)
        return {"text_tokens": tokens.sum(), "text_squares": (tokens * tokens).sum()}

    def objective(params: Any, step: jax.Array, batch: Batch) -> tuple[jax.Array, Metrics]:
        # What is wholly frozen is cut off before the towers, so that no gradient is computed for it.
        params = jax.tree.map(
            lambda leaf, trains: leaf if trains else jax.lax.stop_gradient(leaf), params, optimizer.trainable
        )
        if model.image.patch_dropout:
            batch = batch | {"kept": kept_patches(model.image, config.seed, step, len(batch["image"]))}
        rows = _in_microbatches(lambda part: encode(params, part), batch, microbatches, mesh)
        keys = keys_of(batch) if config.loss.same_text == "ignore" else {}
        return losses.dual_loss(
            rows["image"],
            rows.get("long"),
            rows.get("short"),
            jnp.exp(params["logit_scale"]),
            long_weight=losses.long_weight_at(config.loss.long_weight, step),
            has_long=batch["has_long"],
            has_short=batch["has_short"],
            label_smoothing=config.loss.label_smoothing,
            same_text=config.loss.same_text,
            long_keys=keys.get("long"),
            short_keys=keys.get("short"),
            gradient=config.loss.gradient,
            pcm_components=config.loss.pcm_components,
            pcm_scope=config.loss.pcm_scope,
            form=config.loss.form,
            chunk=config.loss.chunk,
            mesh=mesh,
        )

    def update(state: TrainState, batch: Batch) -> tuple[TrainState, Metrics]:
        gradient, metrics = jax.grad(objective, has_aux=True)(state.params, state.step, batch)
        gradient = jax.tree.map(jax.lax.with_sharding_constraint, gradient, _shardings(shapes).params)
        metrics |= token_counts(batch)
        metrics["gradient_norm"] = optax.global_norm(gradient)
        metrics["learning_rate"] = optimizer.learning_rate(state.step - state.skipped)
        metrics["finite"] = jnp.isfinite(metrics["loss"]) & jnp.isfinite(metrics["gradient_norm"])

        updates, opt_state = optimizer.tx.update(gradient, state.opt_state, state.params)
        params = losses.clamp_logit_scale(optax.apply_updates(state.params, updates), config.loss.max_scale)
        new, old = (params, opt_state), (state.params, state.opt_state)
        skipped = jnp.minimum(state.skipped + ~metrics["finite"], config.train.max_skipped + 1)
        goes_on = skipped <= config.train.max_skipped
        metrics["skipped"] = skipped
        params, opt_state = jax.tree.map(lambda new, old: jnp.where(metrics["finite"] & goes_on, new, old), new, old)
        return TrainState(state.step + goes_on, params, opt_state, skipped), metrics

    return jax.jit(
        on_mesh(mesh, update),
        in_shardings=(_shardings(shapes), batch_sharded(mesh)),
        out_shardings=(_shardings(shapes), replicated(mesh)),
        # On the CPU a checkpoint being written shares its memory with the arrays, which donation would overwrite.
        donate_argnums=() if mesh.devices.flat[0].platform == "cpu" else 0,
    )


def _packed(batch: Batch, kinds: Sequence[str], groups: int) -> Packed:
    """The texts of a packed batch, in each of its groups first all long ones, then all short ones."""
    spans = [batch[f"{kind}_span"].reshape(groups, -1, 2) for kind in kinds]
    return Packed(batch["ids"], batch["segments"], batch["positions"], jnp.concatenate(spans, axis=1))


def _apart(texts: jax.Array, kinds: Sequence[str]) -> dict[str, jax.Array]:
    """What `_packed` texts have become, [G, T, …], by kind and in the order of the pairs."""
    parts = jnp.split(texts, len(kinds), axis=1)
    return {kind: part.reshape(-1, *part.shape[2:]) for kind, part in zip(kinds, parts, strict=True)}


def _in_microbatches(encode: Callable, batch: Batch, count: int, mesh: Mesh) -> dict[str, jax.Array]:
    """`encode(batch)`, computed in `count` parts one after the other; only the features of all parts are kept.

    The loss can thus be that of the whole batch: its gradient on the features is known before the second pass, in
    which each part is encoded again and adds its share to the parameters' gradient (GradCache, arXiv 2101.06983).
    """
    if count == 1:
        return encode(batch)
    shards = batch_shards(mesh)

    def split(rows: jax.Array) -> jax.Array:
        # Each part takes as many rows from every device, so that none have to move.
        parts = rows.reshape(shards, count, -1, *rows.shape[1:]).swapaxes(0, 1)
        return constrain(parts.reshape(count, -1, *rows.shape[1:]), None, BATCH)

    def join(parts: jax.Array) -> jax.Array:
        rows = parts.reshape(count, shards, -1, *parts.shape[2:]).swapaxes(0, 1)
        return constrain(rows.reshape(-1, *parts.shape[2:]), BATCH)

    features = jax.lax.map(jax.checkpoint(encode, prevent_cse=False), jax.tree.map(split, batch))
    return jax.tree.map(join, features)


def _shardings(shapes: Any) -> Any:
    return jax.tree.map(lambda leaf: leaf.sharding, shapes)
