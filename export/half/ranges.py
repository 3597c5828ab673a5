"""How large every tensor of a graph becomes on real tiles."""

from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt
import onnx
import onnxruntime
from onnx import TensorProto, helper

from sennet_export.half.graph import FLOAT, tensor_types


@dataclass(frozen=True)
class Activations:
    """What was measured of the float tensors of a graph that are no weights.

    Attributes:
        maxima: largest |value| over all tiles by tensor; inf where a value was not finite.
        elements: numbers in the tensor for one tile, over the largest.
    """

    maxima: dict[str, float] = field(default_factory=dict)
    elements: dict[str, int] = field(default_factory=dict)

    @property
    def largest(self) -> tuple[str, float]:
        """The tensor with the largest value, and that value."""
        return max(self.maxima.items(), key=lambda item: item[1])


def measured_activations(model: onnx.ModelProto, tiles: npt.NDArray[np.uint8]) -> Activations:
    """Run `model` on `tiles`, uint8 [n, 1, S, S], one at a time, and keep two numbers and the size of every tensor.

    Only these leave the runtime, so that memory stays near that of one run.

    Raises:
        ModelError: the types of the graph cannot be inferred.
    """
    types = tensor_types(model)
    names = [name for node in model.graph.node for name in node.output if types.get(name) == FLOAT]
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3
    # In the order in which they are written: else all probes come at the end, and every tensor lives until then.
    options.execution_order = onnxruntime.ExecutionOrder.PRIORITY_BASED
    session = onnxruntime.InferenceSession(_probed(model, names), options, providers=["CPUExecutionProvider"])
    entry = model.graph.input[0].name
    wanted = [f"{name}/{probe}" for probe in ("largest", "sum", "size") for name in names]
    found = Activations(dict.fromkeys(names, 0.0), dict.fromkeys(names, 0))
    for tile in tiles:
        largest, total, size = np.asarray(session.run(wanted, {entry: tile[None]}), np.float64).reshape(3, -1)
        # The runtime's maximum overlooks what is not a number; its sum does not.
        largest[~np.isfinite(total)] = np.inf
        for i, name in enumerate(names):
            found.maxima[name] = max(found.maxima[name], float(largest[i]))
            found.elements[name] = max(found.elements[name], int(size[i]))
    return found


def _probed(model: onnx.ModelProto, names: list[str]) -> bytes:
    """The graph with the probes of each tensor right after the node that writes it, as bytes."""
    probed = onnx.ModelProto(ir_version=model.ir_version, opset_import=model.opset_import)
    probed.graph.name = model.graph.name
    probed.graph.input.extend(model.graph.input)
    probed.graph.initializer.extend(model.graph.initializer)
    wanted = set(names)
    for node in model.graph.node:
        probed.graph.node.append(node)
        for name in wanted.intersection(node.output):
            magnitude = f"{name}/magnitude"
            probed.graph.node.append(helper.make_node("Abs", [name], [magnitude]))
            probed.graph.node.append(helper.make_node("ReduceMax", [magnitude], [f"{name}/largest"], keepdims=0))
            probed.graph.node.append(helper.make_node("ReduceSum", [magnitude], [f"{name}/sum"], keepdims=0))
            probed.graph.node.append(helper.make_node("Size", [name], [f"{name}/size"]))
    for name in names:
        for probe, kind in (("largest", FLOAT), ("sum", FLOAT), ("size", TensorProto.INT64)):
            probed.graph.output.append(helper.make_tensor_value_info(f"{name}/{probe}", kind, []))
    content: bytes = probed.SerializeToString()
    return content
