"""How long networks take for a call, and how evenly: all that were asked for in turns, as the engine runs them."""

import math
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from time import perf_counter
from typing import Literal

from sennet_bench.circumstances import Circumstances, Watch
from sennet_bench.latency.calls import GpuParts, call_seconds, graphs_heard, noise
from sennet_bench.latency.combinations import Combination, combinations, gflop_per_tile
from sennet_bench.latency.place import Place, PlaceRequest, place_of
from sennet_engine.card import Precision
from sennet_engine.errors import ConfigError
from sennet_engine.predictor import Predictor
from sennet_engine.tile_timing import timed_tiles


@dataclass(frozen=True)
class LatencyRequest:
    """What a person asks for; what is left empty is the usual one of the models and the device.

    Attributes:
        models: bundles; by default the built-in one.
        tiles: sides, in pixels.
        batches: tiles in a call.
        calls: that are counted, of each combination in each round.
        repeats: rounds; in each all combinations come one after another.
    """

    models: Sequence[Path] = ()
    precisions: Sequence[str] = ()
    tiles: Sequence[int] = ()
    batches: Sequence[int] = (1,)
    calls: int = 30
    repeats: int = 5
    place: PlaceRequest = field(default_factory=PlaceRequest)


@dataclass(frozen=True)
class Latency:
    """Of one combination.

    Attributes:
        runtime, computed_by: its name, and that with its version.
        tile: side, in pixels.
        batch: tiles in a call.
        load_seconds: of a predictor of its own.
        first_seconds: its first call.
        warm_seconds: of each counted call, by round; from an array of the host to an array of the host.
        part_seconds: on a GPU, of each part of as many calls more, by round.
        busy_tiles_per_second: with all contexts at work, in each round; none where there is one context.
        gflop_per_tile: 2 for a multiply-add; None where the graph's shapes do not tell.
    """

    model: str
    precision: str
    runtime: str
    computed_by: str
    tile: int
    batch: int
    load_seconds: float
    first_seconds: float
    warm_seconds: list[list[float]]
    part_seconds: dict[str, list[list[float]]]
    busy_tiles_per_second: list[float]
    gflop_per_tile: float | None


@dataclass(frozen=True)
class LatencyMeasurement:
    """What was measured.

    Attributes:
        device: `cpu`, or a GPU with its name.
        threads, contexts: of one call; how many calls may compute at the same time.
        cuda_graphs: as it was asked for.
        told: what the engine said of CUDA graphs.
        calls, rounds, warm_up_calls: counted of each entry in a round; rounds; uncounted at the beginning of each.
        peak_dtype: `float32` or `float16`: what the matrices were made of.
        peak_gflops: by runtime, of a product of matrices before and after; empty where there is none.
        no_peak: why there is none.
    """

    device: str
    threads: int
    contexts: int
    cuda_graphs: str
    told: list[str]
    calls: int
    rounds: int
    warm_up_calls: int
    peak_dtype: str
    peak_gflops: dict[str, list[float]]
    no_peak: str
    entries: list[Latency]
    circumstances: Circumstances
    kind: Literal["latency"] = "latency"


