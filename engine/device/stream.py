"""Streams, events and buffers: what the pipeline knows of the machine that it runs on.

A stream does pieces of work one after another, in the order in which they were handed to it. Different streams run at
the same time, and nothing orders their work but events: `record` marks a place in one stream, `wait` makes another
one stay where it is until that place is reached.

An error in a piece of work poisons its stream: what comes later in it is not done, and neither is what comes after a
`wait` for one of its events in another stream. Places are still reached, with the error, so nothing waits for ever.
"""

from collections.abc import Callable
from typing import Any, Protocol, Self

import numpy as np
import numpy.typing as npt

from sennet_engine.device.meter import Meter

Bytes = npt.NDArray[np.uint8]


class Event(Protocol):
    """A place in a stream.

    Attributes:
        meter: of the stream, so that who waits for it can tell for which stage; None where nobody is to know.
    """

    meter: Meter | None

    @property
    def done(self) -> bool:
        """Whether the stream has come past it, be it with an error."""
        ...

    def outcome(self) -> BaseException | None:
        """Block the calling thread until the stream has come past it; the error that poisoned the stream, if any."""
        ...

    def synchronize(self) -> None:
        """Block the calling thread until the stream has come past it. Raises the error that poisoned the stream."""
        ...


class Stream(Protocol):
    """Work that is done in order. Its methods return at once, except for `close`."""

    name: str

    @property
    def failure(self) -> tuple[float, BaseException] | None:
        """The error that a piece of its own work raised, and when (`perf_counter`); none that came by an event."""
        ...

    def enqueue(self, work: Callable[[], None]) -> None:
        """Do `work` on the host, after all that was handed over before."""
        ...

    def wait(self, event: Event) -> None:
        """Let nothing that is handed over later start before `event`, of whichever stream, has come to pass."""
        ...

    def record(self) -> Event:
        """The place after all that was handed over before."""
        ...

    def abandon(self, error: BaseException) -> None:
        """Poison the stream with `error` from outside: what it has not begun is not done."""
        ...

    def end(self) -> None:
        """No more work comes: the stream ends by itself after what was handed over."""
        ...

    def close(self) -> None:
        """`end`, and block until it has."""
        ...


class Buffer(Protocol):
    """Memory of the device, which the host may not touch but by copies."""

    def shaped(self, shape: tuple[int, ...]) -> Self:
        """Its first bytes as an array of `shape`."""
        ...


class Device(Protocol):
    """Makes streams and buffers, and knows how to copy and to compute on its streams."""

    def host_stream(self, name: str, *, meter: Meter) -> Stream:
        """A stream for work on the host. `meter` is told when it is busy, and when it waits for which other."""
        ...

    def device_stream(self, name: str, *, meter: Meter) -> Stream:
        """A stream for `copy_in`, `compute` and `copy_out`. `meter` is told when it is busy."""
        ...

    def pinned(self, size: int) -> Bytes:
        """`size` bytes of host memory from and to which the device copies fast."""
        ...

    def buffer(self, size: int) -> Buffer:
        """`size` bytes of the device's memory."""
        ...

    def copy_in(self, stream: Stream, source: Bytes, target: Any) -> None:
        """Copy pinned memory to a buffer of the same shape, when `stream` comes to it."""
        ...

    def compute(
        self, stream: Stream, predictor: Any, source: Any, target: Any, overflowed: Any, *, context: int
    ) -> None:
        """Put what `predictor` answers to the tiles in the buffer `source` into `target`, when `stream` comes to it.

        Both are [batch, 1, rows, columns]; `overflowed`, a buffer of [batch], becomes 0 for every tile that was
        answered in finite numbers, and something else for those that were not. On failure the stream is poisoned with
        the predictor's error, or with ModelError where the answer has another shape.

        Args:
            predictor: a Predictor of this kind of device: of the host, or of the GPU whose streams these are.
        """
        ...

    def copy_out(self, stream: Stream, source: Any, target: Bytes) -> None:
        """Copy a buffer to pinned memory of the same shape, when `stream` comes to it."""
        ...
