"""Charts as SVG elements of a page: one place decides how each kind of chart looks."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from markupsafe import Markup
from matplotlib.figure import Figure

from sennet_bench.report.chart import Bars, Chart, Distribution, Lines, Parts
from sennet_bench.report.drawing_bars import LegendEntry, draw_bars, draw_parts
from sennet_bench.report.drawing_lines import draw_distribution, draw_lines
from sennet_bench.report.words import words_of_chart
from sennet_trainer.report.svg import page_style, svg_from_figure

DRAWN_BY: dict[type[Chart], Callable[[Any], tuple[Figure, tuple[LegendEntry, ...]]]] = {
    Bars: draw_bars, Parts: draw_parts, Lines: draw_lines, Distribution: draw_distribution,
}  # fmt: skip


@dataclass(frozen=True)
class Drawn:
    """A chart for a page; its colours are variables of the page."""

    title: str
    svg: Markup
    legend: tuple[LegendEntry, ...]


def drawn_from_chart(chart: Chart, *, key: str) -> Drawn:
    """The chart, drawn. `key` differs between the charts of a page."""
    with page_style(key):
        figure, legend = DRAWN_BY[type(chart)](chart)
        return Drawn(chart.title, svg_from_figure(figure, alt=words_of_chart(chart)), legend)
