"""Tiles through OpenVINO on a CPU."""

from types import TracebackType
from typing import Self

import numpy as np

from sennet_engine.bundle import Bundle
from sennet_engine.card import Precision
from sennet_engine.errors import MissingExtraError, ModelError
from sennet_engine.predictor import Tiles


class OpenvinoPredictor:
    """Runs a bundle's ONNX file of one precision, float parts in float32. See `open_predictor` for what it raises."""

    def __init__(self, bundle: Bundle, precision: Precision, threads: int) -> None:
        try:
            import openvino
        except ImportError as error:
            raise MissingExtraError("openvino is not installed; run: pip install 'sennet[cpu]'") from error
        name = bundle.onnx_name(precision)
        self._path = path = bundle.path / name
        settings = {
            "INFERENCE_NUM_THREADS": threads,
            "NUM_STREAMS": 1,
            # Else it computes in bfloat16 where the processor has it, and the mask depends on the processor.
            "INFERENCE_PRECISION_HINT": "f32",
        }
        core = openvino.Core()
        try:
            model = core.read_model(bundle.verified_bytes(name), b"")
            self._request = core.compile_model(model, "CPU", settings).create_infer_request()
        except RuntimeError as error:
            raise ModelError(f"{path}: openvino cannot load it: {error}; export the model again") from error
        ends = [*model.inputs, *model.outputs]
        if [(end.element_type.to_dtype(), len(end.partial_shape)) for end in ends] != [(np.uint8, 4)] * 2:
            found = ", ".join(f"{end.element_type.get_type_name()} {end.partial_shape}" for end in ends)
            raise ModelError(f"{path}: got {found}, expected one input and one output of uint8 [B, 1, H, W]")
        self.threads = threads
        self.runtime = f"openvino {openvino.__version__}"

    def predict(self, tiles: Tiles) -> Tiles:
        try:
            probabilities: Tiles = self._request.infer({0: tiles})[0]
        except RuntimeError as error:
            raise ModelError(f"{self._path}: cannot compute tiles of shape {tiles.shape}: {error}") from error
        return probabilities

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        del self._request
