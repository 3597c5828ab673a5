"""A predictor whose tiles and answers lie in the memory of a GPU."""

from dataclasses import dataclass
from typing import Any, Literal, Protocol

from sennet_engine.predictor import Predictor

# Whether launches are recorded once and replayed; auto: where handing them over takes longer than computing them.
CudaGraphs = Literal["auto", "on", "off"]


@dataclass(frozen=True)
class GpuArray:
    """uint8 memory of a GPU as an array, row after row.

    Attributes:
        address: of its first byte; a multiple of 256, as TensorRT wants it.
        shape: of the array.
        owner: keeps the memory; it is not freed before this is gone.
    """

    address: int
    shape: tuple[int, ...]
    owner: Any


class GpuPredictor(Predictor, Protocol):
    """Loaded on one GPU. `predict` brings tiles there and answers back by itself, and is for single tiles."""

    def enqueue(self, stream: Any, tiles: GpuArray, answers: GpuArray, overflowed: GpuArray, *, context: int) -> None:
        """Hand a batch to the GPU; it is computed when `stream` comes to it, and none of it before.

        One context is used by one thread and one stream at a time.

        Args:
            stream: a `cuda.core.Stream` of the GPU.
            tiles: uint8 [B, 1, H, W].
            answers: uint8 [B, 1, H, W], 0..255.
            overflowed: uint8 [B]; left alone where the predictor does not watch for overflow, so it was cleared before.

        Raises:
            ModelError: the model does not take such tiles.
            DeviceError: the GPU failed.
        """
        ...
