"""The second output of a graph in half: which tiles overflowed."""

import numpy as np
import onnx
import pytest
from onnx import TensorProto, numpy_helper

from sennet_engine.openvino_predictor import openvino_core
from sennet_export.answers import answers_of_graph
from sennet_export.gate import LIMITS, Gate, fault
from sennet_export.half.cast import half_model
from sennet_export.half.convert import half_from_onnx
from sennet_export.half.emulation import emulated
from sennet_export.half.graph import HALF, prepared, tensor_types
from sennet_export.half.overflow import with_overflow_output
from sennet_export.int8.convert import int8_from_onnx

SAME = "<pads = [1, 1, 1, 1]>"


@pytest.fixture
def plain(network, weight):
    """Two convolutions that reach some 1000 times what they read: beyond half on bright tiles alone."""
    lines = f"a = Conv {SAME} (x, w0) b = Relu (a) logits = Conv {SAME} (b, w1)"
    return network(lines, {"w0": np.abs(weight(8, 1, 3, 3)) * 100, "w1": np.abs(weight(1, 8, 3, 3)) * 100})


@pytest.fixture
def shown():
    """uint8 [4, 1, 32, 32]: dark, white in one place, dark, all white."""
    tiles = np.random.default_rng(8).integers(0, 3, (4, 1, 32, 32), dtype=np.uint8)
    tiles[1, 0, 20:26, 20:26] = tiles[3] = 255
    return tiles


def test_an_emulated_half_tells_of_its_own_overflow(plain, shown, answers):
    """By the file's own output, where half's range is left between operators; in float32 nothing overflows."""
    logits = answers_of_graph(plain, {32: shown}, runtime="onnxruntime")[32].logits
    largest = np.abs(logits).max(axis=(1, 2, 3))
    assert (largest > 65504).tolist() == [False, True, False, True]
    half = half_from_onnx(plain, tiles=shown[::2], judge=lambda _half: None).model
    assert answers(emulated(half), tiles=shown)[1].tolist() == [0, 1, 0, 1]
    assert answers(with_overflow_output(prepared(plain)), tiles=shown)[1].tolist() == [0, 0, 0, 0]


def test_the_gate_sees_what_the_graph_says(plain, shown):
    """With half emulated; a CPU's runtimes compute half in float32, where these tiles have a finite answer. Answers are
    those without the second output, and the graph stays whole."""
    half = half_model(prepared(plain), fp32=[])
    watched = with_overflow_output(half)
    before = watched.SerializeToString()
    overflowed = {}
    for runtime in ("onnxruntime", "openvino", "half emulated"):
        found = answers_of_graph(watched, {32: shown}, runtime=runtime)[32]
        without = answers_of_graph(half, {32: shown}, runtime=runtime)[32]
        assert (found.probabilities == without.probabilities).all()
        assert without.overflowed == 0
        overflowed[runtime] = found.overflowed
    assert np.isinf(found.logits).any(axis=(1, 2, 3)).tolist() == [False, True, False, True]
    assert overflowed == {"onnxruntime": 0, "openvino": 0, "half emulated": 2}
    assert watched.SerializeToString() == before


def test_a_file_that_says_it_overflows_does_not_pass_the_gate(network, tiles):
    """Though all its answers are those of the reference."""
    plain = network("logits = Sub (x, middle)", {"middle": 0.5})
    reference = answers_of_graph(plain, {32: tiles}, runtime="onnxruntime")
    gate = Gate({32: tiles}, reference, side=32, threshold=0.5, source="test", against="itself")
    honest = with_overflow_output(prepared(plain))
    wrong = onnx.ModelProto()
    wrong.CopyFrom(honest)
    next(tensor for tensor in wrong.graph.initializer if tensor.name == "overflowed/largest").CopyFrom(
        numpy_helper.from_array(np.float32(0), "overflowed/largest")
    )
    assert fault(gate.measured(honest, ["onnxruntime"]), LIMITS["fp32"]) is None
    assert fault(gate.measured(wrong, ["onnxruntime"]), LIMITS["fp32"]) == "answers that are not numbers"


