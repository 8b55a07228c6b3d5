"""An ONNX graph under construction: operators, constants, and the parameters of a tower under their paths."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import jax
import numpy as np

from lrsclip_jax.errors import InputError, optional
from lrsclip_jax.parameter_rules import path_of


def _same(value: np.ndarray) -> np.ndarray:
    return value


class Graph:
    """Operators and weights of a graph; a value in it is its name.

    A parameter that no operator reads is refused: it belongs to a tower that these graphs do not know.
    """

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
        """Returns the whole model: embeddings x, made unit rows."""
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
