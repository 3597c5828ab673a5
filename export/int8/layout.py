"""Where a graph is quantised, and how, so that a runtime finds its integer kernels."""

from collections.abc import Callable, Collection
from dataclasses import dataclass, field
from typing import Literal

import onnx

from sennet_export.int8.matrix_weights import with_weights_of_full_rank

WEIGHTED = ("Conv", "ConvTranspose", "Gemm", "MatMul")
# They hand integers on: the output has the scale of the input.
MOVERS = (
    "AveragePool", "Concat", "Flatten", "Gather", "MaxPool", "Pad", "Reshape", "Resize", "Slice", "Split", "Squeeze",
    "Transpose", "Unsqueeze",
)  # fmt: skip


@dataclass(frozen=True)
class Layout:
    """One way to place the pairs of QuantizeLinear and DequantizeLinear.

    Attributes:
        operators: the types that are quantised: what they read, and what they write.
        float_outputs: types among them that read integers and write floats.
        activations: `uint8`, with a zero point that fits the tensor's range, or `int8`, whose zero point is 0.
        weight_bits: 7 or 8, symmetric, a scale for each output channel.
        smallest_scale: of weights and activations; what is smaller than it is rounded more coarsely.
        adapted: makes of a float graph another with the same answers, for its readers to find integer kernels in.
    """

    operators: tuple[str, ...]
    float_outputs: tuple[str, ...]
    activations: Literal["uint8", "int8"]
    weight_bits: Literal[7, 8]
    smallest_scale: float = 0.0
    adapted: Callable[[onnx.ModelProto], onnx.ModelProto] = field(default=lambda model: model)


# onnxruntime computes a convolution in integers only where its output is quantised too, and OpenVINO hardly loses by
# it; matrix products they both compute in integers from quantised inputs. Signed activations halve onnxruntime's speed.
# With 8-bit weights the 16-bit sums of processors without VNNI (AVX2) saturate; 7 bits cost no accuracy that shows.
CPU = Layout(
    operators=(*WEIGHTED, *MOVERS, "Clip", "Relu"),
    float_outputs=("MatMul",),
    activations="uint8",
    weight_bits=7,
)
# TensorRT knows zero points of 0 only, and fuses a quantisation into what comes before it by itself; so only what the
# integer kernels read is quantised, and both branches of residual sums. The smallest scale is half's smallest normal
# number, so that the graph's float part can be cast to half: a scale that half takes for zero is refused by the parser.
TENSORRT = Layout(
    operators=(*WEIGHTED, "Add"),
    float_outputs=(*WEIGHTED, "Add"),
    activations="int8",
    weight_bits=8,
    smallest_scale=2**-14,
    adapted=with_weights_of_full_rank,
)


def weighted_layers(model: onnx.ModelProto) -> list[str]:
    """Names of the nodes that multiply by weights, in the order of the graph: the layers that int8 makes faster."""
    weights = {tensor.name for tensor in model.graph.initializer}
    return [node.name for node in model.graph.node if node.op_type in WEIGHTED and not weights.isdisjoint(node.input)]


def quantised_nodes(model: onnx.ModelProto, layout: Layout, *, kept: Collection[str]) -> list[str]:
    """Names of the nodes that are quantised: of the layout's types, neither in `kept` nor at one of the graph's ends.

    The ends are what comes before the first weighted layer on every way (cast, normalisation) and what no such layer
    comes after (sigmoid, rounding, cast). Sums with a constant stay in float as well: TensorRT takes no integer there.
    """
    constants = {tensor.name for tensor in model.graph.initializer}
    inner = _between_weighted(model)
    return [
        node.name
        for node in model.graph.node
        if node.op_type in layout.operators
        and node.name in inner
        and node.name not in kept
        and not (node.op_type == "Add" and constants.intersection(node.input))
    ]


def _between_weighted(model: onnx.ModelProto) -> set[str]:
    """Names of the weighted nodes, and of those with a weighted one both upstream and downstream."""
    nodes = model.graph.node
    after: set[str] = set()
    behind: set[str] = set()
    for node in nodes:
        if node.op_type in WEIGHTED or not after.isdisjoint(node.input):
            after.update(node.output)
    for node in reversed(nodes):
        if node.op_type in WEIGHTED or not behind.isdisjoint(node.output):
            behind.update(node.input)
    return {
        node.name
        for node in nodes
        if node.op_type in WEIGHTED or (not after.isdisjoint(node.input) and not behind.isdisjoint(node.output))
    }
