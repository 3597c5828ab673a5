"""Tiles through onnxruntime on a GPU, by its CUDA or its TensorRT provider.

None of it has run on a GPU before `make gpu-check` has.
"""

import logging
import tempfile
import threading
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import numpy as np

from sennet_engine.bundle import Bundle
from sennet_engine.card import Precision
from sennet_engine.device.cuda import CudaDevice
from sennet_engine.errors import DeviceMemoryError, ModelError
from sennet_engine.gpu.engine_folder import engine_folder
from sennet_engine.gpu.host_calls import HostCalls
from sennet_engine.gpu.onnxruntime_session import PROVIDERS, OnnxruntimeOnGpu, Provider, SessionPlace
from sennet_engine.gpu.predictor import GpuArray
from sennet_engine.gpu.present import census
from sennet_engine.predictor import Tiles

logger = logging.getLogger(__name__)

# Engines of TensorRT 10 follow the types of the file only so far as they are allowed to; those of 11 do in any case.
TENSORRT_TYPES: dict[Precision, dict[str, str]] = {
    "fp32": {},
    "fp16": {"trt_fp16_enable": "1", "trt_layer_norm_fp32_fallback": "1"},
    "int8": {"trt_int8_enable": "1"},
}


@dataclass
class _Lane:
    """What one context computes with: a stream of its own, and the sessions that were made on it by tile shape."""

    stream: Any
    run_options: Any
    sessions: dict[tuple[int, ...], Any] = field(default_factory=dict)


