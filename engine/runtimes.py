"""The runtimes that can compute a model on a CPU, by name."""

import os
from collections.abc import Callable

from sennet_engine.bundle import Bundle
from sennet_engine.card import Precision
from sennet_engine.errors import ConfigError
from sennet_engine.onnxruntime_predictor import OnnxruntimePredictor
from sennet_engine.openvino_predictor import OpenvinoPredictor
from sennet_engine.predictor import Predictor

RUNTIMES: dict[str, Callable[[Bundle, Precision, int], Predictor]] = {
    "onnxruntime": OnnxruntimePredictor,
    "openvino": OpenvinoPredictor,
}
DEFAULT_RUNTIME = "onnxruntime"
PRECISIONS: tuple[Precision, ...] = ("fp32", "fp16", "int8")
DEFAULT_PRECISION: Precision = "fp32"
# A few threads more than processors harm little; thousands stop the machine.
LEAST_LARGEST_THREADS = 8


def open_predictor(
    bundle: Bundle, *, runtime: str = DEFAULT_RUNTIME, precision: str = DEFAULT_PRECISION, threads: int | None = None
) -> Predictor:
    """Load the bundle's ONNX file of `precision` on `threads` threads (by default all processors that it may use).

    Raises:
        ConfigError: no such runtime or precision, no thread, or many more threads than processors.
        MissingExtraError: the runtime is not installed.
        ModelError: the bundle has no such file, it changed since its card was written, or it is no model of
            uint8 tiles.
    """
    if runtime not in RUNTIMES:
        raise ConfigError(f"runtime: got {runtime!r}, expected one of {', '.join(RUNTIMES)}")
    usable = usable_processors()
    threads = usable if threads is None else threads
    if not 1 <= threads <= max(usable, LEAST_LARGEST_THREADS):
        raise ConfigError(f"threads: got {threads}, expected 1 to {usable}, the processors that this process may use")
    return RUNTIMES[runtime](bundle, precision_from_text(precision), threads)


def precision_from_text(text: str) -> Precision:
    """`fp32`, `fp16` or `int8`. Raises ConfigError for another."""
    for precision in PRECISIONS:
        if text == precision:
            return precision
    raise ConfigError(f"precision: got {text!r}, expected one of {', '.join(PRECISIONS)}")


def usable_processors() -> int:
    """Processors that this process may run on, where the system tells (Linux); else all."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
