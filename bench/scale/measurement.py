"""What a run costs against planes, their side, the number of models, threads and the overlap of tiles."""

import json
import os
import random
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Literal

from sennet_bench.circumstances import Circumstances, Watch
from sennet_bench.inference import finished_in_child, forecast_in_child
from sennet_bench.promises.dry_run import NO_TRIAL_SECONDS
from sennet_bench.scale.jobs import Job, made_jobs
from sennet_bench.scale.points import AXES, Axis, Point, overlap_base, points_along, tile_for_overlaps, usual_values
from sennet_engine.bundle import BUILTIN, open_bundle
from sennet_engine.errors import ConfigError
from sennet_engine.runtimes import DEFAULT_RUNTIME, usable_processors
from sennet_engine.summary import SUMMARY_NAME

SHUFFLE_SEED = 0


@dataclass(frozen=True)
class ScaleSample:
    """One run, in a process of its own.

    Attributes:
        round: from 0.
        position: in the order of the round, from 0.
        seconds: from opening the volume to the whole output, without loading the networks.
        load_seconds: loading them.
        trial_seconds: of a trial of the runtimes; hardly any where one was remembered. In no other seconds, but its
            memory is in the peak.
        network_seconds: of `seconds`, in which any network computed.
        cpu_seconds: of the processors, over all threads of the process, its start counted.
        peak_mb: the largest resident memory of the process, in 10^6 bytes; None where the system does not tell.
        tiles: that went through networks.
        computed_by: runtime, calls at a time, threads of each.
    """

    round: int
    position: int
    seconds: float
    load_seconds: float
    trial_seconds: float
    network_seconds: float
    cpu_seconds: float
    peak_mb: float | None
    tiles: int
    computed_by: str

    @property
    def tried(self) -> bool:
        """Whether it made a trial of its own, whose peak of memory is then its own too."""
        return self.trial_seconds > NO_TRIAL_SECONDS


@dataclass(frozen=True)
class ScalePoint:
    """All rounds of one value of an axis.

    Attributes:
        value: on the axis.
        pixels: through networks, of the whole run.
    """

    axis: Axis
    value: float
    setting: Point
    pixels: int
    samples: list[ScaleSample]


@dataclass(frozen=True)
class ScaleMeasurement:
    """Runs that differ from a base in one thing each; made volumes of uint8, nothing left out as background.

    Attributes:
        weights_mb: of the network's file, in 10^6 bytes.
        base: what is not varied; along the overlap that is `overlap_base`.
        overlap_tile: side of the tiles there; None where overlap is not varied.
        seed: each round visits all points, in an order shuffled by it.
    """

    model: str
    weights_mb: float
    runtime: str
    base: Point
    overlap_base: Point | None
    overlap_tile: int | None
    axes: dict[Axis, list[float]]
    points: list[ScalePoint]
    rounds: int
    seed: int
    circumstances: Circumstances
    kind: Literal["scale"] = "scale"


@dataclass(frozen=True)
class ScaleRequest:
    """What a person asks for.

    Attributes:
        along: values by axis, none for the usual ones; by default all axes.
        model: a bundle; by default the built-in one.
        planes, side: of the base.
        threads: of the base, and the most where they are varied; by default all processors.
        runtime: of all points: where it is left to a trial, small points may be computed by another than large ones.
        quick: few values.
    """

    along: Mapping[Axis, Sequence[float]] = field(default_factory=dict)
    model: Path | None = None
    planes: int = 8
    side: int = 512
    repeats: int = 3
    threads: int | None = None
    runtime: str = DEFAULT_RUNTIME
    quick: bool = False


