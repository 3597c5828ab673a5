"""How costs grow, as a table of all points, as figures and as charts."""

import statistics
from collections.abc import Callable, Iterator, Sequence

from sennet_bench.report.chart import Chart, Lines
from sennet_bench.report.figure import Figure, Nature
from sennet_bench.report.table import Table
from sennet_bench.scale.axes import (
    VIEWS,
    AxisView,
    endless_plane,
    peaks_of,
    points_along_axis,
    seconds_of,
    times_as_long,
)
from sennet_bench.scale.measurement import ScaleMeasurement, ScalePoint, ScaleSample
from sennet_bench.scale.notes import scale_notes
from sennet_bench.scale.points import Axis
from sennet_bench.scale.power_law import exponent


def scale_table(measured: ScaleMeasurement) -> Table:
    """A row for each point; a note for each axis."""
    by_axis = [points_along_axis(measured, axis) for axis in measured.axes]
    return Table(
        heads=(
            "", "seconds (range)", "networks, s", "loading, s", "CPU s", "peak MB", "tiles", "Mpixel through networks",
            "for each, or beside the first",
        ),
        rows=tuple(_row(one, points[0]) for points in by_axis for one in points),
        notes=(*scale_notes(measured), str(measured.circumstances)),
    )  # fmt: skip


def scale_figures(measured: ScaleMeasurement) -> list[Figure]:
    """Seconds and peak memory of each point; of each axis what each round alone gives."""
    figures = []
    for axis in measured.axes:
        points = points_along_axis(measured, axis)
        for one in points:
            name = f"{axis} {one.value:g}"
            figures.append(Figure(f"{name}: seconds", "s", tuple(seconds_of(one)), Nature.SPEED))
            if peaks := peaks_of(one):
                figures.append(Figure(f"{name}: peak memory", "MB", tuple(peaks), Nature.MEMORY))
        if axis == "threads":
            name = f"{points[-1].value:g} threads: times as fast as {points[0].value:g}"
            ratios = tuple(times_as_long(points[-1], points[0]))
            figures.append(Figure(name, "", ratios, Nature.RATIO, more_is_better=True))
        else:
            symbol = VIEWS[axis].symbol
            name = f"{axis}: exponent of the seconds against the {symbol}"
            figures.append(Figure(name, "", tuple(_exponents_by_round(axis, points)), Nature.RATIO))
    return figures


def scale_charts(measured: ScaleMeasurement) -> list[Chart]:
    """For each axis seconds, and peak memory where the system tells it."""
    charts: list[Chart] = []
    for axis in measured.axes:
        view, points = VIEWS[axis], points_along_axis(measured, axis)
        parts = (
            ("the run", lambda one: one.seconds),
            ("networks at work", lambda one: one.network_seconds),
            ("loading", lambda one: one.load_seconds),
        )  # fmt: skip
        lines = tuple((name, _curve(view, points, part)) for name, part in parts)
        charts.append(Lines(f"Seconds against {axis}", view.label, "s", lines, logarithmic=True))
        peaks = tuple((view.amount(one), tuple(found)) for one in points if (found := peaks_of(one)))
        if peaks:
            lines = (("the process", peaks),)
            charts.append(Lines(f"Peak memory against {axis}", view.label, "MB", lines, logarithmic=True))
    return charts


def _curve(
    view: AxisView, points: Sequence[ScalePoint], part: Callable[[ScaleSample], float]
) -> tuple[tuple[float, tuple[float, ...]], ...]:
    return tuple((view.amount(point), tuple(part(one) for one in point.samples)) for point in points)


def _row(point: ScalePoint, first: ScalePoint) -> tuple[str, ...]:
    seconds, peaks = seconds_of(point), peaks_of(point)
    cpu_seconds = [one.cpu_seconds for one in point.samples if not one.tried]

    def median(part: Callable[[ScaleSample], float], form: str) -> str:
        return f"{statistics.median(map(part, point.samples)):{form}}"

    return (
        f"{point.axis} {point.value:g}",
        f"{statistics.median(seconds):.3f} ({min(seconds):.3f} to {max(seconds):.3f})",
        median(lambda one: one.network_seconds, ".3f"),
        median(lambda one: one.load_seconds, ".2f"),
        f"{statistics.median(cpu_seconds):.2f}" if cpu_seconds else "–",
        f"{statistics.median(peaks):.0f}" if peaks else "–",
        f"{point.samples[0].tiles:,}",
        f"{point.pixels / 1e6:.2f}",
        _each(point, first),
    )


def _each(point: ScalePoint, first: ScalePoint) -> str:
    """What a unit of the axis costs at this point; of threads and overlap, beside the first point."""
    seconds = statistics.median(seconds_of(point))
    if point.axis == "threads":
        faster = statistics.median(times_as_long(point, first))
        return f"{faster:.2f} times as fast, {faster * first.value / point.value:.0%} of a thread's worth"
    if point.axis == "overlap":
        slower = statistics.median(times_as_long(first, point))
        ideal = endless_plane(point.value) / endless_plane(first.value)
        return (
            f"{slower:.2f} times the seconds, {point.pixels / first.pixels:.2f} the pixels, {ideal:.2f} without edges"
        )
    if point.axis == "side":
        return f"{1e9 * seconds / (point.setting.planes * point.setting.side**2):.0f} ns a voxel"
    return f"{1e3 * seconds / point.value:.1f} ms a {VIEWS[point.axis].unit}"


def _exponents_by_round(axis: Axis, points: Sequence[ScalePoint]) -> Iterator[float]:
    amounts = [VIEWS[axis].amount(one) for one in points]
    for costs in zip(*map(seconds_of, points), strict=True):
        yield exponent(amounts, costs).value
