"""Streams on the host: a thread for each of them. Copies are real, as on a device with memory of its own."""

import threading
from collections.abc import Callable
from dataclasses import dataclass
from queue import SimpleQueue
from time import perf_counter
from typing import Self

import numpy as np

from sennet_engine.device.meter import Meter
from sennet_engine.device.stream import Bytes, Event, Stream
from sennet_engine.errors import ModelError, OverflowedError
from sennet_engine.predictor import Predictor


class HostEvent:
    """A place in a host stream."""

    def __init__(self, meter: Meter | None = None) -> None:
        self.meter = meter
        self._reached = threading.Event()
        self._error: BaseException | None = None

    @property
    def done(self) -> bool:
        return self._reached.is_set()

    def outcome(self) -> BaseException | None:
        self._reached.wait()
        return self._error

    def synchronize(self) -> None:
        if (error := self.outcome()) is not None:
            raise error

    def reach(self, error: BaseException | None) -> None:
        """Let those who wait go on, with the error of the stream where there is one."""
        self._error = error
        self._reached.set()


class HostStream:
    """A thread that does what it is handed, in order, and sleeps while there is nothing."""

    def __init__(self, name: str, *, meter: Meter) -> None:
        self.name = name
        self.failure: tuple[float, BaseException] | None = None
        self._meter = meter
        meter.stream_opened()
        self._error: BaseException | None = None
        self._pieces: SimpleQueue[Callable[[], None] | None] = SimpleQueue()
        self._thread = threading.Thread(target=self._run, name=f"sennet {name}")
        self._thread.start()

    def enqueue(self, work: Callable[[], None]) -> None:
        self._pieces.put(lambda: self._do(work))

    def wait(self, event: Event) -> None:
        self._pieces.put(lambda: self._wait(event))

    def record(self) -> HostEvent:
        event = HostEvent(self._meter)
        self._pieces.put(lambda: event.reach(self._error))
        return event

    def abandon(self, error: BaseException) -> None:
        if self._error is None:
            self._error = error

    def end(self) -> None:
        self._pieces.put(None)

    def close(self) -> None:
        self.end()
        self._thread.join()

    def _run(self) -> None:
        while (piece := self._pieces.get()) is not None:
            piece()
            del piece  # so that buffers of finished work are not held while there is nothing to do

    def _do(self, work: Callable[[], None]) -> None:
        if self._error is not None:
            return
        try:
            with self._meter.running():
                work()
        except BaseException as error:  # noqa: BLE001 (whatever it is, it belongs to the caller's thread)
            self._error = error
            self.failure = perf_counter(), error

    def _wait(self, event: Event) -> None:
        # Also in a poisoned stream: an event of its own tells others that all before it is over.
        with self._meter.waiting_for(event.meter):
            error = event.outcome()
        if error is not None:
            self.abandon(error)


@dataclass(frozen=True)
class HostBuffer:
    """Memory that plays the part of the device's."""

    array: Bytes

    def shaped(self, shape: tuple[int, ...]) -> Self:
        return type(self)(self.array[: int(np.prod(shape))].reshape(shape))


class HostDevice:
    """The machine's own processors and memory. See `Device` for its methods."""

    def host_stream(self, name: str, *, meter: Meter) -> Stream:
        return HostStream(name, meter=meter)

    def device_stream(self, name: str, *, meter: Meter) -> Stream:
        return HostStream(name, meter=meter)

    def pinned(self, size: int) -> Bytes:
        return np.zeros(size, np.uint8)

    def buffer(self, size: int) -> HostBuffer:
        return HostBuffer(np.zeros(size, np.uint8))

    def copy_in(self, stream: Stream, source: Bytes, target: HostBuffer) -> None:
        stream.enqueue(lambda: np.copyto(target.array, source))

    def compute(
        self,
        stream: Stream,
        predictor: Predictor,
        source: HostBuffer,
        target: HostBuffer,
        overflowed: HostBuffer,
        *,
        context: int,
    ) -> None:
        def work() -> None:
            overflowed.array.fill(0)
            try:
                answers = predictor.predict(source.array, context=context)
            except OverflowedError as error:
                overflowed.array[list(error.tiles)] = 1
                answers = error.answers
            if answers.shape != target.array.shape:
                raise ModelError(
                    f"{predictor.runtime}: got answers of shape {answers.shape} to tiles of shape "
                    f"{source.array.shape}, expected the same shape; export the model again"
                )
            # The answers are the predictor's own, and only until its next call.
            np.copyto(target.array, answers)

        stream.enqueue(work)

    def copy_out(self, stream: Stream, source: HostBuffer, target: Bytes) -> None:
        stream.enqueue(lambda: np.copyto(target, source.array))
