"""A predictor answers a batch of tiles on one runtime. The pipeline knows this protocol and nothing behind it."""

from pathlib import Path
from types import TracebackType
from typing import Any, Protocol, Self

import numpy as np
import numpy.typing as npt

from sennet_engine.bundle import Bundle
from sennet_engine.errors import MissingExtraError, ModelError

Tiles = npt.NDArray[np.uint8]


class Predictor(Protocol):
    """A context manager around a loaded model."""

    def predict(self, tiles: Tiles) -> Tiles:
        """uint8 tiles [B, 1, S, S] to uint8 probabilities [B, 1, S, S], 0..255.

        The result belongs to the predictor and is valid until the next call.
        """
        ...

    def __enter__(self) -> Self: ...

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None: ...


class OnnxruntimePredictor:
    """Runs a bundle's ONNX file on the CPU through onnxruntime."""

    def __init__(self, bundle: Bundle, *, threads: int) -> None:
        """Load the bundle's fp32 ONNX file on `threads` threads.

        Raises:
            MissingExtraError: onnxruntime is not installed.
            ModelError: the file changed since its card was written, or is not a model of uint8 tiles.
        """
        try:
            import onnxruntime
        except ImportError as error:
            raise MissingExtraError("onnxruntime is not installed; run: pip install 'sennet[cpu]'") from error
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = threads
        options.inter_op_num_threads = 1
        options.log_severity_level = 3
        name = bundle.onnx_name
        try:
            # From the very bytes that were hashed, so a file exchanged after the check is never run.
            self._session = onnxruntime.InferenceSession(
                bundle.verified_bytes(name), options, providers=["CPUExecutionProvider"]
            )
        except _load_errors() as error:
            raise ModelError(f"{bundle.path / name}: onnxruntime cannot load it: {error}") from error
        self.version: str = onnxruntime.__version__
        self._input, self._output = _uint8_ends(self._session, bundle.path / name)

    def predict(self, tiles: Tiles) -> Tiles:
        probabilities: Tiles = self._session.run([self._output], {self._input: tiles})[0]
        return probabilities

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        del self._session


def _load_errors() -> tuple[type[Exception], ...]:
    """What onnxruntime raises for a file that it cannot run; its errors have no base of their own."""
    from onnxruntime.capi import onnxruntime_pybind11_state as state

    return (state.Fail, state.InvalidArgument, state.InvalidGraph, state.InvalidProtobuf, state.NotImplemented,
            state.RuntimeException)  # fmt: skip


def _uint8_ends(session: Any, path: Path) -> tuple[str, str]:
    ends = [*session.get_inputs(), *session.get_outputs()]
    found = [(end.type, len(end.shape)) for end in ends]
    if found != [("tensor(uint8)", 4)] * 2:
        raise ModelError(
            f"{path}: got inputs and outputs {found}, expected one of each, tensor(uint8) with 4 axes; export it again"
        )
    return ends[0].name, ends[1].name
