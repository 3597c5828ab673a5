"""What a cast has to know of a graph: names of nodes, types of tensors, and which ports the standard lets be half."""

from collections.abc import Sequence
from dataclasses import dataclass

import onnx
import onnx.inliner
import onnx.shape_inference
from onnx import NodeProto, TensorProto, helper

from sennet_engine.errors import ModelError

HALF: int = TensorProto.FLOAT16
FLOAT: int = TensorProto.FLOAT
# Operators whose output type is in an attribute; all others that make floats out of other types stay in float.
TYPED_BY_ATTRIBUTE = frozenset({"Cast", "ConstantOfShape"})
# Inputs that stay float though the standard would let them be half: TensorRT reads them as float.
FLOAT_INPUTS = {"Resize": frozenset({1, 2})}
# Shape inference needs the small initializers, which are shapes; the larger ones are hidden, since it copies all.
LARGEST_SHAPE_BYTES = 1024


@dataclass(frozen=True)
class Ports:
    """The positions of a node's inputs and outputs that are float32 and may become half, all of them together."""

    inputs: frozenset[int] = frozenset()
    outputs: frozenset[int] = frozenset()


def prepared(model: onnx.ModelProto) -> onnx.ModelProto:
    """A graph that can be cast: functions inlined, float constants as initializers, every node under a name of its own.

    `model` itself where it is like that already, since a copy may take a gigabyte; else a copy.

    Raises:
        ModelError: a node holds a graph of its own (If, Loop, Scan).
    """
    _refuse_subgraphs(model)
    if _is_prepared(model):
        return model
    ready = onnx.ModelProto()
    ready.CopyFrom(onnx.inliner.inline_local_functions(model) if model.functions else model)
    _refuse_subgraphs(ready)
    graph = ready.graph
    del graph.value_info[:]
    for index in reversed(range(len(graph.node))):
        constant = _float_constant(graph.node[index])
        if constant is not None:
            graph.initializer.append(constant)
            del graph.node[index]
    taken: set[str] = set()
    for node in graph.node:
        if not node.name or node.name in taken:
            node.name = f"{node.name or node.op_type}:{node.output[0]}"
        taken.add(node.name)
    return ready


def _is_prepared(model: onnx.ModelProto) -> bool:
    graph = model.graph
    names = [node.name for node in graph.node]
    constants = [node for node in graph.node if _float_constant(node) is not None]
    return not (model.functions or graph.value_info or constants or "" in names) and len({*names}) == len(names)


def tensor_types(model: onnx.ModelProto) -> dict[str, int]:
    """The element type (TensorProto.DataType) of every tensor of the graph.

    Raises:
        ModelError: a node holds a graph of its own, or an operator's type cannot be inferred (which one is said).
    """
    _refuse_subgraphs(model)
    known = onnx.shape_inference.infer_shapes(without_weights(model)).graph
    types = {value.name: value.type.tensor_type.elem_type for value in (*known.input, *known.value_info, *known.output)}
    types |= {tensor.name: tensor.data_type for tensor in model.graph.initializer}
    for node in model.graph.node:
        for name in node.output:
            if name and not types.get(name):
                raise ModelError(
                    f"{node.op_type} {node.name!r}: the type of its output {name!r} cannot be inferred, so it cannot "
                    f"be cast; expected operators of the ONNX standard, on tensors alone"
                )
    return types


def half_ports(model: onnx.ModelProto, types: dict[str, int]) -> dict[str, Ports]:
    """By node name, the ports that may be half. Nodes that must compute as they do are left out."""
    version = {"" if opset.domain == "ai.onnx" else opset.domain: opset.version for opset in model.opset_import}
    found = {}
    for node in model.graph.node:
        schema = onnx.defs.get_schema(node.op_type, version[node.domain], node.domain)
        kept = FLOAT_INPUTS.get(node.op_type, frozenset())
        inputs = _halvable(node.input, schema.inputs, types) - kept
        outputs = _halvable(node.output, schema.outputs, types)
        if inputs or (outputs and node.op_type in TYPED_BY_ATTRIBUTE):
            found[node.name] = Ports(inputs, outputs)
    return found


def _halvable(
    names: Sequence[str], parameters: Sequence[onnx.defs.OpSchema.FormalParameter], types: dict[str, int]
) -> frozenset[int]:
    return frozenset(
        i
        for i, name in enumerate(names)
        # The last parameter of Concat and its like stands for all further ones.
        if types.get(name) == FLOAT and "tensor(float16)" in parameters[min(i, len(parameters) - 1)].types
    )


def _float_constant(node: NodeProto) -> TensorProto | None:
    if node.op_type != "Constant":
        return None
    kind, value = node.attribute[0].name, helper.get_attribute_value(node.attribute[0])
    constant = TensorProto()
    if kind == "value" and value.data_type == FLOAT:
        constant.CopyFrom(value)
    elif kind == "value_float":
        constant.CopyFrom(helper.make_tensor("", FLOAT, [], [value]))
    elif kind == "value_floats":
        constant.CopyFrom(helper.make_tensor("", FLOAT, [len(value)], value))
    else:
        return None
    constant.name = node.output[0]
    return constant


def without_weights(model: onnx.ModelProto) -> onnx.ModelProto:
    """The graph with its larger initializers as inputs, for shape inference."""
    small, hidden = [], []
    for tensor in model.graph.initializer:
        if tensor.ByteSize() <= LARGEST_SHAPE_BYTES:
            small.append(tensor)
        else:
            hidden.append(helper.make_tensor_value_info(tensor.name, tensor.data_type, tensor.dims))
    inputs = [*model.graph.input, *hidden]
    graph = helper.make_graph(model.graph.node, "types", inputs, model.graph.output, small)
    return helper.make_model(graph, opset_imports=model.opset_import, ir_version=model.ir_version)


def _refuse_subgraphs(model: onnx.ModelProto) -> None:
    graphs = (onnx.AttributeProto.GRAPH, onnx.AttributeProto.GRAPHS)
    for node in model.graph.node:
        if any(attribute.type in graphs for attribute in node.attribute):
            raise ModelError(
                f"{node.op_type} {node.name!r}: holds a graph of its own, expected a graph without branches and loops; "
                f"export the network with the branch resolved"
            )
