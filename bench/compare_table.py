"""A comparison as a Markdown table: the engine's time is the unit of the others."""

import math
import statistics
from collections.abc import Sequence

from sennet_bench.compare import Comparison, Entry
from sennet_bench.peers.table import ENGINE, ENGINE_INT8
from sennet_bench.report.table import Table

HEADS = (
    "seconds (range)", "loading, s", "CPU s", "Mvoxel/s", "times sennet fp32", "times sennet int8", "peak MB",
    "surface Dice", "Dice",
)  # fmt: skip


def ratios(comparison: Comparison, name: str, base: str, *, with_load: bool = False) -> list[float]:
    """How many times as long `name` took as `base`, in each round that both ended.

    With `with_load` loading counts for `base` and not for `name`.
    """
    samples = {entry.name: {one.round: one for one in entry.samples} for entry in comparison.entries}
    own, other = samples.get(name, {}), samples.get(base, {})
    return [
        one.seconds / (other[number].seconds + other[number].load_seconds * with_load)
        for number, one in own.items()
        if number in other
    ]


def compare_table(comparison: Comparison) -> Table:
    """A row for each contestant, with what it means and the circumstances below."""
    z, y, x = comparison.shape_zyx
    bases = [ENGINE, ENGINE_INT8]
    notes = [
        f"{comparison.volume}, {z} × {y} × {x} {comparison.dtype}; {comparison.model} at threshold "
        f"{comparison.threshold:g}; {comparison.threads} threads; medians of {comparison.rounds} rounds in turns, each "
        f"run in a process of its own.",
        "Seconds are from opening the volume to the written mask. Loading the network stands in its own column, "
        "for torch with its first tile. CPU seconds are those of all threads, loading counted. Peak memory is that of "
        "the process with its libraries.",
    ]
    counted = [
        f"{entry.title} {statistics.median(found):.1f}"
        for entry in comparison.entries
        if entry.name not in bases and (found := ratios(comparison, entry.name, ENGINE, with_load=True))
    ]
    if counted:
        notes.append(f"Times sennet fp32 with loading counted for sennet alone: {'; '.join(counted)}.")
    first = [
        f"{entry.title} {entry.first_load_seconds:.1f} s"
        for entry in comparison.entries
        if entry.first_load_seconds is not None
    ]
    if first:
        notes.append(
            f"The first run on a machine tries which runtime is fastest, and the others remember it. It stands in no "
            f"figure above; with loading it took: {'; '.join(first)}."
        )
    return Table(
        heads=("", *HEADS),
        rows=tuple(_row(comparison, entry, bases) for entry in comparison.entries),
        notes=(*notes, str(comparison.circumstances)),
    )


def _row(comparison: Comparison, entry: Entry, bases: Sequence[str]) -> tuple[str, ...]:
    if not entry.samples:
        return entry.title, str(entry.problem)
    seconds = [one.seconds for one in entry.samples]
    median = statistics.median(seconds)
    cells = [
        f"{median:.2f} ({min(seconds):.2f} to {max(seconds):.2f})",
        _median([one.load_seconds for one in entry.samples], "{:.2f}"),
        _median([one.cpu_seconds for one in entry.samples], "{:.2f}"),
        f"{math.prod(comparison.shape_zyx) / median / 1e6:.2f}",
        *(_median(ratios(comparison, entry.name, base), "{:.2f}") for base in bases),
        _median([one.peak_mb for one in entry.samples], "{:.0f}"),
        _median([entry.surface_dice_0], "{:.4f}"),
        _median([entry.dice], "{:.4f}"),
    ]
    told = f" (then {entry.problem})" if entry.problem else ""
    return f"{entry.title}{told}", *cells


def _median(values: Sequence[float | None], form: str) -> str:
    known = [value for value in values if value is not None]
    return form.format(statistics.median(known)) if known else "–"
