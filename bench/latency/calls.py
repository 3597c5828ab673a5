"""Single calls of networks, timed from outside and, on a GPU, from within: copy in, compute, copy out, enqueue."""

import logging
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from itertools import pairwise
from math import prod
from time import perf_counter
from typing import Any

import numpy as np

from sennet_engine.device.cuda import CudaDevice
from sennet_engine.errors import OverflowedError
from sennet_engine.gpu.predictor import GpuPredictor
from sennet_engine.predictor import Predictor, Tiles

COPY_IN, COMPUTE, COPY_OUT, ENQUEUE = "copy in", "compute", "copy out", "enqueue"
# Where the engine says which launches are recorded as CUDA graphs, and which cannot be.
GRAPHS_LOGGER = "sennet_engine.tensorrt.graphs"


def noise(side: int, batch: int) -> Tiles:
    """uint8 [batch, 1, side, side], the same at every call."""
    return np.random.default_rng(0).integers(0, 256, (batch, 1, side, side), dtype=np.uint8)


def call_seconds(predictor: Predictor, tiles: Tiles) -> float:
    """One call, from an array of the host to an array of the host. Raises ModelError where it cannot be computed."""
    began = perf_counter()
    with suppress(OverflowedError):  # only the time counts
        predictor.predict(tiles)
    return perf_counter() - began


class GpuParts:
    """The parts of calls of one predictor: what the engine does in a call, on a stream of its own, between events.

    Args:
        tiles: uint8 [B, 1, H, W], of every call.

    Raises:
        DeviceMemoryError: they do not fit into the GPU.
        DeviceError: the GPU failed.
    """

    def __init__(self, device: CudaDevice, predictor: GpuPredictor, tiles: Tiles) -> None:
        self._driver, self._predictor, self._tiles = device.driver, predictor, tiles
        self._stream = device.open_stream()
        batch, size = tiles.shape[0], prod(tiles.shape)
        self._given, self._answers = (device.pinned(size).reshape(tiles.shape) for _ in range(2))
        self._overflowed = device.pinned(batch)
        self._given_there, self._answers_there = (device.buffer(size).shaped(tiles.shape) for _ in range(2))
        self._overflowed_there = device.buffer(batch)

    def call(self) -> dict[str, float]:
        """Seconds of each part of one call: three by the GPU's clock, and in which the host handed the network over.

        Raises:
            ModelError: the model does not take such tiles.
            DeviceError: the GPU failed.
        """
        np.copyto(self._given, self._tiles)
        stream = self._stream
        with self._driver.calls("a call in parts"):
            self._driver.make_current()
            marks = [self._mark()]
            try:
                self._given_there.copy_from(self._given, stream=stream)
                marks.append(self._mark())
                self._overflowed_there.clear(stream=stream)
                arrays = (self._given_there, self._answers_there, self._overflowed_there)
                began = perf_counter()
                self._predictor.enqueue(stream, *(one.gpu_array for one in arrays), context=0)
                handed_over = perf_counter() - began
                marks.append(self._mark())
                self._answers_there.copy_to(self._answers, stream=stream)
                self._overflowed_there.copy_to(self._overflowed, stream=stream)
            finally:
                marks.append(self._mark())
                marks[-1].sync()
            milliseconds = [after - before for before, after in pairwise(marks)]
        return dict(zip((COPY_IN, COMPUTE, COPY_OUT), (one / 1e3 for one in milliseconds), strict=True)) | {
            ENQUEUE: handed_over
        }

    def close(self) -> None:
        """Let the stream go."""
        self._stream.close()

    def _mark(self) -> Any:
        return self._stream.record(options=self._driver.core.EventOptions(timing_enabled=True, blocking_sync=True))


class _Kept(logging.Handler):
    def __init__(self, lines: list[str]) -> None:
        super().__init__(logging.INFO)
        self._lines = lines

    def emit(self, record: logging.LogRecord) -> None:
        if (line := record.getMessage()) not in self._lines:
            self._lines.append(line)


@contextmanager
def graphs_heard() -> Iterator[list[str]]:
    """What the engine says of CUDA graphs meanwhile, each line once."""
    lines: list[str] = []
    logger, handler = logging.getLogger(GRAPHS_LOGGER), _Kept(lines)
    level = logger.level
    logger.addHandler(handler)
    logger.setLevel(logging.INFO)
    try:
        yield lines
    finally:
        logger.removeHandler(handler)
        logger.setLevel(level)
