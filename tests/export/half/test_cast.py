"""The cast of a float32 graph to half."""

import numpy as np
import onnx
import pytest
from onnx import helper

from sennet_engine.errors import ModelError
from sennet_export.half.cast import cast_count, half_model
from sennet_export.half.graph import FLOAT, HALF, prepared, tensor_types

SAME = "<pads = [1, 1, 1, 1]>"
ENDS = ("Cast grey", "Mul x", "Sigmoid shares", "Mul levels", "Round whole", "Clip clipped", "Cast probabilities")


@pytest.fixture
def varied(network, weight):
    """What makes a cast hard: shapes in integers, resizing, constants, a norm, a weight that several nodes read."""
    lines = f"""a = Conv {SAME} (x, w0)
        size = Shape (a)
        factors = Constant <value_floats = [1.0, 1.0, 2.0, 2.0]> ()
        b = Resize <mode = "nearest"> (a, , factors)
        pooled = AveragePool <kernel_shape = [2, 2], strides = [2, 2]> (b)
        filled = ConstantOfShape <value = float[1] {{0.25}}> (size)
        c = Add (pooled, filled)
        one = Constant <value = float {{1.0}}> ()
        d = Add (c, one)
        last = Transpose <perm = [0, 2, 3, 1]> (d)
        normed = LayerNormalization <axis = -1> (last, scale, bias)
        first = Transpose <perm = [0, 3, 1, 2]> (normed)
        e = Conv {SAME} (first, w1, bias)
        flat_size = Constant <value_ints = [0, 0, -1]> ()
        flat = Reshape (e, flat_size)
        pooled_flat = ReduceMean (flat, last_axis)
        f = Reshape (flat, size)
        grey_again = Cast <to = 1> (size)
        ranks = ReduceMax <keepdims = 0> (grey_again)
        g = Div (f, ranks)
        g2 = Mul (g, ranks)
        logits = Conv {SAME} (g2, w2)"""
    weights = {
        "w0": weight(8, 1, 3, 3), "w1": weight(8, 8, 3, 3), "w2": weight(1, 8, 3, 3), "scale": np.ones(8),
        "bias": np.linspace(0, 1, 8), "last_axis": np.array([-1], np.int64),
    }  # fmt: skip
    return prepared(network(lines, weights))


def test_a_cast_graph_is_valid_and_answers_as_before(varied, answers, tiles):
    """Checked, typed throughout, uint8 at both ends, within two grey levels; the original is untouched."""
    before = varied.SerializeToString()
    half = half_model(varied, fp32={*ENDS, "LayerNormalization normed"})
    assert varied.SerializeToString() == before
    onnx.checker.check_model(half, full_check=True)
    onnx.shape_inference.infer_shapes(half, strict_mode=True, data_prop=True)
    assert not half.graph.value_info
    types = tensor_types(half)
    assert {name: types[name] for name in ("a", "b", "filled", "e", "flat", "f", "g2")} == dict.fromkeys(
        ("a", "b", "filled", "e", "flat", "f", "g2"), HALF
    )
    assert (types["normed"], types["factors"]) == (FLOAT, FLOAT)
    expected, found = (answers(model, tiles=tiles)[0] for model in (varied, half))
    assert found.dtype == np.uint8
    assert np.abs(found.astype(int) - expected).max() <= 2


def test_a_cast_graph_builds_with_tensorrt_for_rtx(varied):
    """Its parser takes the graph as strongly typed, convolutions in half and ends in uint8, and an engine is built."""
    trt = pytest.importorskip("tensorrt_rtx")
    half = half_model(varied, fp32={*ENDS, "LayerNormalization normed"})
    builder = trt.Builder(logger := trt.Logger(trt.Logger.ERROR))
    network = builder.create_network(0)
    parser = trt.OnnxParser(network, logger)
    assert parser.parse(half.SerializeToString()), [parser.get_error(i).desc() for i in range(parser.num_errors)]
    layers = [network.get_layer(i) for i in range(network.num_layers)]
    kinds = {layer.get_output(0).dtype for layer in layers if layer.type == trt.LayerType.CONVOLUTION}
    assert kinds == {trt.DataType.HALF}
    assert network.get_input(0).dtype == network.get_output(0).dtype == trt.DataType.UINT8
    config, profile = builder.create_builder_config(), builder.create_optimization_profile()
    profile.set_shape("tiles", *[(1, 1, 32, 32)] * 3)
    config.add_optimization_profile(profile)
    config.num_compute_capabilities = 1
    config.set_compute_capability(trt.ComputeCapability.SM86, 0)
    assert builder.build_serialized_network(network, config).nbytes > 0


def test_with_every_node_in_float_nothing_changes(varied, answers, tiles):
    """No cast is added and the answers are the same, bit for bit."""
    same = half_model(varied, fp32=[node.name for node in varied.graph.node])
    assert cast_count(same) == 0
    assert [node.op_type for node in same.graph.node] == [node.op_type for node in varied.graph.node]
    assert (answers(same, tiles=tiles)[0] == answers(varied, tiles=tiles)[0]).all()


