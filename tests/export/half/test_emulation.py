"""Half precision emulated on a CPU."""

import numpy as np
import onnx
import pytest

from sennet_export.half.cast import half_model
from sennet_export.half.emulation import emulated
from sennet_export.half.graph import FLOAT, prepared, tensor_types


def test_what_half_cannot_hold_is_lost_as_on_a_gpu(network, answers):
    """70000 becomes inf, 1e-8 becomes 0, 2051 becomes 2052, though all is computed in float32."""
    model = network("y = Mul (x, factor)", {"factor": 7.0}, ends=False, inputs="float[n] x", outputs="float[n] y")
    wide = emulated(half_model(model, fp32=[]))
    x = np.array([1e4, -1e4, 1e-8, 293, 1], np.float32)
    assert answers(wide, x=x)[0].tolist() == [np.inf, -np.inf, 0, 2052, 7]


def test_the_runtime_alone_does_not_see_an_overflow_between_operators(network, answers):
    """Why there is an emulation: onnxruntime computes the graph in half as float32, and 70000 / 70 comes out right."""
    lines = "large = Mul (x, factor) y = Div (large, back)"
    model = network(lines, {"factor": 7.0, "back": 70.0}, ends=False, inputs="float[n] x", outputs="float[n] y")
    half, x = half_model(model, fp32=[]), np.array([1e4], np.float32)
    assert answers(half, x=x)[0].tolist() == [1000]
    assert answers(emulated(half), x=x)[0].tolist() == [np.inf]


def test_every_operator_is_rounded_as_numpy_rounds_it(network, weight, answers):
    """A chain of operators equals numpy in half, step by step; what keeps float32 is not rounded."""
    lines = """a = Mul (x, w)
        b = Add (a, w)
        c = Sqrt (b)
        d = Div (c, w)
        e = Sub (d, b)"""
    w = np.array([1.1, 2.3, 700.7, 0.013])
    model = network(lines, {"w": w}, ends=False, inputs="float[4] x", outputs="float[4] e")
    x = np.array([0.1, 30.3, 5.5, 77.7], np.float32)
    x16, w16 = x.astype(np.float16), w.astype(np.float32).astype(np.float16)
    b = x16 * w16 + w16
    assert (answers(emulated(half_model(model, fp32=[])), x=x)[0] == np.sqrt(b) / w16 - b).all()
    found = answers(emulated(half_model(model, fp32={"Sqrt c", "Div d", "Sub e"})), x=x)[0]
    assert (found == np.sqrt(b.astype(np.float32)) / w.astype(np.float32) - b).all()


def test_an_emulated_graph_is_a_float_graph_with_the_same_ends(network, weight, answers, tiles):
    """It is valid, no operator but Cast sees half, and graphs that are float32 throughout answer as they did."""
    lines = """a = Conv <pads = [1, 1, 1, 1]> (x, w0)
        size = Shape (a)
        b = ConstantOfShape <value = float[1] {0.1}> (size)
        c = Add (a, b)
        d = Transpose <perm = [0, 1, 3, 2]> (c)
        logits = Conv <pads = [1, 1, 1, 1]> (d, w1)"""
    model = prepared(network(lines, {"w0": weight(8, 1, 3, 3), "w1": weight(1, 8, 3, 3)}))
    wide = emulated(half_model(model, fp32=[]))
    onnx.checker.check_model(wide, full_check=True)
    types = tensor_types(wide)
    assert {types[name] for node in wide.graph.node if node.op_type != "Cast" for name in node.input} == {
        FLOAT, onnx.TensorProto.INT64,
    }  # fmt: skip
    found, expected = answers(wide, tiles=tiles)[0], answers(model, tiles=tiles)[0]
    assert found.dtype == np.uint8
    assert 0 < np.abs(found.astype(int) - expected).max() <= 3
    assert (answers(emulated(model), tiles=tiles)[0] == expected).all()


@pytest.mark.parametrize("width", [1, 4])
def test_sums_within_an_operator_are_not_rounded_on_the_way(network, answers, width):
    """2048 + 1 + 1 + ... in one matrix product is summed in float32, and rounded once."""
    weights = {"w": np.ones((2049, width))}
    model = network("y = MatMul (x, w)", weights, ends=False, inputs="float[1, 2049] x", outputs=f"float[1, {width}] y")
    x = np.ones((1, 2049), np.float32)
    x[0, 0] = 2048
    assert (answers(emulated(half_model(model, fp32=[])), x=x)[0] == 4096).all()
