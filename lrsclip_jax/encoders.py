"""Images and texts in, unit embeddings out: the jitted towers, fed in batches of one static shape."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any, NamedTuple

import jax
import numpy as np
from jax.sharding import Mesh

from lrsclip_jax.data.native import cut
from lrsclip_jax.data.preprocessing import Preprocessing
from lrsclip_jax.models.clip import CLIP
from lrsclip_jax.models.native import PackedImages, image_rows, packed_images
from lrsclip_jax.models.pixels import normalise
from lrsclip_jax.models.resnet import ResNet
from lrsclip_jax.models.vit import ViT
from lrsclip_jax.sharding import batch_sharded, batch_shards, on_mesh, replicated

# Every length of text is compiled by itself, so there are only a few.
_TEXT_LENGTHS = (32, 77, 128)  # and the context length


Fed = Callable[[Any, Sequence[np.ndarray]], jax.Array]  # of parameters and examples


class Encoders(NamedTuple):
    """The two towers of one model: (params, B of uint8 [S, S, 3]) and (params, B of int32 [L]) to float32 [B, E]."""

    images: Fed
    texts: Fed


def encoders(model: CLIP, preprocessing: Preprocessing, mesh: Mesh) -> Encoders:
    """Returns the jitted towers of `model`: batches are split over `mesh`, results are on every device.

    Every process of a run passes the whole batch; its devices take their rows.
    """

    def images(params: Any, seen: jax.Array | PackedImages) -> jax.Array:
        method = "encode_packed_images" if isinstance(seen, PackedImages) else "encode_image"
        embeddings: Any = model.apply({"params": params}, seen, method=method)
        return embeddings

    def texts(params: Any, ids: jax.Array) -> jax.Array:
        embeddings: Any = model.apply({"params": params}, ids, method="encode_text")
        return embeddings

    return Encoders(fed_images(images, model.image, preprocessing, mesh), fed(texts, mesh))


def fed(
    tower: Callable[[Any, Any], jax.Array], mesh: Mesh, lay: Callable[[Sequence[np.ndarray]], Any] = np.stack
) -> Fed:
    """Returns `tower`, (params, batch) to rows, jitted: examples in, split over `mesh`, and rows on every device.

    `lay` makes a batch of examples, a numpy array or several.
    """
    rows = batch_sharded(mesh)
    jitted = jax.jit(on_mesh(mesh, tower), out_shardings=replicated(mesh))

    def split(values: np.ndarray) -> jax.Array:
        # jit itself splits a numpy batch only where one process has all devices.
        return jax.make_array_from_callback(values.shape, rows, values.__getitem__)

    return lambda params, examples: jitted(params, jax.tree.map(split, lay(examples)))


def fed_images(
    tower: Callable[[Any, Any], jax.Array], image: ViT | ResNet, preprocessing: Preprocessing, mesh: Mesh
) -> Fed:
    """Returns `tower`, (params, what `image` takes) to rows, as `fed` does, for images as `preprocess` makes them.

    Images of any shape share rows, as in training; `tower` then returns rows of each group, [G, T, E].
    """
    if not preprocessing.patch:
        return fed(lambda params, pixels: tower(params, normalise(pixels, preprocessing)), mesh)
    lay, groups = image_rows(image), batch_shards(mesh)

    def shared(images: Sequence[np.ndarray]) -> dict[str, np.ndarray]:
        grids = np.asarray([image.shape[:2] for image in images]) // lay.patch
        return lay.shared([cut(image, lay.patch) for image in images], grids, groups)

    def in_order(params: Any, batch: Mapping[str, jax.Array]) -> jax.Array:
        rows = tower(params, packed_images(batch, preprocessing, groups))
        return rows.reshape(-1, rows.shape[-1])

    return fed(in_order, mesh, shared)


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

    All batches have the same shape: the last one is filled up with copies of its first row. Those of images of any
    shape have one of a few shapes.
    """
    pending = None
    for batch in _chunks(rows, batch_size):
        filled = [*batch] + [batch[0]] * (batch_size - len(batch))
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
