"""An engine that was checked and deserialised on the GPU that will run it."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from sennet_engine.engine_file import EngineFacts
from sennet_engine.tensorrt.log import BuildLog
from sennet_engine.tensorrt.products import Product


@dataclass(frozen=True)
class LoadedEngine:
    """What execution contexts are made from.

    Attributes:
        product: TensorRT or TensorRT for RTX, with its module.
        path: of the engine file.
        runtime: the product's `Runtime`, which the engine needs for as long as it is used.
        engine: the product's `ICudaEngine`.
        reason: for people: why this file, and what was done to get it.
        log: what the product's objects say, those that are made from the engine as well.
    """

    product: Product
    path: Path
    facts: EngineFacts
    runtime: Any
    engine: Any
    reason: str
    log: BuildLog
