"""Horizontal bars, each below its name: so that long names and narrow windows do no harm."""

import statistics
import textwrap
from collections.abc import Sequence
from dataclasses import dataclass

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, MaxNLocator

from sennet_bench.report.chart import Bars, Parts
from sennet_bench.report.words import measured, number
from sennet_trainer.report.svg import COLOURS, INK, PAPER, curve_colour

# All in points, of which an inch has 72.
WIDTH, SIDE, AXIS = 353.0, 8.0, 36.0
BAR, LINE, GAP = 10.0, 13.0, 9.0
# Names are broken after so many characters, which leaves room for the value at the right.
NAME_WIDTH = 50
OURS, OTHERS = 0, 7
# More samples than this are spread over the thickness of the bar.
MANY_SAMPLES = 12
# What stands together where there are more parts than colours.
REST = "all else"


@dataclass(frozen=True)
class LegendEntry:
    """What a colour means; `colour` is an index of the page's."""

    label: str
    colour: int
    dashed: bool = False


def draw_bars(chart: Bars) -> tuple[Figure, tuple[LegendEntry, ...]]:
    """Bars from 0 to the medians, with all samples on them."""
    names = [name for name, _ in chart.bars]
    values = [measured(statistics.median(samples)) if samples else "–" for _, samples in chart.bars]
    figure, axes, tops = _canvas(names, values, unit=chart.unit)
    for (name, samples), top in zip(chart.bars, tops, strict=True):
        if samples:
            colour = curve_colour(OURS if name in chart.ours or not chart.ours else OTHERS)
            axes.barh(top + BAR / 2, statistics.median(samples), height=BAR, color=colour, lw=0)
            _draw_samples(axes, samples, top)
    _set_limits(axes, [value for _, samples in chart.bars for value in samples])
    return figure, ()


def draw_parts(chart: Parts) -> tuple[Figure, tuple[LegendEntry, ...]]:
    """Bars made of parts; where there are more parts than colours, the smallest stand together."""
    totals: dict[str, float] = {}
    for _, parts in chart.bars:
        for part, length in parts.items():
            totals[part] = totals.get(part, 0.0) + length
    kept = list(totals)
    if len(totals) > COLOURS:
        largest = sorted(totals, key=lambda part: -totals[part])[: COLOURS - 1]
        kept = [part for part in totals if part in largest] + [REST]
    figure, axes, tops = _canvas(
        [name for name, _ in chart.bars], [measured(sum(parts.values())) for _, parts in chart.bars], unit=chart.unit
    )
    for (_, parts), top in zip(chart.bars, tops, strict=True):
        lengths = {part: parts.get(part, 0.0) for part in kept}
        if REST in lengths:
            lengths[REST] = sum(length for part, length in parts.items() if part not in kept)
        start = 0.0
        for index, length in enumerate(lengths.values()):
            if length > 0:
                axes.barh(
                    top + BAR / 2, length, left=start, height=BAR, color=curve_colour(index), edgecolor=PAPER, lw=0.7
                )
                start += length
    _set_limits(axes, [sum(parts.values()) for _, parts in chart.bars])
    return figure, tuple(LegendEntry(part, index) for index, part in enumerate(kept))


def _canvas(names: Sequence[str], values: Sequence[str], *, unit: str) -> tuple[Figure, Axes, list[float]]:
    """A figure whose y is in points from the top, with names and values written, and where each bar begins."""
    broken = [textwrap.wrap(name, NAME_WIDTH) or [""] for name in names]
    tops, height = [], 0.0
    for lines in broken:
        tops.append(height + LINE * len(lines))
        height = tops[-1] + BAR + GAP
    height = max(height, LINE)
    whole = height + AXIS
    figure = Figure(figsize=(WIDTH / 72, whole / 72))
    axes = figure.add_axes((SIDE / WIDTH, AXIS / whole, 1 - 2 * SIDE / WIDTH, height / whole))
    axes.set_ylim(height, 0)
    axes.set_yticks([])
    axes.spines["left"].set_visible(False)
    axes.grid(visible=False, axis="y")
    axes.tick_params(length=0)
    axes.set_xlabel(unit)
    for lines, value, top in zip(broken, values, tops, strict=True):
        place = axes.get_yaxis_transform()
        axes.text(0, top - 3, "\n".join(lines), transform=place, va="bottom", color=INK, linespacing=1.1)
        axes.text(1, top - 3, value, transform=place, va="bottom", ha="right", color=INK)
    return figure, axes, tops


def _draw_samples(axes: Axes, samples: Sequence[float], top: float) -> None:
    middle = top + BAR / 2
    if len(samples) <= MANY_SAMPLES:
        heights = [middle] * len(samples)
    else:
        # By the golden ratio neighbours lie far apart, and it is the same each time.
        heights = [middle + BAR * 0.8 * ((index * 0.618034) % 1 - 0.5) for index in range(len(samples))]
    size = 4.5 if len(samples) <= MANY_SAMPLES else 2.5
    axes.plot(
        samples, heights, ls="", marker="o", ms=size, mfc=INK, mec=PAPER, mew=0.6, alpha=0.85, clip_on=False, zorder=3
    )


def _set_limits(axes: Axes, values: Sequence[float]) -> None:
    low, high = min([0.0, *values]), max([0.0, *values])
    axes.set_xlim(1.04 * low, 1.04 * high if high > low else 1.0)
    axes.xaxis.set_major_locator(MaxNLocator(nbins=5))
    axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: number(value)))