def measure_scale(request: ScaleRequest, *, told: Callable[[str], None] = lambda _line: None) -> ScaleMeasurement:
    """Run all points in turns, `repeats` rounds of them, each round in an order of its own.

    Before the first round every point has a dry run, which counts its pixels, and makes the trial of the runtimes
    where one is worth it.

    Args:
        told: called with a line before each run.

    Raises:
        ConfigError: numbers below 1, an axis of a single value, or overlaps that the network's tiles cannot have.
        ModelError: no bundle.
        InferenceError: a run failed.
    """
    threads = usable_processors() if request.threads is None else request.threads
    if min(request.repeats, request.planes, request.side, threads) < 1:
        raise ConfigError(
            f"got {request.repeats} repeats, {request.planes} planes of side {request.side} and {threads} threads, "
            f"expected 1 or more of each"
        )
    bundle = open_bundle(request.model or BUILTIN)
    watch = Watch()
    base = Point(request.planes, request.side, models=1, threads=threads)
    axes = _axes(request, base, told)
    tile = tile_for_overlaps(axes["overlap"], bundle.card.tiling) if "overlap" in axes else None
    wide = None if tile is None else overlap_base(base, tile=tile, quick=request.quick)
    bases = {axis: wide if wide and axis == "overlap" else base for axis in axes}
    settings = [
        (axis, value, point)
        for axis, values in axes.items()
        for value, point in zip(values, points_along(axis, values, bases[axis]), strict=True)
    ]
    names = [f"{axis} {value:g}" for axis, value, _ in settings]
    with TemporaryDirectory() as folder:
        jobs = list(
            made_jobs([one for *_, one in settings], bundle.path, tile=tile, runtime=request.runtime,
                      folder=Path(folder))
        )  # fmt: skip
        pixels = []
        for number, job in enumerate(jobs):
            told(f"dry run {number + 1} of {len(jobs)}: {names[number]}")
            pixels.append(forecast_in_child(job.volume, job.settings).pixels)
        samples: list[list[ScaleSample]] = [[] for _ in jobs]
        for round_, order in enumerate(shuffled_rounds(len(jobs), request.repeats)):
            for position, number in enumerate(order):
                told(f"round {round_ + 1} of {request.repeats}, {position + 1} of {len(jobs)}: {names[number]}")
                samples[number].append(_sampled(jobs[number], round_=round_, position=position))
    points = [
        ScalePoint(*setting, pixels=count, samples=found)
        for setting, count, found in zip(settings, pixels, samples, strict=True)
    ]
    return ScaleMeasurement(
        bundle.card.name, bundle.card.files[bundle.onnx_name()].bytes / 1e6, request.runtime, base, wide, tile, axes,
        points, request.repeats, SHUFFLE_SEED, watch.circumstances(),
    )  # fmt: skip


def shuffled_rounds(points: int, rounds: int) -> Iterator[list[int]]:
    """For each round the numbers of all points, in an order of its own, the same in every measurement."""
    draw = random.Random(SHUFFLE_SEED)
    for _ in range(rounds):
        yield draw.sample(range(points), points)


def _axes(request: ScaleRequest, base: Point, told: Callable[[str], None]) -> dict[Axis, list[float]]:
    found: dict[Axis, list[float]] = {}
    for axis in AXES:
        if request.along and axis not in request.along:
            continue
        usual = usual_values(axis, base, most_threads=base.threads, quick=request.quick)
        values = list(request.along.get(axis) or usual)
        if len(values) > 1:
            found[axis] = values
        elif request.along:
            raise ConfigError(f"along {axis}: got {values[0]:g} alone, expected two values or more; try {axis}=1,2")
        else:
            told(f"{axis} is left out: there is {values[0]:g} alone")
    return found


def _sampled(job: Job, *, round_: int, position: int) -> ScaleSample:
    before = sum(os.times()[:4])
    ran = finished_in_child(job.volume, job.settings)
    cpu_seconds = sum(os.times()[:4]) - before
    summary = json.loads((job.out / SUMMARY_NAME).read_text(encoding="utf-8"))
    ways = {text.partition(";")[0]: None for text in summary["runtimes"].values()}
    return ScaleSample(
        round=round_,
        position=position,
        seconds=ran.seconds - ran.load_seconds,
        load_seconds=ran.load_seconds,
        trial_seconds=ran.trial_seconds,
        network_seconds=ran.network_seconds,
        cpu_seconds=cpu_seconds,
        peak_mb=ran.peak_mb,
        tiles=ran.tiles,
        computed_by=" and ".join(ways),
    )
