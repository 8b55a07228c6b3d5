"""A folder that ONNX Runtime serves from: image.onnx, text.onnx, the tokenizer, and model.json about them."""

from __future__ import annotations

import logging
import math
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from lrsclip_jax.convert.formats import onnx_graph
from lrsclip_jax.convert.formats.known_towers import tower_faults
from lrsclip_jax.convert.formats.output_files import new_output
from lrsclip_jax.convert.formats.serving_files import write_serving_files
from lrsclip_jax.data.preprocessing import Preprocessing
from lrsclip_jax.data.tokenizer import Tokenizer
from lrsclip_jax.errors import InputError, optional
from lrsclip_jax.models.clip import CLIP

TOWERS = {"image": "image.onnx", "text": "text.onnx"}
_LARGEST = 2**31 - 2**24  # bytes of weights: a protobuf ends at 2 GiB


def write(
    model: CLIP,
    params: Mapping[str, Any],
    preprocessing: Preprocessing,
    out: Path,
    *,
    tokenizer: Tokenizer | None = None,
    opset: int = onnx_graph.OLDEST,
    int8: bool = False,
) -> list[str]:
    """Writes the folder `out`, and returns what to tell of it.

    Args:
      model, params, preprocessing, tokenizer: as for `export.export`.
      out: the folder, new or empty.
      opset: the version of ONNX's operators.
      int8: whether weights are 8-bit integers, see `_quantise`.

    Raises:
      InputError: an opset that is too old, or newer than the installed package onnx; a model that these graphs do not
        express; a package of the extra [onnx] is missing; `out` can't be written.
    """
    onnx = optional("onnx", "onnx")
    newest = onnx.defs.onnx_opset_version()
    if not onnx_graph.OLDEST <= opset <= newest:
        fault = "is too old" if opset < onnx_graph.OLDEST else f"is newer than onnx {onnx.__version__}"
        raise InputError(f"--opset={opset} {fault}: write {onnx_graph.OLDEST} to {newest}")
    faults = (fault for role in TOWERS for fault in tower_faults(role, getattr(model, role)))
    if fault := next(faults, None):
        raise InputError(f"--format=onnx can't say what this model computes: {fault}")
    if int8:
        optional("onnxruntime.quantization", "onnx")
    graphs = {
        "image": onnx_graph.image_graph(model.image, params["image"], preprocessing, opset),
        "text": onnx_graph.text_graph(model.text, params["text"], opset),
    }
    with new_output(out) as partial:
        partial.mkdir()
        for tower, graph in graphs.items():
            exact = partial / "float32" / TOWERS[tower] if int8 else partial / TOWERS[tower]
            exact.parent.mkdir(exist_ok=True)
            _save(onnx, graph, exact)
            if int8:
                _quantise(exact, partial / TOWERS[tower])
                shutil.rmtree(exact.parent)
        ids = {"name": "ids", "dtype": "int64", "shape": ["batch", "length"]}
        write_serving_files(
            model,
            params,
            preprocessing,
            partial,
            tokenizer=tokenizer,
            image={"file": TOWERS["image"]},
            text={"file": TOWERS["text"], "input": ids},
            runtime={"format": "ONNX", "opset": opset, "weights": "int8" if int8 else "float32"},
        )
        sizes = [f"{file.name} {file.stat().st_size / 1e6:.1f} MB" for file in sorted(partial.glob("*.onnx*"))]
    return [
        f"{out}: ONNX of opset {opset}, {', '.join(sizes)}, texts of up to {model.text.context_length} tokens",
        f"model.json has inputs, outputs, pixels and logit_scale {math.exp(float(params['logit_scale'])):.4g}",
    ]


def _quantise(exact: Path, path: Path) -> None:
    """Writes a graph with 8-bit integers for the weights of another: each column of a product, the token embeddings.

    The other factor of a product is rounded, too, each time by its own range (onnxruntime's dynamic quantisation).
    Weights are signed, for the speed of CPUs with VNNI; with AVX2 alone, sums of two such products may saturate.
    """
    from onnxruntime.quantization import QuantType, quantize_dynamic

    logging.getLogger().addFilter(_not_advice)
    try:
        quantize_dynamic(
            exact,
            path,
            op_types_to_quantize=["MatMul", "Gather"],
            per_channel=True,
            weight_type=QuantType.QInt8,
            use_external_data_format=len(list(exact.parent.iterdir())) > 1,
            extra_options={"MatMulConstBOnly": True},
        )
    finally:
        logging.getLogger().removeFilter(_not_advice)


def _not_advice(record: logging.LogRecord) -> bool:
    """Whether a record is other than the advice to pre-process, which is for graphs with shapes left to infer."""
    return "pre-processing before quantization" not in record.getMessage()


def _save(onnx: Any, graph: Any, path: Path) -> None:
    """Writes a graph; weights that no protobuf holds stand in a file of their own next to it."""
    apart = sum(len(value.raw_data) for value in graph.graph.initializer) > _LARGEST
    onnx.save_model(graph, path, save_as_external_data=apart, location=f"{path.name}.data")
    onnx.checker.check_model(path, full_check=True)
