"""The towers that a set is made with, giving rows before normalisation."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from lrsclip_jax import config, weights
from lrsclip_jax.data.images import Preprocessing, check_side
from lrsclip_jax.data.tokenizer import Tokenizer, tokenizer_for
from lrsclip_jax.encoders import fed, normalise
from lrsclip_jax.errors import InputError
from lrsclip_jax.models import zoo
from lrsclip_jax.models.positions import resize_positions
from lrsclip_jax.parameter_rules import path_of
from lrsclip_jax.pytorch.contract import Found, Hints
from lrsclip_jax.run import checkpoint
from lrsclip_jax.sharding import batch_shards, make_mesh, replicated

Encode = Callable[[Any, np.ndarray], jax.Array]


@dataclass(frozen=True, eq=False)
class Towers:
    """A source of weights, ready to embed with.

    Attributes:
      source, family, step: what was loaded, whose layout it has, and of a run the training step.
      features: "projected", rows in the space where images and texts meet, or "encoder", each tower's own.
      weights: a hash of the parameters.
      params: of what the source holds, float32, on the devices.
      images: (params, uint8 [B, S, S, 3]) to float32 rows [B, D], not unit; None where there is no image tower.
      texts: (params, int32 [B, L]) to float32 rows, not unit; None where there is no text tower, and for "encoder"
        features where there are both, as the two meet in the projected space alone.
      preprocessing, tokenizer, context_length: of the towers there are.
      logit_scale: factor on cosines, of projected features.
      dtype: of the towers' arithmetic.
      shards: into how many parts the devices split a batch.
    """

    source: str
    family: str
    step: int | None
    features: str
    weights: str
    params: Any = field(repr=False)
    images: Encode | None = field(repr=False)
    texts: Encode | None = field(repr=False)
    preprocessing: Preprocessing | None
    tokenizer: Tokenizer | None = field(repr=False)
    context_length: int | None
    logit_scale: float | None
    dtype: str
    shards: int


def load_towers(
    source: str, features: str, hints: Hints | None = None, dtype: Any = None, size: int | None = None
) -> Towers:
    """Loads what a source holds: both towers, or for "encoder" features one alone will do.

    Args:
      source, dtype: as for `lrsclip_jax.load`.
      features: "projected" or "encoder".
      hints: for a source that doesn't tell all of itself.
      size: side of the images in pixels, where it is not to be the source's own; the position table is resized as the
        source's family does.

    Raises:
      InputError: as for `lrsclip_jax.load`, unknown features, a size that is no multiple of the patch.
    """
    found = weights.read(source, hints)
    if size and found.image:
        found = _of_size(found, size)
    if features == "projected":
        weights.check_whole(found, source)
    elif features != "encoder":
        raise InputError(f"features is {features!r}: 'projected' and 'encoder' are known")
    dtype = jnp.dtype(dtype or ("float32" if jax.default_backend() == "cpu" else "bfloat16"))
    mesh = make_mesh(config.defaults().mesh, jax.local_devices())
    has_texts = found.text is not None and (features == "projected" or found.image is None)
    method = "__call__" if features == "projected" else "features"

    def encoder(tower: str, prepare: Callable) -> Encode:
        module = zoo.tower(tower, getattr(found, tower), dtype)
        encode = fed(lambda params, batch: module.apply({"params": params}, prepare(batch), method=method), mesh)

        def exactly(params: Any, batch: np.ndarray) -> jax.Array:
            with jax.default_matmul_precision("highest" if dtype == jnp.float32 else "default"):
                return encode(params[tower], batch)

        return exactly

    folder = checkpoint.find(source)
    return Towers(
        source=source,
        family=found.family,
        step=int(folder.name) if folder else None,
        features=features,
        weights=_hash(found.params),
        params=jax.device_put(found.params, replicated(mesh)),
        images=encoder("image", lambda batch: normalise(batch, found.preprocessing)) if found.image else None,
        texts=encoder("text", lambda ids: ids) if has_texts else None,
        preprocessing=found.preprocessing,
        tokenizer=tokenizer_for(found.text["kind"]) if has_texts else None,
        context_length=zoo.tower("text", found.text, dtype).context_length if has_texts else None,
        logit_scale=float(np.exp(found.params["logit_scale"])) if features == "projected" else None,
        dtype=dtype.name,
        shards=batch_shards(mesh),
    )


def _of_size(found: Found, size: int) -> Found:
    check_side(size, "--size")
    patch = found.image["patch"]
    if size % patch:
        raise InputError(f"--size={size} is no multiple of the image tower's patch, {patch}")
    image, side = found.params["image"], size // patch
    table = np.asarray(image["position_embedding"])
    if len(table) != 1 + side**2:
        table = resize_positions(table, side, found.antialias)
    return replace(
        found,
        params=found.params | {"image": image | {"position_embedding": table}},
        image=found.image | {"size": size},
        preprocessing=replace(found.preprocessing, size=size),
    )


def _hash(params: Any) -> str:
    digest = hashlib.blake2b(digest_size=8)
    leaves = {path_of(path): value for path, value in jax.tree.leaves_with_path(params)}
    for name in sorted(leaves):
        digest.update(name.encode())
        digest.update(np.ascontiguousarray(leaves[name], np.float32).data)
    return digest.hexdigest()
