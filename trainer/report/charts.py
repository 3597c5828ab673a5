"""Curves over epochs and over thresholds, as SVG that stands inside the page."""

from collections.abc import Sequence
from dataclasses import dataclass

from markupsafe import Markup
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from sennet_trainer.report.svg import COLOURS, INK, MUTED, curve_colour, page_style, svg_from_figure

WIDTH_INCHES, HEIGHT_INCHES = 4.9, 2.9
# The smallest range of scores that an axis shows: smaller differences are not worth a look.
SMALLEST_SPAN = 0.05
# The share of the width that the label of a mark takes.
LABEL_SHARE = 0.3


@dataclass(frozen=True)
class Curve:
    """One curve; points whose `y` is None are left out. Colours and dashes follow from `index`."""

    label: str
    x: Sequence[float]
    y: Sequence[float | None]
    index: int = 0

    @property
    def colour(self) -> int:
        """Which of the page's colours."""
        return self.index % COLOURS

    @property
    def dashed(self) -> bool:
        """Whether it is drawn in dashes: when the colours are used up."""
        return self.index // COLOURS % 2 == 1


@dataclass(frozen=True)
class Chart:
    """Curves over a common x.

    Attributes:
        title: above it.
        alt: the same in words, for those who do not see it.
        over_thresholds: x is a threshold, 0 to 1; else it is an epoch.
        is_score: y is at most 1.
        marks: (x, label) of vertical lines.
        levels: (y, label) of horizontal lines.
        band: the range of x that is stable.
    """

    title: str
    alt: str
    y_label: str
    curves: tuple[Curve, ...]
    over_thresholds: bool = False
    is_score: bool = True
    marks: tuple[tuple[float, str], ...] = ()
    levels: tuple[tuple[float, str], ...] = ()
    band: tuple[float, float] | None = None


def svg_from_chart(chart: Chart, *, key: str) -> Markup:
    """The chart as an SVG element. `key` differs between the charts of a page."""
    with page_style(key):
        figure = Figure(figsize=(WIDTH_INCHES, HEIGHT_INCHES), layout="constrained")
        axes = figure.subplots()
        for curve in chart.curves:
            _draw(axes, curve, with_points=len(curve.x) <= 40)
        _set_axes(axes, chart)
        _draw_marks(axes, chart)
        return svg_from_figure(figure, alt=chart.alt)


def _draw(axes: Axes, curve: Curve, *, with_points: bool) -> None:
    points = [(x, y) for x, y in zip(curve.x, curve.y, strict=True) if y is not None]
    axes.plot(
        [x for x, _ in points], [y for _, y in points],
        color=curve_colour(curve.colour), ls="--" if curve.dashed else "-", marker="o" if with_points else None,
    )  # fmt: skip


def _set_axes(axes: Axes, chart: Chart) -> None:
    axes.set(xlabel="threshold" if chart.over_thresholds else "epoch", ylabel=chart.y_label)
    axes.tick_params(length=0)
    if chart.over_thresholds:
        axes.set_xlim(0, 1)
    else:
        # From the first epoch to the last, whether they have a value or not: charts side by side have the same x.
        last = max((curve.x[-1] for curve in chart.curves if curve.x), default=1.0)
        margin = max(0.5 if last == 1 else 0.0, 0.04 * (last - 1))
        axes.set_xlim(1 - margin, last + margin)
        axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    for value, _ in chart.levels:
        axes.update_datalim([(0, value)], updatex=False)
    axes.autoscale_view(scalex=False)
    low, high = axes.get_ylim()
    if chart.is_score:
        missing = max(0.0, SMALLEST_SPAN - (high - low)) / 2
        low, high = max(low - missing, -0.02), min(high + missing, 1.02)
    elif low > 0:
        low, high = 0.0, 1.05 * high
    axes.set_ylim(low, high)


def _draw_marks(axes: Axes, chart: Chart) -> None:
    if chart.band is not None:
        axes.axvspan(*chart.band, color=MUTED, alpha=0.13, lw=0, zorder=0)
    for value, label in chart.levels:
        axes.axhline(value, color=INK, lw=1, ls=(0, (5, 3)))
        at_the_left = any(x > 0.5 for x, _ in chart.marks)
        axes.annotate(label, (0 if at_the_left else 1, value), xycoords=("axes fraction", "data"),
                      xytext=(4 if at_the_left else -2, 3), textcoords="offset points",
                      ha="left" if at_the_left else "right", color=INK)  # fmt: skip
    low, high = axes.get_xlim()
    marks = sorted(chart.marks)
    for index, (value, label) in enumerate(marks):
        axes.axvline(value, color=INK, lw=1, ls=(0, (1, 2)))
        place = (value - low) / (high - low)
        # Away from the other marks, if there is room for the label.
        to_the_right = place < 1 - LABEL_SHARE if 2 * index + 1 >= len(marks) else place < LABEL_SHARE
        axes.annotate(label, (value, 0), xycoords=("data", "axes fraction"),
                      xytext=(4 if to_the_right else -4, 4 + 12 * index), textcoords="offset points",
                      ha="left" if to_the_right else "right", color=INK)  # fmt: skip
