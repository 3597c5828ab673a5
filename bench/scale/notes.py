"""What the samples of `sennet-bench scale` say about each axis, in words: exponents, fixed costs, costs of a unit."""

import statistics
from collections.abc import Callable, Iterator, Sequence

from sennet_bench.scale.axes import (
    VIEWS,
    AxisView,
    endless_plane,
    peaks_of,
    points_along_axis,
    seconds_of,
    times_as_long,
)
from sennet_bench.scale.measurement import ScaleMeasurement, ScalePoint
from sennet_bench.scale.points import Axis
from sennet_bench.scale.power_law import Interval, exponent, line

# An exponent whose whole interval is so much above what is in proportion is told as too large.
NOTABLE = 0.05


def scale_notes(measured: ScaleMeasurement) -> Iterator[str]:
    """One for each axis, then what was measured and how."""
    for axis in measured.axes:
        points = points_along_axis(measured, axis)
        told = [*_SECONDS[axis](VIEWS[axis], points), *_memory(VIEWS[axis], points)]
        yield f"Along {axis}: {'; '.join(told)}."
    yield from _settings(measured)


def _growth(view: AxisView, points: Sequence[ScalePoint]) -> Iterator[str]:
    amounts, costs = _pairs(view.amount, points)
    yield f"seconds grow as {_power(view.symbol, exponent(amounts, costs), view.in_proportion)}"
    if len(points) > 2:
        # Where fixed costs weigh least.
        found = exponent(*_pairs(view.amount, points[-2:]))
        yield f"from {points[-2].value:g} to {points[-1].value:g} as {view.symbol}^{_interval(found, '.2f')}"
    straight = line(*_pairs(view.units, points))
    yield (
        f"as a straight line {_interval(straight.fixed, '.3f', ' s')} + {_interval(straight.per_unit, '.4f', ' s')} a "
        f"{view.unit}, from which no run is farther than {straight.farthest:.0%}"
    )


def _speed_up(_view: AxisView, points: Sequence[ScalePoint]) -> Iterator[str]:
    first, last = points[0], points[-1]
    faster = times_as_long(last, first)
    yield (
        f"{statistics.median(faster):.2f} times as fast on {last.value:g} as on {first.value:g} ({min(faster):.2f} to "
        f"{max(faster):.2f} in the rounds), where {last.value / first.value:g} would be in proportion"
    )


def _overlap(view: AxisView, points: Sequence[ScalePoint]) -> Iterator[str]:
    first, last = points[0], points[-1]
    slower = times_as_long(first, last)
    yield (
        f"from {first.value:g} to {last.value:g} of a tile's side {statistics.median(slower):.2f} times the seconds "
        f"({min(slower):.2f} to {max(slower):.2f} in the rounds) for {last.pixels / first.pixels:.2f} times the "
        f"pixels, and {endless_plane(last.value) / endless_plane(first.value):.2f} on a plane without edges"
    )
    yield from _growth(view, points)


_SECONDS: dict[Axis, Callable[[AxisView, Sequence[ScalePoint]], Iterator[str]]] = {
    "planes": _growth, "side": _growth, "models": _growth, "threads": _speed_up, "overlap": _overlap,
}  # fmt: skip


def _memory(view: AxisView, points: Sequence[ScalePoint]) -> Iterator[str]:
    known = [one for one in points if peaks_of(one)]
    if len(known) < 2:
        return
    grown = exponent(*_pairs(view.amount, known, peaks_of))
    straight = line(*_pairs(view.units, known, peaks_of))
    each = straight.per_unit.value
    yield (
        f"peak memory grows as {_power(view.symbol, grown, view.memory_in_proportion)}, as a straight line "
        f"{straight.fixed.value:.0f} MB {'+' if each >= 0 else '-'} {abs(each):.3g} MB a {view.unit}"
    )


def _pairs(
    amount: Callable[[ScalePoint], float],
    points: Sequence[ScalePoint],
    costs: Callable[[ScalePoint], list[float]] = seconds_of,
) -> tuple[list[float], list[float]]:
    pairs = [(amount(point), cost) for point in points for cost in costs(point)]
    return [one for one, _ in pairs], [cost for _, cost in pairs]


def _power(symbol: str, found: Interval, in_proportion: float) -> str:
    aim = "0 would be no growth" if in_proportion == 0 else f"{in_proportion:g} would be in proportion"
    too_much = found.low is not None and found.low > in_proportion + NOTABLE
    return f"{symbol}^{_interval(found, '.2f')}, {'MORE than it should: ' if too_much else ''}{aim}"


def _interval(found: Interval, form: str, unit: str = "") -> str:
    if found.low is None or found.high is None:
        return f"{found.value:z{form}}{unit}"
    return f"{found.value:z{form}}{unit} ({found.low:z{form}} to {found.high:z{form}})"


def _settings(measured: ScaleMeasurement) -> Iterator[str]:
    base, wide = measured.base, measured.overlap_base
    yield (
        f"The base is {base.planes} planes of {base.side} × {base.side} uint8, with a vessel every 96 pixels; "
        f"{measured.model}, {measured.weights_mb:.1f} MB, on "
        f"{measured.runtime}, {base.threads} threads; nothing is left out as background. Medians "
        f"of {measured.rounds} rounds; each visits all points in an order of its own, shuffled by seed "
        f"{measured.seed}, each run in a process of its own."
    )
    if wide is not None:
        yield (
            f"Overlap is that of {wide.planes} planes of {wide.side} × {wide.side}, with the network as if never "
            f"exact, in blended tiles of {measured.overlap_tile}."
        )
    yield (
        "Seconds are from opening the volume to the whole output, without loading the networks; CPU seconds are those "
        "of the whole process, its start counted. In parentheses after a fit is where the true value lies in 95 % of "
        "such measurements, as far as noise goes. A power law bends where a fixed cost is a large part: hence the "
        "straight line, and the exponent between the two largest values."
    )
    samples = [one for point in measured.points for one in point.samples]
    if tried := sum(one.tried for one in samples):
        yield (
            f"{tried} of {len(samples)} runs made a trial of the runtimes of their own, since other programs kept the "
            f"processors busy and none was remembered: their peaks and CPU seconds are left out."
        )
    ways: dict[str, list[str]] = {}
    for point in measured.points:
        for way in dict.fromkeys(one.computed_by for one in point.samples):
            ways.setdefault(way, []).append(f"{point.axis} {point.value:g}")
    if len(ways) > 1:
        told = [f"{way}: {', '.join(names)}" for way, names in ways.items()]
        yield f"What computed, in runs of these points: {'; '.join(told)}."
