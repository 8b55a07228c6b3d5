"""The training state and one pure update of it."""

from __future__ import annotations

import functools
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import flax.struct
import jax
import jax.numpy as jnp
import numpy as np
import optax
from jax.sharding import Mesh

from lrsclip_jax import averaging, forward, host_memory, losses
from lrsclip_jax.config import ConfigDict
from lrsclip_jax.config.facts import offloads, tower_fields, towers_in_memory, turns_images
from lrsclip_jax.data.batches.batch import BatchShape
from lrsclip_jax.data.batches.image_rows import ImageRows
from lrsclip_jax.data.preprocessing import Preprocessing
from lrsclip_jax.forward import Batch
from lrsclip_jax.losses import LossOptions
from lrsclip_jax.models import lora_dropout, native, zoo
from lrsclip_jax.models.clip import CLIP, plain
from lrsclip_jax.models.regions import drawn_boxes
from lrsclip_jax.models.vit import ViT, kept_patches
from lrsclip_jax.optimizer import Optimizer
from lrsclip_jax.sharding import (
    batch_sharded,
    batch_shards,
    host_sharded,
    like_parameters,
    on_mesh,
    parameter_shardings,
    replicated,
)

Metrics = dict[str, jax.Array]


@dataclass(frozen=True)
class StepOptions:
    """The options of the train step; each set of them is compiled by itself.

    Attributes:
      loss: how the loss is computed.
      microbatches: parts of a batch that pass the towers one after the other.
      max_skipped: updates that may be left out because their loss or gradient is not finite.
      seed: of the random draws (patch dropout, LoRA's dropout, boxes of the patch term).
      ema: what an average of the weights keeps of itself at each update; None: there is no average.
      offloads: whether the images of a batch lie in host memory.
    """

    loss: LossOptions
    microbatches: int = 1
    max_skipped: int = 0
    seed: int = 0
    ema: float | None = None
    offloads: bool = False


def step_options(config: ConfigDict, total_steps: int) -> StepOptions:
    """Returns the options that a config spells for a run of `total_steps`; InputError for an impossible one."""
    loss = losses.loss_options(config.loss)
    loss = replace(loss, long_weight=losses.in_steps(loss.long_weight, total_steps))
    train = config.train
    return StepOptions(loss, train.microbatches, train.max_skipped, config.seed, train.ema, offloads(config, "images"))


@flax.struct.dataclass
class TrainState:
    """The training state: everything that an update changes.

    Attributes:
      step: int32, the batches done.
      params: the parameters.
      opt_state: the optimizer's state.
      skipped: int32, how many of them had no update because their loss or gradient was not finite.
      ema: their exponential moving average, a tree like the parameters; None without `train.ema`.
      teacher: parameters that no update changes and no checkpoint holds; None without `loss.preserve`.
    """

    step: jax.Array
    params: Any
    opt_state: Any
    skipped: jax.Array
    ema: Any = None
    teacher: Any = None

    @property
    def weights(self) -> Any:
        """The weights that are scored, saved for others, and exported: the average where there is one."""
        return self.params if self.ema is None else self.ema


def state_shapes(
    params: Any,
    optimizer: Optimizer,
    mesh: Mesh,
    rules: Sequence = (),
    *,
    ema: bool = False,
    teacher: bool = False,
    offload: bool = False,
) -> TrainState:
    """Returns shapes, dtypes and shardings of the state (jax.ShapeDtypeStruct) for parameters or their shapes.

    `rules` are those of `config.mesh`; the optimizer's state is split like the parameters that it belongs to. `ema`
    says whether there is an average of the weights, `teacher` whether there is a teacher, `offload` whether the
    optimizer's state lies in host memory.
    """
    shapes = jax.eval_shape(
        lambda params: TrainState(
            step=jnp.int32(0),
            params=params,
            opt_state=optimizer.tx.init(params),
            skipped=jnp.int32(0),
            ema=params if ema else None,
            teacher=params if teacher else None,
        ),
        params,
    )
    shardings = parameter_shardings(params, mesh, rules)
    whole = replicated(mesh)
    moments = like_parameters(shapes.opt_state, shardings, mesh)
    split = shapes.replace(
        step=whole,
        params=shardings,
        opt_state=host_memory.hosted(shapes.opt_state, moments) if offload else moments,
        skipped=whole,
        ema=shardings if ema else None,
        teacher=shardings if teacher else None,
    )
    return jax.tree.map(
        lambda leaf, sharding: jax.ShapeDtypeStruct(leaf.shape, leaf.dtype, sharding=sharding), shapes, split
    )


