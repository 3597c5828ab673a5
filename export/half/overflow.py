"""A second output of a graph in half: which of its tiles overflowed. The answers alone do not tell."""

from typing import Any

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from sennet_engine.graph_ends import OVERFLOWED
from sennet_export.half.graph import FLOAT, tensor_types

LARGEST_FLOAT = np.finfo(np.float32).max
# What lies between a network's logits and its sigmoid without computing anything new.
HANDS_ON = frozenset({"Cast", "Clip", "Identity"})


def with_overflow_output(model: onnx.ModelProto) -> onnx.ModelProto:
    """`model` with the output `overflowed`, uint8 [B]: 1 where any logit of the tile is NaN or infinite.

    Logits are what the last sigmoid reads, and before it is limited to a range. They are looked at in float32, where
    what left half's range is infinite: the sum of their magnitudes is finite if all of them are, and a comparison with
    NaN is false. (It is not with a maximum, which overlooks NaN, nor if the comparison is turned round and negated, as
    OpenVINO does.) One sum is cheaper than a comparison of every logit.

    Args:
        model: uint8 in and out, of one output. It is not changed; where it has no sigmoid it is returned as it is.

    Raises:
        ModelError: the types of the graph cannot be inferred.
    """
    logits = _logits(model)
    if logits is None:
        return model
    watched = onnx.ModelProto()
    watched.CopyFrom(model)
    graph, name = watched.graph, OVERFLOWED
    if tensor_types(model).get(logits) != FLOAT:
        _add(graph, "Cast", [logits], f"{name}/logits", to=FLOAT)
        logits = f"{name}/logits"
    constants = {"largest": LARGEST_FLOAT, "one": np.float32(1), "axes": np.array([1, 2, 3])}
    for constant, value in constants.items():
        graph.initializer.append(numpy_helper.from_array(np.asarray(value), f"{name}/{constant}"))
    _add(graph, "ReduceL1", [logits, f"{name}/axes"], f"{name}/sum", keepdims=0)
    _add(graph, "Less", [f"{name}/sum", f"{name}/largest"], f"{name}/is_finite")
    _add(graph, "Cast", [f"{name}/is_finite"], f"{name}/finite", to=FLOAT)
    _add(graph, "Sub", [f"{name}/one", f"{name}/finite"], f"{name}/not_finite")
    _add(graph, "Cast", [f"{name}/not_finite"], name, to=TensorProto.UINT8)
    output = helper.make_tensor_value_info(name, TensorProto.UINT8, [None])
    output.type.tensor_type.shape.dim[0].CopyFrom(graph.input[0].type.tensor_type.shape.dim[0])
    graph.output.append(output)
    return watched


def _logits(model: onnx.ModelProto) -> str | None:
    """What the last sigmoid reads, before any Clip."""
    sigmoids = [node for node in model.graph.node if node.op_type == "Sigmoid"]
    if not sigmoids:
        return None
    writers = {name: node for node in model.graph.node for name in node.output}
    found = name = str(sigmoids[-1].input[0])
    while (writer := writers.get(name)) is not None and writer.op_type in HANDS_ON:
        name = str(writer.input[0])
        if writer.op_type == "Clip":
            found = name
    return found


def _add(graph: onnx.GraphProto, operator: str, reads: list[str], writes: str, **attributes: Any) -> None:
    graph.node.append(helper.make_node(operator, reads, [writes], name=writes, **attributes))
