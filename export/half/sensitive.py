"""Which nodes keep float32, and why: by where they stand, by what they do, and by what was measured of them."""

from collections.abc import Collection

import numpy as np
import onnx
from onnx import TensorProto, numpy_helper

from sennet_export.half.graph import FLOAT, half_ports, tensor_types
from sennet_export.half.ranges import Activations

LARGEST_HALF, SMALLEST_HALF = 65504.0, 2.0**-24
# Tiles are a sample, and weights and inputs of another kidney give larger values: a quarter of half's range is used.
HEADROOM = 4.0
# The multiply-adds are in these.
PRODUCTS = frozenset({"Conv", "ConvTranspose", "MatMul", "Gemm", "Einsum"})
# Sums over many values, and functions that leave half's range or its precision within a small interval.
SENSITIVE = frozenset(
    {
        "LayerNormalization", "GroupNormalization", "InstanceNormalization", "MeanVarianceNormalization",
        "LpNormalization", "RMSNormalization", "Softmax", "LogSoftmax", "Softplus", "GlobalAveragePool", "GlobalLpPool",
        "ReduceMean", "ReduceSum", "ReduceL1", "ReduceL2", "ReduceProd", "ReduceSumSquare", "ReduceLogSum",
        "ReduceLogSumExp", "CumSum", "Pow", "Exp", "Log", "Reciprocal",
    }
)  # fmt: skip


def sensitive_nodes(model: onnx.ModelProto, activations: Activations) -> dict[str, str]:
    """The reason by name of every node of `model`, float32, that is to keep float32 before any gate has spoken.

    The door (up to the first convolution or matrix product) and the end (after the last one) have the grey levels and
    the probabilities in them, and few operations. Norms, sums over many values and exponentials do not bear half's
    rounding or range; nor does a node with a value above 65504 / HEADROOM, or with a weight that is beyond half or
    a constant that half takes for zero.
    """
    weights = {tensor.name: tensor for tensor in model.graph.initializer if tensor.data_type == FLOAT}
    unfit = {name: reason for name, tensor in weights.items() if (reason := _unfit(tensor)) is not None}
    castable = half_ports(model, tensor_types(model))
    door, end = _door(model, weights), _end(model)
    reasons = {}
    for node in model.graph.node:
        if node.name not in castable:
            continue
        touched = [*node.input, *node.output]
        largest = max((activations.maxima.get(name, 0.0) for name in touched), default=0.0)
        if node.name in door:
            reasons[node.name] = "ahead of the first convolution or matrix product"
        elif node.name in end:
            reasons[node.name] = "after the last convolution or matrix product"
        elif node.op_type in SENSITIVE:
            reasons[node.name] = f"{node.op_type} does not bear half"
        elif largest > LARGEST_HALF / HEADROOM:
            reasons[node.name] = f"reaches {largest:.3g} on the tiles, above 65504 / {HEADROOM:g}"
        elif reason := next((unfit[name] for name in node.input if name in unfit), None):
            reasons[node.name] = reason
    return reasons


def _door(model: onnx.ModelProto, weights: Collection[str]) -> set[str]:
    """Nodes to which every way from the input is free of products."""
    door: set[str] = set()
    from_door = {value.name for value in model.graph.input} - set(weights)
    for node in model.graph.node:
        reads = [name for name in node.input if name and name not in weights]
        if node.op_type not in PRODUCTS and reads and all(name in from_door for name in reads):
            door.add(node.name)
            from_door.update(node.output)
    return door


def _end(model: onnx.ModelProto) -> set[str]:
    """Nodes from which every way to the output is free of products."""
    end: set[str] = set()
    not_for_end: set[str] = set()
    for node in reversed(model.graph.node):
        if node.op_type in PRODUCTS or not_for_end.intersection(node.output):
            not_for_end.update(node.input)
        else:
            end.add(node.name)
    return end


def _unfit(tensor: TensorProto) -> str | None:
    values = numpy_helper.to_array(tensor)
    finite = values[np.isfinite(values)]
    largest = float(np.abs(finite).max(initial=0))
    if largest > LARGEST_HALF:
        return f"its weight {tensor.name!r} reaches {largest:.3g}, half ends at 65504"
    if values.size == 1 and _vanishing(tensor):
        return f"its constant {largest:.3g} is zero in half"
    return None


def _vanishing(tensor: TensorProto) -> int:
    if tensor.data_type != FLOAT:
        return 0
    values = numpy_helper.to_array(tensor)
    return int(np.count_nonzero((values != 0) & (np.abs(values) <= SMALLEST_HALF / 2)))
