"""A graph in integers: pairs of QuantizeLinear and DequantizeLinear, which runtimes fuse into their integer kernels."""

from collections.abc import Collection, Mapping
from typing import Any

import numpy as np
import onnx
from onnx import helper
from onnxruntime.quantization import QuantType
from onnxruntime.quantization.calibrate import CalibrationMethod, TensorData, TensorsData
from onnxruntime.quantization.qdq_quantizer import QDQQuantizer
from onnxruntime.quantization.quant_utils import add_infer_metadata

from sennet_export.half.graph import tensor_types
from sennet_export.int8.layout import Layout, quantised_nodes
from sennet_export.int8.ranges import Range

LEVELS = 256
ACTIVATIONS = {"uint8": QuantType.QUInt8, "int8": QuantType.QInt8}


def quantised_model(
    model: onnx.ModelProto, ranges: Mapping[str, Range], *, layout: Layout, kept: Collection[str]
) -> onnx.ModelProto:
    """`model` with the nodes of `layout` in integers, but for the names in `kept` and for both ends of the graph.

    Weights are int8, biases stay float: in integers they gain no speed. Input and output of the graph stay uint8.

    Args:
        model: float32, as `half.graph.prepared` gives it. It is not changed.
        ranges: of every float tensor, from `tensor_ranges`.

    Raises:
        ModelError: the types of the graph cannot be inferred.
    """
    chosen = quantised_nodes(model, layout, kept=kept)
    if not chosen:
        return model
    signed = layout.activations == "int8"
    options: dict[str, Any] = {
        "ActivationSymmetric": signed,
        "WeightSymmetric": True,
        "QuantizeBias": False,
        "OpTypesToExcludeOutputQuantization": list(layout.float_outputs),
        "QDQOpTypePerChannelSupportToAxis": {"MatMul": -1},
        "MinimumRealRange": LEVELS * layout.smallest_scale or None,
    }
    quantizer = QDQQuantizer(
        _with_types(model), per_channel=True, reduce_range=layout.weight_bits == 7, weight_qType=QuantType.QInt8,
        activation_qType=ACTIVATIONS[layout.activations], tensors_range=_as_tensors_data(ranges),
        nodes_to_quantize=chosen, nodes_to_exclude=[], op_types_to_quantize=list(layout.operators),
        extra_options=options,
    )  # fmt: skip
    quantizer.quantize_model()
    made: onnx.ModelProto = quantizer.model.model
    quantizer.model.topological_sort()
    del made.graph.value_info[:]
    del made.metadata_props[:]
    made.metadata_props.extend(model.metadata_props)
    return made


def _with_types(model: onnx.ModelProto) -> onnx.ModelProto:
    """A copy that says the type of every tensor, which is all that the quantiser asks of shape inference."""
    ready = onnx.ModelProto()
    ready.CopyFrom(model)
    del ready.graph.value_info[:]
    written = {name for node in model.graph.node for name in node.output if name}
    written -= {value.name for value in model.graph.output}
    types = tensor_types(model)
    ready.graph.value_info.extend(helper.make_tensor_value_info(name, types[name], None) for name in written)
    add_infer_metadata(ready)
    return ready


def _as_tensors_data(ranges: Mapping[str, Range]) -> TensorsData:
    return TensorsData(
        CalibrationMethod.MinMax,
        {
            name: TensorData(lowest=np.float32(one.smallest), highest=np.float32(one.largest))
            for name, one in ranges.items()
        },
    )
