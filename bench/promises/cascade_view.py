"""What a cascade gains and loses, as a table, as figures and as charts."""

import statistics

from sennet_bench.promises.cascade import CascadeEntry, CascadeMeasurement
from sennet_bench.report.chart import Bars, Chart
from sennet_bench.report.figure import Figure, Nature
from sennet_bench.report.table import Table


def cascade_table(measured: CascadeMeasurement) -> Table:
    """A row for each way; gain and loss are those beside all passes everywhere."""
    z, y, x = measured.shape_zyx
    whole = measured.whole
    return Table(
        heads=(
            "", "tiles that went on", "seconds (range)", "times as fast", "surface Dice", "gain or loss",
            "against all passes everywhere",
        ),
        rows=tuple(_row(entry, whole) for entry in measured.entries),
        notes=(
            f"{measured.volume}, {z} × {y} × {x}; {measured.ensemble}, {measured.threads} threads, medians of "
            f"{len(whole.runs)} rounds in turns. Seconds are of the whole run, with loading, survey, audit and preview "
            "but without the trial of the runtimes.",
            str(measured.circumstances),
        ),
    )  # fmt: skip


def cascade_figures(measured: CascadeMeasurement) -> list[Figure]:
    """Seconds, how many times as fast as all passes everywhere, tiles that went on, and surface Dice of each way."""
    figures = []
    for entry in measured.entries:
        title, whole = entry.title, measured.whole
        figures.append(Figure(f"{title}: seconds", "s", tuple(one.seconds for one in entry.runs), Nature.SPEED))
        if entry is not whole:
            faster = tuple(entry.times_as_fast(whole))
            figures.append(Figure(f"{title}: times as fast", "", faster, Nature.RATIO, more_is_better=True))
        if entry.low_bound is not None and entry.gone_on_share is not None:
            share = (entry.gone_on_share,)
            figures.append(Figure(f"{title}: share of the tiles that went on", "", share, Nature.QUALITY))
        if entry.surface_dice is not None:
            score = (entry.surface_dice,)
            figures.append(Figure(f"{title}: surface Dice", "", score, Nature.QUALITY, more_is_better=True))
    return figures


def cascade_charts(measured: CascadeMeasurement) -> list[Chart]:
    """Seconds of each way, and surface Dice where the truth was known."""
    seconds = tuple((entry.title, tuple(one.seconds for one in entry.runs)) for entry in measured.entries)
    cascades = frozenset(entry.title for entry in measured.entries if entry.low_bound is not None)
    scores = tuple(
        (entry.title, (entry.surface_dice,)) for entry in measured.entries if entry.surface_dice is not None
    )  # fmt: skip
    charts: list[Chart] = [Bars("Seconds with and without a cascade", "s", seconds, ours=cascades)]
    return [*charts, Bars("Surface Dice against the truth", "", scores, ours=cascades)] if scores else charts


def _row(entry: CascadeEntry, whole: CascadeEntry) -> tuple[str, ...]:
    seconds = [one.seconds for one in entry.runs]
    faster = entry.times_as_fast(whole)
    known = entry.surface_dice is not None and whole.surface_dice is not None
    return (
        entry.title,
        "–" if entry.gone_on_share is None else f"{entry.gone_on_share:.1%}",
        f"{statistics.median(seconds):.2f} ({min(seconds):.2f} to {max(seconds):.2f})",
        f"{statistics.median(faster):.2f}",
        _score(entry.surface_dice),
        f"{entry.surface_dice - whole.surface_dice:+.4f}" if known else "–",  # type: ignore[operator]
        _score(entry.surface_dice_to_all),
    )


def _score(score: float | None) -> str:
    return "–" if score is None else f"{score:.4f}"
