"""Where the pipeline gets its planes from."""

from typing import Protocol

import numpy as np
import numpy.typing as npt

from sennet_engine.volumes.volume import Planes, Volume
from sennet_engine.window import Window


class PlaneSource(Protocol):
    """The planes of a volume along one axis. Both methods are called from threads of their own, at the same time."""

    def read(self, start: int, stop: int) -> Planes:
        """Planes `start` to `stop` (exclusive) as they are stored: [stop - start, rows, columns]."""
        ...

    def windowed(self, planes: Planes) -> npt.NDArray[np.uint8]:
        """What `read` gave, as grey levels 0..255 of the same shape."""
        ...


class VolumePlanes:
    """The planes of a volume along z, through a window. See `PlaneSource`."""

    def __init__(self, volume: Volume, window: Window) -> None:
        self._volume = volume
        self._window = window

    def read(self, start: int, stop: int) -> Planes:
        """Raises VolumeError where a plane cannot be read."""
        return self._volume.read_planes(start, stop)

    def windowed(self, planes: Planes) -> npt.NDArray[np.uint8]:
        return self._window.to_uint8(planes)