def initial_state(params: Any, optimizer: Optimizer, shapes: TrainState) -> TrainState:
    """Returns the state before the first update, split over the devices as `shapes` from `state_shapes` says.

    It has no teacher yet.
    """
    ema = None if shapes.ema is None else placed(params, shapes.ema)
    params = placed(params, shapes.params)
    opt_state = jax.jit(optimizer.tx.init, out_shardings=_shardings(shapes).opt_state)(params)
    step, skipped = (placed(np.int32(0), shape) for shape in (shapes.step, shapes.skipped))
    return TrainState(step, params, opt_state, skipped, ema)


def placed(tree: Any, shapes: Any) -> Any:
    """Returns a tree of arrays split over the devices as `shapes`, a tree like it, says."""

    def place(value: Any, shape: jax.ShapeDtypeStruct) -> jax.Array:
        host = np.asarray(value)  # equal in all processes; each takes what its devices hold
        return jax.make_array_from_callback(host.shape, shape.sharding, lambda index: host[index])

    return jax.tree.map(place, tree, shapes)


def batch_layout(config: ConfigDict, mesh: Mesh) -> BatchShape:
    """Returns the layout of a config's batches on a mesh; InputError for rows shorter than a text may be."""
    loss = losses.loss_options(config.loss)
    fields = dict(zip(("image", "text"), tower_fields(config), strict=True))
    widths = {f"{name}_features": zoo.feature_width(zoo.tower(name, fields[name])) for name in towers_in_memory(config)}
    return BatchShape(
        config.batch_size,
        config.data.long_length,
        config.data.short_length,
        kinds=loss.texts,
        row_length=config.data.row_length if config.data.packed else None,
        groups=batch_shards(mesh) * config.train.microbatches,
        shifted=tuple(kind for kind in loss.kinds if config.data[f"{kind}_draw"].shift),
        turned=turns_images(config) and not config.data.image_features,
        bands=len(fields["image"]["bands"]),
        image_keys=config.loss.same_image == "positive",
        offloaded=config.train.microbatches if offloads(config, "images") else 0,
        image_rows=_image_rows(fields["image"]),
        **widths,
    )


def _image_rows(fields: Mapping[str, Any]) -> ImageRows | None:
    return native.image_rows(zoo.tower("image", fields)) if fields["resolution"] == "native" else None


