"""What `--dry-run` tells beside what then happens."""

import statistics
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import product
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Literal

from sennet_bench.circumstances import Circumstances, Watch
from sennet_bench.inference import Forecast, Inference, finished_in_child, forecast_in_child
from sennet_bench.report.chart import Bars, Chart
from sennet_bench.report.figure import Figure, Nature
from sennet_bench.report.table import Table
from sennet_engine.errors import ConfigError
from sennet_engine.runtimes import AUTO, usable_processors
from sennet_engine.settings import InferSettings
from sennet_engine.trial_memory import TrialMemory
from sennet_engine.volumes.open import open_volume

# Of an estimate, either way.
AIM = 0.25
# A trial that takes less was none.
NO_TRIAL_SECONDS = 0.1


@dataclass(frozen=True)
class Round:
    """A dry run, and the run that followed it."""

    told: Forecast
    happened: Inference

    @property
    def tried(self) -> bool:
        """Whether the run made a trial of its own, whose peak of memory is then its own too."""
        return self.happened.trial_seconds > NO_TRIAL_SECONDS


@dataclass(frozen=True)
class EstimateEntry:
    """All rounds of one ensemble over one volume."""

    volume: str
    shape_zyx: tuple[int, int, int]
    ensemble: str
    rounds: list[Round]


@dataclass(frozen=True)
class EstimateMeasurement:
    """Dry runs and runs, each in a process of its own."""

    entries: list[EstimateEntry]
    threads: int
    runtime: str
    circumstances: Circumstances
    kind: Literal["dry-run"] = "dry-run"


def measure_estimates(
    volumes: Sequence[Path],
    models: Sequence[Path | None],
    *,
    repeats: int,
    threads: int | None,
    runtime: str = AUTO,
    told: Callable[[str], None] = lambda _line: None,
) -> EstimateMeasurement:
    """Estimate and run every ensemble over every volume, `repeats` rounds of all of them.

    Args:
        models: bundles or ensembles; None is the built-in model.
        told: called with a line before each round.

    Raises:
        ConfigError: numbers below 1.
        VolumeError: a volume cannot be read.
        InferenceError: a run failed.
    """
    threads = usable_processors() if threads is None else threads
    if min(repeats, threads) < 1:
        raise ConfigError(f"got {repeats} repeats and {threads} threads, expected 1 or more")
    watch = Watch()
    shapes = {}
    for volume in volumes:
        with open_volume(volume) as opened:
            shapes[volume] = opened.shape_zyx
    rounds: dict[tuple[Path, Path | None], list[Round]] = {pair: [] for pair in product(volumes, models)}
    with TemporaryDirectory() as folder:
        for number in range(repeats):
            for (volume, model), found in rounds.items():
                told(f"round {number + 1} of {repeats}: {volume.name}, {_name(model)}")
                settings = InferSettings(
                    model=model, out=Path(folder) / "out", overwrite=True, threads=threads, runtime=runtime,
                    trials=TrialMemory(Path(folder) / "trials.json"),
                )  # fmt: skip
                found.append(Round(forecast_in_child(volume, settings), finished_in_child(volume, settings)))
    entries = [
        EstimateEntry(volume.name, shapes[volume], _name(model), found) for (volume, model), found in rounds.items()
    ]
    return EstimateMeasurement(entries, threads, runtime, watch.circumstances())


def estimate_table(measured: EstimateMeasurement) -> Table:
    """A row for each volume and ensemble; ratios are what was told over what happened, medians of the rounds' own."""
    all_rounds = [one for entry in measured.entries for one in entry.rounds]
    ratios = [
        ratio
        for entry in measured.entries
        for ratio in (_seconds_ratio(entry.rounds), _peak_ratio(entry.rounds))
        if ratio is not None
    ]
    within = sum(abs(ratio - 1) <= AIM for ratio in ratios)
    tried = sum(one.tried for one in all_rounds)
    notes = [
        f"{within} of {len(ratios)} ratios are within {AIM:.0%}. Medians of {len(measured.entries[0].rounds)} rounds "
        f"on {measured.threads} threads, runtime {measured.runtime}. The trial of the runtimes, which happens once on "
        f"a machine, is in none of the seconds.",
    ]
    if tried:
        notes.append(
            f"{tried} of {len(all_rounds)} runs made a trial of their own, since other programs kept the processors "
            f"busy and none was remembered: their peaks, which may be those of the trial, are left out."
        )
    return Table(
        heads=(
            "volume", "ensemble", "tiles: told / done", "seconds: told / taken", "ratio", "peak MB: told / reached",
            "ratio", "the dry run took, s",
        ),
        rows=tuple(map(_row, measured.entries)),
        notes=(*notes, str(measured.circumstances)),
    )  # fmt: skip


