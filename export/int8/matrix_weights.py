"""Weights of matrix products in the rank of what they multiply, as TensorRT takes them in integers."""

import numpy as np
import onnx
from onnx import numpy_helper

from sennet_export.half.graph import without_weights


def with_weights_of_full_rank(model: onnx.ModelProto) -> onnx.ModelProto:
    """A copy in which the weights [K, N] of a MatMul on [..., M, K] are [1, ..., K, N].

    TensorRT's parser would reshape them behind their DequantizeLinear, and a product whose weights do not come straight
    from one is computed in float. Weights that something else reads too stay as they are.
    """
    ready = onnx.ModelProto()
    ready.CopyFrom(model)
    known = onnx.shape_inference.infer_shapes(without_weights(model)).graph
    ranks = {value.name: len(value.type.tensor_type.shape.dim) for value in (*known.input, *known.value_info)}
    readers = [name for node in model.graph.node for name in node.input]
    wanted = {
        node.input[1]: ranks.get(node.input[0], 0)
        for node in model.graph.node
        if node.op_type == "MatMul" and readers.count(node.input[1]) == 1
    }
    for tensor in ready.graph.initializer:
        missing = wanted.get(tensor.name, 0) - len(tensor.dims)
        if missing > 0 and len(tensor.dims) > 1:
            values = numpy_helper.to_array(tensor)
            tensor.CopyFrom(numpy_helper.from_array(np.expand_dims(values, tuple(range(missing))), tensor.name))
    return ready
