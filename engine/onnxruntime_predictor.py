"""Tiles through onnxruntime on a CPU."""

from types import TracebackType
from typing import Any, Self

from sennet_engine.bundle import Bundle
from sennet_engine.card import Precision
from sennet_engine.errors import MissingExtraError, ModelError
from sennet_engine.graph_ends import End, refuse_overflowed, watches_overflow
from sennet_engine.predictor import Tiles


class OnnxruntimePredictor:
    """Runs a bundle's ONNX file of one precision. See `open_predictor` for what it raises.

    Answers are the same bits for any number of threads, contexts and tiles in a batch.
    """

    def __init__(self, bundle: Bundle, precision: Precision, threads: int, contexts: int) -> None:
        try:
            import onnxruntime
            from onnxruntime.capi import onnxruntime_pybind11_state as state
        except ImportError as error:
            raise MissingExtraError("onnxruntime is not installed; run: pip install 'sennet[cpu]'") from error
        onnxruntime.disable_telemetry_events()  # a program on people's scans reports to nobody
        # onnxruntime's errors have no base of their own.
        self._errors = (
            state.Fail, state.InvalidArgument, state.InvalidGraph, state.InvalidProtobuf, state.NotImplemented,
            state.RuntimeException,
        )  # fmt: skip
        options = onnxruntime.SessionOptions()
        # One session, so one copy of the weights. Its workers help all calls, and each call brings a thread of its own.
        options.intra_op_num_threads = contexts * (threads - 1) + 1
        options.inter_op_num_threads = 1
        # Workers that wait by spinning take the processors from whoever reads, accumulates and writes.
        options.add_session_config_entry("session.intra_op.allow_spinning", "0")
        # It would keep a block of memory for every shape of tiles.
        options.enable_mem_pattern = False
        options.log_severity_level = 3
        name = bundle.onnx_name(precision)
        self._path = path = bundle.path / name
        try:
            # From the very bytes that were hashed, so a file exchanged after the check is never run.
            self._session = onnxruntime.InferenceSession(
                bundle.verified_bytes(name), options, providers=["CPUExecutionProvider"]
            )
        except self._errors as error:
            raise ModelError(f"{path}: onnxruntime cannot load it: {error}; export the model again") from error
        inputs, outputs = _ends(self._session.get_inputs()), _ends(self._session.get_outputs())
        self.watches_overflow = watches_overflow(path, inputs, outputs)
        self._input, self._outputs = inputs[0].name, [end.name for end in outputs]
        self.threads = threads
        self.contexts = contexts
        self.runtime = f"onnxruntime {onnxruntime.__version__}"

    def predict(self, tiles: Tiles, *, context: int = 0) -> Tiles:
        del context  # a session takes calls from any number of threads, and every answer is an array of its own
        try:
            found = self._session.run(self._outputs, {self._input: tiles})
        except self._errors as error:
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
        del self._session


def _ends(ends: list[Any]) -> list[End]:
    return [
        End(end.name, end.type, end.type == "tensor(uint8)", shape=str(end.shape), rank=len(end.shape)) for end in ends
    ]
