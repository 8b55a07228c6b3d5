"""A pretrained model as Python sees it: files and strings in, unit embeddings out."""

from __future__ import annotations

import hashlib
import itertools
import math
import os
import warnings
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any, Literal, NamedTuple

import jax
import numpy as np
from jax.sharding import Mesh
from PIL import Image

from lrsclip_jax import config, fitting, weights
from lrsclip_jax.data.band_image import AnyImage, BandImage, seen
from lrsclip_jax.data.bands import LAYOUTS
from lrsclip_jax.data.images import as_rgb, read_image
from lrsclip_jax.data.parallel import in_threads
from lrsclip_jax.data.preprocessing import Preprocessing, preprocess
from lrsclip_jax.data.tokenizer import Tokenizer, fit
from lrsclip_jax.encoders import Fed, embed, embedded, fed, fed_images, static_length
from lrsclip_jax.errors import InputError
from lrsclip_jax.models import zoo
from lrsclip_jax.models.bert_tower import Bert
from lrsclip_jax.models.clip import CLIP, unit
from lrsclip_jax.models.precision import compute_dtype, exactly
from lrsclip_jax.models.resnet import ResNet
from lrsclip_jax.models.siglip_text import SiglipText
from lrsclip_jax.models.text import TextTransformer
from lrsclip_jax.models.vit import ViT
from lrsclip_jax.parameter_rules import path_of
from lrsclip_jax.pytorch.contract import Hints
from lrsclip_jax.run import checkpoint_reader
from lrsclip_jax.sharding import batch_shards, make_mesh, replicated

ImageLike = str | os.PathLike | Image.Image | BandImage | np.ndarray
Side = Literal["image", "text"]

# Every batch size is a program of its own: few, so that few are compiled.
_FEW = (1, 8)  # and the batch size


class Encoder(NamedTuple):
    """A jitted tower, (params, batch) to float32 [B, D]: `features` of any length, and `unit` ones."""

    features: Fed
    unit: Fed


