"""The runtimes that can compute a model on a CPU, by name."""

import os
from collections.abc import Callable
from importlib.metadata import PackageNotFoundError, version

from sennet_engine.bundle import Bundle
from sennet_engine.card import Precision
from sennet_engine.errors import ConfigError
from sennet_engine.onnxruntime_predictor import OnnxruntimePredictor
from sennet_engine.openvino_predictor import OpenvinoPredictor
from sennet_engine.predictor import Predictor

RUNTIMES: dict[str, Callable[[Bundle, Precision, int, int], Predictor]] = {
    "onnxruntime": OnnxruntimePredictor,
    "openvino": OpenvinoPredictor,
}
# The packages that hold a runtime, any of them.
PACKAGES = {"onnxruntime": ("onnxruntime", "onnxruntime-gpu"), "openvino": ("openvino",)}
DEFAULT_RUNTIME = "onnxruntime"
AUTO = "auto"
PRECISIONS: tuple[Precision, ...] = ("fp32", "fp16", "int8")
DEFAULT_PRECISION: Precision = "fp32"
# A few threads more than processors harm little; thousands stop the machine.
LEAST_LARGEST_THREADS = 8


def open_predictor(
    bundle: Bundle,
    *,
    runtime: str = DEFAULT_RUNTIME,
    precision: str = DEFAULT_PRECISION,
    threads: int | None = None,
    contexts: int = 1,
) -> Predictor:
    """Load the bundle's ONNX file of `precision`.

    Args:
        threads: of one call; by default all processors that this process may use, divided among the contexts.
        contexts: how many calls may compute at the same time.

    Raises:
        ConfigError: no such runtime or precision, no thread or context, or many more threads than processors.
        MissingExtraError: the runtime is not installed.
        ModelError: the bundle has no such file, it changed since its card was written, or it is no model of
            uint8 tiles.
    """
    if runtime not in RUNTIMES:
        raise ConfigError(f"runtime: got {runtime!r}, expected one of {', '.join(RUNTIMES)}")
    usable = usable_processors()
    most = max(usable, LEAST_LARGEST_THREADS)
    if not 1 <= contexts <= most:
        raise ConfigError(f"contexts: got {contexts}, expected 1 to {usable}, the processors that this process may use")
    threads = max(1, usable // contexts) if threads is None else threads
    if not 1 <= threads <= most // contexts:
        for_contexts = f" for {contexts} calls at a time" if contexts > 1 else ""
        raise ConfigError(
            f"threads: got {threads}{for_contexts}, expected 1 to {max(1, usable // contexts)}: this process may use "
            f"{usable} processors"
        )
    return RUNTIMES[runtime](bundle, precision_from_text(precision), threads, contexts)


def checked_threads(threads: int | None) -> int:
    """Threads of a run in all; None: the processors that this process may use. Raises ConfigError out of the range."""
    usable = usable_processors()
    if threads is not None and not 1 <= threads <= max(usable, LEAST_LARGEST_THREADS):
        raise ConfigError(f"threads: got {threads}, expected 1 to {usable}, the processors that this process may use")
    return threads or usable


def installed_runtimes() -> dict[str, str]:
    """The runtimes whose package is installed and its version. Nothing is imported."""
    found = {}
    for runtime, packages in PACKAGES.items():
        for package in packages:
            try:
                found[runtime] = version(package)
            except PackageNotFoundError:
                continue
            break
    return found


def precision_from_text(text: str) -> Precision:
    """`fp32`, `fp16` or `int8`. Raises ConfigError for another."""
    for precision in PRECISIONS:
        if text == precision:
            return precision
    raise ConfigError(f"precision: got {text!r}, expected {AUTO} or one of {', '.join(PRECISIONS)}")


def usable_processors() -> int:
    """Processors that this process may run on, where the system tells (Linux); else all."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