def test_a_tensor_is_cast_once_for_all_its_readers(network, answers):
    """Three readers in float32 of a tensor in half share one cast, and two in half of one in float32 another."""
    lines = """a = Neg (x)
        b = Exp (a)
        c = Sqrt (a)
        d = Sin (a)
        e = Add (b, c)
        f = Sub (e, d)
        g = Relu (f)
        h = Sin (f)
        i = Add (g, h)"""
    model = network(lines, {}, ends=False, inputs="float[n] x", outputs="float[n] i")
    half = half_model(model, fp32={"Exp b", "Sqrt c", "Sin d", "Add e", "Sub f"})
    casts = [(node.input[0], tensor_types(half)[node.output[0]]) for node in half.graph.node if node.op_type == "Cast"]
    assert sorted(casts) == [("a", FLOAT), ("f", HALF), ("i_half", FLOAT), ("x", HALF)]
    x = np.linspace(-4, -1, 7).astype(np.float32)
    np.testing.assert_allclose(answers(half, x=x)[0], answers(model, x=x)[0], rtol=2e-3, atol=0.05)


def test_between_two_nodes_in_float_nothing_is_rounded(network, answers):
    """A value of 1e6 and the digits of 1.0001 pass from one to the next; a third reader in half has its own cast."""
    lines = """a = Mul (x, million)
        b = Div (a, million)
        c = Tanh (a)
        d = Add (b, c)"""
    model = network(lines, {"million": 1e6}, ends=False, inputs="float[n] x", outputs="float[n] d, float[n] b")
    half = half_model(model, fp32={"Mul a", "Div b"})
    x = np.array([1.0001, 3.00007], np.float32)
    assert (answers(half, x=x)[1] == answers(model, x=x)[1]).all()
    np.testing.assert_allclose(answers(half, x=x)[0], x + 1, rtol=1e-3)


def test_a_weight_is_kept_in_the_types_that_read_it(network):
    """Read in both types it is there twice, in one type once, and never under the name of something else."""
    lines = """a = Mul (x, both)
        b = Add (a, both)
        c = Add (b, half_only)
        d = Mul (c, float_only)"""
    weights = {"both": np.ones(4), "half_only": np.ones(4), "float_only": np.ones(4), "both_half": np.ones(4)}
    model = network(lines + " e = Add (d, both_half)", weights, ends=False, inputs="float[4] x", outputs="float[4] e")
    half = half_model(model, fp32={"Mul a", "Mul d", "Add e"})
    kinds = {tensor.name: tensor.data_type for tensor in half.graph.initializer}
    assert kinds == {"both": FLOAT, "both_half_": HALF, "half_only": HALF, "float_only": FLOAT, "both_half": FLOAT}
    onnx.checker.check_model(half, full_check=True)


def test_a_weight_beyond_half_is_refused_unless_its_node_keeps_float(network, answers):
    """The error names node, weight and value; infinities, as masks have them, are no overflow."""
    model = network(
        "a = Mul (x, large) b = Max (a, lowest)", {"large": 1e5, "lowest": -np.inf}, ends=False,
        inputs="float[2] x", outputs="float[2] b",
    )  # fmt: skip
    with pytest.raises(ModelError, match=r"Mul a.*'large' reaches 1e\+05"):
        half_model(model, fp32=[])
    half = half_model(model, fp32={"Mul a"})
    assert answers(half, x=np.array([0.1, 0.2], np.float32))[0] == pytest.approx([1e4, 2e4], rel=1e-3)


def test_a_graph_with_branches_is_refused(network):
    """A node with a graph of its own cannot be cast; the error names it."""
    branch = helper.make_graph(
        [helper.make_node("Constant", [], ["y"], value_float=1.0)], "then", [],
        [helper.make_tensor_value_info("y", FLOAT, [])],
    )  # fmt: skip
    model = network("c = Cast <to = 9> (x)", {}, ends=False, inputs="float x", outputs="bool c")
    model.graph.node.append(
        helper.make_node("If", ["c"], ["z"], name="choice", then_branch=branch, else_branch=branch)
    )  # fmt: skip
    for attempt in (prepared, lambda graph: half_model(graph, fp32=[])):
        with pytest.raises(ModelError, match="If 'choice'"):
            attempt(model)


def test_nodes_without_a_name_of_their_own_get_one(network):
    """Two of the same name and one without are told apart, so that each can be kept by itself."""
    model = network("a = Neg (x) b = Neg (a) c = Neg (b)", {}, ends=False, inputs="float[2] x", outputs="float[2] c")
    for node, name in zip(model.graph.node, ("same", "same", ""), strict=True):
        node.name = name
    names = [node.name for node in prepared(model).graph.node]
    assert names == ["same", "same:b", "Neg:c"]


def test_functions_are_cast_as_what_they_stand_for(answers):
    """A graph that calls a function of its own is inlined first."""
    model = onnx.parser.parse_model("""
        <ir_version: 9, opset_import: ["" : 18, "own" : 1]>
        test (float[n] x) => (float[n] z) { y = own.twice (x) z = Neg (y) }
        <opset_import: ["" : 18], domain: "own"> twice (x) => (y) { y = Add (x, x) }""")
    half = half_model(prepared(model), fp32=[])
    assert tensor_types(half)["z_half"] == HALF
    assert answers(half, x=np.array([1, 2], np.float32))[0].tolist() == [-2, -4]
