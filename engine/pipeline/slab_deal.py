"""Deal slabs out to those who do them, until all are done; what one of them leaves undone is dealt out again."""

import threading
from collections import deque
from collections.abc import Iterator, Sequence
from heapq import heappop, heappush

from sennet_engine.planning.passes import Slab


class StoppedError(Exception):
    """Ends the work of one worker, because of what happened elsewhere."""


class SlabDeal:
    """Which slabs wait, and which are in whose hand. Its methods may be called from any thread.

    Attributes:
        error: that ended the run for all.
    """

    def __init__(self, slabs: Sequence[Slab], *, holders: int) -> None:
        self._slabs = slabs
        self._waiting = list(range(len(slabs)))  # a heap of places in `slabs`
        self._in_hand: list[deque[int]] = [deque() for _ in range(holders)]
        self._holders_left = holders
        self._changed = threading.Condition()
        self.error: BaseException | None = None

    def dealt_to(self, holder: int) -> Iterator[Slab | None]:
        """Slabs, the first that wait first, until all are done. After None the holder must have none in hand.

        Raises:
            StoppedError: the run has ended.
        """
        while True:
            while (place := self._next(holder)) is not None:
                yield self._slabs[place]
            yield None
            if not self._more_came():
                return

    def done(self, holder: int) -> None:
        """The slab that `holder` was dealt longest ago is taken over."""
        with self._changed:
            self._in_hand[holder].popleft()
            self._changed.notify_all()

    def lost(self, holder: int, error: BaseException) -> int | None:
        """Deal out again what `holder` has in hand: how many slabs; None where the run has ended, or ends hereby."""
        with self._changed:
            self._holders_left -= 1
            self._changed.notify_all()
            if self.error is None and not self._holders_left:
                self.error = error
            if self.error is not None:
                return None
            given_back = len(self._in_hand[holder])
            while self._in_hand[holder]:
                heappush(self._waiting, self._in_hand[holder].popleft())
            return given_back

    def stop(self, error: BaseException) -> None:
        """Deal out nothing more; the first error is kept."""
        with self._changed:
            if self.error is None:
                self.error = error
            self._changed.notify_all()

    def refuse_if_stopped(self) -> None:
        """Raises StoppedError if the run has ended."""
        if self.error is not None:
            raise StoppedError

    def _next(self, holder: int) -> int | None:
        with self._changed:
            self.refuse_if_stopped()
            if not self._waiting:
                return None
            place = heappop(self._waiting)
            self._in_hand[holder].append(place)
            return place

    def _more_came(self) -> bool:
        """Blocks until slabs wait, or all are done."""
        with self._changed:
            self._changed.wait_for(lambda: self.error is not None or self._waiting or not any(self._in_hand))
            self.refuse_if_stopped()
            return bool(self._waiting)
