"""Tiles through OpenVINO on a CPU."""

import sys
from functools import cache
from importlib.metadata import version
from types import TracebackType
from typing import Any, Self

import numpy as np

from sennet_engine.bundle import Bundle
from sennet_engine.card import Precision
from sennet_engine.errors import MissingExtraError, ModelError
from sennet_engine.graph_ends import End, refuse_overflowed, watches_overflow
from sennet_engine.predictor import Tiles


@cache
def openvino_core() -> Any:
    """The one `openvino.Core` of this process.

    Its CPU plugin gives the thread a stack for signal handlers, and takes it away at its end. With a second one that
    ends after the first, the thread is left with the first one's, which is gone by then: the next signal that Python
    handles, Ctrl-C for instance, is a segmentation fault.

    Raises:
        MissingExtraError: openvino is not installed.
    """
    try:
        # Importing it reports to its makers, unless its optional package for that is not there.
        sys.modules.setdefault("openvino_telemetry", None)  # type: ignore[arg-type]
        import openvino
    except ImportError as error:
        raise MissingExtraError("openvino is not installed; run: pip install 'sennet[cpu]'") from error
    return openvino.Core()


class OpenvinoPredictor:
    """Runs a bundle's ONNX file of one precision, float parts in float32. See `open_predictor` for what it raises."""

    def __init__(self, bundle: Bundle, precision: Precision, threads: int, contexts: int) -> None:
        core = openvino_core()
        name = bundle.onnx_name(precision)
        self._path = path = bundle.path / name
        settings = {
            # Of all streams together, each of which computes one request at a time.
            "INFERENCE_NUM_THREADS": threads * contexts,
            "NUM_STREAMS": contexts,
            # Threads pinned to processors would wait where another program, or a thread of our own, has theirs.
            "ENABLE_CPU_PINNING": False,
            # What is compiled for a shape of tiles is kept for some eight shapes, not for all: 2 MB each and more.
            "CPU_RUNTIME_CACHE_CAPACITY": 500,
            # Else it computes in bfloat16 where the processor has it, and the mask depends on the processor.
            "INFERENCE_PRECISION_HINT": "f32",
        }
        try:
            model = core.read_model(bundle.verified_bytes(name), b"")
            compiled = core.compile_model(model, "CPU", settings)
            self._requests = [compiled.create_infer_request() for _ in range(contexts)]
        except RuntimeError as error:
            raise ModelError(f"{path}: openvino cannot load it: {error}; export the model again") from error
        self.watches_overflow = watches_overflow(path, _ends(model.inputs), _ends(model.outputs))
        self.threads = threads
        self.contexts = contexts
        self.runtime = f"openvino {version('openvino')}"

    def predict(self, tiles: Tiles, *, context: int = 0) -> Tiles:
        try:
            # The tiles are read, and the answer is left, where they lie: the next call of the context overwrites it.
            found = self._requests[context].infer({0: tiles}, share_inputs=True, share_outputs=True)
        except RuntimeError as error:
            raise ModelError(f"{self._path}: cannot compute tiles of shape {tiles.shape}: {error}") from error
        answers: Tiles = found[0]
        if self.watches_overflow:
            refuse_overflowed(self._path, answers, found[1])
        return answers

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        del self._requests


def _ends(ends: list[Any]) -> list[End]:
    return [
        End(
            end.any_name, end.element_type.get_type_name(), end.element_type.to_dtype() == np.uint8,
            shape=str(end.partial_shape), rank=len(end.partial_shape),
        )
        for end in ends
    ]  # fmt: skip
