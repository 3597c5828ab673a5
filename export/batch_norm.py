"""Fold what is left of batch normalisation into the convolutions beside it."""

import numpy as np
import numpy.typing as npt
import onnx_ir as ir

FloatArray = npt.NDArray[np.float64]


def fold_batch_norms(model: ir.Model) -> None:
    """Fold, in place, each BatchNormalization into the convolution before it, or into those after it.

    The exporter folds most of them, but none whose convolution's shape is asked for too, and none that comes before
    its convolution (MaxViT). Those after it must all be 1×1 without padding: padding comes after the normalisation.
    """
    for node in list(model.graph):
        if node.op_type == "BatchNormalization" and not _fold_into_previous(node):
            _fold_into_next(node)


def _fold_into_previous(norm: ir.Node) -> bool:
    convolved = norm.inputs[0]
    conv = convolved.producer() if convolved is not None else None
    if convolved is None or conv is None or conv.op_type != "Conv" or convolved.is_graph_output():
        return False
    others = [use for use in convolved.uses() if use.node is not norm]
    if any(use.node.op_type != "Shape" for use in others):
        return False
    factor, shift = _factor_and_shift(norm)
    for use in others:  # the shape after the normalisation is the same
        use.node.replace_input_with(use.idx, norm.outputs[0])
    weight = _array(conv.inputs[1])
    _set_constant(conv, 1, weight * factor.reshape(-1, 1, 1, 1))
    _set_constant(conv, 2, _bias(conv, len(weight)) * factor + shift)
    _remove(norm, convolved)
    return True


def _fold_into_next(norm: ir.Node) -> None:
    normed = norm.outputs[0]
    convs = [use.node for use in normed.uses()]
    if not convs or normed.is_graph_output() or not all(_is_pointwise(conv, normed) for conv in convs):
        return
    factor, shift = _factor_and_shift(norm)
    for conv in convs:
        weight = _array(conv.inputs[1])
        _set_constant(conv, 2, _bias(conv, len(weight)) + weight[:, :, 0, 0] @ shift)
        _set_constant(conv, 1, weight * factor.reshape(1, -1, 1, 1))
    assert norm.inputs[0] is not None
    _remove(norm, norm.inputs[0])


def _is_pointwise(node: ir.Node, value: ir.Value) -> bool:
    if node.op_type != "Conv" or node.inputs[0] is not value or _constant(node.inputs[1]) is None:
        return False
    pads = node.attributes.get("pads")
    padded = (pads is not None and any(pads.as_ints())) or node.attributes.get_string("auto_pad", "NOTSET") != "NOTSET"
    return _array(node.inputs[1]).shape[2:] == (1, 1) and node.attributes.get_int("group", 1) == 1 and not padded


def _factor_and_shift(norm: ir.Node) -> tuple[FloatArray, FloatArray]:
    """BatchNormalization is value * factor + shift, per channel."""
    scale, offset, mean, variance = (_array(value) for value in norm.inputs[1:5])
    factor = scale / np.sqrt(variance + norm.attributes.get_float("epsilon", 1e-5))
    return factor, offset - mean * factor


def _bias(conv: ir.Node, channels: int) -> FloatArray:
    return _array(conv.inputs[2]) if len(conv.inputs) > 2 and conv.inputs[2] is not None else np.zeros(channels)


def _constant(value: ir.Value | None) -> ir.TensorProtocol | None:
    return value.const_value if value is not None else None


def _array(value: ir.Value | None) -> FloatArray:
    constant = _constant(value)
    assert constant is not None
    return constant.numpy().astype(np.float64)


def _set_constant(node: ir.Node, index: int, values: FloatArray) -> None:
    """Make float32 `values` input `index` of `node`, under a name that no other node uses."""
    tensor = ir.tensor(values.astype(np.float32), name=f"{node.name}.{('input', 'weight', 'bias')[index]}")
    value = ir.Value(name=tensor.name, const_value=tensor)
    assert node.graph is not None
    node.graph.register_initializer(value)
    node.resize_inputs(max(len(node.inputs), index + 1))
    node.replace_input_with(index, value)


def _remove(norm: ir.Node, replacement: ir.Value) -> None:
    graph = norm.graph
    assert graph is not None
    norm.outputs[0].replace_all_uses_with(replacement, replace_graph_outputs=True)
    graph.remove(norm, safe=True)
