"""A predictor answers a batch of tiles on one runtime. The pipeline knows this protocol and nothing behind it."""

from types import TracebackType
from typing import Protocol, Self

import numpy as np
import numpy.typing as npt

Tiles = npt.NDArray[np.uint8]


class Predictor(Protocol):
    """A context manager around a loaded model.

    Attributes:
        runtime: the name and the version of what computes.
        threads: on how many threads one call computes.
        contexts: how many calls may compute at the same time, each with a context of its own.
        watches_overflow: whether its file tells of tiles with NaN or infinity before the sigmoid. They would be
            probabilities like any other.
    """

    runtime: str
    threads: int
    contexts: int
    watches_overflow: bool

    def predict(self, tiles: Tiles, *, context: int = 0) -> Tiles:
        """uint8 tiles [B, 1, H, W] to uint8 probabilities [B, 1, H, W], 0..255.

        The result belongs to the predictor and is valid until the next call with the same context (0 up to
        `contexts`). Calls with different contexts may run in different threads at once.

        Raises:
            OverflowedError: it watches for overflow, and there was some.
            ModelError: it does not take such tiles.
        """
        ...

    def __enter__(self) -> Self: ...

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None: ...
