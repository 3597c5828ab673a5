"""How many voxels the engine moves where the network costs nothing: an identity over a made volume."""

import math
import statistics
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Literal

from sennet_bench.circumstances import Circumstances, Watch
from sennet_bench.made_bundles import write_identity_bundle
from sennet_bench.made_volume import write_made_volume
from sennet_bench.peers.child import run_in_child
from sennet_bench.peers.contestant import Job
from sennet_bench.peers.table import CONTESTANTS, ENGINE
from sennet_bench.report.chart import Bars, Chart
from sennet_bench.report.figure import Figure, Nature
from sennet_bench.report.table import Table
from sennet_engine.errors import ConfigError
from sennet_engine.runtimes import usable_processors

# Stages that take less are not told.
SHOWN_SECONDS = 0.005
# Beside the stages among their times: their clock, and that of it without a network at work.
NO_STAGES = ("wall", "outside_network")


@dataclass(frozen=True)
class Throughput:
    """Runs of the engine, each in a process of its own.

    Attributes:
        seconds: of each run, from opening the volume to the written folder, loading counted.
        stage_seconds, part_seconds: of the fastest run.
    """

    shape_zyx: tuple[int, int, int]
    threads: int
    seconds: list[float]
    stage_seconds: dict[str, float]
    part_seconds: dict[str, float]
    circumstances: Circumstances
    kind: Literal["throughput"] = "throughput"


def measure_throughput(shape_zyx: tuple[int, int, int], *, repeats: int, threads: int | None) -> Throughput:
    """Run an identity network over a uint8 volume of this shape, an uncompressed TIFF.

    Raises:
        ConfigError: numbers below 1.
        ContestantError: the engine failed.
    """
    threads = usable_processors() if threads is None else threads
    if min(*shape_zyx, repeats, threads) < 1:
        raise ConfigError(f"got shape {shape_zyx}, {repeats} repeats and {threads} threads, expected 1 or more of each")
    watch = Watch()
    with TemporaryDirectory() as folder:
        model = write_identity_bundle(Path(folder) / "identity.model")
        volume = write_made_volume(Path(folder) / "volume.tif", shape_zyx)
        job = Job(volume, model, Path(folder) / "mask.tif", threads)
        # The first makes a trial of the runtimes, which the others remember.
        _, *outcomes = [run_in_child(CONTESTANTS[ENGINE], job).outcome for _ in range(1 + repeats)]
    seconds = [one.seconds + one.load_seconds for one in outcomes]
    fastest = outcomes[seconds.index(min(seconds))]
    return Throughput(shape_zyx, threads, seconds, fastest.stage_seconds, fastest.part_seconds, watch.circumstances())


def throughput_table(measured: Throughput) -> Table:
    """One row, with the stages of the fastest run and the circumstances below."""
    voxels = math.prod(measured.shape_zyx) / 1e6
    median, fastest, slowest = (kind(measured.seconds) for kind in (statistics.median, min, max))
    stages, parts = (
        ", ".join(f"{name} {seconds:.2f}" for name, seconds in found.items() if seconds >= SHOWN_SECONDS)
        for found in (measured.stage_seconds, measured.part_seconds)
    )
    row = (
        f"{' × '.join(map(str, measured.shape_zyx))} uint8",
        f"{median:.2f} ({fastest:.2f} to {slowest:.2f})",
        f"{voxels / median:.0f} ({voxels / slowest:.0f} to {voxels / fastest:.0f})",
    )
    return Table(
        heads=("identity network over", "seconds (range)", "Mvoxel/s (range)"),
        rows=(row,),
        notes=(
            f"{measured.threads} threads, {len(measured.seconds)} runs. The fastest, in seconds: {stages}; before and "
            f"after: {parts}.",
            str(measured.circumstances),
        ),
    )


def throughput_figures(measured: Throughput) -> list[Figure]:
    """Seconds of the runs."""
    return [Figure("identity network: seconds", "s", tuple(measured.seconds), Nature.SPEED)]


def throughput_charts(measured: Throughput) -> list[Chart]:
    """Where the fastest run's time went; stages are busy at the same time."""
    around = {f"{name} (before or after)": seconds for name, seconds in measured.part_seconds.items()}
    stages = {name: seconds for name, seconds in measured.stage_seconds.items() if name not in NO_STAGES}
    bars = tuple((name, (seconds,)) for name, seconds in (stages | around).items() if seconds >= SHOWN_SECONDS)
    return [Bars("Stages of the fastest run, which overlap", "s", bars)]
