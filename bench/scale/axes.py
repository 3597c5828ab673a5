"""How each axis of `sennet-bench scale` is told: what is raised to an exponent, and what the samples of a point are."""

from collections.abc import Callable
from dataclasses import dataclass

from sennet_bench.scale.measurement import ScaleMeasurement, ScalePoint
from sennet_bench.scale.points import Axis


@dataclass(frozen=True)
class AxisView:
    """How an axis is told.

    Attributes:
        symbol: what is raised to the exponent.
        amount: of it, of a point.
        in_proportion: the exponent of seconds that work in proportion gives.
        memory_in_proportion: likewise that of the peak memory, at most.
        unit, units: of the straight line, and how many a point has.
        label: of a chart's axis.
    """

    symbol: str
    amount: Callable[[ScalePoint], float]
    in_proportion: float
    memory_in_proportion: float
    unit: str
    units: Callable[[ScalePoint], float]
    label: str


def _value(point: ScalePoint) -> float:
    return point.value


def _plane_pixels(point: ScalePoint) -> float:
    return point.setting.side**2 / 1e6


def _megapixels(point: ScalePoint) -> float:
    return point.pixels / 1e6


VIEWS: dict[Axis, AxisView] = {
    "planes": AxisView("planes", _value, 1, 0, "plane", _value, "planes"),
    "side": AxisView("side", _value, 2, 2, "Mpixel of a plane", _plane_pixels, "side of the planes, pixels"),
    "models": AxisView("models", _value, 1, 0, "model", _value, "models"),
    "threads": AxisView("threads", _value, 0, 1, "thread", _value, "threads"),
    "overlap": AxisView("pixels", _megapixels, 1, 0, "Mpixel", _megapixels, "Mpixel through the network"),
}


def points_along_axis(measured: ScaleMeasurement, axis: Axis) -> list[ScalePoint]:
    """Ascending by their values."""
    return sorted((one for one in measured.points if one.axis == axis), key=lambda one: one.value)


def seconds_of(point: ScalePoint) -> list[float]:
    """Of its runs, by rounds."""
    return [one.seconds for one in point.samples]


def peaks_of(point: ScalePoint) -> list[float]:
    """Of the runs without a trial of the runtimes, whose memory may be more than that of the work, in MB."""
    return [one.peak_mb for one in point.samples if one.peak_mb is not None and not one.tried]


def times_as_long(first: ScalePoint, point: ScalePoint) -> list[float]:
    """The seconds of `point` over those of `first`, in each round."""
    return [one / other for one, other in zip(seconds_of(point), seconds_of(first), strict=True)]


def endless_plane(overlap: float) -> float:
    """Pixels through a network for each pixel of a plane without edges, in tiles of that overlap on both axes."""
    return 1 / (1 - overlap) ** 2
