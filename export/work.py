"""The multiply-adds of a graph, operator by operator, from its shapes."""

import math
from collections.abc import Callable, Collection, Sequence

import onnx
from onnx import NodeProto

from sennet_export.half.graph import without_weights

Shape = tuple[int, ...]
PRODUCTS = ("Conv", "ConvTranspose", "MatMul", "Gemm")


def multiply_adds(model: onnx.ModelProto, *, side: int) -> dict[str, int]:
    """By node name, for one tile [1, 1, side, side]. Products whose shapes cannot be inferred are left out."""
    return {node.name: count for node, count in _counted(model, side) if count is not None}


def multiply_adds_per_pixel(model: onnx.ModelProto, *, side: int) -> float | None:
    """Of a tile of `side`; None where the shapes of a product cannot be inferred."""
    total = 0
    for _, count in _counted(model, side):
        if count is None:
            return None
        total += count
    return total / side**2


def share_of_work(model: onnx.ModelProto, *, side: int, without: Collection[str]) -> float:
    """The share of the multiply-adds of `model` that is not in the nodes `without`; 1 where nothing multiplies."""
    counts = multiply_adds(model, side=side)
    total = sum(counts.values())
    return sum(count for name, count in counts.items() if name not in without) / total if total else 1.0


def _counted(model: onnx.ModelProto, side: int) -> list[tuple[NodeProto, int | None]]:
    """The products, and their multiply-adds where their shapes can be inferred."""
    ready = without_weights(model)
    for size, dimension in zip((1, 1, side, side), ready.graph.input[0].type.tensor_type.shape.dim, strict=True):
        dimension.Clear()
        dimension.dim_value = size
    del ready.graph.output[0].type.tensor_type.shape.dim[:]
    ready.graph.output[0].type.tensor_type.ClearField("shape")
    known = onnx.shape_inference.infer_shapes(ready, data_prop=True).graph
    shapes = {value.name: _shape(value) for value in (*known.input, *known.value_info, *known.output)}
    shapes |= {tensor.name: tuple(tensor.dims) for tensor in model.graph.initializer}
    counted: list[tuple[NodeProto, int | None]] = []
    for node in model.graph.node:
        if node.op_type in PRODUCTS:
            read = [shapes.get(name, ()) for name in (node.input[0], node.input[1], node.output[0])]
            is_known = all(shape and min(shape) > 0 for shape in read)
            counted.append((node, COUNTS[node.op_type](node, read) if is_known else None))
    return counted


def _convolution(_node: NodeProto, shapes: Sequence[Shape]) -> int:
    """Every output takes as many products as one of its kernels has weights."""
    _, weight, output = shapes
    return math.prod(output) * math.prod(weight[1:])


def _deconvolution(_node: NodeProto, shapes: Sequence[Shape]) -> int:
    """Every input is multiplied into as many outputs as one of its kernels has weights."""
    tiles, weight, _ = shapes
    return math.prod(tiles) * math.prod(weight[1:])


def _matrix_product(_node: NodeProto, shapes: Sequence[Shape]) -> int:
    rows, _, output = shapes
    return math.prod(output) * rows[-1]


def _gemm(node: NodeProto, shapes: Sequence[Shape]) -> int:
    rows, _, output = shapes
    turned = any(attribute.name == "transA" and attribute.i for attribute in node.attribute)
    return math.prod(output) * rows[0 if turned else -1]


COUNTS: dict[str, Callable[[NodeProto, Sequence[Shape]], int]] = {
    "Conv": _convolution,
    "ConvTranspose": _deconvolution,
    "MatMul": _matrix_product,
    "Gemm": _gemm,
}


def _shape(value: onnx.ValueInfoProto) -> Shape:
    """Sizes, 0 where one is not known."""
    return tuple(dimension.dim_value for dimension in value.type.tensor_type.shape.dim)
