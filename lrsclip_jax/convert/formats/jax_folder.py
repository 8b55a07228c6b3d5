"""A folder that JAX serves from without this package: towers of `jax.export`, their weights as .npz, model.json.

The weights are arguments: inside they would make an artefact as large as the model, which compiles eight times as long
(ViT-B/16 on two CPU cores: 15 s instead of 2). So the artefacts of a text tower's lengths share them, too.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import jax
import numpy as np
from flax.traverse_util import flatten_dict, unflatten_dict
from jax import export as jax_export

from lrsclip_jax.convert.formats.output_files import new_output
from lrsclip_jax.convert.formats.serving_files import write_serving_files
from lrsclip_jax.data.preprocessing import Preprocessing
from lrsclip_jax.data.tokenizer import Tokenizer
from lrsclip_jax.encoders import static_lengths
from lrsclip_jax.errors import InputError, optional
from lrsclip_jax.models.clip import CLIP, unit
from lrsclip_jax.models.pixels import normalise
from lrsclip_jax.models.precision import exactly
from lrsclip_jax.models.siglip_text import SiglipText
from lrsclip_jax.models.vit import ViT

PLATFORMS = ("cpu", "cuda", "tpu")


def write(
    model: CLIP,
    params: Mapping[str, Any],
    preprocessing: Preprocessing,
    out: Path,
    *,
    tokenizer: Tokenizer | None = None,
) -> list[str]:
    """Writes the folder `out`, and returns what to tell of it.

    `image.jax` and `text_LENGTH.jax` are functions of (weights, batch), the first a dict of arrays by name, which is
    what `dict(numpy.load("image.npz"))` returns. They compute in float32, on every platform of PLATFORMS.

    Args:
      model, params, preprocessing, tokenizer: as for `export.export`.
      out: the folder, new or empty.

    Raises:
      InputError: the package of the extra [jax-export] is missing; JAX can't write a tower for any size of batch; `out`
        can't be written.
    """
    optional("flatbuffers", "jax-export")  # without which jax.export can't serialise
    (batch,) = jax_export.symbolic_shape("batch")
    image = model.image.clone(attention="xla") if isinstance(model.image, ViT) else model.image
    text = model.text.clone(attention="xla")
    weights = {tower: _flat(params[tower]) for tower in ("image", "text")}
    whole = isinstance(text, SiglipText)  # its texts fill their rows
    lengths = [text.context_length] if whole else static_lengths(text.context_length)

    def images(weights: Mapping[str, jax.Array], pixels: jax.Array) -> jax.Array:
        rows: Any = image.apply({"params": _nested(weights)}, normalise(pixels, preprocessing))
        return unit(rows)

    def texts(weights: Mapping[str, jax.Array], ids: jax.Array) -> jax.Array:
        rows: Any = text.apply({"params": _nested(weights)}, ids)
        return unit(rows)

    with new_output(out) as partial:
        partial.mkdir()
        pixels = jax.ShapeDtypeStruct((batch, image.size, image.size, 3), np.uint8)
        version = _write_tower(partial / "image.jax", images, weights["image"], pixels)
        for length in lengths:
            ids = jax.ShapeDtypeStruct((batch, length), np.int32)
            _write_tower(partial / f"text_{length}.jax", texts, weights["text"], ids)
        for tower, its in weights.items():
            np.savez(partial / f"{tower}.npz", **its)  # type: ignore[arg-type]
        runtime = {"format": "jax.export", "jax": jax.__version__, "calling_convention_version": version}
        files = {str(length): f"text_{length}.jax" for length in lengths}
        ids_input = {"name": "ids", "dtype": "int32", "shape": ["batch", "length"]}
        write_serving_files(
            model,
            params,
            preprocessing,
            partial,
            tokenizer=tokenizer,
            image={"file": "image.jax", "weights": "image.npz"},
            text={"files": files, "weights": "text.npz", "input": ids_input},
            runtime=runtime | {"platforms": PLATFORMS, "arguments": ["weights", "batch"]},
        )
    size = sum(value.nbytes for its in weights.values() for value in its.values())
    return [
        f"{out}: towers of jax.export for {', '.join(PLATFORMS)}, texts of {', '.join(files)} tokens, weights "
        f"{size / 1e6:.1f} MB",
        f"written by JAX {jax.__version__}, calling convention {version}; model.json has inputs, outputs, pixels and "
        "logit_scale",
    ]


def _write_tower(path: Path, tower: Callable, weights: Mapping[str, np.ndarray], batch: jax.ShapeDtypeStruct) -> int:
    """Writes a tower, and returns the version of its calling convention."""
    shapes = {name: jax.ShapeDtypeStruct(value.shape, value.dtype) for name, value in weights.items()}
    try:
        with exactly("float32"):
            exported = jax_export.export(jax.jit(tower), platforms=PLATFORMS)(shapes, batch)
        artefact = exported.serialize()
    except InputError:
        raise
    except Exception as error:  # of towers whose code wants a size that is known, JAX says so in many kinds
        reason = str(error).strip().split("\n")[0] or type(error).__name__
        raise InputError(f"--format=jax can't write {path.name} for batches of any size: {reason}") from error
    path.write_bytes(artefact)
    return exported.calling_convention_version


def _flat(params: Any) -> dict[str, np.ndarray]:
    return {name: np.asarray(value, np.float32) for name, value in flatten_dict(params, sep="/").items()}


def _nested(weights: Mapping[str, jax.Array]) -> Any:
    return unflatten_dict(weights, sep="/")
