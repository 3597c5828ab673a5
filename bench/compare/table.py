"""A comparison as tables: the engine's time is the unit of the others."""

import math
import statistics
from collections.abc import Sequence

from sennet_bench.compare.better import other_tools, where_others_win
from sennet_bench.compare.measurement import Comparison, Entry
from sennet_bench.compare.ratios import peaks_mb, ratios, spread
from sennet_bench.peers.table import ENGINE, ENGINE_INT8, SHORT
from sennet_bench.report.table import Table

HEADS = (
    "seconds (range)", "loading, s", "CPU s", "Mvoxel/s", "times sennet fp32 (range)",
    "with loading (range)", "times sennet int8 (range)", "peak MB", "surface Dice", "Dice",
)  # fmt: skip
SHORT_HEADS = ("tool", "times as long as sennet (range)", "with loading (range)", "peak MB", "surface Dice")
SHORT_ROWS = 9


def compare_table(comparison: Comparison) -> Table:
    """A row for each contestant; below, what it means, where others are ahead, and the circumstances."""
    notes = (
        _subject(comparison),
        "Seconds are from opening the volume to the written mask. Loading the network stands in its own column, "
        "for the others with their first tile. A run of a command pays for it, a service only when it starts, so there "
        "are ratios without it and with it. CPU seconds are those of all threads, loading "
        "counted. Peak memory is that of the process with its libraries.",
        *_first_runs(comparison),
        *_honest(comparison),
        str(comparison.circumstances),
    )
    return Table(("", *HEADS), tuple(_row(comparison, entry) for entry in comparison.entries), notes)


def short_table(comparison: Comparison) -> Table:
    """Few columns and at most nine rows, for a README: of each tool its usual settings and its best."""
    kept = [name for name in SHORT if any(entry.name == name for entry in comparison.entries)][:SHORT_ROWS]
    rows = tuple(
        (
            entry.title,
            spread(ratios(comparison, entry.name, ENGINE), 2) if entry.samples else str(entry.problem),
            spread(ratios(comparison, entry.name, ENGINE, with_load=True), 2),
            _median(peaks_mb(entry), 0),
            _known(entry.surface_dice_0),
        )
        for entry in comparison.entries
        if entry.name in kept
    )
    return Table(SHORT_HEADS, rows, (_subject(comparison), str(comparison.circumstances)))


def _subject(comparison: Comparison) -> str:
    z, y, x = comparison.shape_zyx
    return (
        f"{comparison.volume}, {z} × {y} × {x} {comparison.dtype}; {comparison.model} at threshold "
        f"{comparison.threshold:g}; {comparison.threads} threads; medians of {comparison.rounds} rounds in turns, each "
        f"run in a process of its own."
    )


def _honest(comparison: Comparison) -> list[str]:
    compared = ["time", "peak memory", "loading"]
    if any(entry.dice is not None for entry in comparison.entries):
        compared += ["surface Dice", "Dice"]
    none = [f"No other tool is ahead of sennet fp32 in {' or '.join((', '.join(compared[:-1]), compared[-1]))}."]
    return where_others_win(comparison) or (none if other_tools(comparison) else [])


def _first_runs(comparison: Comparison) -> list[str]:
    first = [
        f"{entry.title} {entry.first_load_seconds:.1f} s"
        for entry in comparison.entries
        if entry.first_load_seconds is not None
    ]
    if not first:
        return []
    return [
        f"Before the rounds, a first run finds out what the others make use of: sennet which runtime is fastest here, "
        f"torch.compile its machine code. It stands in no figure above; with loading it took: {'; '.join(first)}."
    ]


def _row(comparison: Comparison, entry: Entry) -> tuple[str, ...]:
    if not entry.samples:
        return entry.title, str(entry.problem)
    seconds = [one.seconds for one in entry.samples]
    told = f" (then {entry.problem})" if entry.problem else ""
    return (
        f"{entry.title}{told}",
        spread(seconds, 2),
        _median([one.load_seconds for one in entry.samples], 2),
        _median([one.cpu_seconds for one in entry.samples], 2),
        f"{math.prod(comparison.shape_zyx) / statistics.median(seconds) / 1e6:.2f}",
        _ratio(comparison, entry.name, ENGINE),
        _ratio(comparison, entry.name, ENGINE, with_load=True),
        _ratio(comparison, entry.name, ENGINE_INT8),
        _median(peaks_mb(entry), 0),
        _known(entry.surface_dice_0),
        _known(entry.dice),
    )


def _ratio(comparison: Comparison, name: str, base: str, *, with_load: bool = False) -> str:
    found = ratios(comparison, name, base, with_load=with_load)
    return _median(found, 2) if name == base else spread(found, 2)


def _median(values: Sequence[float], digits: int) -> str:
    return f"{statistics.median(values):.{digits}f}" if values else "–"


def _known(score: float | None) -> str:
    return "–" if score is None else f"{score:.4f}"