def batch_specs(
    layout: BatchShape, image_size: int, mesh: Mesh, rows: int | None = None, image_rows: int | None = None
) -> dict[str, jax.ShapeDtypeStruct]:
    """Returns shapes, dtypes and shardings of a batch with this layout (lrsclip_jax.data.batches.pipeline).

    `rows` are those of packed texts, in the whole batch: packed batches have one of a few numbers of them. `image_rows`
    are those of images of any shape; None: the most, one for each.
    """
    pairs = layout.batch_size
    shapes: dict[str, tuple[tuple[int, ...], Any]] = {
        "image": ((pairs, image_size, image_size, layout.bands or 3), jnp.float32 if layout.bands else jnp.uint8),
    } | {f"has_{kind}": ((pairs,), jnp.bool_) for kind in layout.all_kinds}
    if layout.image_features:
        del shapes["image"]
        shapes["image_features"] = ((pairs, layout.image_features), jnp.float32)
    if layout.text_features:
        shapes |= {f"{kind}_features": ((pairs, layout.text_features), jnp.float32) for kind in layout.kinds}
    if layout.offloaded:
        del shapes["image"]
    if (lay := layout.image_rows) is not None:
        _, values = shapes.pop("image")
        slots, width = (pairs if image_rows is None else image_rows, lay.length), lay.patch**2 * (layout.bands or 3)
        shapes |= {f"image_{name}": (slots, jnp.int32) for name in ("segments", "positions")}
        shapes |= {"patches": ((*slots, width), values), "image_grids": ((*slots, 2), jnp.int32)}
        shapes["image_span"] = ((pairs, 2), jnp.int32)
    if layout.turned:
        shapes["turn"] = ((pairs,), jnp.int32)
    if layout.image_keys:
        shapes["image_key"] = ((pairs, 2), jnp.uint32)
    if layout.row_length is None:
        shapes |= {kind: ((pairs, layout.length(kind)), jnp.int32) for kind in layout.kinds}
        shapes |= {f"{kind}_shift": ((pairs,), jnp.int32) for kind in layout.shifted}
    elif rows is None:
        raise ValueError("a packed batch has a number of rows")
    else:
        names = ("ids", "segments", "positions", *(("shifts",) if layout.shifted else ()))
        shapes |= {name: ((rows, layout.row_length), jnp.int32) for name in names}
        shapes |= {f"{kind}_span": ((pairs, 2), jnp.int32) for kind in layout.all_kinds}
    sharding = batch_sharded(mesh)
    specs = {key: jax.ShapeDtypeStruct(*shape, sharding=sharding) for key, shape in shapes.items()}
    if layout.offloaded:
        words = image_size * image_size * (layout.bands or 3 / 4)
        shape = (layout.offloaded, pairs // layout.offloaded, int(words))
        specs["image_words"] = jax.ShapeDtypeStruct(shape, jnp.uint32, sharding=host_sharded(mesh))
    return specs


def make_train_step(
    model: CLIP, optimizer: Optimizer, preprocessing: Preprocessing, options: StepOptions, shapes: TrainState
) -> jax.stages.Wrapped:
    """Returns the jitted update (state, batch) -> (state, metrics); metrics are scalars of this batch.

    The loss is a function of the global batch, however that is split over devices and microbatches. An update whose
    loss or gradient is not finite leaves parameters and optimizer as they were (`finite` is False then): up to
    `options.max_skipped` such batches are passed over. The next one stops the state for good, at the step before it.

    Args:
      model: of the parameters.
      optimizer: made for the same parameters.
      preprocessing: whose mean and standard deviation normalise the pixels.
      options: of the step and its loss.
      shapes: of the state, from `state_shapes`.
    """
    shardings = _shardings(shapes)
    mesh: Mesh = shardings.step.mesh
    kinds, all_texts = options.loss.kinds, options.loss.texts
    microbatches, groups = options.microbatches, batch_shards(mesh)

    def objective(params: Any, step: jax.Array, batch: Batch, teacher: Any) -> tuple[jax.Array, Metrics]:
        # Frozen parameters are cut off before the towers, so that no gradient is computed for them.
        params = jax.tree.map(
            lambda leaf, trains: leaf if trains else jax.lax.stop_gradient(leaf), params, optimizer.trainable
        )
        whole = batch
        if isinstance(model.image, ViT) and model.image.patch_dropout:
            batch = batch | {"kept": kept_patches(model.image, options.seed, step, len(batch["has_long"]))}
        if options.loss.patches:
            batch = batch | {"box": drawn_boxes(options.seed, step, len(batch["has_long"]))}
        encode = functools.partial(forward.encode, preprocessing=preprocessing, groups=groups)
        trained = functools.partial(encode, model, params, kinds=all_texts)
        if lora_dropout.drops(model.image.adapt) or lora_dropout.drops(model.text.adapt):
            batch = batch | {"sample": jnp.arange(len(batch["has_long"]))}
            trained = functools.partial(trained, key=jax.random.fold_in(jax.random.key(options.seed), step))
        rows = forward.in_microbatches(trained, batch, microbatches, mesh)
        keys = forward.text_keys(batch, kinds, groups * microbatches) if options.loss.same_text == "ignore" else {}
        lengths = forward.text_lengths(batch, model, kinds) if options.loss.rising else {}
        texts = {
            kind: losses.Texts(rows[kind], batch[f"has_{kind}"], keys.get(kind), lengths.get(kind))
            for kind in all_texts
        }
        loss, metrics = losses.dual_loss(
            rows["image"],
            texts,
            jnp.exp(params["logit_scale"]),
            options.loss,
            logit_bias=params.get("logit_bias"),
            image_keys=batch.get("image_key"),
            step=step,
            mesh=mesh,
        )
        if options.loss.patches:
            apart = losses.region_loss(rows.pop("region"), rows.pop("crop"))
            loss += options.loss.patches * apart
            metrics |= {"loss": loss, "loss_patches": apart}
        if teacher is None:
            return loss, metrics
        teacher = jax.lax.stop_gradient(teacher)
        # Of a model whose adapters, where it has some, do nothing.
        taught = functools.partial(encode, plain(model), teacher, kinds=kinds)
        wanted = forward.in_microbatches(taught, whole, microbatches, mesh)
        present = {kind: batch[f"has_{kind}"] for kind in kinds}
        found = {name: rows[name] for name in wanted}
        moved = losses.preservation(found, wanted, present, jnp.exp(teacher["logit_scale"]), options.loss, mesh)
        loss += options.loss.preserve * moved
        return loss, metrics | {"loss": loss, "loss_preserve": moved}

    def update(state: TrainState, batch: Batch) -> tuple[TrainState, Metrics]:
        at = optimizer.point(state.params, state.opt_state) if optimizer.point else state.params
        gradient, metrics = jax.grad(objective, has_aux=True)(at, state.step, batch, state.teacher)
        gradient = jax.tree.map(jax.lax.with_sharding_constraint, gradient, shardings.params)
        metrics |= forward.token_counts(batch, model, all_texts)
        metrics["gradient_norm"] = optax.global_norm(gradient)
        metrics["learning_rate"] = optimizer.learning_rate(state.step - state.skipped)
        metrics["finite"] = jnp.isfinite(metrics["loss"]) & jnp.isfinite(metrics["gradient_norm"])
        state = _updated(state, gradient, metrics["finite"], optimizer, options, shardings)
        return state, metrics | {"skipped": state.skipped}

    return jax.jit(
        on_mesh(mesh, update),
        # Arrays of a batch that lie in two kinds of memory bring their own.
        in_shardings=(shardings, None if options.offloads else batch_sharded(mesh)),
        out_shardings=(shardings, replicated(mesh)),
        # On the CPU a checkpoint being written shares its memory with the arrays, which donation would overwrite.
        donate_argnums=() if mesh.devices.flat[0].platform == "cpu" else 0,
    )


def _updated(
    state: TrainState,
    gradient: Any,
    finite: jax.Array,
    optimizer: Optimizer,
    options: StepOptions,
    shardings: TrainState,
) -> TrainState:
    """Returns the state after an update with this gradient, or without one if it is not finite."""
    moments = host_memory.fetched(state.opt_state, shardings.opt_state, finite)
    updates, opt_state = optimizer.tx.update(gradient, moments, state.params)
    params = losses.clamp_logit_scale(optax.apply_updates(state.params, updates), options.loss.max_scale)
    ema = None if options.ema is None else averaging.moved(state.ema, params, options.ema)
    new, old = (params, opt_state, ema), (state.params, moments, state.ema)
    skipped = jnp.minimum(state.skipped + ~finite, options.max_skipped + 1)
    proceeds = skipped <= options.max_skipped
    params, opt_state, ema = jax.tree.map(lambda new, old: jnp.where(finite & proceeds, new, old), new, old)
    opt_state = host_memory.returned(opt_state, state.opt_state, shardings.opt_state, finite & proceeds)
    return TrainState(state.step + proceeds, params, opt_state, skipped, ema, state.teacher)


def _shardings(shapes: Any) -> Any:
    return jax.tree.map(lambda leaf: leaf.sharding, shapes)
