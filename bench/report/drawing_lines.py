"""Lines through medians with all samples beside them, and distributions of samples."""

import math
import statistics
from collections.abc import Iterable

from matplotlib.axes import Axes
from matplotlib.axis import Axis
from matplotlib.figure import Figure
from matplotlib.ticker import FixedLocator, FuncFormatter, LogLocator, NullLocator, PercentFormatter

from sennet_bench.report.chart import Distribution, Lines
from sennet_bench.report.drawing_bars import LegendEntry
from sennet_bench.report.words import number
from sennet_trainer.report.svg import COLOURS, curve_colour

WIDTH_INCHES, HEIGHT_INCHES = 4.9, 2.9
# Tails longer than this many times the shortest are shown on a logarithmic axis.
LONG_TAIL = 20.0
# Two labels of an axis lie at least this share of it apart.
LABEL_SHARE = 0.09


def draw_lines(chart: Lines) -> tuple[Figure, tuple[LegendEntry, ...]]:
    """A line for each thing; where colours are used up they come again, dashed."""
    figure, axes = _canvas()
    legend = _legend(name for name, _ in chart.lines)
    for entry, (_, points) in zip(legend, chart.lines, strict=True):
        colour, known = curve_colour(entry.colour), [(x, samples) for x, samples in points if samples]
        axes.plot(
            [x for x, _ in known], [statistics.median(samples) for _, samples in known],
            color=colour, ls="--" if entry.dashed else "-",
        )  # fmt: skip
        every = [(x, value) for x, samples in known for value in samples]
        axes.plot([x for x, _ in every], [y for _, y in every], color=colour, ls="", marker="o", alpha=0.7)
    axes.set(xlabel=chart.x_label, ylabel=chart.unit)
    values = [value for _, points in chart.lines for _, samples in points for value in samples]
    if chart.logarithmic and max(values, default=0.0) > 0:
        _set_logarithmic(axes, sorted({x for _, points in chart.lines for x, _ in points}))
    else:
        axes.set_ylim(bottom=min([0.0, *values]))
        axes.yaxis.set_major_formatter(FuncFormatter(lambda value, _: number(value)))
        axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: number(value)))
    return figure, legend if len(legend) > 1 else ()


def draw_distribution(chart: Distribution) -> tuple[Figure, tuple[LegendEntry, ...]]:
    """Steps from 0 to all samples; logarithmic where the tails are long."""
    figure, axes = _canvas()
    legend = _legend(name for name, _ in chart.curves)
    for entry, (_, samples) in zip(legend, chart.curves, strict=True):
        if samples:
            shares = [index / len(samples) for index in range(len(samples) + 1)]
            ordered = sorted(samples)
            axes.step(
                [ordered[0], *ordered], shares, where="post",
                color=curve_colour(entry.colour), ls="--" if entry.dashed else "-",
            )  # fmt: skip
    values = [value for _, samples in chart.curves for value in samples]
    if values and 0 < min(values) * LONG_TAIL < max(values):
        axes.set_xscale("log")
        _label_decades(axes.xaxis)
    else:
        axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: number(value)))
    axes.set(xlabel=f"{chart.unit}, at most", ylabel="share of the samples", ylim=(0, 1.02))
    axes.yaxis.set_major_formatter(PercentFormatter(1.0))
    return figure, legend if len(legend) > 1 else ()


def _canvas() -> tuple[Figure, Axes]:
    figure = Figure(figsize=(WIDTH_INCHES, HEIGHT_INCHES), layout="constrained")
    axes = figure.subplots()
    axes.tick_params(length=0, which="both")
    # So that the first label of x does not touch that of y.
    axes.tick_params(axis="x", pad=7)
    return figure, axes


def _legend(names: Iterable[str]) -> tuple[LegendEntry, ...]:
    return tuple(
        LegendEntry(name, index % COLOURS, dashed=index // COLOURS % 2 == 1) for index, name in enumerate(names)
    )


def _set_logarithmic(axes: Axes, places: list[float]) -> None:
    axes.set(xscale="log", yscale="log")
    axes.xaxis.set_major_locator(FixedLocator(_spaced(places)))
    axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: number(value)))
    axes.xaxis.set_minor_locator(NullLocator())
    _label_decades(axes.yaxis)


def _label_decades(axis: Axis) -> None:
    """Labels on a logarithmic axis, the more within a decade the fewer decades there are."""
    low, high = axis.get_view_interval()
    steps = (1.0, 1.5, 2.0, 3.0, 5.0, 7.0) if high / low < 5 else (1.0, 2.0, 5.0) if high / low < 200 else (1.0,)
    axis.set_major_locator(LogLocator(subs=steps))
    axis.set_major_formatter(FuncFormatter(lambda value, _: number(value)))
    axis.set_minor_locator(NullLocator())


def _spaced(places: list[float]) -> list[float]:
    """Of ascending x those whose labels do not touch on a logarithmic axis."""
    kept: list[float] = []
    span = math.log(places[-1] / places[0]) if places and places[0] > 0 else 0.0
    for place in places:
        if not kept or math.log(place / kept[-1]) >= LABEL_SHARE * span:
            kept.append(place)
    return kept
