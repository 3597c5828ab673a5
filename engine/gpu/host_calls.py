"""Calls of a GPU's predictor from the host: tiles there, answers back, and the calling thread waits."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

from sennet_engine.device.cuda import CudaBuffer, CudaDevice
from sennet_engine.device.stream import Bytes
from sennet_engine.errors import OverflowedError
from sennet_engine.predictor import Tiles

# `GpuPredictor.enqueue`.
Enqueue = Callable[..., None]


@dataclass(frozen=True)
class _Buffers:
    """Of one context, and the size of the batch in bytes that fits in."""

    size: int
    most_tiles: int
    tiles: Bytes
    tiles_on_device: CudaBuffer
    answers_on_device: CudaBuffer
    answers: Bytes
    overflowed_on_device: CudaBuffer
    overflowed: Bytes

    def take(self, *, size: int, tiles: int) -> bool:
        """Whether such a batch fits in."""
        return size <= self.size and tiles <= self.most_tiles


class HostCalls:
    """A stream and buffers for each context, as large as was needed so far.

    Args:
        device: whose memory and streams they are.
        enqueue: of a `GpuPredictor` on that device.
        contexts: how many calls may be made at the same time, each with a context of its own.

    Raises:
        DeviceError: the GPU failed.
    """

    def __init__(self, device: CudaDevice, enqueue: Enqueue, *, contexts: int) -> None:
        self._device, self._enqueue = device, enqueue
        self._streams = [device.open_stream() for _ in range(contexts)]
        self._buffers: dict[int, _Buffers] = {}

    def predict(self, tiles: Tiles, *, context: int = 0) -> Tiles:
        """uint8 tiles [B, 1, H, W] to uint8 probabilities [B, 1, H, W]; they are valid until the context's next call.

        Raises:
            OverflowedError: the predictor told of tiles with NaN or infinity.
            ModelError: the model does not take such tiles.
            DeviceMemoryError: they do not fit into the GPU.
            DeviceError: the GPU failed.
        """
        buffers, shape = self._buffers_for(tiles, context), tiles.shape
        batch, answers = (pinned[: tiles.size].reshape(shape) for pinned in (buffers.tiles, buffers.answers))
        overflowed = buffers.overflowed[: shape[0]]
        np.copyto(batch, tiles)
        driver, stream = self._device.driver, self._streams[context]
        with driver.calls(f"answers to {shape[0]} tiles"):
            driver.make_current()
            try:
                self._submit(stream, buffers, batch, answers, overflowed, context=context)
            finally:
                # Also after an error: what was handed over before it uses the buffers.
                stream.record(options=driver.core.EventOptions(blocking_sync=True)).sync()
        if overflowed.any():
            bad = tuple(int(tile) for tile in np.flatnonzero(overflowed))
            raise OverflowedError(
                f"got NaN or infinity for tiles {', '.join(map(str, bad))} of a batch of {shape[0]}, expected finite "
                f"numbers; compute in float32 with --precision fp32",
                tiles=bad,
                answers=answers,
            )
        return answers

    def close(self) -> None:
        """Let the streams and the buffers go; answers that are still held are kept."""
        self._buffers.clear()
        for stream in self._streams:
            stream.close()
        self._streams.clear()

    def _submit(
        self, stream: Any, buffers: _Buffers, batch: Bytes, answers: Bytes, overflowed: Bytes, *, context: int
    ) -> None:
        tiles_on_device = buffers.tiles_on_device.shaped(batch.shape)
        answers_on_device = buffers.answers_on_device.shaped(batch.shape)
        overflowed_on_device = buffers.overflowed_on_device.shaped(overflowed.shape)
        tiles_on_device.copy_from(batch, stream=stream)
        overflowed_on_device.clear(stream=stream)
        arrays = tiles_on_device.gpu_array, answers_on_device.gpu_array, overflowed_on_device.gpu_array
        self._enqueue(stream, *arrays, context=context)
        answers_on_device.copy_to(answers, stream=stream)
        overflowed_on_device.copy_to(overflowed, stream=stream)

    def _buffers_for(self, tiles: Tiles, context: int) -> _Buffers:
        known = self._buffers.get(context)
        if known is not None and known.take(size=tiles.size, tiles=len(tiles)):
            return known
        size = max(tiles.size, known.size if known else 0)
        most = max(len(tiles), known.most_tiles if known else 0)
        del known
        self._buffers.pop(context, None)  # before others are allocated: both might not fit
        device = self._device
        self._buffers[context] = _Buffers(
            size, most,
            device.pinned(size), device.buffer(size), device.buffer(size), device.pinned(size),
            device.buffer(most), device.pinned(most),
        )  # fmt: skip
        return self._buffers[context]
