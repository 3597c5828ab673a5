"""Load the engine of a bundle on a GPU: found or built, checked, and deserialised from the bytes that were checked.

An engine file is code for the GPU. It is deserialised only where the bundle's card, or the user's own folder, vouches
for its sha256, and where the product, its version, the GPU and the ONNX file are those that it was built for.
"""

import logging
from pathlib import Path
from typing import Any

from sennet_engine.bundle import Bundle
from sennet_engine.card import Precision
from sennet_engine.errors import DeviceError, DeviceMemoryError, ModelError, SennetError
from sennet_engine.gpu.present import Gpu
from sennet_engine.tensorrt.candidates import EngineFile, engines_of_bundle, wanted_engine
from sennet_engine.tensorrt.folders import OnStep
from sennet_engine.tensorrt.loaded import LoadedEngine
from sennet_engine.tensorrt.log import BuildLog
from sennet_engine.tensorrt.products import Product
from sennet_engine.tensorrt.rebuilding import built_engine

logger = logging.getLogger(__name__)

# Of EngineInvalidityDiagnostics: what is wrong with this machine and not with the engine.
OF_THE_MACHINE = ("OLD_CUDA_DRIVER", "OLD_CUDA_RUNTIME", "CUDA_ERROR")
OF_ITS_MEMORY = "INSUFFICIENT_GPU_MEMORY"


def load_engine(
    bundle: Bundle, precision: Precision, product: Product, gpu: Gpu, *, on_step: OnStep, cache: Path | None
) -> LoadedEngine:
    """The engine of `bundle` in `precision`, on `gpu`, which is the current device of this thread.

    Where none of the bundle's engines fits, one is built for this GPU and kept in the bundle, or in `cache`.

    Args:
        on_step: told what takes long, and why it is done.
        cache: the user's folder for engines of bundles that cannot be written to; None keeps none.

    Raises:
        ModelError: the bundle has no ONNX file to build from; an engine or the ONNX file is not that of the card; no
            engine can be built; or the product refuses the engine, with all that it said.
        WrongPrecisionError: what was built is not in this precision.
        DeviceError: the product does not support this GPU, or its driver.
        DeviceMemoryError: the engine does not fit into the GPU's memory.
        ConfigError: the ONNX file takes other tiles or batches than those that are built for.
        MissingExtraError: the product is needed for a build and is not installed.
        OutputError: a built engine can be kept nowhere.
    """
    wanted = wanted_engine(bundle, precision, product, gpu)
    candidates = engines_of_bundle(bundle, wanted)
    found = candidates.fitting or built_engine(bundle, wanted, candidates, on_step=on_step, cache=cache)
    log = BuildLog(product.module)
    runtime = _runtime(product, gpu, log)
    engine = _deserialised(product, runtime, found, gpu, log)
    for warning in log.warnings:
        logger.warning("%s: %s", found.path.name, warning)
    return LoadedEngine(
        product=product,
        path=found.path,
        facts=found.facts,
        runtime=runtime,
        engine=engine,
        reason=found.reason,
        log=log,
    )


def _runtime(product: Product, gpu: Gpu, log: BuildLog) -> Any:
    try:
        return product.module.Runtime(log.logger)
    except TypeError as error:  # what a binding makes of a null pointer
        raise DeviceError(_refused(product, gpu, "makes no runtime", log)) from error


def _deserialised(product: Product, runtime: Any, file: EngineFile, gpu: Gpu, log: BuildLog) -> Any:
    _refuse_invalid(product, runtime, file, gpu, log)
    engine = runtime.deserialize_cuda_engine(file.content)
    if engine is None:
        kind = DeviceMemoryError if any("out of memory" in said.lower() for said in log.errors) else ModelError
        raise kind(_refused(product, gpu, f"cannot load {file.path}", log))
    return engine


def _refuse_invalid(product: Product, runtime: Any, file: EngineFile, gpu: Gpu, log: BuildLog) -> None:
    """Ask about the engine's head before any of it is used: it tells more than a failed load does. RTX alone can."""
    ask = getattr(runtime, "get_engine_validity", None)
    if ask is None:
        return
    trt = product.module
    validity, diagnostics = ask(file.content)
    if validity == trt.EngineValidity.SUBOPTIMAL:
        logger.warning("%s: %s runs it below its speed on %s", file.path.name, product.kind.title, gpu.name)
    if validity != trt.EngineValidity.INVALID:
        return
    flags = trt.EngineInvalidityDiagnostics.__members__.items()
    named = [name for name, flag in flags if diagnostics & int(flag.value)]
    kind: type[SennetError] = ModelError
    if any(name in OF_THE_MACHINE for name in named):
        kind = DeviceError
    if OF_ITS_MEMORY in named:
        kind = DeviceMemoryError
    said = ", ".join(name.lower().replace("_", " ") for name in named) or "not valid here"
    raise kind(_refused(product, gpu, f"refuses {file.path} ({said})", log))


def _refused(product: Product, gpu: Gpu, what: str, log: BuildLog) -> str:
    said = log.errors or ["it gave no reason"]
    return "\n  ".join(
        [
            f"{product.kind.title} {product.version} {what} on {gpu.name}; update the driver, or take another runtime. "
            f"It said:",
            *said,
        ]
    )
