"""The streams of one run, opened and closed together."""

from types import TracebackType
from typing import Self

from sennet_engine.device.meter import Meter
from sennet_engine.device.stream import Device, Stream


class Streams:
    """A context manager that opens streams by name and closes all of them at its end.

    Where its block ends with an error, no stream begins another piece of work, and the error that leaves the block is
    the first that any stream met; errors that no stream raised (Ctrl-C, say) leave it as they are.
    """

    def __init__(self, device: Device) -> None:
        self._device = device
        self._streams: list[Stream] = []
        self.meters: dict[str, Meter] = {}

    def on_host(self, stage: str) -> Stream:
        """A stream for work on the host, metered as `stage`."""
        return self._opened(self._device.host_stream(stage, meter=self._meter(stage)))

    def on_device(self, stage: str, *, number: int | None = None) -> Stream:
        """A stream for the device's work; those of the same stage and different `number` share a meter."""
        name = stage if number is None else f"{stage} {number}"
        return self._opened(self._device.device_stream(name, meter=self._meter(stage)))

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if error is not None:
            for stream in self._streams:
                stream.abandon(error)
        for stream in self._streams:
            stream.end()  # before any is waited for: a second Ctrl-C leaves none behind that would never end
        for stream in self._streams:
            stream.close()
        failures = [stream.failure for stream in self._streams if stream.failure]
        if not failures:
            return
        first = min(failures, key=lambda failure: failure[0])[1]
        if error is None or (error is not first and any(error is failed for _, failed in failures)):
            raise first

    def _meter(self, stage: str) -> Meter:
        return self.meters.setdefault(stage, Meter())

    def _opened(self, stream: Stream) -> Stream:
        self._streams.append(stream)
        return stream
