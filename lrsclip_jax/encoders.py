"""Images and texts in, unit embeddings out: the jitted towers, fed in batches of one static shape."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any, NamedTuple

import jax
import numpy as np
from jax.sharding import Mesh

from lrsclip_jax.data.images import Preprocessing
from lrsclip_jax.models.clip import CLIP
from lrsclip_jax.models.pixels import normalise
from lrsclip_jax.sharding import batch_sharded, on_mesh, replicated

# Every length of text is compiled by itself, so there are only a few.
_TEXT_LENGTHS = (32, 77, 128)  # and the context length


class Encoders(NamedTuple):
    """The two towers of one model: (params, uint8 [B, S, S, 3]) and (params, int32 [B, L]) to float32 [B, E]."""

    images: Callable[[Any, np.ndarray], jax.Array]
    texts: Callable[[Any, np.ndarray], jax.Array]


def encoders(model: CLIP, preprocessing: Preprocessing, mesh: Mesh) -> Encoders:
    """Returns the jitted towers of `model`: batches are split over `mesh`, results are on every device.

    Every process of a run passes the whole batch; its devices take their rows.
    """

    def images(params: Any, pixels: jax.Array) -> jax.Array:
        embeddings: Any = model.apply({"params": params}, normalise(pixels, preprocessing), method="encode_image")
        return embeddings

    def texts(params: Any, ids: jax.Array) -> jax.Array:
        embeddings: Any = model.apply({"params": params}, ids, method="encode_text")
        return embeddings

    return Encoders(fed(images, mesh), fed(texts, mesh))


def fed(tower: Callable[[Any, jax.Array], jax.Array], mesh: Mesh) -> Callable[[Any, np.ndarray], jax.Array]:
    """Returns `tower`, (params, batch) to rows, jitted: numpy batches split over `mesh`, rows on every device."""
    rows = batch_sharded(mesh)
    jitted = jax.jit(on_mesh(mesh, tower), out_shardings=replicated(mesh))
    # jit itself splits a numpy batch only where one process has all devices.
    return lambda params, batch: jitted(params, jax.make_array_from_callback(batch.shape, rows, batch.__getitem__))


def static_length(length: int, context_length: int) -> int:
    """Returns the number of tokens to which a text of `length` is padded, one of `static_lengths`."""
    return next((known for known in static_lengths(context_length) if length <= known), context_length)


def static_lengths(context_length: int) -> list[int]:
    """Returns the few numbers of tokens to which texts are padded, increasing; the last is the context length."""
    return [*(known for known in _TEXT_LENGTHS if known < context_length), context_length]


def embed(encode: Callable, params: Any, rows: Iterable[np.ndarray], batch_size: int) -> np.ndarray:
    """Returns the embeddings of `rows`, float32 [N, E], encoding `batch_size` at a time, as `embedded` does."""
    results = list(embedded(encode, params, rows, batch_size))
    if not results:
        raise ValueError("nothing to embed")
    return np.concatenate(results)


def embedded(encode: Callable, params: Any, rows: Iterable[np.ndarray], batch_size: int) -> Iterator[np.ndarray]:
    """Yields the embeddings of `rows`, float32 [B, E], batch after batch; `rows` are drawn two batches ahead.

    All batches have the same shape: the last one is filled up with copies of its first row.
    """
    pending = None
    for batch in _chunks(rows, batch_size):
        filled = np.stack([*batch] + [batch[0]] * (batch_size - len(batch)))
        dispatched = encode(params, filled), len(batch)
        # Fetched one batch late, so that the host prepares the next one while the device works.
        if pending:
            yield _fetched(*pending)
        pending = dispatched
    if pending:
        yield _fetched(*pending)


def _fetched(embeddings: jax.Array, count: int) -> np.ndarray:
    return np.asarray(embeddings, np.float32)[:count]


def _chunks(rows: Iterable[np.ndarray], size: int) -> Iterator[Sequence[np.ndarray]]:
    chunk: list[np.ndarray] = []
    for row in rows:
        chunk.append(row)
        if len(chunk) == size:
            yield chunk
            chunk = []
    if chunk:
        yield chunk
