"""The work of a graph, as its card tells it."""

import onnx
import pytest
from onnx import TensorProto, helper

from sennet_engine.bundle import BUILTIN, open_bundle
from sennet_export.work import multiply_adds, multiply_adds_per_pixel


def test_every_export_tells_the_work(command, strided_bundle, tmp_path):
    """Four convolutions of 3 x 3 at full, half, quarter and full resolution, counted by hand."""
    assert open_bundle(strided_bundle).card.multiply_adds_per_pixel is None
    ran = command("sennet-export", strided_bundle, "--description", "a test", "--out", tmp_path / "out.model")
    assert ran.code == 0, ran.err
    by_hand = 9 * (1 * 4 + 4 * 8 / 4 + 8 * 8 / 16 + 8 * 1)
    assert open_bundle(tmp_path / "out.model").card.multiply_adds_per_pixel == pytest.approx(by_hand)


@pytest.mark.parametrize("side", [320, 512])
def test_the_builtin_models_work_does_not_depend_on_the_side(side):
    """It is convolutional throughout."""
    graph = onnx.load(BUILTIN / "model.onnx")
    assert multiply_adds_per_pixel(graph, side=side) == 15864.3125
    assert sum(multiply_adds(graph, side=side).values()) == 15864.3125 * side**2


def test_work_that_cannot_be_counted_is_not_told():
    """A product whose shape the graph does not tell makes the sum unknown, not too small."""
    nodes = [
        helper.make_node("Cast", ["tiles"], ["grey"], to=TensorProto.FLOAT),
        helper.make_node("NonZero", ["grey"], ["places"]),
        helper.make_node("Cast", ["places"], ["rows"], to=TensorProto.FLOAT),
        helper.make_node("Transpose", ["rows"], ["columns"]),
        helper.make_node("MatMul", ["rows", "columns"], ["product"]),
    ]
    ends = [
        helper.make_tensor_value_info("tiles", TensorProto.UINT8, ["batch", 1, "h", "w"]),
        helper.make_tensor_value_info("product", TensorProto.FLOAT, None),
    ]
    model = helper.make_model(helper.make_graph(nodes, "test", ends[:1], ends[1:]))
    assert multiply_adds(model, side=32) == {}
    assert multiply_adds_per_pixel(model, side=32) is None
