"""The files of a bundle: their names, and what the card says of each."""

import hashlib
from collections.abc import Mapping
from importlib.metadata import version
from pathlib import Path
from typing import Any

import onnxruntime

import sennet_engine
from sennet_engine.bundle import CARD_NAME
from sennet_engine.card import Kind, ModelFile, Precision
from sennet_engine.storage.output_folder import FolderKind

WEIGHTS_NAME, GOLDEN_NAME = "weights.safetensors", "golden.npz"
ONNX_NAMES: Mapping[Precision, str] = {"fp32": "model.onnx", "fp16": "model.fp16.onnx", "int8": "model.int8.onnx"}
# TensorRT takes integers otherwise than the runtimes of a CPU do.
ENGINE_INT8_NAME = "model.int8.engine.onnx"
ENGINES = ("*.engine", "*.engine.json")
BUNDLE = FolderKind(
    marker=CARD_NAME, others=(WEIGHTS_NAME, GOLDEN_NAME, *ONNX_NAMES.values(), ENGINE_INT8_NAME, *ENGINES)
)


def model_file(path: Path, *, kind: Kind, precision: Precision = "fp32", **facts: Any) -> ModelFile:
    """The card's entry of the file at `path`; `facts` are further fields of ModelFile."""
    with path.open("rb") as file:
        sha256 = hashlib.file_digest(file, "sha256").hexdigest()
    return ModelFile(sha256=sha256, bytes=path.stat().st_size, kind=kind, precision=precision, **facts)


def versions_at_export() -> dict[str, str]:
    """What made the files, besides what the card has from the training."""
    return {
        "sennet": sennet_engine.__version__,
        "onnx": version("onnx"),
        "onnxruntime at export": onnxruntime.__version__,
    }
