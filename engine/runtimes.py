"""The runtimes that can compute a model on a CPU, by name."""

import os
from collections.abc import Callable

from sennet_engine.bundle import Bundle
from sennet_engine.errors import ConfigError
from sennet_engine.onnxruntime_predictor import OnnxruntimePredictor
from sennet_engine.openvino_predictor import OpenvinoPredictor
from sennet_engine.predictor import Predictor

RUNTIMES: dict[str, Callable[[Bundle, int], Predictor]] = {
    "onnxruntime": OnnxruntimePredictor,
    "openvino": OpenvinoPredictor,
}
DEFAULT_RUNTIME = "onnxruntime"


def open_predictor(bundle: Bundle, *, runtime: str = DEFAULT_RUNTIME, threads: int | None = None) -> Predictor:
    """Load the bundle's fp32 ONNX file on `threads` threads (by default all processors that this process may use).

    Raises:
        ConfigError: no such runtime, or no thread.
        MissingExtraError: the runtime is not installed.
        ModelError: the file changed since its card was written, or is not a model of uint8 tiles.
    """
    if runtime not in RUNTIMES:
        raise ConfigError(f"runtime: got {runtime!r}, expected one of {', '.join(RUNTIMES)}")
    threads = usable_processors() if threads is None else threads
    if threads < 1:
        raise ConfigError(f"threads: got {threads}, expected at least 1")
    return RUNTIMES[runtime](bundle, threads)


def usable_processors() -> int:
    """Processors that this process may run on, where the system tells (Linux); else all."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
