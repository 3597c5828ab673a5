"""Whether other programs used the processors while something was measured."""

import os
from contextlib import suppress
from pathlib import Path
from time import perf_counter

# Of all processors: that much belongs to the system and to whoever watches.
BUSY_SHARE = 0.15
TIMES = Path("/proc/stat")


class OtherPrograms:
    """Watches from when it is made on, where the system tells (Linux, /proc/stat); elsewhere nobody is ever busy."""

    def __init__(self) -> None:
        self._began, self._others = perf_counter(), _others_seconds()

    def were_busy(self) -> bool:
        """Whether others used more than 15 % of the processors' time since."""
        if self._others is None or (now := _others_seconds()) is None:
            return False
        available = (perf_counter() - self._began) * (os.cpu_count() or 1)
        return now - self._others > BUSY_SHARE * available


def _others_seconds() -> float | None:
    """Processor seconds of all programs but this one, since the system's start."""
    with suppress(OSError, ValueError, IndexError):
        user, nice, system = TIMES.read_text(encoding="ascii").split(maxsplit=4)[1:4]
        own = os.times()
        return (int(user) + int(nice) + int(system)) / os.sysconf("SC_CLK_TCK") - own.user - own.system
    return None