@dataclass(frozen=True, eq=False)
class Pretrained:
    """A model with its weights, preprocessing and tokenizer; `lrsclip_jax.load` makes it.

    An embedding depends on its image or text alone, up to rounding (below 1e-6 in float32): not on what else is in the
    call, nor on the batch size.

    Attributes:
      source: what it was loaded from.
      family: whose layout the source has.
      step: the training step of a run's checkpoint, None for other sources.
      features: "projected", embeddings in the space where images and texts meet, or "encoder", the tower's own before
        its projection. Then a source may have one tower alone, and of two towers the image tower alone embeds.
      dtype: of the towers' arithmetic.
      image, text: the Flax modules of the towers, None for one that the source lacks.
      params: their parameters {"image": …, "text": …, "logit_scale": …}, float32, on the devices.
      batch_size: images or texts that pass a tower at once, a multiple of the devices.
      mesh: the devices.
      layout: the bands of files that do not name them, for a model that reads bands.
    """

    source: str
    family: str
    step: int | None
    features: str
    dtype: str
    _preprocessing: Preprocessing | None
    batch_size: int
    image: ViT | ResNet | None = field(repr=False)
    text: TextTransformer | Bert | SiglipText | None = field(repr=False)
    params: Any = field(repr=False)
    _tokenizer: Tokenizer | None = field(repr=False)
    mesh: Mesh = field(repr=False)
    _encoders: Mapping[Side, Encoder] = field(repr=False)
    layout: tuple[str, ...] = ()

    @cached_property
    def clip(self) -> CLIP:
        """The Flax module of both towers; InputError where there is one alone."""
        if self.image is None or self.text is None:
            raise InputError(f"{self.source} ({self.family}) has one tower alone")
        return CLIP(self.image, self.text)

    @property
    def preprocessing(self) -> Preprocessing:
        """Size, crop, mean and std of images; InputError without an image tower."""
        if self._preprocessing is None:
            raise InputError(f"{self.source} ({self.family}) has no image tower")
        return self._preprocessing

    @property
    def tokenizer(self) -> Tokenizer:
        """The tokenizer of texts, with the special tokens' ids; InputError where texts are not embedded."""
        if self._tokenizer is None:
            raise InputError(f"{self.source} ({self.family}) embeds no texts as {self.features} features")
        return self._tokenizer

    @property
    def context_length(self) -> int:
        """How many tokens the text tower reads, start and end token included; InputError as for `tokenizer`."""
        if self._tokenizer is None or self.text is None:
            raise InputError(f"{self.source} ({self.family}) embeds no texts as {self.features} features")
        return self.text.context_length

    @property
    def logit_scale(self) -> float:
        """The factor on cosines of projected features: 1 / temperature, not its logarithm."""
        return math.exp(float(self.params["logit_scale"]))

    @property
    def logit_bias(self) -> float:
        """What the sigmoid loss adds to the scaled cosines; 0 for a model without it.

        SigLIP's probability of a pair is 1 / (1 + exp(−(logit_scale · cosine + logit_bias))).
        """
        return float(self.params.get("logit_bias", 0.0))

    @cached_property
    def weights_hash(self) -> str:
        """16 hex digits of all parameters."""
        digest = hashlib.blake2b(digest_size=8)
        leaves = {path_of(path): value for path, value in jax.tree.leaves_with_path(self.params)}
        for name in sorted(leaves):
            digest.update(name.encode())
            digest.update(np.ascontiguousarray(leaves[name], np.float32).data)
        return digest.hexdigest()

    def embeds(self, side: Side) -> bool:
        """Returns whether the model embeds images or texts."""
        return side in self._encoders

    def images(self, images: Iterable[ImageLike] | np.ndarray) -> np.ndarray:
        """Returns the unit embeddings of images, float32 [N, E], in their order.

        They are decoded by a thread for each core while the device works, and no more than a few are held at a time.

        Args:
          images: a list or iterator of paths, PIL images and uint8 arrays [H, W, 3] (RGB), or one uint8 array
            [N, H, W, 3]. The rules for reading them are those of `data.images.read_image`. A model that reads bands
            takes paths of TIFFs and JPEG 2000 that hold them, and arrays [H, W, bands] of real values.

        Raises:
          TypeError: one image instead of several, or something that is no image.
          InputError: a file that can't be read or lacks a band, an array of another dtype or shape.
        """
        if isinstance(images, str | bytes | os.PathLike | Image.Image):
            raise TypeError("images come as a list: model.images([image]), not model.images(image)")
        if isinstance(images, np.ndarray) and images.ndim == 3:
            raise TypeError(f"images come as a list or as [N, H, W, 3]: one array {list(images.shape)} is one image")
        return self._embedded("image", in_threads(self.preprocess, images))

    def texts(self, texts: Iterable[str]) -> np.ndarray:
        """Returns the unit embeddings of texts, float32 [N, E], in their order.

        A text longer than the context length is cut, its last token being the end token, and a warning counts them.

        Raises:
          TypeError: a string instead of a list, or something that is no string.
        """
        tokenizer, ids = self.tokenizer, self._ids(texts)
        lengths = np.array([static_length(len(row), self.context_length) for row in ids], int)
        found = np.zeros((len(ids), self._width("text")), np.float32)
        for length in np.unique(lengths):
            chosen = np.flatnonzero(lengths == length)
            fitted = (fit(ids[row], length, tokenizer.end, tokenizer.pad) for row in chosen)
            found[chosen] = self._embedded("text", fitted)
        return found

    def preprocess(self, image: ImageLike) -> np.ndarray:
        """Returns what the image tower sees of an image, before normalisation: uint8 [S, S, 3], float32 of bands.

        A model that takes images of any shape sees [rows·patch, columns·patch, 3].

        To the byte the pixels that the source's own code makes: the transform of CLIP and open_clip, or transformers'
        `CLIPImageProcessorPil`. Errors as in `images`.
        """
        return preprocess(as_seen(image, self.preprocessing, self.layout), self.preprocessing)

    def tokenize(self, texts: Iterable[str]) -> np.ndarray:
        """Returns the tokens of texts, cut or padded to the context length: int32 [N, context_length].

        Errors and the warning as in `texts`.
        """
        tokenizer = self.tokenizer
        rows = [fit(row, self.context_length, tokenizer.end, tokenizer.pad) for row in self._ids(texts)]
        return np.stack(rows) if rows else np.zeros((0, self.context_length), np.int32)

    def encode(self, side: Side, batch: Iterable[np.ndarray]) -> np.ndarray:
        """Returns features that are not scaled to unit length, float32 [N, D]; [0, D] of nothing.

        Args:
          side: which tower.
          batch: images as `preprocess` makes them, uint8 [S, S, 3], or texts as tokens, int32 [L], all of one length
            up to the context length.
        """
        return self._run(self._encoder(side).features, side, batch, self.batch_size)

    def encoded(self, side: Side, batch: Iterable[np.ndarray]) -> Iterator[np.ndarray]:
        """Yields what `encode` returns, batch after batch: at most `batch_size` rows each, and no batch of nothing.

        All batches have one shape: on one kind of device a row is the same to the bit, whichever rows come with it.
        Images of any shape share rows; theirs are the same up to rounding.
        """
        with exactly(self.dtype):
            yield from embedded(self._encoder(side).features, self.params[side], batch, self.batch_size)

    def _embedded(self, side: Side, rows: Iterable[np.ndarray]) -> np.ndarray:
        rows = iter(rows)
        begin = list(itertools.islice(rows, self.batch_size))
        few = next((few for few in _FEW if len(begin) <= few < self.batch_size), self.batch_size)
        shards = batch_shards(self.mesh)
        size = math.ceil(few / shards) * shards
        return self._run(self._encoder(side).unit, side, itertools.chain(begin, rows), size)

    def _run(self, encode: Callable, side: Side, rows: Iterable[np.ndarray], size: int) -> np.ndarray:
        rows = iter(rows)
        first = next(rows, None)
        if first is None:
            return np.zeros((0, self._width(side)), np.float32)
        with exactly(self.dtype):
            return embed(encode, self.params[side], itertools.chain([first], rows), size)

    def _encoder(self, side: Side) -> Encoder:
        if side not in self._encoders:
            raise InputError(f"{self.source} ({self.family}) embeds no {side}s as {self.features} features")
        return self._encoders[side]

    def _width(self, side: Side) -> int:
        tower = getattr(self, side)
        return tower.embed_dim if self.features == "projected" else zoo.feature_width(tower)

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


