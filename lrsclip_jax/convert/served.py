"""A folder of --format=onnx or jax, computed by its own runtime: what `compare` sets next to the source."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any, NamedTuple, TypedDict

import jax
import numpy as np
import tokenizers
from jax import export as jax_export

from eval.reading import read_json
from lrsclip_jax.convert.formats.serving_files import ABOUT, TOKENIZER
from lrsclip_jax.convert.reference import ReferenceTower, Side
from lrsclip_jax.data.preprocessing import Preprocessing, preprocess
from lrsclip_jax.errors import InputError, optional


class _Image(TypedDict):
    file: str
    preprocessing: Preprocessing


class _Text(TypedDict, total=False):
    file: str
    files: dict[str, str]


class _Runtime(TypedDict):
    format: str


class _About(TypedDict):
    """What is read of model.json."""

    image: _Image
    text: _Text
    runtime: _Runtime


class Towers(NamedTuple):
    """What computes both towers, and the towers: pixels uint8 [B, S, S, 3] or ids int [B, L] to float32 [B, E]."""

    name: str
    image: Callable[[np.ndarray], np.ndarray]
    text: Callable[[np.ndarray], np.ndarray]


def towers(folder: Path) -> Towers:
    """Returns the towers of a folder with model.json; InputError where they can't be loaded."""
    about: _About = read_json(folder / ABOUT, _About)
    load = {"ONNX": _onnx, "jax.export": _jax}.get(about["runtime"]["format"])
    if load is None:
        raise InputError(f"{folder / ABOUT}: runtime.format is {about['runtime']['format']!r:.80}, ONNX or jax.export")
    try:
        return load(folder, about)
    except InputError:
        raise
    except Exception as error:  # each runtime raises many kinds
        reason = str(error).strip().split("\n")[0] or type(error).__name__
        raise InputError(f"{folder}: it can't be loaded ({reason})") from error


def served(path: str) -> Side | None:
    """Returns the model of a folder with model.json, or None where there is no such file; errors as of `towers`."""
    folder = Path(path)
    if not (folder / ABOUT).is_file():
        return None
    name, image, text = towers(folder)
    about: _About = read_json(folder / ABOUT, _About)
    tokenizer = _tokenizer(folder / TOKENIZER)

    def pixels(batch: Sequence[Any]) -> np.ndarray:
        return np.stack([preprocess(picture, about["image"]["preprocessing"]) for picture in batch])

    def padded(batch: Sequence[str]) -> np.ndarray:
        return np.array([row.ids for row in tokenizer.encode_batch(list(batch))])

    def ids(batch: Sequence[str]) -> Iterable[list[int]]:
        for row in tokenizer.encode_batch(list(batch)):
            yield row.ids[: sum(row.attention_mask)]

    return Side(
        name,
        ReferenceTower(lambda batch: image(pixels(batch)), pixels),
        ReferenceTower(lambda batch: text(padded(batch)), ids),
    )


def _tokenizer(path: Path) -> Any:
    try:
        return tokenizers.Tokenizer.from_file(str(path))
    except Exception as error:  # tokenizers has no kinds of its own
        raise InputError(f"{path}: no tokenizer can be read of it ({error})") from error


def _onnx(folder: Path, about: _About) -> Towers:
    runtime = optional("onnxruntime", "onnx")
    options = runtime.SessionOptions()
    options.intra_op_num_threads = len(os.sched_getaffinity(0))  # its own default is every core of the machine
    image, text = (
        runtime.InferenceSession(folder / about[tower]["file"], options, providers=["CPUExecutionProvider"])
        for tower in ("image", "text")
    )
    return Towers(
        f"onnxruntime {runtime.__version__}",
        lambda pixels: image.run(None, {"images": pixels})[0],
        lambda ids: text.run(None, {"ids": ids.astype(np.int64)})[0],
    )


def _jax(folder: Path, about: _About) -> Towers:
    optional("flatbuffers", "jax-export")

    def tower(file: str) -> Callable:
        exported = jax_export.deserialize(bytearray((folder / file).read_bytes()))
        exported.mlir_module()  # an older JAX than the writer's fails here, and not at the first call
        return jax.jit(exported.call)

    weights = {}
    for name in ("image", "text"):
        with np.load(folder / f"{name}.npz") as its:
            weights[name] = jax.device_put(dict(its))
    images = tower(about["image"]["file"])
    texts = {int(length): tower(file) for length, file in about["text"]["files"].items()}

    def encode(ids: np.ndarray) -> np.ndarray:
        length = next(length for length in sorted(texts) if ids.shape[1] <= length)
        filled = np.pad(ids, ((0, 0), (0, length - ids.shape[1]))).astype(np.int32)
        return np.asarray(texts[length](weights["text"], filled))

    return Towers(
        f"jax.export, jax {jax.__version__}", lambda pixels: np.asarray(images(weights["image"], pixels)), encode
    )