def estimate_figures(measured: EstimateMeasurement) -> list[Figure]:
    """Of each ensemble over each volume: how far estimates were off, and what the dry run took itself."""
    figures = []
    for entry in measured.entries:
        title = _title(entry)
        off = {
            "seconds off by the factor": [one.told.seconds / one.happened.seconds for one in entry.rounds],
            "peak memory off by the factor": _peak_ratios(entry.rounds),
        }
        figures += [
            Figure(f"{title}: {name}", "", tuple(max(one, 1 / one) for one in found), Nature.RATIO)
            for name, found in off.items()
            if found
        ]
        own = tuple(one.told.own_seconds for one in entry.rounds)
        figures.append(Figure(f"{title}: seconds of the dry run", "s", own, Nature.SPEED))
    return figures


def estimate_charts(measured: EstimateMeasurement) -> list[Chart]:
    """Seconds and peak memory, told and then happened."""
    seconds, peaks = [], []
    for entry in measured.entries:
        quiet = [one for one in entry.rounds if not one.tried]
        for name, runs, quiet_runs in (
            ("told", [one.told for one in entry.rounds], [one.told for one in quiet]),
            ("happened", [one.happened for one in entry.rounds], [one.happened for one in quiet]),
        ):  # fmt: skip
            seconds.append((f"{_title(entry)}: {name}", tuple(one.seconds for one in runs)))
            known = tuple(one.peak_mb for one in quiet_runs if one.peak_mb is not None)
            if known:
                peaks.append((f"{_title(entry)}: {name}", known))
    told = frozenset(name for name, _ in seconds if name.endswith(": told"))
    charts: list[Chart] = [Bars("Seconds told and taken", "s", tuple(seconds), ours=told)]
    return [*charts, Bars("Peak memory told and reached", "MB", tuple(peaks), ours=told)] if peaks else charts


def _title(entry: EstimateEntry) -> str:
    return f"{entry.volume}, {' × '.join(map(str, entry.shape_zyx))}, {entry.ensemble}"


def _row(entry: EstimateEntry) -> tuple[str, ...]:
    told, happened = [one.told for one in entry.rounds], [one.happened for one in entry.rounds]
    quiet = [one for one in entry.rounds if not one.tried]
    seconds, peak = _seconds_ratio(entry.rounds), _peak_ratio(entry.rounds)
    return (
        f"{entry.volume}, {' × '.join(map(str, entry.shape_zyx))}",
        entry.ensemble,
        f"{told[0].tiles:,} / {happened[0].tiles:,}",
        f"{_median([one.seconds for one in told]):.1f} / {_median([one.seconds for one in happened]):.1f}",
        f"{seconds:.2f}",
        "–" if peak is None else f"{_median([one.told.peak_mb for one in quiet]):.0f} / "
        f"{_median([one.happened.peak_mb for one in quiet]):.0f}",
        "–" if peak is None else f"{peak:.2f}",
        f"{_median([one.own_seconds for one in told]):.1f}",
    )  # fmt: skip


def _seconds_ratio(rounds: Sequence[Round]) -> float:
    return statistics.median(one.told.seconds / one.happened.seconds for one in rounds)


def _peak_ratio(rounds: Sequence[Round]) -> float | None:
    found = _peak_ratios(rounds)
    return statistics.median(found) if found else None


def _peak_ratios(rounds: Sequence[Round]) -> list[float]:
    return [
        one.told.peak_mb / one.happened.peak_mb
        for one in rounds
        if one.told.peak_mb and one.happened.peak_mb and not one.tried
    ]


def _median(values: Sequence[float | None]) -> float:
    return statistics.median(value for value in values if value is not None)


def _name(model: Path | None) -> str:
    return "builtin" if model is None else model.stem
