"""Where the engine's time goes, by its own stage times: what is not the network's is what could be saved."""

import math
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Literal

from sennet_bench.circumstances import Circumstances, Watch
from sennet_bench.peers.child import run_in_child
from sennet_bench.peers.contestant import Contestant, Job
from sennet_bench.peers.table import CONTESTANTS, ENGINE, ENGINE_INT8
from sennet_bench.report.table import Table
from sennet_engine.errors import ConfigError
from sennet_engine.runtimes import usable_processors
from sennet_engine.volumes.open import open_volume

# Entries of the engine's stage times: the time in which planes were worked on, and that of it without a network.
WALL, OUTSIDE = "wall", "outside_network"
BY_PRECISION = {"fp32": ENGINE, "int8": ENGINE_INT8}


@dataclass(frozen=True)
class StageMeasurement:
    """One run of the engine in a process of its own.

    Attributes:
        seconds: of the run, without the trial of the runtimes and loading.
        load_seconds: of these.
        stage_seconds: of each stage. Stages run at the same time, so together they may be longer than the run.
        part_seconds: of what comes before and after the stages.
        network_seconds: in which any network computed.
        outside_share: of `seconds`, the share in which no network computed: survey, plan, waiting for
            the first planes, the last ones' way to the disk, the preview.
        outside_share_of_pipeline: the same of the time from the first plane to the last.
    """

    volume: str
    shape_zyx: tuple[int, int, int]
    model: str
    precision: str
    threads: int
    seconds: float
    load_seconds: float
    stage_seconds: dict[str, float]
    part_seconds: dict[str, float]
    network_seconds: float
    outside_share: float
    outside_share_of_pipeline: float
    circumstances: Circumstances
    kind: Literal["stages"] = "stages"


def measure_stages(volume: Path, model: Path, *, precision: str, threads: int | None) -> StageMeasurement:
    """Run the engine over `volume`.

    Raises:
        ConfigError: another precision than fp32 or int8.
        ContestantError: the engine failed.
    """
    if precision not in BY_PRECISION:
        raise ConfigError(f"precision: got {precision!r}, expected one of {', '.join(BY_PRECISION)}")
    threads = usable_processors() if threads is None else threads
    watch = Watch()
    with open_volume(volume) as opened:
        shape = opened.shape_zyx
    with TemporaryDirectory() as folder:
        engine: Contestant = CONTESTANTS[BY_PRECISION[precision]]
        outcome = run_in_child(engine, Job(volume, model, Path(folder) / "mask.tif", threads)).outcome
    wall, outside = (outcome.stage_seconds[name] for name in (WALL, OUTSIDE))
    return StageMeasurement(
        volume=volume.name,
        shape_zyx=shape,
        model=model.name,
        precision=precision,
        threads=threads,
        seconds=outcome.seconds,
        load_seconds=outcome.load_seconds,
        stage_seconds=outcome.stage_seconds,
        part_seconds=outcome.part_seconds,
        network_seconds=wall - outside,
        outside_share=1 - (wall - outside) / outcome.seconds,
        outside_share_of_pipeline=outside / wall,
        circumstances=watch.circumstances(),
    )


def stage_table(measured: StageMeasurement) -> Table:
    """Stages and parts, with their circumstances below."""
    shape = " × ".join(map(str, measured.shape_zyx))
    stages = {name: time for name, time in measured.stage_seconds.items() if name not in (WALL, OUTSIDE) and time}
    return Table(
        heads=("", "seconds", "share of the run"),
        rows=(
            *(_row(f"stage: {name}", time, measured.seconds) for name, time in stages.items()),
            *(
                _row(f"before and after: {name}", time, measured.seconds)
                for name, time in measured.part_seconds.items()
            ),
            _row("the run, without loading", measured.seconds, measured.seconds),
            _row("of it without a network at work", measured.outside_share * measured.seconds, measured.seconds),
        ),
        notes=(
            f"Stages run at the same time; from the first plane to the last {measured.outside_share_of_pipeline:.1%} "
            f"had no network at work. Loading, with a trial of the runtimes, took {measured.load_seconds:.2f} s.",
            f"{measured.volume}, {shape}; {measured.model}, {measured.precision}, {measured.threads} threads; "
            f"{math.prod(measured.shape_zyx) / measured.seconds / 1e6:.2f} Mvoxel/s.",
            str(measured.circumstances),
        ),
    )


def _row(name: str, seconds: float, whole: float) -> tuple[str, ...]:
    return name, f"{seconds:.3f}", f"{seconds / whole:.1%}"
