"""The smallest and the largest value of every float tensor of a graph, on real tiles."""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import onnx
import onnxruntime
from onnx import helper

from sennet_engine.errors import ModelError
from sennet_export.half.graph import FLOAT, tensor_types

PROBES = ("ReduceMin", "ReduceMax")


@dataclass(frozen=True)
class Range:
    """Of all values that a tensor took."""

    smallest: float
    largest: float


def tensor_ranges(model: onnx.ModelProto, tiles: npt.NDArray[np.uint8]) -> Mapping[str, Range]:
    """Run `model` on `tiles`, uint8 [n, 1, S, S], one at a time; the range of every float tensor that a node writes.

    Two numbers a tensor leave the runtime, so that memory stays near that of one run.

    Raises:
        ModelError: a tensor with values that are not finite, or a graph whose types cannot be inferred.
    """
    types = tensor_types(model)
    names = [name for node in model.graph.node for name in node.output if types.get(name) == FLOAT]
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3
    # In the order of the nodes: else the runtime computes all probes at the end, and every tensor lives until then.
    options.execution_order = onnxruntime.ExecutionOrder.PRIORITY_BASED
    session = onnxruntime.InferenceSession(
        model.SerializeToString() + _probes(names), options, providers=["CPUExecutionProvider"]
    )
    wanted = [f"{name}/{probe}" for probe in PROBES for name in names]
    entry = model.graph.input[0].name
    found = np.array([session.run(wanted, {entry: tile[None]}) for tile in tiles]).reshape(len(tiles), len(PROBES), -1)
    smallest, largest = found[:, 0].min(axis=0), found[:, 1].max(axis=0)
    for name, low, high in zip(names, smallest, largest, strict=True):
        if not np.isfinite([low, high]).all():
            raise ModelError(f"tensor {name!r}: got values from {low} to {high}, expected finite ones; train again")
    return {name: Range(float(low), float(high)) for name, low, high in zip(names, smallest, largest, strict=True)}


def _probes(names: list[str]) -> bytes:
    """Nodes that write the smallest and the largest value of each tensor; protobuf joins messages that are appended."""
    nodes = [
        helper.make_node(probe, [name], [f"{name}/{probe}"], name=f"{name}/{probe}", keepdims=0)
        for name in names
        for probe in PROBES
    ]
    outputs = [helper.make_tensor_value_info(node.output[0], FLOAT, []) for node in nodes]
    content: bytes = onnx.ModelProto(graph=onnx.GraphProto(node=nodes, output=outputs)).SerializeToString()
    return content
