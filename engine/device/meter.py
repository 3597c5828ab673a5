"""How long the streams of a stage were busy, and how long they stood still for those of other stages."""

import threading
from bisect import bisect_left
from collections.abc import Iterator
from contextlib import contextmanager
from time import perf_counter

# Measured intervals that are kept apart, so that those which are told late find what they overlap.
INTERVALS_KEPT = 64


class Meter:
    """Adds up the time of one stage over all its streams; may be used from any thread.

    A stage is metered either by `running` or, where others do its work and tell of it later, by `add`.

    Attributes:
        busy_seconds: the sum over its streams.
        covered_seconds: of the wall clock, in which at least one of its streams was busy.
        handing_over_seconds: in which the host handed work to a GPU; the sum over its streams.
        streams: that were opened.
        waited_seconds: in which its streams stood still until an event of another stage, by the meter of that stage;
            the sums over its streams. Streams of a GPU do not tell.
    """

    def __init__(self) -> None:
        self.busy_seconds = 0.0
        self.covered_seconds = 0.0
        self.handing_over_seconds = 0.0
        self.streams = 0
        self.waited_seconds: dict[Meter, float] = {}
        self._lock = threading.Lock()
        self._running = 0
        self._covered_since = 0.0
        self._intervals: list[tuple[float, float]] = []  # measured, apart from one another, ascending
        self._settled_until = float("-inf")

    def stream_opened(self) -> None:
        """Count a stream."""
        with self._lock:
            self.streams += 1

    @contextmanager
    def running(self) -> Iterator[None]:
        """Around a piece of work."""
        began = perf_counter()
        with self._lock:
            if not self._running:
                self._covered_since = began
            self._running += 1
        try:
            yield
        finally:
            ended = perf_counter()
            with self._lock:
                self.busy_seconds += ended - began
                self._running -= 1
                if not self._running:
                    self.covered_seconds += ended - self._covered_since

    @contextmanager
    def handing_over(self) -> Iterator[None]:
        """Around the handing over of a piece of work that a GPU does later."""
        began = perf_counter()
        try:
            yield
        finally:
            with self._lock:
                self.handing_over_seconds += perf_counter() - began

    @contextmanager
    def waiting_for(self, other: "Meter | None") -> Iterator[None]:
        """Around standing still until an event of the stage of `other`; of an event of no stage nothing is kept."""
        began = perf_counter()
        try:
            yield
        finally:
            if other is not None:
                with self._lock:
                    waited = perf_counter() - began
                    self.waited_seconds[other] = self.waited_seconds.get(other, 0.0) + waited

    def add(self, began: float, ended: float) -> None:
        """A piece of work that was done between two moments, in seconds of any one clock; in any order."""
        with self._lock:
            self.busy_seconds += ended - began
            began = max(began, self._settled_until)
            if began < ended:
                self._cover(began, ended)

    def _cover(self, began: float, ended: float) -> None:
        first = bisect_left(self._intervals, began, key=lambda interval: interval[1])
        last = first
        while last < len(self._intervals) and self._intervals[last][0] <= ended:
            last += 1
        overlapped = self._intervals[first:last]
        if overlapped:
            began, ended = min(began, overlapped[0][0]), max(ended, overlapped[-1][1])
        self._intervals[first:last] = [(began, ended)]
        self.covered_seconds += (ended - began) - sum(stop - start for start, stop in overlapped)
        if len(self._intervals) > INTERVALS_KEPT:
            self._settled_until = self._intervals.pop(0)[1]
