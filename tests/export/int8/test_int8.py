"""int8 from fp32: equal masks, integer kernels on every runtime, and layers at fault kept in float."""

import numpy as np
import onnx
import onnxruntime
import pytest
from onnx import TensorProto, numpy_helper

from sennet_engine.bundle import BUILTIN
from sennet_engine.errors import ModelError
from sennet_engine.openvino_predictor import openvino_core
from sennet_export.calibration import phantom_calibration
from sennet_export.int8.convert import int8_from_onnx
from sennet_export.int8.layout import CPU, TENSORRT, weighted_layers
from sennet_export.int8.ranges import Range, tensor_ranges

from .conftest import accepted, network, on_onnxruntime

SIDE = 192
INTEGER_TYPES = {"QLinearConv", "QLinearMatMul", "QGemm", "MatMulIntegerToFloat"}


@pytest.fixture(scope="module")
def phantoms():
    """Tiles to calibrate on and other ones to compare on."""
    calibration = phantom_calibration()
    return calibration.further_squares(SIDE)[:4], calibration.squares(SIDE)


@pytest.fixture(scope="module")
def builtin():
    """The built-in model's fp32 graph, which is trained."""
    return onnx.load(BUILTIN / "model.onnx")


def compiled_by_openvino(model):
    core = openvino_core()
    settings = {"INFERENCE_PRECISION_HINT": "f32", "INFERENCE_NUM_THREADS": 1}
    return core.compile_model(core.read_model(model.SerializeToString(), b""), "CPU", settings)


def dice(first, second):
    return 2 * (first & second).sum() / (first.sum() + second.sum())


def test_int8_gives_the_masks_of_fp32_on_both_runtimes(builtin, phantoms):
    """On tiles that it was not calibrated on, a third of the size, uint8 at both ends."""
    calibrated_on, tiles = phantoms
    made = int8_from_onnx(builtin, tiles=calibrated_on, judge=accepted)
    onnx.checker.check_model(made.model, full_check=True)
    assert made.kept == {}
    assert made.quantised_layers == len(weighted_layers(builtin)) == 42
    assert len(made.model.SerializeToString()) < 0.4 * len(builtin.SerializeToString())
    expected = on_onnxruntime(builtin, tiles)
    for answers in (on_onnxruntime(made.model, tiles), compiled_by_openvino(made.model)(tiles)[0]):
        assert answers.dtype == np.uint8
        assert dice(answers >= 128, expected >= 128) > 0.98
        assert np.abs(answers.astype(int) - expected).mean() < 0.1


def test_both_runtimes_compute_the_convolutions_in_integers(builtin, phantoms, tmp_path):
    """Not only stored in int8: onnxruntime fuses to QLinearConv, and OpenVINO runs 8-bit kernels though held to f32."""
    made = int8_from_onnx(builtin, tiles=phantoms[0][:1], judge=accepted)
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3
    options.optimized_model_filepath = str(tmp_path / "optimised.onnx")
    onnxruntime.InferenceSession(made.model.SerializeToString(), options, providers=["CPUExecutionProvider"])
    types = [node.op_type for node in onnx.load(tmp_path / "optimised.onnx").graph.node]
    assert sum(kind in INTEGER_TYPES for kind in types) == 42
    assert "Conv" not in types
    operators = compiled_by_openvino(made.model).get_runtime_model().get_ops()
    facts = [operator.get_rt_info() for operator in operators]
    convolutions = [
        one["runtimePrecision"].astype(str) for one in facts if one["layerType"].astype(str) == "Convolution"
    ]
    assert len(convolutions) == 42
    assert set(convolutions) <= {"u8", "i8"}


def test_the_layout_for_tensorrt_is_what_tensorrt_takes(builtin, phantoms):
    """Zero points 0, signed, scales that half holds; parser and builder take it, with uint8 at both ends."""
    made = int8_from_onnx(builtin, tiles=phantoms[0], judge=accepted, layout=TENSORRT)
    constants = {tensor.name: numpy_helper.to_array(tensor) for tensor in made.model.graph.initializer}
    pairs = [node for node in made.model.graph.node if node.op_type in ("QuantizeLinear", "DequantizeLinear")]
    assert len(pairs) > 100
    assert all(constants[node.input[2]].dtype == np.int8 and not constants[node.input[2]].any() for node in pairs)
    assert min(constants[node.input[1]].min() for node in pairs) >= np.finfo(np.float16).smallest_normal
    expected, found = on_onnxruntime(builtin, phantoms[1]), on_onnxruntime(made.model, phantoms[1])
    assert dice(found >= 128, expected >= 128) > 0.98
    trt = pytest.importorskip("tensorrt_rtx")
    logger = trt.Logger(trt.Logger.ERROR)
    builder = trt.Builder(logger)
    parsed = builder.create_network(1 << int(trt.NetworkDefinitionCreationFlag.STRONGLY_TYPED))
    parser = trt.OnnxParser(parsed, logger)
    assert parser.parse(made.model.SerializeToString()), parser.get_error(0).desc()
    config = builder.create_builder_config()
    profile = builder.create_optimization_profile()
    profile.set_shape("tiles", *([(1, 1, SIDE, SIDE)] * 3))
    config.add_optimization_profile(profile)
    config.num_compute_capabilities = 1
    config.set_compute_capability(trt.ComputeCapability.SM86, 0)
    assert builder.build_serialized_network(parsed, config) is not None
    assert [parsed.get_input(0).dtype, parsed.get_output(0).dtype] == [trt.DataType.UINT8] * 2


