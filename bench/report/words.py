"""Numbers and charts in words: for labels, and for those who do not see a chart."""

import statistics
from collections.abc import Sequence

from sennet_bench.report.chart import Bars, Chart, Distribution, Lines, Parts


def number(value: float) -> str:
    """Three digits of it and no exponent, such as 0.0123, 12.3 or 12 345."""
    if abs(value) >= 999.5:
        return f"{value:,.0f}".replace(",", "\u202f")
    text = f"{value:.3g}"
    return f"{value:.6f}".rstrip("0") if "e" in text else text


def measured(value: float) -> str:
    """Three digits of it, zeros at the end too: 1.00 where `number` says 1."""
    text = f"{value:#.3g}".rstrip(".")
    return number(value) if "e" in text else text


def words_of_chart(chart: Chart) -> str:
    """All that the chart shows, in a sentence for each thing."""
    told = {Bars: _bars, Parts: _parts, Lines: _lines, Distribution: _distribution}[type(chart)](chart)  # type: ignore[operator]
    return " ".join([f"{chart.title}.", *told])


def _bars(chart: Bars) -> list[str]:
    return [f"{name}: {_samples(samples, chart.unit)}." for name, samples in chart.bars]


def _parts(chart: Parts) -> list[str]:
    return [
        f"{name}: {', '.join(f'{part} {number(length)}' for part, length in parts.items())}{_in(chart.unit)}."
        for name, parts in chart.bars
    ]


def _lines(chart: Lines) -> list[str]:
    return [
        f"{name}, over {chart.x_label}: "
        f"{', '.join(f'{number(statistics.median(samples))} at {number(x)}' for x, samples in points if samples)}"
        f"{_in(chart.unit)}."
        for name, points in chart.lines
    ]


def _distribution(chart: Distribution) -> list[str]:
    return [
        f"{name}: of {len(samples)} samples half are at most {number(statistics.median(samples))}, nine of ten at most "
        f"{number(sorted(samples)[-(-9 * len(samples) // 10) - 1])} and all at most {number(max(samples))}"
        f"{_in(chart.unit)}."
        for name, samples in chart.curves
        if samples
    ]


def _samples(samples: Sequence[float], unit: str) -> str:
    if not samples:
        return "none"
    median = f"{number(statistics.median(samples))} {unit}".strip()
    if len(samples) == 1:
        return f"{median}, one sample"
    return f"median {median} of {len(samples)} samples from {number(min(samples))} to {number(max(samples))}"


def _in(unit: str) -> str:
    return f", in {unit}" if unit else ""
