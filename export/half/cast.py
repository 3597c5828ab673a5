"""Cast a float32 graph to half, but for named nodes: one Cast for a tensor and direction, none between neighbours."""

from collections import defaultdict
from collections.abc import Collection

import numpy as np
import onnx
from onnx import GraphProto, NodeProto, TensorProto, helper, numpy_helper

from sennet_engine.errors import ModelError
from sennet_export.half.graph import FLOAT, HALF, Ports, half_ports, tensor_types

COMPUTES_IN_FLOAT = Ports()
SUFFIX = {HALF: "_half", FLOAT: "_float"}


def half_model(model: onnx.ModelProto, *, fp32: Collection[str]) -> onnx.ModelProto:
    """`model` computing in float16, except for the nodes named in `fp32` and those that the standard keeps in float32.

    Inputs and outputs of the graph keep their types, and operators on integers are not touched. A tensor between two
    nodes in float32 stays float32. Weights are rounded once, to the nearest; one that is read in both types is there
    in both.

    Args:
        model: float32, as `prepared` gives it. It is not changed.
        fp32: names of nodes.

    Raises:
        ModelError: a weight of a node that would compute in half is beyond half, or the graph cannot be typed.
    """
    types = tensor_types(model)
    ports = {name: found for name, found in half_ports(model, types).items() if name not in fp32}
    written = onnx.ModelProto(
        ir_version=model.ir_version, opset_import=model.opset_import, metadata_props=model.metadata_props,
        producer_name=model.producer_name, producer_version=model.producer_version,
    )  # fmt: skip
    written.graph.name = model.graph.name
    written.graph.input.extend(model.graph.input)
    written.graph.output.extend(model.graph.output)
    _Cast(model, written.graph, ports, types).write()
    return written


def cast_count(model: onnx.ModelProto) -> int:
    """How many Cast nodes between half and float a graph has."""
    types = tensor_types(model)
    casts = [node for node in model.graph.node if node.op_type == "Cast"]
    return sum({types[node.input[0]], types[node.output[0]]} == {HALF, FLOAT} for node in casts)


class _Cast:
    """One pass over a graph. `versions` says under which name a float tensor is to be had in which type."""

    def __init__(
        self, model: onnx.ModelProto, graph: GraphProto, ports: dict[str, Ports], types: dict[str, int]
    ) -> None:
        self._source, self._graph, self._ports, self._types = model.graph, graph, ports, types
        self._outputs = {value.name for value in model.graph.output}
        self._taken = set(types)
        self._versions: dict[str, dict[int, str]] = defaultdict(dict)

    def write(self) -> None:
        self._write_weights()
        for value in self._source.input:
            self._versions[value.name].setdefault(FLOAT, value.name)
        for node in self._source.node:
            self._write_node(node)

    def _write_weights(self) -> None:
        readers: dict[str, dict[int, str]] = defaultdict(dict)
        for node in self._source.node:
            own = self._ports.get(node.name, COMPUTES_IN_FLOAT)
            for i, name in enumerate(node.input):
                readers[name].setdefault(HALF if i in own.inputs else FLOAT, node.name)
        for tensor in self._source.initializer:
            name, kinds = tensor.name, readers[tensor.name]
            if tensor.data_type != FLOAT:
                self._graph.initializer.append(tensor)
                continue
            if FLOAT in kinds or name in self._outputs:
                self._graph.initializer.append(tensor)
                self._versions[name][FLOAT] = name
            if HALF in kinds:
                rounded = _rounded(tensor, reader=kinds[HALF])
                rounded.name = self._fresh(name, HALF) if FLOAT in self._versions[name] else name
                self._graph.initializer.append(rounded)
                self._versions[name][HALF] = rounded.name

    def _write_node(self, node: NodeProto) -> None:
        own = self._ports.get(node.name, COMPUTES_IN_FLOAT)
        cast = NodeProto()
        cast.CopyFrom(node)
        for i, name in enumerate(node.input):
            if self._types.get(name) == FLOAT:
                cast.input[i] = self._as_type(name, HALF if i in own.inputs else FLOAT)
        if own.outputs:
            _set_output_type(cast)
        asked = []
        for i, name in enumerate(node.output):
            if self._types.get(name) != FLOAT:
                continue
            if i in own.outputs and name in self._outputs:
                cast.output[i] = self._fresh(name, HALF)
                asked.append(name)
            self._versions[name] = {HALF if i in own.outputs else FLOAT: cast.output[i]}
        self._graph.node.append(cast)
        for name in asked:
            self._add_cast(name, name, FLOAT)

    def _as_type(self, name: str, wanted: int) -> str:
        """The tensor in the wanted type: as it is, as it was cast before, or by a Cast that is added now."""
        if wanted not in self._versions[name]:
            self._add_cast(name, self._fresh(name, wanted), wanted)
        return self._versions[name][wanted]

    def _add_cast(self, name: str, under: str, wanted: int) -> None:
        (there,) = self._versions[name].values()
        self._graph.node.append(helper.make_node("Cast", [there], [under], name=f"Cast:{under}", to=wanted))
        self._versions[name][wanted] = under

    def _fresh(self, name: str, kind: int) -> str:
        name += SUFFIX[kind]
        while name in self._taken:
            name += "_"
        self._taken.add(name)
        return name


def _rounded(tensor: TensorProto, *, reader: str) -> TensorProto:
    values = numpy_helper.to_array(tensor)
    with np.errstate(over="ignore", under="ignore"):
        rounded = values.astype(np.float16)
    beyond = np.isinf(rounded) & np.isfinite(values)
    if beyond.any():
        raise ModelError(
            f"{reader!r}: its weight {tensor.name!r} reaches {np.abs(values[beyond]).max():.4g}, half ends at 65504; "
            f"keep this node in float32"
        )
    return numpy_helper.from_array(rounded)


def _set_output_type(node: NodeProto) -> None:
    """Cast and ConstantOfShape have their type in an attribute; all others take that of what they read."""
    if node.op_type == "Cast":
        next(attribute for attribute in node.attribute if attribute.name == "to").i = HALF
    elif node.op_type == "ConstantOfShape":
        given = [numpy_helper.to_array(attribute.t) for attribute in node.attribute]
        value = given[0] if given else np.zeros(1)
        del node.attribute[:]
        node.attribute.append(helper.make_attribute("value", numpy_helper.from_array(value.astype(np.float16))))
