"""The towers as ONNX graphs: what models/vit.py, text.py and bert_tower.py compute, in operators of opset 17.

jax2onnx can't be installed next to this package (0.17 wants orbax-checkpoint below 0.11.37), and torch.onnx knows only
models that transformers has, needs PyTorch and begins at opset 18. The graphs here have the same dozen operators in
every opset; onnxruntime makes one kernel of the patterns of its GELUs.

A parameter that no operator reads is refused: it belongs to a tower that these graphs do not know.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from typing import Any

import jax
import numpy as np

from lrsclip_jax.data.images import Preprocessing
from lrsclip_jax.errors import InputError, optional
from lrsclip_jax.models.bert_tower import Bert
from lrsclip_jax.models.text import TextTransformer
from lrsclip_jax.models.vit import ViT
from lrsclip_jax.parameter_rules import path_of

OLDEST = 17  # which has LayerNormalization


def image_graph(tower: ViT, params: Mapping[str, Any], preprocessing: Preprocessing, opset: int) -> Any:
    """Returns the ModelProto of an image tower: `images`, uint8 [batch, size, size, 3], to `image_embeddings`.

    These are float32 [batch, embed_dim] of unit length. Pixels are those of `Pretrained.preprocess`; the graph
    normalises them.
    """
    graph = _Graph(params)
    grid, patch = tower.size // tower.patch, tower.patch
    x = graph.add("Cast", "images", to=graph.onnx.TensorProto.FLOAT)
    x = graph.add("Div", x, graph.constant(np.float32(255)))
    x = graph.add("Sub", x, graph.constant(np.asarray(preprocessing.mean, np.float32)))
    x = graph.add("Div", x, graph.constant(np.asarray(preprocessing.std, np.float32)))
    x = graph.reshaped(x, 0, grid, patch, grid, 3 * patch)
    x = graph.reshaped(graph.add("Transpose", x, perm=[0, 1, 3, 2, 4]), 0, grid * grid, 3 * patch * patch)
    x = graph.add("MatMul", x, graph.weight("patch_embedding/kernel", lambda kernel: kernel.reshape(-1, tower.width)))
    if tower.patch_bias:
        x = graph.add("Add", x, graph.weight("patch_embedding/bias"))
    # The class token takes the place of a row of zeros, to which its embedding is added with the positions.
    x = graph.add("Pad", x, graph.constant([0, 1, 0, 0, 0, 0]))
    first = graph.taken("class_embedding")
    rows = graph.weight("position_embedding", lambda table: np.concatenate([table[:1] + first, table[1:]]))
    x = graph.add("Add", x, rows)
    if tower.pre_norm:
        x = graph.norm(x, "pre_norm", tower.norm_eps)
    for layer in range(tower.layers):
        x = _pre_norm_block(graph, tower, layer, x, None)
    if tower.pool == "cls":
        x = graph.add("Gather", x, graph.constant(np.int64(0)), axis=1)
    else:
        x = graph.add("Slice", x, *map(graph.constant, ([1], [grid * grid + 1], [1])))
        x = graph.add("ReduceSum", x, graph.constant([1]), keepdims=0)
        x = graph.add("Div", x, graph.constant(np.float32(grid * grid)))
    x = graph.norm(x, "post_norm", tower.norm_eps)
    shape = ["batch", tower.size, tower.size, 3]
    return graph.model(tower, x, "images", graph.onnx.TensorProto.UINT8, shape, "image_embeddings", opset)


def text_graph(tower: TextTransformer | Bert, params: Mapping[str, Any], opset: int) -> Any:
    """Returns the ModelProto of a text tower: `ids`, int64 [batch, length], to `text_embeddings`.

    These are float32 [batch, embed_dim] of unit length. `length` is at most the context length, and rows are padded as
    the tower expects it.
    """
    graph = _Graph(params)
    length = graph.add("Shape", "ids", start=1, end=2)
    places = graph.constant(np.arange(tower.context_length))
    place = graph.add("Slice", places, graph.constant([0]), length)
    rows = graph.add("Slice", graph.weight("position_embedding"), graph.constant([0]), length)
    x = graph.add("Add", graph.add("Gather", graph.weight("token_embedding"), "ids"), rows)
    if isinstance(tower, Bert):
        x = graph.add("Add", x, graph.weight("type_embedding", lambda table: table[0]))
        x = graph.norm(x, "embedding_norm", tower.norm_eps)
        text = graph.add("Not", graph.add("Equal", "ids", graph.constant(np.int64(tower.pad_token))))
        tokens = graph.add("ReduceSum", graph.add("Cast", text, to=graph.onnx.TensorProto.INT64), graph.constant([1]))
        tokens = graph.add("Max", tokens, graph.constant(np.int64(1)))
        mask = graph.add("Unsqueeze", graph.hidden(graph.add("GreaterOrEqual", place, tokens)), graph.constant([1, 2]))
        for layer in range(tower.layers):
            x = _post_norm_block(graph, tower, layer, x, mask)
        x = graph.add("Gather", x, graph.constant(np.int64(0)), axis=1)
        if tower.pool == "pooler":
            x = graph.add("Tanh", graph.dense(x, "pooler"))
    else:
        query = graph.add("Unsqueeze", place, graph.constant([1]))
        mask = graph.hidden(graph.add("Less", query, place))
        for layer in range(tower.layers):
            x = _pre_norm_block(graph, tower, layer, x, mask)
        ends = graph.add("Equal", "ids", graph.constant(np.int64(tower.end_token)))
        end = graph.add("ArgMax", graph.add("Cast", ends, to=graph.onnx.TensorProto.INT32), axis=1, keepdims=1)
        x = graph.norm(graph.add("GatherND", x, end, batch_dims=1), "final_norm", tower.norm_eps)
    shape = ["batch", "length"]
    return graph.model(tower, x, "ids", graph.onnx.TensorProto.INT64, shape, "text_embeddings", opset)


def _pre_norm_block(graph: _Graph, tower: Any, layer: int, x: str, mask: str | None) -> str:
    x = graph.add("Add", x, _attention(graph, tower, layer, graph.norm(x, "blocks/norm1", tower.norm_eps, layer), mask))
    return graph.add("Add", x, _mlp(graph, tower, layer, graph.norm(x, "blocks/norm2", tower.norm_eps, layer)))


def _post_norm_block(graph: _Graph, tower: Any, layer: int, x: str, mask: str | None) -> str:
    x = graph.add("Add", x, _attention(graph, tower, layer, x, mask))
    x = graph.norm(x, "blocks/norm1", tower.norm_eps, layer)
    return graph.norm(graph.add("Add", x, _mlp(graph, tower, layer, x)), "blocks/norm2", tower.norm_eps, layer)


def _attention(graph: _Graph, tower: Any, layer: int, x: str, mask: str | None) -> str:
    path, width, each = "blocks/attention", tower.width, tower.width // tower.heads

    def heads(part: int, axes: list[int], scale: float = 1) -> str:
        name = ("query", "key", "value")[part]

        def kernel(value: np.ndarray) -> np.ndarray:
            return scale * value[:, part].reshape(width, width)

        def bias(value: np.ndarray) -> np.ndarray:
            return scale * value[part].reshape(width)

        product = graph.add("MatMul", x, graph.weight(f"{path}/qkv/kernel", kernel, layer, name))
        product = graph.add("Add", product, graph.weight(f"{path}/qkv/bias", bias, layer, name))
        return graph.add("Transpose", graph.reshaped(product, 0, 0, tower.heads, each), perm=axes)

    query, key, value = heads(0, [0, 2, 1, 3], each**-0.5), heads(1, [0, 2, 3, 1]), heads(2, [0, 2, 1, 3])
    scores = graph.add("MatMul", query, key)
    scores = scores if mask is None else graph.add("Add", scores, mask)
    mixed = graph.add("MatMul", graph.add("Softmax", scores, axis=-1), value)
    mixed = graph.reshaped(graph.add("Transpose", mixed, perm=[0, 2, 1, 3]), 0, 0, width)
    return graph.dense(mixed, f"{path}/out", layer, lambda kernel: kernel.reshape(width, width))


def _mlp(graph: _Graph, tower: Any, layer: int, x: str) -> str:
    x = graph.dense(x, "blocks/mlp/fc1", layer)
    if tower.activation == "quick_gelu":
        gate = graph.add("Sigmoid", graph.add("Mul", x, graph.constant(np.float32(1.702))))
        x = graph.add("Mul", x, gate)
    else:
        erf = graph.add("Erf", graph.add("Div", x, graph.constant(np.float32(math.sqrt(2)))))
        x = graph.add("Mul", x, graph.add("Add", erf, graph.constant(np.float32(1))))
        x = graph.add("Mul", x, graph.constant(np.float32(0.5)))
    return graph.dense(x, "blocks/mlp/fc2", layer)


def _same(value: np.ndarray) -> np.ndarray:
    return value


class _Graph:
    """Operators and weights of a graph under construction; a value in it is its name."""

    def __init__(self, params: Mapping[str, Any]):
        self.onnx = optional("onnx", "onnx")
        self._params = {path_of(path): np.asarray(leaf) for path, leaf in jax.tree.leaves_with_path(params)}
        self._unread = set(self._params)
        self._nodes: list[Any] = []
        self._values: dict[str, Any] = {}
        self._constants: dict[tuple, str] = {}

    def add(self, operator: str, *inputs: str, **attributes: Any) -> str:
        """Adds an operator, and returns its result."""
        name = f"{operator}_{len(self._nodes)}"
        self._nodes.append(self.onnx.helper.make_node(operator, inputs, [name], name, **attributes))
        return name

    def constant(self, value: Any) -> str:
        """Returns a constant: what is no array of numpy is made int64."""
        value = np.asarray(value, getattr(value, "dtype", np.int64))
        key = value.dtype, value.shape, value.tobytes()
        return self._stored(self._constants.setdefault(key, f"constant_{len(self._constants)}"), value)

    def taken(self, path: str) -> np.ndarray:
        """Returns a parameter that becomes part of another weight."""
        self._unread.discard(path)
        return np.asarray(self._params[path], np.float32)

    def weight(self, path: str, form: Callable = _same, layer: int | None = None, part: str = "") -> str:
        """Returns a parameter, of one layer and in another form, float32; `part` distinguishes several from one."""
        value = self.taken(path) if layer is None else self.taken(path)[layer]
        name = path.replace("blocks/", f"blocks/{layer}/").replace("qkv", part or "qkv")
        return self._stored(name, np.ascontiguousarray(form(value), np.float32))

    def dense(self, x: str, path: str, layer: int | None = None, form: Callable = _same) -> str:
        """Returns x times a kernel, plus its bias."""
        product = self.add("MatMul", x, self.weight(f"{path}/kernel", form, layer))
        return self.add("Add", product, self.weight(f"{path}/bias", layer=layer))

    def norm(self, x: str, path: str, eps: float, layer: int | None = None) -> str:
        """Returns the layer norm of x over its last axis."""
        scale, bias = self.weight(f"{path}/scale", layer=layer), self.weight(f"{path}/bias", layer=layer)
        return self.add("LayerNormalization", x, scale, bias, axis=-1, epsilon=eps)

    def reshaped(self, x: str, *shape: int) -> str:
        """Returns x in another shape, in which 0 stands for the axis of x at that place."""
        return self.add("Reshape", x, self.constant(shape))

    def hidden(self, where: str) -> str:
        """Returns what is added to scores so that nothing is seen where a condition holds."""
        return self.add("Where", where, self.constant(np.float32(-np.inf)), self.constant(np.float32(0)))

    def model(self, tower: Any, x: str, given: str, kind: int, shape: list, result: str, opset: int) -> Any:
        """Returns the whole model: the projection of features x, made unit rows."""
        x = self.add("MatMul", x, self.weight("projection/kernel"))
        square = self.add("ReduceSum", self.add("Mul", x, x), self.constant([-1]))
        length = self.add("Sqrt", self.add("Max", square, self.constant(np.float32(1e-24))))
        self._nodes.append(self.onnx.helper.make_node("Div", [x, length], [result], result))
        if self._unread:
            raise InputError(
                f"--format=onnx can't say what this model computes: {min(self._unread)} has no place in it"
            )
        helper, float32 = self.onnx.helper, self.onnx.TensorProto.FLOAT
        graph = helper.make_graph(
            self._nodes,
            result.partition("_")[0],
            [helper.make_tensor_value_info(given, kind, shape)],
            [helper.make_tensor_value_info(result, float32, ["batch", tower.embed_dim])],
            list(self._values.values()),
        )
        sets = [helper.make_opsetid("", opset)]
        version = helper.find_min_ir_version_for(sets)  # an older runtime refuses a newer one
        return helper.make_model(graph, opset_imports=sets, ir_version=version, producer_name="lrsclip_jax")

    def _stored(self, name: str, value: np.ndarray) -> str:
        if name not in self._values:
            self._values[name] = self.onnx.numpy_helper.from_array(value, name)
        return name
