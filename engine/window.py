"""The window of a volume: the grey levels that become 0 and 255, taken from the whole volume and not from a tile."""

import math
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from PIL import Image

from sennet_engine.errors import ConfigError
from sennet_engine.volumes.volume import Planes, Volume

# As the third-place solution does.
CLIP_SHARE = 0.001
SURVEYED_PLANES = 64
PIECE = 2**17
COUNTED_PIECE = 2**20
HALF = 2**16
SIGN = np.uint32(2**31)
NARROWEST = 1e-35


@dataclass(frozen=True)
class Window:
    """Grey levels `low` and below become 0, `high` and above become 255, linear between."""

    low: float
    high: float

    def __post_init__(self) -> None:
        if not (math.isfinite(self.low) and math.isfinite(self.high) and self.low <= self.high):
            raise ConfigError(f"window: got low {self.low} and high {self.high}; expected two numbers, low <= high")

    def to_uint8(self, planes: Planes) -> npt.NDArray[np.uint8]:
        """Grey levels as uint8, rounded half up; any shape, uint8, uint16 or float32 in.

        A window of no width (a constant volume) gives 0 up to `high` and 255 above it.
        """
        if planes.dtype.kind == "f":
            return _scaled(planes, self)
        table = _scaled(np.arange(np.iinfo(planes.dtype).max + 1, dtype=np.float32), self)
        grey = np.empty(planes.shape, np.uint8)
        # In pieces, since numpy widens the indices to eight bytes each; no index needs to be checked.
        flat, target = np.ravel(planes), grey.reshape(-1)
        for start in range(0, flat.size, PIECE):
            np.take(table, flat[start : start + PIECE], out=target[start : start + PIECE], mode="clip")
        return grey


def surveyed_window(volume: Volume) -> Window:
    """The window of `volume` from at most 64 planes spread evenly over it: the 0.1 % and 99.9 % grey levels.

    Exact for the planes that were read, which takes two readings of them where the voxels are float32. Memory is that
    of a plane. Raises VolumeError where a plane cannot be read.
    """
    depth = volume.shape_zyx[0]
    chosen = np.unique(np.linspace(0, depth - 1, min(depth, SURVEYED_PLANES)).round().astype(int))
    if volume.dtype.kind == "f":
        return _float_window(volume, chosen)
    counts = np.zeros(np.iinfo(volume.dtype).max + 1, np.int64)
    for values in _values(volume, chosen):
        counts += _counted(values, counts.size)
    share = np.cumsum(counts) / counts.sum()
    return Window(float(np.searchsorted(share, CLIP_SHARE)), float(np.searchsorted(share, 1 - CLIP_SHARE)))


def _counted(values: Planes, levels: int) -> npt.NDArray[np.int64]:
    """How many of `values` [n] there are of each of the grey levels 0 up to `levels`."""
    if values.dtype == np.uint8:  # numpy widens them to eight bytes each, which takes ten times as long
        return np.asarray(Image.fromarray(values[None]).histogram(), np.int64)
    return np.bincount(values, minlength=levels)


def window_from_text(text: str) -> Window:
    """`LOW,HIGH` as a window. Raises ConfigError where it is not two ascending numbers."""
    try:
        low, high = (float(part) for part in text.split(","))
        return Window(low, high)
    except ValueError as error:
        raise ConfigError(f"window: got {text!r}, expected two grey levels LOW,HIGH (18000,37000)") from error


def _scaled(levels: Planes, window: Window) -> npt.NDArray[np.uint8]:
    width = window.high - window.low
    # Narrower windows than that have a slope beyond float32.
    if width <= NARROWEST:
        return np.where(levels > window.high, 255, 0).astype(np.uint8)
    with np.errstate(over="ignore"):  # what is so far outside is clipped all the same
        scaled = (levels - np.float32(window.low)) * np.float32(255 / width)
    grey: npt.NDArray[np.uint8] = np.floor(np.clip(scaled, 0, 255) + np.float32(0.5)).astype(np.uint8)
    return grey


def _float_window(volume: Volume, chosen: npt.NDArray[np.intp]) -> Window:
    """Radix selection: count the upper halves of the values' bits, then the lower halves where the levels fall.

    Unlike bins between minimum and maximum, this does not coarsen when a single voxel is far off.
    """
    upper_counts = np.zeros(HALF, np.int64)
    for values in _values(volume, chosen):
        upper_counts += np.bincount(_ordered_bits(values) >> 16, minlength=HALF)
    below = np.cumsum(upper_counts)
    # Rank 1 is the smallest value. As for integers, a level is the first at or below which the share of voxels lies.
    ranks = [max(1, math.ceil(share * int(below[-1]))) for share in (CLIP_SHARE, 1 - CLIP_SHARE)]
    uppers = [int(np.searchsorted(below, rank)) for rank in ranks]
    lower_counts = np.zeros((len(uppers), HALF), np.int64)
    for values in _values(volume, chosen):
        bits = _ordered_bits(values)
        for counts, upper in zip(lower_counts, uppers, strict=True):
            counts += np.bincount(bits[bits >> 16 == upper] & (HALF - 1), minlength=HALF)
    levels = []
    for rank, upper, counts in zip(ranks, uppers, lower_counts, strict=True):
        rank_within = rank - int(below[upper] - upper_counts[upper])
        levels.append(_float_from_ordered_bits(upper << 16 | int(np.searchsorted(np.cumsum(counts), rank_within))))
    low, high = levels
    return Window(low, high)


def _values(volume: Volume, chosen: npt.NDArray[np.intp]) -> Iterator[Planes]:
    """The voxels of the chosen planes in pieces, since counting them takes eight bytes for each."""
    for z in chosen:
        plane = volume.read_planes(z, z + 1).ravel()
        yield from (plane[start : start + COUNTED_PIECE] for start in range(0, plane.size, COUNTED_PIECE))


def _ordered_bits(values: npt.NDArray[np.float32]) -> npt.NDArray[np.uint32]:
    """Unsigned integers in the order of the floats: the sign bit flipped, and negative numbers turned round."""
    bits = values.view(np.uint32)
    return np.where(bits & SIGN, ~bits, bits | SIGN)


def _float_from_ordered_bits(ordered: int) -> float:
    bits = np.uint32(ordered ^ int(SIGN)) if ordered & int(SIGN) else ~np.uint32(ordered)
    return float(bits.view(np.float32))