def load(
    source: str | os.PathLike[str],
    hints: Hints | None = None,
    *,
    dtype: Any = None,
    batch_size: int = 64,
    features: str = "projected",
    size: int | None = None,
    tower: Side | None = None,
    merge: bool = False,
    layout: str | Sequence[str] = (),
) -> Pretrained:
    """Loads a model.

    Args:
      source, dtype, batch_size: as for `lrsclip_jax.load`.
      hints: the last four arguments of `lrsclip_jax.load`.
      features: "projected", or "encoder", for which one tower alone will do.
      size: side of the images in pixels, instead of the source's own; the position table is resized as the source's
        family does.
      tower: of two towers the one whose "encoder" features are meant; None: the image tower.
      merge: whether LoRA becomes part of the kernels that it is added to.
      layout: as for `lrsclip_jax.load`.

    Raises:
      InputError: as for `lrsclip_jax.load`, unknown features, a tower that is not there, a size that is no multiple of
        the patch, other adapters than LoRA to merge.
    """
    if batch_size < 1:
        raise InputError(f"batch_size is {batch_size}: it must be at least 1")
    if isinstance(layout, str) and layout not in LAYOUTS:
        raise InputError(f"unknown layout {layout!r}: choose one of {', '.join(LAYOUTS)}, or list the names of bands")
    if features not in ("projected", "encoder"):
        raise InputError(f"unknown features {features!r}: choose 'projected' or 'encoder'")
    source = os.fspath(source)
    found = weights.read(source, hints)
    if merge:
        found = weights.merged(found, source)
    if tower and getattr(found, tower) is None:
        raise InputError(f"{source} ({found.family}) has no {tower} tower")
    if size:
        found = fitting.of_size(found, size)
    precision = compute_dtype(dtype or "auto")
    if features == "projected":
        fitting.check_whole(found, source)
        clip = weights.model_of(found, precision)
        image, text = clip.image, clip.text
    else:
        image = zoo.tower("image", found.image, precision) if found.image and tower != "text" else None
        text = zoo.tower("text", found.text, precision) if found.text and tower != "image" else None
    mesh = make_mesh(config.defaults().mesh, jax.local_devices())
    encoders = _encoders(image, text, features, found.preprocessing, mesh)
    folder = checkpoint_reader.find(source)
    shards = batch_shards(mesh)
    return Pretrained(
        source=source,
        family=found.family,
        step=int(folder.name) if folder else None,
        features=features,
        dtype=precision.name,
        _preprocessing=found.preprocessing,
        batch_size=math.ceil(batch_size / shards) * shards,
        image=image,
        text=text,
        params=jax.device_put(found.params, replicated(mesh)),
        _tokenizer=weights.tokenizer_of(found, source) if found.text and "text" in encoders else None,
        mesh=mesh,
        _encoders=encoders,
        layout=LAYOUTS[layout] if isinstance(layout, str) else tuple(layout),
    )


