"""Give a resize whose output is a fixed multiple of its input that multiple, in place of a computed size."""

import re

import numpy as np
import onnx_ir as ir

MULTIPLE = re.compile(r"(?:(\d+)\*)?[A-Za-z_]\w*")  # 16*h, or h


def scale_resizes(model: ir.Model) -> None:
    """Replace, in place, the sizes of every Resize by scales where the shapes tell them.

    The exporter computes sizes from the shapes of other tensors. Sides are multiples of the stride, so the scale is the
    same for every side, and the graph needs no arithmetic on shapes.
    """
    for node in model.graph:
        if node.op_type != "Resize" or len(node.inputs) < 4 or node.inputs[3] is None or node.inputs[0] is None:
            continue
        scales = _scales(node.inputs[0].shape, node.outputs[0].shape)
        if scales is None or node.attributes.get_string("keep_aspect_ratio_policy", "stretch") != "stretch":
            continue
        tensor = ir.tensor(np.array([1, 1, *scales], np.float32), name=f"{node.name}.scales")
        value = ir.Value(name=tensor.name, const_value=tensor)
        model.graph.register_initializer(value)
        node.replace_input_with(2, value)
        node.resize_inputs(3)


def _scales(before: ir.Shape | None, after: ir.Shape | None) -> list[float] | None:
    """Along height and width of [B, C, H, W]; None where they depend on the size or are not whole numbers."""
    if before is None or after is None or len(before) != 4 or len(after) != 4 or before[1] != after[1]:
        return None
    pairs = [(_multiple(small), _multiple(large)) for small, large in zip(before[2:], after[2:], strict=True)]
    scales = []
    for small, large in pairs:
        # A side has one free size, whatever its symbol is called; a number is not a multiple of one.
        if small is None or large is None or small[1] != large[1] or large[0] % small[0]:
            return None
        scales.append(large[0] / small[0])
    return scales


def _multiple(side: int | ir.SymbolicDim) -> tuple[int, bool] | None:
    """(the number or the factor of the free size, whether it is a multiple of a free size)."""
    if isinstance(side, int):
        return side, False
    match = MULTIPLE.fullmatch(str(side.value))
    return (int(match[1] or 1), True) if match else None
