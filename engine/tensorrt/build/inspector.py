"""The precision of a built engine's layers, as the engine inspector tells: where a GPU can load the engine.

RTX shows the whole network as one node whose kernels are made when it first runs, so that nothing can be read there.
"""

import json
import re
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from sennet_engine.tensorrt.build.precision import LayerWork

# How the inspector writes the types of tensors: "Half" in 10.x within "Format/Datatype", in 11 alone. Whole words,
# since the tiles themselves are "UInt8", which no kernel computes in.
WORDS = {
    "int8": re.compile(r"\bint8\b", re.IGNORECASE),
    "fp16": re.compile(r"\b(half|fp16)\b", re.IGNORECASE),
    "fp32": re.compile(r"\b(float|fp32)\b", re.IGNORECASE),
}
# Of the multiply-adds, found by name in the engine: below this, the engine does not say enough.
LEAST_FOUND = 0.9


def work_of_engine(trt: Any, logger: Any, engine: bytes, work: Sequence[LayerWork]) -> list[LayerWork] | None:
    """`work` with the precisions of the engine's layers; None where it cannot be loaded or does not say."""
    loaded = trt.Runtime(logger).deserialize_cuda_engine(engine)
    if loaded is None:
        return None
    text = loaded.create_engine_inspector().get_engine_information(trt.LayerInformationFormat.JSON)
    return work_from_information(text, work)


def work_from_information(text: str, work: Sequence[LayerWork]) -> list[LayerWork] | None:
    """`work` with the precisions in the inspector's JSON; None where it names too few of the layers.

    A layer of the engine is a kernel of several layers of the network, which its metadata names. A kernel computes in
    the narrowest type of its inputs.
    """
    kernels = [kernel for kernel in json.loads(text).get("Layers", []) if isinstance(kernel, dict)]
    found = {layer.name: precision for layer in work if (precision := _precision_of(layer.name, kernels)) is not None}
    total = sum(layer.multiply_adds for layer in work)
    if sum(layer.multiply_adds for layer in work if layer.name in found) < LEAST_FOUND * total:
        return None
    return [replace(layer, precision=found.get(layer.name, layer.precision)) for layer in work]


def _precision_of(name: str, kernels: Sequence[dict[str, Any]]) -> str | None:
    types = [
        str(tensor.get("Format/Datatype") or tensor.get("DataType") or "")
        for kernel in kernels
        if f"[ONNX Layer: {name}]" in kernel.get("Metadata", "") or name == kernel.get("Name")
        for tensor in kernel.get("Inputs", [])
        if isinstance(tensor, dict)
    ]
    for precision, word in WORDS.items():
        if any(word.search(written) for written in types):
            return precision
    return None
