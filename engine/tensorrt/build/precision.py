"""Proof of precision: the multiply-adds of a network by the precision in which they are computed.

Counted in the network that the parser made, which is strongly typed: its types are those that the builder must keep.
Where a GPU can load the engine, `inspector` reads the types there.
"""

import math
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from sennet_engine.card import Precision
from sennet_engine.errors import ModelError, SennetError

# Below this share of the multiply-adds a file does not bear the name of its precision. First and last layers may stay
# in float when a network is quantised, and in a small one they are much of the work.
LEAST_SHARE: dict[Precision, float] = {"fp32": 0.9, "fp16": 0.9, "int8": 0.5}
NAMED_LAYERS = 5
NAMES = {"FLOAT": "fp32", "HALF": "fp16"}
# Layers whose work cannot be read from the network: silence about them could hide most of the work.
OPAQUE = ("ATTENTION_INPUT", "PLUGIN", "PLUGIN_V2", "PLUGIN_V3", "MOE", "RECURRENCE", "LOOP_OUTPUT", "CONDITION")


@dataclass(frozen=True)
class LayerWork:
    """A layer that multiplies and adds, and the precision of its inputs: fp32, fp16, int8 or another type's name."""

    name: str
    kind: str
    multiply_adds: int
    precision: str


class WrongPrecisionError(SennetError):
    """A network that is not in the precision that its engine was asked for in."""

    exit_code = 1


def work_of_network(trt: Any, network: Any, *, side: int) -> list[LayerWork]:
    """The layers with multiply-adds, for one tile [1, 1, side, side]. The network is left as it was.

    Raises:
        ModelError: the network has layers that cannot be counted, or nothing that multiplies.
    """
    tiles = network.get_input(0)
    given = tuple(tiles.shape)
    layers = [network.get_layer(index) for index in range(network.num_layers)]
    maker_by_tensor = {layer.get_output(i).name: layer for layer in layers for i in range(layer.num_outputs)}
    # A batch that is fixed stays; its multiply-adds are divided by it.
    batch = max(given[0], 1)
    tiles.shape = (batch, given[1], side, side)
    try:
        work = [_layer_work(trt, layer, maker_by_tensor, batch=batch) for layer in layers if layer.type.name in COUNTS]
    finally:
        tiles.shape = given
    if opaque := [f"{layer.name} ({layer.type.name})" for layer in layers if layer.type.name in OPAQUE]:
        raise ModelError(
            f"got layers whose work cannot be counted: {', '.join(opaque[:NAMED_LAYERS])}, expected convolutions and "
            f"matrix products; export the model with plain operators"
        )
    if not sum(layer.multiply_adds for layer in work):
        raise ModelError("got a network without convolutions or matrix products, expected a network that computes")
    return work


def share_by_precision(work: Sequence[LayerWork]) -> dict[str, float]:
    """The share of the multiply-adds, largest first."""
    counted: Counter[str] = Counter()
    for layer in work:
        counted[layer.precision] += layer.multiply_adds
    return {precision: count / counted.total() for precision, count in counted.most_common()}


def refuse_other_precision(work: Sequence[LayerWork], precision: Precision, *, name: str) -> None:
    """Raise WrongPrecisionError where too little of the work is in `precision`, naming the largest other layers."""
    share = share_by_precision(work).get(precision, 0.0)
    if share >= LEAST_SHARE[precision]:
        return
    others = sorted((layer for layer in work if layer.precision != precision), key=lambda layer: -layer.multiply_adds)
    total = sum(layer.multiply_adds for layer in work)
    named = ", ".join(
        f"{layer.name} ({layer.kind}, {layer.precision}, {layer.multiply_adds / total:.1%})"
        for layer in others[:NAMED_LAYERS]
    )
    raise WrongPrecisionError(
        f"{name}: got {share:.1%} of its multiply-adds in {precision}, expected at least {LEAST_SHARE[precision]:.0%} "
        f"in an engine that is asked for in {precision}; the largest others: {named}; give an ONNX file whose graph is "
        f"in {precision}"
    )


def _layer_work(trt: Any, layer: Any, maker_by_tensor: dict[str, Any], *, batch: int) -> LayerWork:
    kind = layer.type.name
    # The binding returns every layer as ILayer; its own attributes appear once it has its own class.
    layer.__class__ = getattr(trt, CLASSES[kind])
    count = COUNTS[kind](trt, layer)
    if count < 0:
        raise ModelError(
            f"{layer.name} ({kind}): its shape is not known for this tile side; export it with fixed shapes"
        )
    return LayerWork(layer.name, kind.lower().replace("_", " "), count // batch, _precision(layer, maker_by_tensor))


def _precision(layer: Any, maker_by_tensor: dict[str, Any]) -> str:
    inputs = [layer.get_input(i) for i in range(layer.num_inputs) if layer.get_input(i) is not None][:2]
    makers = [maker_by_tensor.get(tensor.name) for tensor in inputs]
    if len(makers) == 2 and all(maker is not None and maker.type.name == "DEQUANTIZE" for maker in makers):
        stored = {maker.get_input(0).dtype.name for maker in makers if maker is not None}
        return "int8" if stored == {"INT8"} else "/".join(sorted(stored)).lower()
    dtype = str(inputs[0].dtype.name)
    return NAMES.get(dtype, dtype.lower())


def _convolution(_trt: Any, layer: Any) -> int:
    """Every output takes as many products as its kernel has weights."""
    groups = int(layer.num_groups)
    return _volume(layer.get_output(0).shape) * _channels(layer.get_input(0)) // groups * _kernel(layer)


def _deconvolution(_trt: Any, layer: Any) -> int:
    """Every input is multiplied into as many outputs as its kernel has weights."""
    groups = int(layer.num_groups)
    return _volume(layer.get_input(0).shape) * _channels(layer.get_output(0)) // groups * _kernel(layer)


def _matrix_multiply(trt: Any, layer: Any) -> int:
    shape = layer.get_input(0).shape
    summed = int(shape[-2] if layer.op0 == trt.MatrixOperation.TRANSPOSE else shape[-1])
    return _volume(layer.get_output(0).shape) * summed if summed >= 0 else -1


def _einsum(_trt: Any, layer: Any) -> int:
    """Every combination of labels is one product."""
    terms = layer.equation.replace(" ", "").split("->")[0].split(",")
    size_by_label: dict[str, int] = {}
    for index, term in enumerate(terms):
        for label, size in zip(term, layer.get_input(index).shape, strict=True):
            size_by_label[label] = max(size, size_by_label.get(label, 1)) if size >= 0 else size
    return _volume(size_by_label.values())


def _channels(tensor: Any) -> int:
    return int(tensor.shape[1])


def _kernel(layer: Any) -> int:
    return _volume(layer.kernel_size_nd)


def _volume(sizes: Any) -> int:
    """-1 where a size is not known."""
    sizes = list(sizes)
    return -1 if any(size < 0 for size in sizes) else math.prod(sizes)


COUNTS = {
    "CONVOLUTION": _convolution,
    "DECONVOLUTION": _deconvolution,
    "MATRIX_MULTIPLY": _matrix_multiply,
    "EINSUM": _einsum,
}
CLASSES = {
    "CONVOLUTION": "IConvolutionLayer",
    "DECONVOLUTION": "IDeconvolutionLayer",
    "MATRIX_MULTIPLY": "IMatrixMultiplyLayer",
    "EINSUM": "IEinsumLayer",
}
