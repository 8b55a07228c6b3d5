"""CLIP's ResNet as an ONNX graph: what models/resnet.py computes, its batch norms folded into the convolutions."""

from __future__ import annotations

import numpy as np

from lrsclip_jax.convert.formats.onnx_builder import Graph
from lrsclip_jax.models.resnet import EPS, ResNet


def embeddings(graph: Graph, tower: ResNet, x: str) -> str:
    """Returns the embeddings [batch, embed_dim], not yet unit, of normalised images [batch, size, size, 3]."""
    x = graph.add("Transpose", x, perm=[0, 3, 1, 2])
    for number in (1, 2, 3):
        x = graph.add("Relu", _convolution(graph, f"stem/conv{number}", x, stride=2 if number == 1 else 1))
    x = _halved(graph, x)
    for stage, count in enumerate(tower.stages):
        for number in range(count):
            x = _bottleneck(graph, f"layer{stage + 1}_{number}", x, first=number == 0, halves=stage > 0 == number)
    cells = (tower.size // tower.patch) ** 2
    x = graph.add("Transpose", graph.reshaped(x, 0, tower.feature_width, cells), perm=[0, 2, 1])
    mean = graph.add("Div", graph.add("ReduceSum", x, graph.constant([1])), graph.constant(np.float32(cells)))
    x = graph.add("Add", graph.add("Concat", mean, x, axis=1), graph.weight("position_embedding"))
    return graph.dense(_head(graph, tower, x), "projection")


def _convolution(graph: Graph, path: str, x: str, side: int = 3, stride: int = 1) -> str:
    mean, factor = graph.taken(f"{path}/mean"), graph.taken(f"{path}/scale") / np.sqrt(graph.taken(f"{path}/var") + EPS)
    kernel = graph.weight(f"{path}/kernel", lambda kernel: (kernel * factor).transpose(3, 2, 0, 1))
    bias = graph.weight(f"{path}/bias", lambda bias: bias - mean * factor)
    return graph.add("Conv", x, kernel, bias, kernel_shape=[side] * 2, pads=[side // 2] * 4, strides=[stride] * 2)


def _bottleneck(graph: Graph, path: str, x: str, first: bool, halves: bool) -> str:
    out = graph.add("Relu", _convolution(graph, f"{path}/conv1", x, side=1))
    out = graph.add("Relu", _convolution(graph, f"{path}/conv2", out))
    out = _convolution(graph, f"{path}/conv3", _halved(graph, out) if halves else out, side=1)
    if first:
        x = _convolution(graph, f"{path}/downsample", _halved(graph, x) if halves else x, side=1)
    return graph.add("Relu", graph.add("Add", x, out))


def _halved(graph: Graph, x: str) -> str:
    return graph.add("AveragePool", x, kernel_shape=[2, 2], strides=[2, 2])


def _head(graph: Graph, tower: ResNet, x: str) -> str:
    """What the first token finds in all: [batch, feature_width]."""
    width, each = tower.feature_width, tower.feature_width // tower.heads

    def heads(name: str, x: str, axes: list[int]) -> str:
        x = graph.reshaped(graph.dense(x, f"head/{name}"), 0, 0, tower.heads, each)
        return graph.add("Transpose", x, perm=axes)

    first = graph.add("Slice", x, *map(graph.constant, ([0], [1], [1])))
    query, key = heads("query", first, [0, 2, 1, 3]), heads("key", x, [0, 2, 3, 1])
    scores = graph.add("Mul", graph.add("MatMul", query, key), graph.constant(np.float32(each**-0.5)))
    mixed = graph.add("MatMul", graph.add("Softmax", scores, axis=-1), heads("value", x, [0, 2, 1, 3]))
    return graph.reshaped(mixed, 0, width)
