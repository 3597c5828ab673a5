"""Latency as a table, as figures to compare, and as charts."""

import statistics
from collections.abc import Sequence
from itertools import chain

import numpy as np

from sennet_bench.latency.calls import COMPUTE, COPY_IN, COPY_OUT, ENQUEUE
from sennet_bench.latency.measurement import Latency, LatencyMeasurement
from sennet_bench.latency.notes import latency_notes, spread_problems, variation
from sennet_bench.report.chart import Bars, Chart, Distribution, Parts
from sennet_bench.report.figure import Figure, Nature
from sennet_bench.report.table import Table

HEADS = (
    "loading, s", "first call, ms", "p50, ms", "p90, ms", "p95, ms", "p99, ms", "mean, ms", "coefficient of variation",
    "tiles/s", "Mpixel/s", "of the peak",
)  # fmt: skip
SHORT = ("p50, ms", "p95, ms", "tiles/s", "Mpixel/s", "of the peak")
PARTS = (COPY_IN, COMPUTE, COPY_OUT, ENQUEUE)
# Of fewer calls the 99th percentile is hardly more than the slowest of them.
CALLS_FOR_P99 = 100
# More curves than that are not told apart in one chart.
MOST_CURVES = 8


def name_of(entry: Latency) -> str:
    """Of a combination, the same in every file."""
    return f"{entry.model} {entry.precision}, {entry.runtime}, {entry.tile} × {entry.tile}, batch {entry.batch}"


def latency_table(measured: LatencyMeasurement) -> Table:
    """A row for each combination; on a GPU with the parts of a call, with several contexts with all of them at work."""
    on_gpu = any(entry.part_seconds for entry in measured.entries)
    heads: tuple[str, ...] = ("", *HEADS)
    if on_gpu:
        heads += (*(f"{part}, ms" for part in PARTS), "tiles/s by compute alone")
    if measured.contexts > 1:
        heads += (f"tiles/s, {measured.contexts} contexts",)
    return Table(
        heads=heads,
        rows=tuple(_row(measured, entry, on_gpu=on_gpu) for entry in measured.entries),
        notes=latency_notes(measured, {name_of(one): one for one in measured.entries}),
    )


def latency_short(measured: LatencyMeasurement) -> Table:
    """The median and the slow calls, tiles in a second and the share of the peak; the circumstances alone below."""
    whole = latency_table(measured)
    kept = [0, *(whole.heads.index(head) for head in SHORT)]
    return Table(
        heads=tuple(whole.heads[index] for index in kept),
        rows=tuple(tuple(row[index] for index in kept) for row in whole.rows),
        notes=whole.notes[-1:],
    )


def latency_figures(measured: LatencyMeasurement) -> list[Figure]:
    """Of each combination, by round: the median of a call, on a GPU also of compute alone, and tiles in a second."""
    found = []
    for entry in measured.entries:
        name = name_of(entry)
        found.append(_milliseconds(f"{name}: p50", entry.warm_seconds))
        if entry.part_seconds:
            found.append(_milliseconds(f"{name}: compute p50", entry.part_seconds[COMPUTE]))
        rates = {"tiles/s": _tiles_per_second(entry), "tiles/s, all contexts": tuple(entry.busy_tiles_per_second)}
        found += [
            Figure(f"{name}: {what}", "tiles/s", samples, Nature.SPEED, more_is_better=True)
            for what, samples in rates.items()
            if samples
        ]
    return found


def latency_charts(measured: LatencyMeasurement) -> list[Chart]:
    """How the calls are distributed, by model where there are many; tiles in a second; on a GPU what a call is."""
    entries = measured.entries
    charts: list[Chart] = []
    if len(entries) <= MOST_CURVES:
        charts.append(_distribution("Calls that took at most so long", entries))
    else:
        for model in dict.fromkeys(entry.model for entry in entries):
            own = [entry for entry in entries if entry.model == model]
            charts.append(_distribution(f"Calls that took at most so long: {model}", own))
    rates = tuple((name_of(entry), _tiles_per_second(entry)) for entry in entries)
    charts.append(Bars("Tiles in a second, one call after another", "tiles/s", rates))
    if parts := [entry for entry in entries if entry.part_seconds]:
        charts.append(
            Parts(
                "What a call is, by the GPU's clock", "ms",
                tuple((name_of(one), {part: _median_ms(one, part) for part in PARTS[:3]}) for one in parts),
            )
        )  # fmt: skip
    return charts


def peak_share(measured: LatencyMeasurement, entry: Latency) -> float | None:
    """Operations in a second over those of the faster matrix product; on a GPU of compute alone."""
    peaks = measured.peak_gflops.get(entry.runtime)
    if not peaks or entry.gflop_per_tile is None:
        return None
    seconds = _flat(entry.part_seconds[COMPUTE] if entry.part_seconds else entry.warm_seconds)
    return entry.batch * entry.gflop_per_tile / statistics.median(seconds) / max(peaks)


def _row(measured: LatencyMeasurement, entry: Latency, *, on_gpu: bool) -> tuple[str, ...]:
    calls = np.array(_flat(entry.warm_seconds)) * 1e3
    p50, p90, p95, p99 = np.percentile(calls, (50, 90, 95, 99))
    rate, share = entry.batch / calls.mean() * 1e3, peak_share(measured, entry)
    cells = [
        name_of(entry), f"{entry.load_seconds:.2f}", _ms(entry.first_seconds * 1e3), _ms(p50), _ms(p90), _ms(p95),
        _ms(p99) if calls.size >= CALLS_FOR_P99 else "–", _ms(calls.mean()),
        f"{variation(entry):.1%}{' (too wide)' if spread_problems(entry) else ''}",
        _rate(rate), _rate(rate * entry.tile**2 / 1e6), "–" if share is None else f"{share:.0%}",
    ]  # fmt: skip
    if on_gpu:
        cells += [_ms(_median_ms(entry, part)) for part in PARTS]
        cells.append(_rate(entry.batch / _median_ms(entry, COMPUTE) * 1e3))
    if entry.busy_tiles_per_second:
        cells.append(_rate(statistics.median(entry.busy_tiles_per_second)))
    return tuple(cells)


def _milliseconds(name: str, rounds: Sequence[Sequence[float]]) -> Figure:
    return Figure(name, "ms", tuple(statistics.median(one) * 1e3 for one in rounds), Nature.SPEED)


def _tiles_per_second(entry: Latency) -> tuple[float, ...]:
    """In each round."""
    return tuple(entry.batch / statistics.fmean(one) for one in entry.warm_seconds)


def _distribution(title: str, entries: Sequence[Latency]) -> Distribution:
    curves = ((name_of(one), tuple(seconds * 1e3 for seconds in _flat(one.warm_seconds))) for one in entries)
    return Distribution(title, "ms", tuple(curves))


def _median_ms(entry: Latency, part: str) -> float:
    return statistics.median(_flat(entry.part_seconds[part])) * 1e3


def _flat(rounds: Sequence[Sequence[float]]) -> list[float]:
    return list(chain.from_iterable(rounds))


def _ms(milliseconds: float) -> str:
    return f"{milliseconds:.3f}" if milliseconds < 10 else f"{milliseconds:.1f}"


def _rate(number: float) -> str:
    return f"{number:.0f}" if number >= 1000 else f"{number:.4g}"