def measure_latency(request: LatencyRequest, *, told: Callable[[str], None] = lambda _line: None) -> LatencyMeasurement:
    """Time every combination of model, precision, runtime, tile and batch.

    Args:
        told: called with a line before each step.

    Raises:
        ConfigError: numbers below 1, a tile that a model does not take, two models of one name, or no such device,
            runtime or precision.
        ModelError: no bundle, or one without a file of the precision.
        MissingExtraError: a runtime is not installed.
        DeviceError: the GPU is not there, or failed.
    """
    _refuse_numbers(request)
    place = place_of(request.place, told=told)
    wanted = combinations(
        request.models, place, precisions=request.precisions, tiles=request.tiles, batches=request.batches
    )
    watch = Watch()
    peaks = [{runtime: place.peak_gflops(runtime) for runtime in place.runtimes}]
    with ExitStack() as opened, graphs_heard() as graphs:
        predictors: dict[tuple[str, Precision, str], Predictor] = {}
        records = []
        for one in wanted:
            told(f"loading: {one}")
            records.append(_Record(one, place, predictors, opened))
        for number in range(request.repeats):
            for record in records:
                told(f"round {number + 1} of {request.repeats}: {record.combination}")
                record.add(request.calls)
    peaks.append({runtime: place.peak_gflops(runtime) for runtime in place.runtimes})
    return LatencyMeasurement(
        device=place.device,
        threads=place.threads,
        contexts=request.place.contexts,
        cuda_graphs=request.place.cuda_graphs,
        told=graphs,
        calls=request.calls,
        rounds=request.repeats,
        warm_up_calls=place.warm_up_calls,
        peak_dtype=place.peak_dtype,
        peak_gflops={
            runtime: [found for one in peaks if isinstance(found := one[runtime], float)] for runtime in place.runtimes
        },
        no_peak=next((why for one in peaks for why in one.values() if isinstance(why, str)), ""),
        entries=[record.entry() for record in records],
        circumstances=watch.circumstances(),
    )


class _Record:
    """One combination: loads it and makes its first call; keeps the predictor if it is the first of its file.

    Later combinations of the same file have a predictor of their own for loading and the first call alone: all of them
    at a time could be too much for the memory.
    """

    def __init__(
        self, one: Combination, place: Place, predictors: dict[tuple[str, Precision, str], Predictor], opened: ExitStack
    ) -> None:
        self.combination = one
        self._place, self._tiles = place, noise(one.tile, one.batch)
        with ExitStack() as until_called:
            began = perf_counter()
            own = until_called.enter_context(place.opened(one.bundle, one.precision, one.runtime))
            self._load_seconds = perf_counter() - began
            self._first_seconds = call_seconds(own, self._tiles)
            if one.predictor not in predictors:
                predictors[one.predictor] = own
                opened.push(until_called.pop_all())
        self._predictor = predictors[one.predictor]
        self._warm: list[list[float]] = []
        self._parts: dict[str, list[list[float]]] = {}
        self._busy: list[float] = []

    def add(self, calls: int) -> None:
        """A round."""
        for _ in range(self._place.warm_up_calls):
            call_seconds(self._predictor, self._tiles)
        self._warm.append([call_seconds(self._predictor, self._tiles) for _ in range(calls)])
        if parts := self._place.parts(self._predictor, self._tiles):
            self._add_parts(parts, calls)
        if self._predictor.contexts > 1:
            one = self.combination
            timing = timed_tiles(
                self._predictor, (one.tile, one.tile), batch=one.batch, rounds=calls, seconds=math.inf,
                give_up_above=math.inf,
            )  # fmt: skip
            self._busy.append(len(timing.further) / sum(timing.further))

    def entry(self) -> Latency:
        """All of it."""
        one = self.combination
        return Latency(
            *one.predictor, self._predictor.runtime, one.tile, one.batch, self._load_seconds, self._first_seconds,
            self._warm, self._parts, self._busy, gflop_per_tile(one.bundle, one.precision, one.tile),
        )  # fmt: skip

    def _add_parts(self, parts: GpuParts, calls: int) -> None:
        parts.call()  # the engine waits where a call comes on another stream than the one before
        found = [parts.call() for _ in range(calls)]
        parts.close()
        for name in found[0]:
            self._parts.setdefault(name, []).append([one[name] for one in found])


def _refuse_numbers(request: LatencyRequest) -> None:
    place = request.place
    threads = 1 if place.threads is None else place.threads
    if min(request.calls, request.repeats, place.contexts, threads, *request.batches, *request.tiles) < 1:
        raise ConfigError(
            f"got {request.calls} calls, {request.repeats} repeats, {place.contexts} contexts, {place.threads} "
            f"threads, batches {list(request.batches)} and tiles {list(request.tiles)}, expected 1 or more of each"
        )
