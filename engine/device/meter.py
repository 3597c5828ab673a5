"""How long the streams of a stage were busy."""

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from time import perf_counter


class Meter:
    """Adds up the time of one stage over all its streams; may be used from any thread.

    Attributes:
        busy_seconds: the sum over its streams.
        covered_seconds: of the wall clock, in which at least one of its streams was busy.
    """

    def __init__(self) -> None:
        self.busy_seconds = 0.0
        self.covered_seconds = 0.0
        self._lock = threading.Lock()
        self._running = 0
        self._covered_since = 0.0

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
