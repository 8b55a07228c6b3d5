"""A pretrained model as Python sees it: files and strings in, unit rows out."""

from __future__ import annotations

import itertools
import math
import os
import warnings
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from PIL import Image

from lrsclip_jax import config, weights
from lrsclip_jax.data.images import Preprocessing, as_rgb, preprocess, read_image
from lrsclip_jax.data.parallel import in_threads
from lrsclip_jax.data.tokenizer import Tokenizer, fit, tokenizer_for
from lrsclip_jax.encoders import Encoders, embed, encoders, static_length
from lrsclip_jax.errors import InputError
from lrsclip_jax.models.clip import CLIP
from lrsclip_jax.pytorch.contract import Hints
from lrsclip_jax.sharding import batch_shards, make_mesh, replicated

ImageLike = str | os.PathLike | Image.Image | np.ndarray

# Every batch size is a program of its own: few, so that few are compiled.
_FEW = (1, 8)  # and the batch size


@dataclass(frozen=True, eq=False)
class Pretrained:
    """A model with its weights, preprocessing and tokenizer; `lrsclip_jax.load` makes it.

    An embedding depends on its image or text alone, up to rounding (below 1e-6 in float32): not on what else is in the
    call, nor on the batch size.

    Attributes:
      source: what it was loaded from.
      family: whose layout the source has.
      clip: the Flax module.
      params: its parameters, float32, on the devices.
      preprocessing: size, crop, mean and std.
      tokenizer: with the special tokens' ids.
      batch_size: rows that pass a tower at once.
    """

    source: str
    family: str
    preprocessing: Preprocessing
    batch_size: int
    clip: CLIP = field(repr=False)
    params: Any = field(repr=False)
    tokenizer: Tokenizer = field(repr=False)
    _encoders: Encoders = field(repr=False)
    _shards: int = field(repr=False)

    @property
    def context_length(self) -> int:
        """How many tokens the text tower reads, start and end token included."""
        return self.clip.text.context_length

    @property
    def logit_scale(self) -> float:
        """The factor on cosines: 1 / temperature, not its logarithm."""
        return math.exp(float(self.params["logit_scale"]))

    def images(self, images: Iterable[ImageLike] | np.ndarray) -> np.ndarray:
        """Returns the unit rows of images, float32 [N, E], in their order.

        They are decoded by a thread a core while the device works, and no more than a few are held at a time.

        Args:
          images: a list or iterator of paths, PIL images and uint8 arrays [H, W, 3] (RGB), or one uint8 array
            [N, H, W, 3]. The rules for reading them are those of `data.images.read_image`.

        Raises:
          TypeError: one image instead of several, or something that is no image.
          InputError: a file that can't be read, an array of another dtype or shape.
        """
        if isinstance(images, str | bytes | os.PathLike | Image.Image):
            raise TypeError("images come as a list: model.images([image]), not model.images(image)")
        if isinstance(images, np.ndarray) and images.ndim == 3:
            raise TypeError(f"images come as a list or as [N, H, W, 3]: one array {list(images.shape)} is one image")
        return self._embedded(self._encoders.images, in_threads(self.preprocess, images))

    def texts(self, texts: Iterable[str]) -> np.ndarray:
        """Returns the unit rows of texts, float32 [N, E], in their order.

        What is longer than the context length is cut, its last token being the end token, and a warning counts it.

        Raises:
          TypeError: a string instead of a list, or something that is no string.
        """
        ids = self._ids(texts)
        lengths = np.array([static_length(len(row), self.context_length) for row in ids], int)
        rows = np.zeros((len(ids), self.clip.text.embed_dim), np.float32)
        for length in np.unique(lengths):
            chosen = np.flatnonzero(lengths == length)
            fitted = (fit(ids[row], length, self.tokenizer.end, self.tokenizer.pad) for row in chosen)
            rows[chosen] = self._embedded(self._encoders.texts, fitted)
        return rows

    def preprocess(self, image: ImageLike) -> np.ndarray:
        """Returns what the image tower sees of an image, before normalisation: uint8 [S, S, 3].

        To the byte the pixels that the source's own code makes: the transform of CLIP and open_clip, or transformers'
        `CLIPImageProcessorPil`. Errors as in `images`.
        """
        return preprocess(_rgb(image), self.preprocessing)

    def tokenize(self, texts: Iterable[str]) -> np.ndarray:
        """Returns the tokens of texts, cut or padded to the context length: int32 [N, context_length].

        Errors and the warning as in `texts`.
        """
        rows = [fit(row, self.context_length, self.tokenizer.end, self.tokenizer.pad) for row in self._ids(texts)]
        return np.stack(rows) if rows else np.zeros((0, self.context_length), np.int32)

    def _ids(self, texts: Iterable[str]) -> list[list[int]]:
        if isinstance(texts, str):
            raise TypeError("texts come as a list: model.texts([text]), not model.texts(text)")
        texts = list(texts)
        if others := [text for text in texts if not isinstance(text, str)]:
            raise TypeError(f"a text is a str, not {type(others[0]).__name__}")
        ids = self.tokenizer.encode(texts)
        if cut := sum(len(row) > self.context_length for row in ids):
            warnings.warn(f"{cut} of {len(ids)} texts were cut to {self.context_length} tokens", stacklevel=3)
        return ids

    def _embedded(self, encode: Callable, rows: Iterable[np.ndarray]) -> np.ndarray:
        rows = iter(rows)
        begin = list(itertools.islice(rows, self.batch_size))
        if not begin:
            return np.zeros((0, self.clip.text.embed_dim), np.float32)
        size = next((few for few in _FEW if len(begin) <= few < self.batch_size), self.batch_size)
        size = math.ceil(size / self._shards) * self._shards
        exact = self.clip.image.dtype == jnp.float32
        with jax.default_matmul_precision("highest" if exact else "default"):
            return embed(encode, self.params, itertools.chain(begin, rows), size)


def load(
    source: str | os.PathLike[str], hints: Hints | None = None, *, dtype: Any = None, batch_size: int = 64
) -> Pretrained:
    """Loads a model; see `lrsclip_jax.load`, whose last four arguments are `hints` here."""
    if batch_size < 1:
        raise InputError(f"batch_size is {batch_size}: it must be at least 1")
    source = os.fspath(source)
    found = weights.read(source, hints)
    weights.check_whole(found, source)
    clip = weights.model_of(found, dtype or ("float32" if jax.default_backend() == "cpu" else "bfloat16"))
    mesh = make_mesh(config.defaults().mesh, jax.local_devices())
    return Pretrained(
        source=source,
        family=found.family,
        preprocessing=found.preprocessing,
        batch_size=batch_size,
        clip=clip,
        params=jax.device_put(found.params, replicated(mesh)),
        tokenizer=tokenizer_for(found.text["kind"]),
        _encoders=encoders(clip, found.preprocessing, mesh),
        _shards=batch_shards(mesh),
    )


def _rgb(image: ImageLike) -> Image.Image:
    if isinstance(image, str | os.PathLike):
        return read_image(image)
    if isinstance(image, Image.Image):
        return as_rgb(image)
    if not isinstance(image, np.ndarray):
        raise TypeError(f"an image is a path, a PIL image or a uint8 array [H, W, 3], not {type(image).__name__}")
    if image.dtype != np.uint8 or image.ndim != 3 or image.shape[2] != 3:
        raise InputError(f"an image array must be uint8 [H, W, 3], not {image.dtype} {list(image.shape)}")
    return Image.fromarray(image)
