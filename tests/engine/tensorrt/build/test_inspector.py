"""What the engine inspector's JSON says of precision, in the forms of TensorRT 10 and 11."""

import json

import pytest

from sennet_engine.tensorrt.build.inspector import work_from_information
from sennet_engine.tensorrt.build.precision import LayerWork

WORK = [LayerWork("conv0", "convolution", 90, "fp16"), LayerWork("conv1", "convolution", 10, "fp16")]


def information(version, types):
    """The inspector's JSON: a kernel for each of `types`, named by the layers that it was made of."""
    key = {10: "Format/Datatype", 11: "DataType"}[version]
    written = {10: {"fp16": "Half", "fp32": "Row major linear FP32 format", "int8": "Int8"}}
    words = written.get(version, {"fp16": "Half", "fp32": "Float", "int8": "Int8"})
    layers = [
        {
            "Name": f"__myl_Fused_{index}",
            "Inputs": [{"Name": "in", "Dimensions": [1, 8], key: words[precision]}],
            "Metadata": "\u001e".join(f"[ONNX Layer: {name}]" for name in names),
        }
        for index, (names, precision) in enumerate(types)
    ]
    return json.dumps({"Layers": layers, "Bindings": ["tiles"]})


@pytest.mark.parametrize("version", [10, 11])
def test_a_layer_has_the_precision_of_the_kernel_that_computes_it(version):
    """Kernels of several layers name each of them in their metadata; a layer kept in float32 shows."""
    text = information(version, [(["conv0", "relu0"], "fp16"), (["conv1"], "fp32")])
    assert [layer.precision for layer in work_from_information(text, WORK)] == ["fp16", "fp32"]
    text = information(version, [(["conv0", "conv1"], "int8")])
    assert [layer.precision for layer in work_from_information(text, WORK)] == ["int8", "int8"]


def test_an_engine_that_names_too_little_proves_nothing():
    """RTX shows one node for the whole network: then the network it was built from has to answer."""
    assert work_from_information(json.dumps({"Layers": ["{ForeignNode[door...end]}"]}), WORK) is None
    assert work_from_information(information(10, [(["conv1"], "fp16")]), WORK) is None


@pytest.mark.parametrize("tiles", ["Row major linear UInt8 format", "UInt8"])
def test_the_tiles_themselves_are_no_precision(tiles):
    """A kernel that reads the uint8 tiles computes in the type of its other inputs; one without any says nothing."""
    inputs = [{"Name": "tiles", "DataType": tiles}, {"Name": "weights", "DataType": "Half"}]
    kernel = {"Name": "fused", "Metadata": "[ONNX Layer: conv0]\u001e[ONNX Layer: conv1]", "Inputs": inputs}
    found = work_from_information(json.dumps({"Layers": [kernel]}), WORK)
    assert [layer.precision for layer in found] == ["fp16", "fp16"]
    kernel["Inputs"] = inputs[:1]
    assert work_from_information(json.dumps({"Layers": [kernel]}), WORK) is None