def _encoders(
    image: ViT | ResNet | None, text: Any, features: str, preprocessing: Preprocessing | None, mesh: Mesh
) -> dict[Side, Encoder]:
    encoders: dict[Side, Encoder] = {}
    method = "__call__" if features == "projected" else "features"
    if image and preprocessing:
        towers = _features(image, method)
        encoders["image"] = Encoder(*(fed_images(each, image, preprocessing, mesh) for each in towers))
    if text and (features == "projected" or not image):  # two towers meet in the projected space alone
        encoders["text"] = Encoder(*(fed(each, mesh) for each in _features(text, method)))
    return encoders


def _features(tower: Any, method: str) -> tuple[Callable, Callable]:
    """The functions of an `Encoder`, before they are fed."""

    def features(params: Any, batch: Any) -> jax.Array:
        return tower.apply({"params": params}, batch, method=method)

    return features, lambda params, batch: unit(features(params, batch))


def as_seen(image: ImageLike, preprocessing: Preprocessing, layout: Sequence[str] = ()) -> AnyImage:
    """Returns an image as a tower is to see it, before it is resized; errors and `layout` as for `Pretrained`."""
    if not preprocessing.bands:
        return _rgb(image)
    if isinstance(image, BandImage):
        return image
    if isinstance(image, str | os.PathLike):
        return seen(Path(image), preprocessing, layout)
    channels = preprocessing.channels
    if not isinstance(image, np.ndarray) or image.ndim != 3 or image.shape[-1] != channels:
        given = f"{image.dtype} {list(image.shape)}" if isinstance(image, np.ndarray) else type(image).__name__
        wanted = f"a path, or an array [H, W, {channels}]"
        raise InputError(f"the model reads bands {', '.join(preprocessing.bands)}: {wanted} is expected, not {given}")
    if image.dtype.kind not in "uif":
        raise InputError(f"an image array must hold real numbers, not {image.dtype}")
    return BandImage.of(np.moveaxis(image, -1, 0))


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
