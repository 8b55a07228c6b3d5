"""The training state and one pure update of it."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import flax.struct
import jax
import jax.numpy as jnp
import optax
from jax.sharding import Mesh

from lrsclip_jax import losses
from lrsclip_jax.config import ConfigDict
from lrsclip_jax.data.images import Preprocessing
from lrsclip_jax.embed import normalise
from lrsclip_jax.models.clip import CLIP
from lrsclip_jax.optimizer import Optimizer
from lrsclip_jax.sharding import batch_sharded, replicated


@flax.struct.dataclass
class TrainState:
    """Everything that an update changes: the number of updates done (int32), parameters, optimizer state."""

    step: jax.Array
    params: Any
    opt_state: Any


def initial_state(params: Any, optimizer: Optimizer, mesh: Mesh) -> TrainState:
    """Returns the state before the first update, whole on every device of `mesh`."""
    return jax.jit(
        lambda params: TrainState(jnp.int32(0), params, optimizer.tx.init(params)),
        out_shardings=replicated(mesh),
    )(params)


def make_train_step(
    model: CLIP, optimizer: Optimizer, preprocessing: Preprocessing, loss: ConfigDict, mesh: Mesh
) -> Callable[[TrainState, dict[str, jax.Array]], tuple[TrainState, dict[str, jax.Array]]]:
    """Returns the jitted update (state, batch) -> (state, metrics); metrics are float32 scalars of this batch.

    The batch is that of lrsclip_jax.data.pipeline, split over `mesh`; the loss is a function of the global batch.
    """

    def objective(params: Any, step: jax.Array, batch: dict[str, jax.Array]) -> tuple[jax.Array, dict]:
        # What is wholly frozen is cut off before the towers, so that no gradient is computed for it.
        params = jax.tree.map(
            lambda leaf, trains: leaf if trains else jax.lax.stop_gradient(leaf), params, optimizer.trainable
        )
        weight = losses.long_weight_at(loss.long_weight, step)
        # A text that weighs the number 0 at every step is not even encoded.
        kinds = [
            kind for kind, never in (("long", 0), ("short", 1)) if isinstance(weight, jax.Array) or weight != never
        ]
        pixels = normalise(batch["image"], preprocessing)
        image, texts, logit_scale = model.apply({"params": params}, pixels, *(batch[kind] for kind in kinds))
        rows = dict(zip(kinds, texts, strict=True))
        return losses.dual_loss(
            image,
            rows.get("long"),
            rows.get("short"),
            jnp.exp(logit_scale),
            long_weight=weight,
            has_long=batch["has_long"],
            has_short=batch["has_short"],
            label_smoothing=loss.label_smoothing,
            same_text=loss.same_text,
            long_ids=batch["long"],
            short_ids=batch["short"],
        )

    def update(state: TrainState, batch: dict[str, jax.Array]) -> tuple[TrainState, dict[str, jax.Array]]:
        gradient, metrics = jax.grad(objective, has_aux=True)(state.params, state.step, batch)
        updates, opt_state = optimizer.tx.update(gradient, state.opt_state, state.params)
        params = optax.apply_updates(state.params, updates)
        params = losses.clamp_logit_scale(params, loss.max_scale)
        metrics["learning_rate"] = optimizer.learning_rate(state.step)
        metrics["gradient_norm"] = optax.global_norm(gradient)
        return TrainState(state.step + 1, params, opt_state), metrics

    return jax.jit(
        update,
        in_shardings=(replicated(mesh), batch_sharded(mesh)),
        out_shardings=replicated(mesh),
        # On the CPU a checkpoint being written shares its memory with the arrays, which donation would overwrite.
        donate_argnums=() if jax.default_backend() == "cpu" else 0,
    )
