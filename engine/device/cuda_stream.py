"""Streams of a GPU: a thread each that hands work over, and that may wait for the host meanwhile."""

from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from time import perf_counter
from typing import Any

from sennet_engine.device.cuda_driver import CudaDriver
from sennet_engine.device.host import HostEvent, HostStream
from sennet_engine.device.meter import Meter
from sennet_engine.device.stream import Event
from sennet_engine.errors import DeviceError

# Handed a `cuda.core.Stream`, puts work into it.
Submission = Callable[[Any], None]


class CudaEvent:
    """A place in a stream of a GPU, of which the GPU knows once the stream's thread has come to it."""

    def __init__(self, driver: CudaDriver, meter: Meter | None = None) -> None:
        self._driver = driver
        self.meter = meter
        self._handed_over = HostEvent()
        self._place: Any = None

    @property
    def done(self) -> bool:
        if not self._handed_over.done or self._place is None:
            return self._handed_over.done
        try:
            with self._driver.calls("to hear how far it is"):
                self._driver.make_current()
                return bool(self._place.is_done)
        except DeviceError:
            return True

    def outcome(self) -> BaseException | None:
        place, error = self.place()
        if place is not None:
            try:
                with self._driver.calls("work to be done"):
                    self._driver.make_current()
                    place.sync()
            except DeviceError as failure:
                return error or failure
        return error

    def synchronize(self) -> None:
        if (error := self.outcome()) is not None:
            raise error

    def place(self) -> tuple[Any, BaseException | None]:
        """Block until it is handed over. The `cuda.core.Event`, and the error that had poisoned the stream by then.

        The first is None where it could not be recorded; all that came before it is over then.
        """
        error = self._handed_over.outcome()
        return self._place, error

    def hand_over(self, place: Any, error: BaseException | None) -> None:
        """The stream's thread has come to it: both as `place` says."""
        self._place = place
        self._handed_over.reach(error)


@dataclass
class _UnderWay:
    """A piece of work on the GPU, with all that it uses, which is not let go before it is done."""

    work: Submission
    began: Any = None
    ended: Any = None


class CudaStream(HostStream):
    """A thread that hands work to a stream of a GPU, in order.

    It waits for events of the host by itself, and lets the GPU wait for events of the GPU.
    """

    def __init__(self, name: str, *, driver: CudaDriver, meter: Meter) -> None:
        self._driver = driver
        with driver.calls(f"the stream {name!r}"):
            options = driver.core.StreamOptions(nonblocking=True)
            self._stream = driver.make_current().create_stream(options=options)
            # Whoever waits sleeps meanwhile: the processors are for other stages.
            self._options = driver.core.EventOptions(blocking_sync=True)
            self._timed = driver.core.EventOptions(blocking_sync=True, timing_enabled=True)
            # The GPU only tells times between two events: this one's is known, and so are those of the others.
            self._known = self._stream.record(options=self._timed)
            self._known.sync()
            self._known_seconds = perf_counter()
        self._under_way: deque[_UnderWay] = deque()
        super().__init__(name, meter=meter)

    def submit(self, work: Submission) -> None:
        """Let `work` put something into the `cuda.core.Stream`, after all that was handed over before."""
        self._pieces.put(lambda: self._guarded(lambda: self._submit(work)))

    def enqueue(self, work: Callable[[], None]) -> None:
        self._pieces.put(lambda: self._guarded(self._synchronise))
        super().enqueue(work)

    def record(self) -> CudaEvent:  # type: ignore[override] # an Event like the other, as `Stream` asks
        event = CudaEvent(self._driver, self._meter)
        self._pieces.put(lambda: event.hand_over(self._place(), self._error))
        return event

    def _run(self) -> None:
        self._guarded(self._driver.make_current)
        super()._run()
        # Also when it is poisoned: buffers are let go when streams are closed, and the GPU may still be at work.
        self._guarded(self._synchronise, though_poisoned=True)
        self._guarded(self._tell_meter)
        self._under_way.clear()
        self._stream.close()

    def _wait(self, event: Event) -> None:
        if isinstance(event, CudaEvent):
            place, error = event.place()
            if place is not None:
                self._guarded(lambda: self._stream.wait(place), though_poisoned=True)
        else:
            # Not metered: the GPU may be busy meanwhile with what was handed to it before.
            error = event.outcome()
        if error is not None:
            self.abandon(error)

    def _submit(self, work: Submission) -> None:
        under_way = _UnderWay(work)
        self._under_way.append(under_way)
        with self._meter.handing_over():
            under_way.began = self._stream.record(options=self._timed)
            work(self._stream)
            under_way.ended = self._stream.record(options=self._timed)
        self._tell_meter()

    def _tell_meter(self) -> None:
        """Of the work that is done by now; and let it go."""
        while self._under_way and (ended := self._under_way[0].ended) is not None and ended.is_done:
            began = self._known_seconds + (self._under_way.popleft().began - self._known) / 1000
            # From event to event, since the times between two of them are only known to seven digits.
            self._known_seconds += (ended - self._known) / 1000
            self._known = ended
            self._meter.add(began, self._known_seconds)

    def _place(self) -> Any:
        """Here; None where all before it is over, or the GPU does nothing any more."""
        places: list[Any] = []
        self._guarded(lambda: places.append(self._stream.record(options=self._options)), though_poisoned=True)
        if not places:
            self._guarded(self._synchronise, though_poisoned=True)
        return places[0] if places else None

    def _synchronise(self) -> None:
        self._stream.record(options=self._options).sync()

    def _guarded(self, calls: Callable[[], object], *, though_poisoned: bool = False) -> None:
        """Poison the stream with what `calls` raises."""
        if self._error is not None and not though_poisoned:
            return
        try:
            with self._driver.calls(f"the stream {self.name!r} to go on"):
                calls()
        except BaseException as error:  # noqa: BLE001 (whatever it is, it belongs to the caller's thread)
            if self._error is None:
                self._error = error
                self.failure = perf_counter(), error
