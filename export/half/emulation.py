"""Half precision as a GPU computes it, on a CPU: overflow and the rounding of every tensor, in a float32 graph."""

import numpy as np
import onnx
from onnx import NodeProto, TensorProto, helper, numpy_helper

from sennet_export.half.graph import FLOAT, HALF, tensor_types

# They hand on what is already rounded.
MOVES_VALUES = frozenset(
    {
        "Reshape", "Transpose", "Squeeze", "Unsqueeze", "Flatten", "Identity", "Concat", "Split", "Slice", "Gather",
        "Expand", "Tile", "DepthToSpace", "SpaceToDepth", "MaxPool", "Relu", "Neg", "Abs",
    }
)  # fmt: skip


def emulated(model: onnx.ModelProto) -> onnx.ModelProto:
    """`model`, in part or whole float16, as a float32 graph that rounds to half what `model` holds in half.

    onnxruntime on a CPU computes half as float32 and keeps it so between operators: it sees the rounding of weights
    and nothing else. Here every operator's result is cast to half and back, so 70000 becomes inf, 1e-8 becomes 0 and
    2051 becomes 2052. What is not emulated: sums within an operator are in float32, as on a GPU that accumulates in
    float32; kernels that accumulate in half, and another order of summation, may lose more.

    Run it without graph optimisation: a runtime may take pairs of casts out (onnxruntime 1.32 does not).
    """
    types = tensor_types(model)
    nodes = []
    for node in model.graph.node:
        wide = NodeProto()
        wide.CopyFrom(node)
        nodes.append(wide)
        if not any(types.get(name) == HALF for name in node.output):
            continue
        _set_output_type(wide)
        if node.op_type in MOVES_VALUES:
            continue
        for i, name in enumerate(node.output):
            if types.get(name) == HALF:
                wide.output[i] = f"{name}/exact"
                nodes.append(helper.make_node("Cast", [wide.output[i]], [f"{name}/half"], to=HALF))
                nodes.append(helper.make_node("Cast", [f"{name}/half"], [name], to=FLOAT))
    written = onnx.ModelProto(ir_version=model.ir_version, opset_import=model.opset_import)
    written.graph.name = model.graph.name
    written.graph.node.extend(nodes)
    for value in model.graph.input:
        written.graph.input.append(_wide_value(value))
    for value in model.graph.output:
        written.graph.output.append(_wide_value(value))
    for tensor in model.graph.initializer:
        written.graph.initializer.append(_wide_weight(tensor) if tensor.data_type == HALF else tensor)
    return written


def _wide_weight(tensor: TensorProto) -> TensorProto:
    return numpy_helper.from_array(numpy_helper.to_array(tensor).astype(np.float32), tensor.name)


def _wide_value(value: onnx.ValueInfoProto) -> onnx.ValueInfoProto:
    wide = onnx.ValueInfoProto()
    wide.CopyFrom(value)
    if wide.type.tensor_type.elem_type == HALF:
        wide.type.tensor_type.elem_type = FLOAT
    return wide


def _set_output_type(node: NodeProto) -> None:
    for attribute in node.attribute:
        if node.op_type == "Cast" and attribute.name == "to":
            attribute.i = FLOAT
        elif node.op_type in ("Constant", "ConstantOfShape"):
            attribute.t.CopyFrom(_wide_weight(attribute.t))
