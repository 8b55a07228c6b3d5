"""The towers as ONNX graphs: what models/vit.py, text.py, bert_tower.py and siglip_text.py compute, in opset 17.

jax2onnx can't be installed next to this package (0.17 wants orbax-checkpoint below 0.11.37), and torch.onnx knows only
models that transformers has, needs PyTorch and begins at opset 18. The graphs here have the same few operators in
every opset; onnxruntime makes one kernel of the patterns of its GELUs.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import numpy as np

from lrsclip_jax.convert.formats import onnx_resnet
from lrsclip_jax.convert.formats.onnx_builder import Graph
from lrsclip_jax.data.preprocessing import Preprocessing
from lrsclip_jax.models.bert_tower import Bert
from lrsclip_jax.models.positions import rotary_angles
from lrsclip_jax.models.resnet import ResNet
from lrsclip_jax.models.siglip_text import SiglipText
from lrsclip_jax.models.text import TextTransformer
from lrsclip_jax.models.vit import ViT

OLDEST = 17  # which has LayerNormalization


def image_graph(tower: ViT | ResNet, params: Mapping[str, Any], preprocessing: Preprocessing, opset: int) -> Any:
    """Returns the ModelProto of an image tower: `images`, uint8 [batch, size, size, 3], to `image_embeddings`.

    These are float32 [batch, embed_dim] of unit length. Pixels are those of `Pretrained.preprocess`; the graph
    normalises them.
    """
    graph = Graph(params)
    x = graph.add("Cast", "images", to=graph.onnx.TensorProto.FLOAT)
    x = graph.add("Div", x, graph.constant(np.float32(255)))
    x = graph.add("Sub", x, graph.constant(np.asarray(preprocessing.mean, np.float32)))
    x = graph.add("Div", x, graph.constant(np.asarray(preprocessing.std, np.float32)))
    x = onnx_resnet.embeddings(graph, tower, x) if isinstance(tower, ResNet) else _vit(graph, tower, x)
    shape = ["batch", tower.size, tower.size, 3]
    return graph.model(tower, x, "images", graph.onnx.TensorProto.UINT8, shape, "image_embeddings", opset)


def _vit(graph: Graph, tower: ViT, x: str) -> str:
    """The embeddings, not yet unit, of normalised images."""
    grid, patch = tower.size // tower.patch, tower.patch
    x = graph.reshaped(x, 0, grid, patch, grid, 3 * patch)
    x = graph.reshaped(graph.add("Transpose", x, perm=[0, 1, 3, 2, 4]), 0, grid * grid, 3 * patch * patch)
    x = graph.add("MatMul", x, graph.weight("patch_embedding/kernel", lambda kernel: kernel.reshape(-1, tower.width)))
    if tower.patch_bias:
        x = graph.add("Add", x, graph.weight("patch_embedding/bias"))
    if tower.first_patch:  # other tokens take the places of rows of zeros, to which their embeddings are added
        x = graph.add("Pad", x, graph.constant([0, tower.first_patch, 0, 0, 0, 0]))
    x = graph.add("Add", x, graph.constant(_token_rows(graph, tower, grid)))
    if tower.pre_norm:
        x = graph.norm(x, "pre_norm", tower.norm_eps)
    turns = None if tower.rotary_base is None else _turns(graph, tower, tower.rotary_base, grid)
    for layer in range(tower.layers):
        x = _pre_norm_block(graph, tower, layer, x, None, turns)
    x = graph.norm(_pooled(graph, tower, x), "post_norm", tower.norm_eps)
    if tower.pool == "map":
        x = _read_by_probe(graph, tower, x)
    return graph.add("MatMul", x, graph.weight("projection/kernel")) if tower.projects else x


def _token_rows(graph: Graph, tower: ViT, grid: int) -> np.ndarray:
    """What every image has in common before the blocks: positions, and the embeddings of tokens that are no patches."""
    if tower.rotary_base is None:
        table = graph.taken("position_embedding")
    else:
        table = np.zeros((tower.class_tokens + grid * grid, tower.width), np.float32)
    first, patches = np.split(table, [tower.class_tokens])
    if tower.class_tokens:
        first = first + graph.taken("class_embedding")
    registers = [graph.taken("register_embedding")] if tower.registers else []
    return np.concatenate([first, *registers, patches])


def _turns(graph: Graph, tower: ViT, base: float, grid: int) -> tuple[str, str]:
    """Factors of both halves of a head's channels, and of these halves exchanged, whose sum is `attention.rotated`."""
    angles = rotary_angles(grid, tower.width // tower.heads, base)
    angles = np.pad(angles, ((tower.first_patch, 0), (0, 0)))[:, None, None]
    return graph.constant(np.cos(angles)), graph.constant(np.concatenate([-np.sin(angles), np.sin(angles)], axis=2))


def _pooled(graph: Graph, tower: ViT, x: str) -> str:
    """What `post_norm` takes: the class token, the mean of the patches, or, for attention pooling, all of them."""
    if tower.pool == "cls":
        return graph.add("Gather", x, graph.constant(np.int64(0)), axis=1)
    patches = (tower.size // tower.patch) ** 2
    x = graph.add("Slice", x, *map(graph.constant, ([tower.first_patch], [tower.first_patch + patches], [1])))
    if tower.pool == "map":
        return x
    x = graph.add("ReduceSum", x, graph.constant([1]), keepdims=0)
    return graph.add("Div", x, graph.constant(np.float32(patches)))


def _read_by_probe(graph: Graph, tower: ViT, x: str) -> str:
    """SigLIP's attention pooling, `models.attention_pooling`."""
    probe = graph.weight("head/probe", lambda probe: probe[None, None])
    x = graph.reshaped(_attention(graph, tower, "head", None, x, None, probe=probe), 0, tower.width)
    return graph.add("Add", x, _mlp(graph, tower, "head/mlp", None, graph.norm(x, "head/norm", tower.norm_eps)))


def text_graph(tower: TextTransformer | Bert | SiglipText, params: Mapping[str, Any], opset: int) -> Any:
    """Returns the ModelProto of a text tower: `ids`, int64 [batch, length], to `text_embeddings`.

    These are float32 [batch, embed_dim] of unit length. `length` is at most the context length, and rows are padded as
    the tower expects it.
    """
    graph = Graph(params)
    ids = _filled(graph, tower) if isinstance(tower, SiglipText) else "ids"
    length = graph.add("Shape", ids, start=1, end=2)
    rows = graph.add("Slice", graph.weight("position_embedding"), graph.constant([0]), length)
    x = graph.add("Add", graph.add("Gather", graph.weight("token_embedding"), ids), rows)
    if isinstance(tower, SiglipText):
        for layer in range(tower.layers):
            x = _pre_norm_block(graph, tower, layer, x, None)
        x = graph.norm(graph.add("Gather", x, graph.constant(np.int64(-1)), axis=1), "final_norm", tower.norm_eps)
    elif isinstance(tower, Bert):
        x = graph.add("Add", x, graph.weight("type_embedding", lambda table: table[0]))
        x = graph.norm(x, "embedding_norm", tower.norm_eps)
        text = graph.add("Not", graph.add("Equal", "ids", graph.constant(np.int64(tower.pad_token))))
        tokens = graph.add("ReduceSum", graph.add("Cast", text, to=graph.onnx.TensorProto.INT64), graph.constant([1]))
        tokens = graph.add("Max", tokens, graph.constant(np.int64(1)))
        place = graph.add("Slice", graph.constant(np.arange(tower.context_length)), graph.constant([0]), length)
        mask = graph.add("Unsqueeze", graph.hidden(graph.add("GreaterOrEqual", place, tokens)), graph.constant([1, 2]))
        for layer in range(tower.layers):
            x = _post_norm_block(graph, tower, layer, x, mask)
        x = graph.add("Gather", x, graph.constant(np.int64(0)), axis=1)
        if tower.pool == "pooler":
            x = graph.add("Tanh", graph.dense(x, "pooler"))
    else:
        place = graph.add("Slice", graph.constant(np.arange(tower.context_length)), graph.constant([0]), length)
        query = graph.add("Unsqueeze", place, graph.constant([1]))
        mask = graph.hidden(graph.add("Less", query, place))
        for layer in range(tower.layers):
            x = _pre_norm_block(graph, tower, layer, x, mask)
        ends = graph.add("Equal", "ids", graph.constant(np.int64(tower.end_token)))
        end = graph.add("ArgMax", graph.add("Cast", ends, to=graph.onnx.TensorProto.INT32), axis=1, keepdims=1)
        x = graph.norm(graph.add("GatherND", x, end, batch_dims=1), "final_norm", tower.norm_eps)
    if isinstance(tower, SiglipText):
        x = graph.dense(x, "projection")
    else:
        x = graph.add("MatMul", x, graph.weight("projection/kernel"))
    shape = ["batch", "length"]
    return graph.model(tower, x, "ids", graph.onnx.TensorProto.INT64, shape, "text_embeddings", opset)


def _filled(graph: Graph, tower: SiglipText) -> str:
    """Rows of ids filled up to the context length: SigLIP's tokens see the padding."""
    length = graph.add("Shape", "ids", start=1, end=2)
    empty = graph.add("Max", graph.add("Sub", graph.constant([tower.context_length]), length), graph.constant([0]))
    ends = graph.add("Concat", graph.constant([0, 0, 0]), empty, axis=0)
    return graph.add("Pad", "ids", ends, graph.constant(np.int64(tower.pad_token)))


def _pre_norm_block(
    graph: Graph, tower: Any, layer: int, x: str, mask: str | None, turns: tuple[str, str] | None = None
) -> str:
    normed = graph.norm(x, "blocks/norm1", tower.norm_eps, layer)
    x = graph.add("Add", x, _attention(graph, tower, "blocks/attention", layer, normed, mask, turns=turns))
    normed = graph.norm(x, "blocks/norm2", tower.norm_eps, layer)
    return graph.add("Add", x, _mlp(graph, tower, "blocks/mlp", layer, normed, isinstance(tower, ViT) and tower.gated))


def _post_norm_block(graph: Graph, tower: Any, layer: int, x: str, mask: str | None) -> str:
    x = graph.add("Add", x, _attention(graph, tower, "blocks/attention", layer, x, mask))
    x = graph.norm(x, "blocks/norm1", tower.norm_eps, layer)
    x = graph.add("Add", x, _mlp(graph, tower, "blocks/mlp", layer, x))
    return graph.norm(x, "blocks/norm2", tower.norm_eps, layer)


def _attention(
    graph: Graph,
    tower: Any,
    path: str,
    layer: int | None,
    x: str,
    mask: str | None,
    *,
    turns: tuple[str, str] | None = None,
    probe: str | None = None,
) -> str:
    """Attention of x to itself, or of a probe [1, 1, width] to x; queries and keys are turned by `_turns`."""
    width, each = tower.width, tower.width // tower.heads

    def heads(part: int, x: str, axes: list[int], scale: float = 1) -> str:
        name = ("query", "key", "value")[part]

        def kernel(value: np.ndarray) -> np.ndarray:
            return scale * value[:, part].reshape(width, width)

        def bias(value: np.ndarray) -> np.ndarray:
            return scale * value[part].reshape(width)

        product = graph.add("MatMul", x, graph.weight(f"{path}/qkv/kernel", kernel, layer, name))
        product = graph.add("Add", product, graph.weight(f"{path}/qkv/bias", bias, layer, name))
        if turns and name != "value":
            halves = graph.reshaped(product, 0, 0, tower.heads, 2, each // 2)
            exchanged = graph.add("Gather", halves, graph.constant([1, 0]), axis=3)
            product = graph.add("Add", graph.add("Mul", halves, turns[0]), graph.add("Mul", exchanged, turns[1]))
        return graph.add("Transpose", graph.reshaped(product, 0, 0, tower.heads, each), perm=axes)

    query = heads(0, probe or x, [0, 2, 1, 3], each**-0.5)
    key, value = heads(1, x, [0, 2, 3, 1]), heads(2, x, [0, 2, 1, 3])
    scores = graph.add("MatMul", query, key)
    scores = scores if mask is None else graph.add("Add", scores, mask)
    mixed = graph.add("MatMul", graph.add("Softmax", scores, axis=-1), value)
    mixed = graph.reshaped(graph.add("Transpose", mixed, perm=[0, 2, 1, 3]), 0, 0, width)
    return graph.dense(mixed, f"{path}/out", layer, lambda kernel: kernel.reshape(width, width))


def _mlp(graph: Graph, tower: Any, path: str, layer: int | None, x: str, gated: bool = False) -> str:
    wide = graph.dense(x, f"{path}/fc1", layer)
    if gated:
        wide = graph.add("Mul", _activated(graph, tower.activation, graph.dense(x, f"{path}/gate", layer)), wide)
    else:
        wide = _activated(graph, tower.activation, wide)
    return graph.dense(wide, f"{path}/fc2", layer)


def _activated(graph: Graph, activation: str, x: str) -> str:
    """One of `layers.ACTIVATIONS`, in the order of operators that onnxruntime knows."""

    def constant(value: float) -> str:
        return graph.constant(np.float32(value))

    if activation == "silu":
        return graph.add("Mul", x, graph.add("Sigmoid", x))
    if activation == "quick_gelu":
        return graph.add("Mul", x, graph.add("Sigmoid", graph.add("Mul", x, constant(1.702))))
    if activation == "gelu":
        erf = graph.add("Erf", graph.add("Div", x, constant(math.sqrt(2))))
        return graph.add("Mul", graph.add("Mul", x, graph.add("Add", erf, constant(1))), constant(0.5))
    cube = graph.add("Mul", graph.add("Pow", x, constant(3)), constant(0.044715))
    tanh = graph.add("Tanh", graph.add("Mul", graph.add("Add", x, cube), constant(math.sqrt(2 / math.pi))))
    return graph.add("Mul", graph.add("Mul", x, constant(0.5)), graph.add("Add", tanh, constant(1)))
