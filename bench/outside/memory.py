"""Peak memory of the engine against the number of planes: it must not grow."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Literal

from sennet_bench.circumstances import Circumstances, Watch
from sennet_bench.made_bundles import write_small_bundle
from sennet_bench.made_volume import write_made_volume
from sennet_bench.peers.child import run_in_child
from sennet_bench.peers.contestant import Job
from sennet_bench.peers.table import CONTESTANTS, ENGINE
from sennet_bench.report.chart import Chart, Lines
from sennet_bench.report.figure import Figure, Nature
from sennet_bench.report.table import Table
from sennet_engine.errors import ConfigError
from sennet_engine.runtimes import usable_processors


@dataclass(frozen=True)
class MemoryMeasurement:
    """The engine with a small network, over planes of `side` × `side` pixels.

    Attributes:
        planes: how many, of each run.
        peak_mb: the largest resident memory of each run's process, in 10^6 bytes, libraries included.
        largest_ratio: of any to the smallest.
    """

    side: int
    planes: list[int]
    peak_mb: list[float]
    largest_ratio: float
    threads: int
    circumstances: Circumstances
    kind: Literal["memory"] = "memory"


def measure_memory(planes: Sequence[int], *, side: int, threads: int | None) -> MemoryMeasurement:
    """Run the engine over volumes of that many planes, each in a process of its own.

    Raises:
        ConfigError: no or too small numbers, or a system that does not tell a process's peak (Linux does).
        ContestantError: the engine failed.
    """
    threads = usable_processors() if threads is None else threads
    if not planes or min(*planes, side, threads) < 1:
        raise ConfigError(f"got {list(planes)} planes of side {side}, expected numbers of 1 or more")
    watch = Watch()
    peaks = []
    with TemporaryDirectory() as folder:
        model = write_small_bundle(Path(folder) / "small.model")
        # The first run makes a trial of the runtimes, which the others remember: it is not counted. Few planes would
        # not be worth a trial, and the first run of many would then have its memory in the peak.
        for count in (max(planes), *planes):
            volume = write_made_volume(Path(folder) / "volume.tif", (count, side, side))
            job = Job(volume, model, Path(folder) / "mask.tif", threads)
            peak = run_in_child(CONTESTANTS[ENGINE], job).peak_mb
            if peak is None:
                raise ConfigError("this system does not tell the peak memory of a process; measure on Linux")
            peaks.append(peak)
    del peaks[0]
    return MemoryMeasurement(side, list(planes), peaks, max(peaks) / min(peaks), threads, watch.circumstances())


def memory_table(measured: MemoryMeasurement) -> Table:
    """A row for each number of planes, with the circumstances below."""
    side, smallest = measured.side, min(measured.peak_mb)
    return Table(
        heads=("planes", "volume, MB", "peak MB", "of the smallest"),
        rows=tuple(
            (str(count), f"{count * side * side / 1e6:.0f}", f"{peak:.0f}", f"{peak / smallest:.3f}")
            for count, peak in zip(measured.planes, measured.peak_mb, strict=True)
        ),
        notes=(
            f"Planes of {side} × {side} uint8, a network of two convolutions, {measured.threads} threads.",
            str(measured.circumstances),
        ),
    )


def memory_figures(measured: MemoryMeasurement) -> list[Figure]:
    """The peak of each number of planes."""
    return [
        Figure(f"{count} planes: peak memory", "MB", (peak,), Nature.MEMORY)
        for count, peak in zip(measured.planes, measured.peak_mb, strict=True)
    ]


def memory_charts(measured: MemoryMeasurement) -> list[Chart]:
    """The peak beside the size of the volume, against the planes."""
    pairs = sorted(zip(measured.planes, measured.peak_mb, strict=True))
    process = tuple((float(count), (peak,)) for count, peak in pairs)
    volume = tuple((float(count), (count * measured.side**2 / 1e6,)) for count, _ in pairs)
    lines = (("peak of the process", process), ("the volume itself", volume))
    return [Lines("Memory against planes", "planes", "MB", lines, logarithmic=True)]
