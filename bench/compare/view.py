"""A comparison as figures, which two files can be compared by, and as charts."""

from sennet_bench.compare.measurement import Comparison, Entry
from sennet_bench.compare.ratios import peaks_mb, ratios
from sennet_bench.peers.table import ENGINE, ENGINE_INT8
from sennet_bench.report.chart import Bars, Chart
from sennet_bench.report.figure import Figure, Nature


def compare_figures(comparison: Comparison) -> list[Figure]:
    """Of each contestant that has samples: seconds, ratio to the engine, peak memory and scores."""
    return [figure for entry in comparison.entries if entry.samples for figure in _figures(comparison, entry)]


def compare_charts(comparison: Comparison) -> list[Chart]:
    """Seconds, and peak memory where the system told it."""
    ran = [entry for entry in comparison.entries if entry.samples]
    seconds = tuple((entry.title, tuple(one.seconds for one in entry.samples)) for entry in ran)
    peaks = tuple((entry.title, tuple(found)) for entry in ran if (found := peaks_mb(entry)))
    ours = frozenset(entry.title for entry in ran if entry.name in (ENGINE, ENGINE_INT8))
    charts = (
        Bars("From the volume on disk to the mask, without loading the network", "s", seconds, ours),
        Bars("Peak memory of the process, libraries included", "MB", peaks, ours),
    )
    return [chart for chart in charts if chart.bars]


def _figures(comparison: Comparison, entry: Entry) -> list[Figure]:
    name = entry.name
    found = [Figure(f"{name}: seconds", "s", tuple(one.seconds for one in entry.samples), Nature.SPEED)]
    times = tuple(ratios(comparison, name, ENGINE))
    if times and name != ENGINE:
        # The longer others take beside the engine, the better for it.
        found.append(Figure(f"{name}: times sennet fp32", "", times, Nature.RATIO, more_is_better=name != ENGINE_INT8))
    if peaks := tuple(peaks_mb(entry)):
        found.append(Figure(f"{name}: peak memory", "MB", peaks, Nature.MEMORY))
    scores = (("surface Dice", entry.surface_dice_0), ("Dice", entry.dice))
    return found + [
        Figure(f"{name}: {score}", "", (value,), Nature.QUALITY, more_is_better=True)
        for score, value in scores
        if value is not None
    ]