class OnnxruntimeGpuPredictor:
    """Runs a bundle's ONNX file of one precision. See `GpuPredictor` for its methods.

    A session computes on one stream for as long as it lives, and takes seconds to make. So each context has a session
    and a stream of its own, and is tied to the streams of its callers by events: they may change from run to run.

    Where the GPU has no memory for a batch, halves of it are computed instead, from then on; that is logged. Not so by
    TensorRT, whose engine for another batch is another engine: it is built when a shape of tiles first comes, in
    minutes, and one for each of their sides is kept.

    Args:
        cache: for engines that TensorRT builds, a folder that only the user may write to; None: they are built anew
            by each predictor.

    Raises:
        MissingExtraError: onnxruntime-gpu is not installed.
        DeviceError: the provider was not loaded, or failed.
        ModelError: the bundle has no such file, or it is no model of uint8 tiles.
        ConfigError: others may write to `cache`.
    """

    def __init__(
        self,
        bundle: Bundle,
        precision: Precision,
        device: CudaDevice,
        *,
        provider: Provider,
        contexts: int = 2,
        cache: Path | None = None,
    ) -> None:
        name = bundle.onnx_name(precision)
        self._path, self._device, self._provider = bundle.path / name, device, provider
        self._onnxruntime = OnnxruntimeOnGpu(provider)
        self._content = bundle.verified_bytes(name)
        self._types = TENSORRT_TYPES[precision]
        self._facts = {
            "onnx_sha256": bundle.card.files[name].sha256, "precision": precision,
            "onnxruntime": self._onnxruntime.version, "tensorrt": self._onnxruntime.tensorrt_version,
            "gpu": next((gpu.name for gpu in census().gpus if gpu.index == device.index), ""),
        }  # fmt: skip
        self._making = threading.Lock()
        self._most_tiles: int | None = None
        self._dimensions: tuple[str | int, ...] = ()  # of the tiles, where a session is made for them
        self.threads = 1
        self.contexts = contexts
        self.runtime = f"onnxruntime {self._onnxruntime.version} {PROVIDERS[provider]}"
        with ExitStack() as opened:
            # Engines differ from build to build in a grey level, so all contexts take the same ones.
            self._engines = cache
            if provider == "tensorrt" and cache is None:
                self._engines = Path(opened.enter_context(tempfile.TemporaryDirectory(prefix="sennet-engines-")))
            self._lanes = [self._lane(opened) for _ in range(contexts)]
            with self._onnxruntime.heard():
                first = self._session(self._lanes[0], ())
                self._input, self._output, self._overflowed = self._ends(first)
                shape = tuple(first.get_inputs()[0].shape)
                if provider == "tensorrt" and any(isinstance(size, str) for size in shape):
                    self._dimensions = shape
                    self._lanes[0].sessions.clear()  # it has no engine, which is made for a shape
                else:
                    for lane in self._lanes[1:]:
                        self._session(lane, ())
            del first
            self.watches_overflow = self._overflowed is not None
            self._host_calls = HostCalls(device, self.enqueue, contexts=contexts)
            opened.callback(self._host_calls.close)
            self._opened = opened.pop_all()

    def predict(self, tiles: Tiles, *, context: int = 0) -> Tiles:
        return self._host_calls.predict(tiles, context=context)

    def enqueue(self, stream: Any, tiles: GpuArray, answers: GpuArray, overflowed: GpuArray, *, context: int) -> None:
        lane = self._lanes[context]
        with self._device.driver.calls("to compute"):
            lane.stream.wait(stream.record())
        try:
            self._compute(lane, tiles, answers, overflowed)
        finally:
            # Also after an error: what was begun still reads the tiles.
            with self._device.driver.calls("to compute"):
                stream.wait(lane.stream.record())

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._opened.close()

    def _lane(self, opened: ExitStack) -> _Lane:
        with self._device.driver.calls("a stream"):
            stream = self._device.driver.make_current().create_stream()
        opened.callback(stream.close)
        lane = _Lane(stream, self._onnxruntime.run_options())
        opened.callback(lane.sessions.clear)  # before its stream is closed
        return lane

    def _session(self, lane: _Lane, shape: tuple[int, ...]) -> Any:
        """That of `lane` for tiles of `shape`; () where it takes any."""
        with self._making:
            if shape not in lane.sessions:
                for other in [one for one in lane.sessions if one[1:] == shape[1:]]:
                    del lane.sessions[other]  # of another batch
                lane.sessions[shape] = self._onnxruntime.session(self._path, self._content, self._place(lane, shape))
            return lane.sessions[shape]

    def _place(self, lane: _Lane, shape: tuple[int, ...]) -> SessionPlace:
        options: dict[str, str] = {}
        if self._provider == "tensorrt" and self._engines is not None:
            folder = engine_folder(self._engines, self._facts | {"tiles": list(shape)})
            options = {"trt_engine_cache_enable": "1", "trt_engine_cache_path": str(folder), **self._types}
        named = zip(self._dimensions, shape, strict=False)
        return SessionPlace(
            provider=self._provider,
            gpu=self._device.index,
            stream=int(lane.stream.handle),
            tensorrt_options=options,
            dimensions={name: size for name, size in named if isinstance(name, str)},
        )

    def _ends(self, session: Any) -> tuple[str, str, str | None]:
        """The names of the input and the outputs. Raises ModelError unless they are tiles, answers and flags."""
        ends = [*session.get_inputs(), *session.get_outputs()]
        types = [(end.type, len(end.shape)) for end in ends]
        tiles, flags = ("tensor(uint8)", 4), ("tensor(uint8)", 1)
        if types not in ([tiles, tiles], [tiles, tiles, flags]):
            found = ", ".join(f"{end.name} {end.type} {end.shape}" for end in ends)
            raise ModelError(
                f"{self._path}: got {found}, expected one input and one output of uint8 [B, 1, H, W], and perhaps an "
                f"output `overflowed` of uint8 [B]; export the model again"
            )
        return ends[0].name, ends[1].name, ends[2].name if len(ends) > 2 else None

    def _compute(self, lane: _Lane, tiles: GpuArray, answers: GpuArray, overflowed: GpuArray) -> None:
        batch, begin = tiles.shape[0], 0
        while begin < batch:
            count = min(self._most_tiles or batch, batch - begin)
            part = slice(begin, begin + count)
            try:
                self._run(lane, _part(tiles, part), _part(answers, part), _part(overflowed, part))
            except DeviceMemoryError as error:
                if count == 1 or self._provider == "tensorrt":
                    raise
                self._most_tiles = min(self._most_tiles or batch, (count + 1) // 2)
                logger.warning(
                    "%s: has no memory for %d tiles at a time; computing %d at a time (%s)",
                    self._device.name, count, self._most_tiles, error,
                )  # fmt: skip
            else:
                begin += count

    def _run(self, lane: _Lane, tiles: GpuArray, answers: GpuArray, overflowed: GpuArray) -> None:
        session = self._session(lane, tiles.shape if self._dimensions else ())
        bound: list[tuple[str, GpuArray]] = [(self._output, answers)]
        if self._overflowed is not None:
            bound.append((self._overflowed, overflowed))
        try:
            binding = session.io_binding()
            binding.bind_input(
                self._input, device_type="cuda", device_id=self._device.index, element_type=np.uint8,
                shape=tiles.shape, buffer_ptr=tiles.address,
            )  # fmt: skip
            for name, array in bound:
                binding.bind_output(
                    name, device_type="cuda", device_id=self._device.index, element_type=np.uint8,
                    shape=array.shape, buffer_ptr=array.address,
                )  # fmt: skip
            session.run_with_iobinding(binding, lane.run_options)
        except self._onnxruntime.errors as error:
            wanted = f"compute tiles of shape {tiles.shape}"
            raise self._onnxruntime.error(self._path, wanted, error, otherwise=ModelError) from error


def _part(array: GpuArray, tiles: slice) -> GpuArray:
    """Of an array whose first axis is the batch."""
    size = int(np.prod(array.shape[1:]))
    return GpuArray(array.address + tiles.start * size, (tiles.stop - tiles.start, *array.shape[1:]), array.owner)
