"""The model a config describes, and the parameters it starts from: random, or a source of weights fitted to it."""

from __future__ import annotations

import dataclasses
import math
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from ml_collections import ConfigDict

from lrsclip_jax import checkpoint
from lrsclip_jax.convert.dinov2 import dinov2_image_tower
from lrsclip_jax.convert.huggingface import clip_parameters
from lrsclip_jax.data.images import CLIP_PREPROCESSING, IMAGENET_PREPROCESSING, Preprocessing
from lrsclip_jax.errors import InputError
from lrsclip_jax.models import zoo
from lrsclip_jax.models.clip import CLIP, init_params
from lrsclip_jax.models.positions import resize_positions, stretch_positions
from lrsclip_jax.rules import path_of


def build_model(config: ConfigDict, platform: str | None = None) -> CLIP:
    """Returns the model of a config (`config.model`, `config.loss.temperature`), without parameters.

    The `dtype` "auto" is bfloat16 unless `platform`, by default that of this process, is "cpu".
    """
    dtype = config.model.dtype
    if dtype == "auto":
        dtype = "float32" if (platform or jax.default_backend()) == "cpu" else "bfloat16"
    return zoo.create(
        config.model.name,
        image=config.model.image.to_dict(),
        text=config.model.text.to_dict(),
        dtype=jnp.dtype(dtype),
        logit_scale=-math.log(config.loss.temperature),
    )


def initial_parameters(model: CLIP, config: ConfigDict) -> tuple[Any, Preprocessing]:
    """Returns the parameters of `model` that a config starts from, float32, and the preprocessing that goes with them.

    `model.init` is "random" or a source of weights: a run folder, one of its checkpoints, or a Hugging Face
    `CLIPModel` folder. A text table of other length is stretched (KPS) or cut, an image table of another grid is
    resized with antialias. `model.image_init` gives the image tower alone: any of those, or a DINOv2 safetensors
    file, whose missing projection stays random.

    Raises:
      InputError: an unknown source, or weights of other shapes than the model's.
    """

    def draw():
        return init_params(model, jax.random.key(config.seed))

    if config.model.init == "random":
        params, preprocessing = jax.jit(draw)(), CLIP_PREPROCESSING
    else:
        found, preprocessing = _read(config.model.init)
        params = _fitted(jax.eval_shape(draw), found, config.model.init)
    if source := config.model.image_init:
        if source.endswith(".safetensors"):
            image = dinov2_image_tower(source, model.image.size, model.image.heads)
            preprocessing = IMAGENET_PREPROCESSING
        else:
            found, preprocessing = _read(source)
            image = found["image"]
        params = _fitted(params, params | {"image": image}, source)
    return params, dataclasses.replace(preprocessing, size=model.image.size)


def _read(source: str) -> tuple[Any, Preprocessing]:
    """The parameters of a run or of a Hugging Face folder, whatever their sizes."""
    folder = checkpoint.find(source)
    if folder is None:
        if not Path(source).is_dir():
            raise InputError(
                f"no weights at {source}: give a run folder, a checkpoint, or a Hugging Face CLIPModel folder"
            )
        return clip_parameters(source)
    about = checkpoint.read_metadata(folder)
    saved = about["preprocessing"]
    shapes = jax.eval_shape(lambda: init_params(build_model(ConfigDict(about["config"])), jax.random.key(0)))
    return checkpoint.load_params(folder, shapes), Preprocessing(**{k: _tuple(v) for k, v in saved.items()})


def _fitted(params: Any, found: dict[str, Any], source: str) -> Any:
    """`params` with the values of `found`; position tables are stretched, cut or resized to fit."""
    values = {path_of(path): value for path, value in jax.tree.leaves_with_path(found)}
    names = {path_of(path) for path, _ in jax.tree.leaves_with_path(params)}
    if unexpected := sorted(values.keys() - names):
        raise InputError(f"{source} has {unexpected[0]} and {len(unexpected) - 1} more weights that the model has not")

    def fit(path, param):
        name = path_of(path)
        if name not in values:
            if name == "image/projection/kernel" and isinstance(param, jax.Array):
                return param  # an image tower without one, before a random projection
            raise InputError(f"{source} lacks {name} of the model")
        value = np.asarray(values[name], np.float32)
        if value.shape[1:] == param.shape[1:] and value.shape != param.shape:
            if name == "text/position_embedding":
                longer = len(param) > len(value)
                value = stretch_positions(value, length=len(param)) if longer else value[: len(param)]
            elif name == "image/position_embedding":
                value = resize_positions(value, math.isqrt(len(param) - 1), antialias=True)
        if value.shape != param.shape:
            raise InputError(f"{source}: {name} is {value.shape}, the model's is {param.shape}; another model.name?")
        return jnp.asarray(value)

    return jax.tree.map_with_path(fit, params)


def _tuple(value: Any) -> Any:
    return tuple(value) if isinstance(value, list) else value