KINDS = {
    "infinity": "logits = Div (one, gap)",
    "negative infinity": "some = Div (one, gap) logits = Neg (some)",
    "not a number": "logits = Div (gap, gap)",
    "limited before the sigmoid": "free = Div (one, gap) logits = Clip (free, lowest, highest)",
}


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("half", [False, True])
@pytest.mark.parametrize("runtime", ["onnxruntime", "openvino"])
def test_each_way_to_leave_the_numbers_is_told(network, answers, kind, half, runtime):
    """One pixel of the tile is enough; all other tiles are told apart from it."""
    weights = {"one": 1.0, "white": 1.0, "lowest": -10.0, "highest": 10.0}
    lines = f"gap = Sub (x, white) {KINDS[kind]}"
    model = prepared(network(lines, {name: value for name, value in weights.items() if name in lines}))
    watched = with_overflow_output(half_model(model, fp32={"Cast grey", "Mul x", "Sub gap"}) if half else model)
    onnx.checker.check_model(watched, full_check=True)
    tiles = np.random.default_rng(9).integers(0, 200, (5, 1, 16, 16), dtype=np.uint8)
    tiles[1, 0, 3, 7] = tiles[4, 0, 15, 15] = 255
    if runtime == "onnxruntime":
        found = answers(watched, tiles=tiles)[1]
    else:
        core = openvino_core()
        compiled = core.compile_model(
            core.read_model(watched.SerializeToString(), b""), "CPU", {"INFERENCE_PRECISION_HINT": "f32"}
        )
        found = compiled.create_infer_request().infer({0: tiles})[1]
    assert found.dtype == np.uint8
    assert found.tolist() == [0, 1, 0, 0, 1]


def test_the_graph_that_is_given_stays_as_it_is(plain, network):
    """And one without a sigmoid has nothing to watch."""
    before = plain.SerializeToString()
    watched = with_overflow_output(plain)
    assert plain.SerializeToString() == before
    output = watched.graph.output[1]
    assert output.type.tensor_type.elem_type == TensorProto.UINT8
    batch = plain.graph.input[0].type.tensor_type.shape.dim[0]
    assert list(output.type.tensor_type.shape.dim) == [batch]
    assert watched.graph.node[-1].op_type == "Cast"
    none = network("y = Neg (x)", {}, ends=False, inputs="float[n] x", outputs="float[n] y")
    assert with_overflow_output(none) is none


def test_integers_have_no_half_to_overflow(plain, shown):
    """The float parts of an int8 graph are in float32, as in the file that it is made from: it needs no such output."""
    made = int8_from_onnx(plain, tiles=shown, judge=lambda _graph: None).model
    assert [output.name for output in made.graph.output] == ["probabilities"]
    assert HALF not in tensor_types(made).values()


def test_tensorrt_for_rtx_keeps_the_output(plain, shown):
    """It is an end of the network and of the plan that is built; nothing of it is folded into a constant."""
    trt = pytest.importorskip("tensorrt_rtx")
    half = half_from_onnx(plain, tiles=shown[::2], judge=lambda _half: None).model
    builder = trt.Builder(logger := trt.Logger(trt.Logger.ERROR))
    network = builder.create_network(0)
    parser = trt.OnnxParser(network, logger)
    assert parser.parse(half.SerializeToString())
    output = network.get_output(1)
    assert (output.name, output.dtype, tuple(output.shape)) == ("overflowed", trt.DataType.UINT8, (-1,))
    upstream, wanted = set(), {"overflowed"}
    for layer in reversed([network.get_layer(i) for i in range(network.num_layers)]):
        if wanted & {layer.get_output(i).name for i in range(layer.num_outputs)}:
            upstream.add(layer.type)
            wanted |= {layer.get_input(i).name for i in range(layer.num_inputs) if layer.get_input(i) is not None}
    assert {trt.LayerType.CONVOLUTION, trt.LayerType.REDUCE} <= upstream
    assert "tiles" in wanted
    config, profile = builder.create_builder_config(), builder.create_optimization_profile()
    profile.set_shape("tiles", (1, 1, 32, 32), (2, 1, 32, 32), (4, 1, 32, 32))
    config.add_optimization_profile(profile)
    config.num_compute_capabilities = 1
    config.set_compute_capability(trt.ComputeCapability.SM86, 0)
    assert b"overflowed" in bytes(builder.build_serialized_network(network, config))
