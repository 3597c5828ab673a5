"""The window of a volume: the grey levels that become 0 and 255, taken from the whole volume and not from a tile."""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from sennet_engine.errors import ConfigError
from sennet_engine.volumes.volume import Planes, Volume

# The seed clips the top and bottom 0.1 % of the volume (FACTS of its released code).
CLIP_SHARE = 0.001
SURVEYED_PLANES = 64


@dataclass(frozen=True)
class Window:
    """Grey levels `low` and below become 0, `high` and above become 255, linear between."""

    low: float
    high: float

    def __post_init__(self) -> None:
        if not self.low <= self.high:
            raise ConfigError(f"window: got low {self.low} above high {self.high}; expected low <= high")

    def to_uint8(self, planes: Planes) -> npt.NDArray[np.uint8]:
        """Grey levels as uint8, rounded half up; any shape, uint8, uint16 or float32 in.

        A window of no width (a constant volume) gives 0 up to `high` and 255 above it.
        """
        if planes.dtype.kind == "f":
            return _scaled(planes, self)
        levels = np.arange(np.iinfo(planes.dtype).max + 1, dtype=np.float32)
        return np.take(_scaled(levels, self), planes)


def surveyed_window(volume: Volume) -> Window:
    """The window of `volume` from at most 64 planes spread evenly over it: the 0.1 % and 99.9 % grey levels.

    Exact for the planes that were read. Raises VolumeError where a plane cannot be read.
    """
    depth = volume.shape_zyx[0]
    chosen = np.unique(np.linspace(0, depth - 1, min(depth, SURVEYED_PLANES)).round().astype(int))
    if volume.dtype.kind == "f":
        sample = np.concatenate([_thinned(volume.read_planes(z, z + 1)) for z in chosen])
        low, high = np.quantile(sample, [CLIP_SHARE, 1 - CLIP_SHARE])
        return Window(float(low), float(high))
    counts = np.zeros(np.iinfo(volume.dtype).max + 1, np.int64)
    for z in chosen:
        counts += np.bincount(volume.read_planes(z, z + 1).ravel(), minlength=counts.size)
    share = np.cumsum(counts) / counts.sum()
    return Window(float(np.searchsorted(share, CLIP_SHARE)), float(np.searchsorted(share, 1 - CLIP_SHARE)))


def window_from_text(text: str) -> Window:
    """`LOW,HIGH` as a window. Raises ConfigError where it is not two ascending numbers."""
    try:
        low, high = (float(part) for part in text.split(","))
        return Window(low, high)
    except ValueError as error:
        raise ConfigError(f"window: got {text!r}, expected two grey levels LOW,HIGH (18000,37000)") from error


def _scaled(levels: Planes, window: Window) -> npt.NDArray[np.uint8]:
    width = window.high - window.low
    if width == 0:
        return np.where(levels > window.high, 255, 0).astype(np.uint8)
    scaled = (levels - np.float32(window.low)) * np.float32(255 / width)
    grey: npt.NDArray[np.uint8] = np.floor(np.clip(scaled, 0, 255) + np.float32(0.5)).astype(np.uint8)
    return grey


def _thinned(planes: Planes) -> npt.NDArray[np.float32]:
    """At most about a million values of a plane, evenly spaced, so that the survey's memory is bounded."""
    values = planes.ravel()
    return values[:: max(1, values.size // 1_000_000)].astype(np.float32)
