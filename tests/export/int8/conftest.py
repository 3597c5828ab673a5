"""A small graph to quantise, and noise to do it on."""

import numpy as np
import onnxruntime
import pytest
from onnx import TensorProto, helper, numpy_helper


@pytest.fixture
def grey_tiles():
    """Noise of all grey levels."""
    return np.random.default_rng(1).integers(0, 256, (3, 1, 32, 32), dtype=np.uint8)


def accepted(_model: object) -> None:
    """A judge that finds nothing wrong."""


def network(*, width=4, offset=0.0):
    """Cast, scale, three convolutions with a residual sum, sigmoid, and what makes uint8 of it.

    With an `offset` one channel between the second and the third convolution is about so large, and the third takes
    it away again: harmless in float, fatal to a scale that all channels share.
    """
    draw = np.random.default_rng(3)

    def weight(name, *shape):
        values = draw.normal(0, 1.5 / np.sqrt(np.prod(shape[1:])), shape).astype(np.float32)
        return numpy_helper.from_array(values, name)

    def constant(name, values):
        return numpy_helper.from_array(np.asarray(values, np.float32), name)

    bias = np.zeros(width)
    bias[0] = offset
    last = draw.normal(0, 1, (1, width, 1, 1)).astype(np.float32)
    last[:, 0] = 1e-3
    nodes = [
        helper.make_node("Cast", ["tiles"], ["grey"], to=TensorProto.FLOAT, name="cast"),
        helper.make_node("Mul", ["grey", "scale"], ["x0"], name="scaling"),
        helper.make_node("Conv", ["x0", "w0"], ["x1"], pads=[1] * 4, name="first"),
        helper.make_node("Relu", ["x1"], ["x2"], name="relu"),
        helper.make_node("Conv", ["x2", "w1"], ["x3"], pads=[1] * 4, name="second"),
        helper.make_node("Add", ["x3", "x2"], ["x4"], name="residual"),
        helper.make_node("Conv", ["x4", "w2", "b2"], ["x5"], pads=[1] * 4, name="third"),
        helper.make_node("Conv", ["x5", "w3", "b3"], ["x6"], name="last"),
        helper.make_node("Sigmoid", ["x6"], ["x7"], name="sigmoid"),
        helper.make_node("Mul", ["x7", "levels"], ["x8"], name="levels"),
        helper.make_node("Round", ["x8"], ["x9"], name="round"),
        helper.make_node("Clip", ["x9", "low", "levels"], ["x10"], name="clip"),
        helper.make_node("Cast", ["x10"], ["probabilities"], to=TensorProto.UINT8, name="end"),
    ]
    weights = [
        constant("scale", 1 / 64), constant("levels", 255), constant("low", 0), constant("b2", bias),
        weight("w0", width, 1, 3, 3), weight("w1", width, width, 3, 3), weight("w2", width, width, 3, 3),
        numpy_helper.from_array(last, "w3"), constant("b3", [-1e-3 * offset]),
    ]  # fmt: skip
    axes = ["batch", 1, "h", "w"]
    graph = helper.make_graph(
        nodes, "small",
        [helper.make_tensor_value_info("tiles", TensorProto.UINT8, axes)],
        [helper.make_tensor_value_info("probabilities", TensorProto.UINT8, axes)],
        weights,
    )  # fmt: skip
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=9)


def on_onnxruntime(model, tiles):
    session = onnxruntime.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
    return session.run(None, {"tiles": tiles})[0]