@pytest.mark.parametrize("layout", [CPU, TENSORRT], ids=["cpu", "tensorrt"])
def test_both_ends_stay_in_float(grey_tiles, layout):
    """Cast and scaling before the first layer, sigmoid to cast after the last: none reads or writes integers."""
    model = int8_from_onnx(network(), tiles=grey_tiles, judge=accepted, layout=layout).model
    by_output = {name: node for node in model.graph.node for name in node.output}
    assert [by_output[name].name for name in ("grey", "x0", "x7", "x8", "x9", "x10")] == [
        "cast", "scaling", "sigmoid", "levels", "round", "clip",
    ]  # fmt: skip
    ends = [node for node in model.graph.node if node.name in ("scaling", "levels", "round", "clip", "end")]
    assert not any(by_output[name].op_type == "DequantizeLinear" for node in ends for name in node.input[:1])
    assert model.graph.node[0].op_type == "Cast"
    assert by_output["probabilities"].op_type == "Cast"


def test_weights_for_a_cpu_use_seven_bits(grey_tiles):
    """So that the 16-bit sums of processors without VNNI cannot saturate."""
    model = int8_from_onnx(network(), tiles=grey_tiles, judge=accepted).model
    weights = [
        numpy_helper.to_array(tensor) for tensor in model.graph.initializer if tensor.data_type == TensorProto.INT8
    ]
    largest = max(np.abs(values.astype(int)).max() for values in weights)
    assert 60 <= largest <= 64


def test_the_given_graph_is_not_changed(grey_tiles):
    """The fp32 graph goes on to be the reference of others."""
    model = network()
    before = model.SerializeToString(deterministic=True)
    int8_from_onnx(model, tiles=grey_tiles, judge=accepted)
    assert model.SerializeToString(deterministic=True) == before


def test_ranges_are_those_of_all_tiles():
    """The smallest and the largest value over all tiles, of every float tensor and of no other."""
    tiles = np.stack([np.full((1, 8, 8), 64, np.uint8), np.full((1, 8, 8), 192, np.uint8)])
    ranges = tensor_ranges(network(), tiles)
    assert ranges["x0"] == Range(1.0, 3.0)
    assert "probabilities" not in ranges
    assert len(ranges) == 12


def test_values_that_are_not_finite_cannot_be_calibrated(grey_tiles):
    """A network with an infinite activation has no scale."""
    model = network(offset=float("inf"))
    with pytest.raises(ModelError, match="x5"):
        int8_from_onnx(model, tiles=grey_tiles, judge=accepted)


def test_matrix_products_for_engines_have_weights_in_the_rank_of_what_they_multiply():
    """Straight from a DequantizeLinear, in integers, with the answers of the float graph nearly kept."""
    draw = np.random.default_rng(3)
    weights = {
        "w0": draw.normal(size=(8, 1, 3, 3)),
        "w1": draw.normal(0, 0.3, (8, 8)),
        "w2": draw.normal(size=(1, 8, 3, 3)),
    }
    text = """<ir_version: 9, opset_import: ["" : 18]> g (uint8[b,1,h,w] tiles) => (uint8[b,1,h,w] probabilities) {
        x = Cast <to = 1> (tiles) s = Mul (x, scale) a = Conv <pads = [1,1,1,1]> (s, w0)
        t = Transpose <perm = [0,2,3,1]> (a) m = MatMul (t, w1) u = Transpose <perm = [0,3,1,2]> (m)
        logits = Conv <pads = [1,1,1,1]> (u, w2) p = Sigmoid (logits) l = Mul (p, levels) r = Round (l)
        probabilities = Cast <to = 2> (r)
    }"""
    model = onnx.parser.parse_model(text)
    for name, values in {**weights, "scale": 0.01, "levels": 255.0}.items():
        model.graph.initializer.append(numpy_helper.from_array(np.asarray(values, np.float32), name))
    tiles = draw.integers(0, 256, (2, 1, 32, 32), dtype=np.uint8)
    made = int8_from_onnx(model, tiles=tiles, judge=accepted, layout=TENSORRT).model
    maker = {name: node for node in made.graph.node for name in node.output}
    product = next(node for node in made.graph.node if node.op_type == "MatMul")
    weight = maker[product.input[1]]
    assert weight.op_type == "DequantizeLinear"
    stored = {tensor.name: tensor for tensor in made.graph.initializer}[weight.input[0]]
    assert list(stored.dims) == [1, 1, 8, 8]
