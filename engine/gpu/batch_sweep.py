"""Find with which batch a GPU computes a tile fastest, by a short measured sweep that is remembered."""

import json
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from math import ceil, inf
from time import perf_counter
from typing import Any

import numpy as np

from sennet_engine.device.stream import Device
from sennet_engine.device.streams import Streams
from sennet_engine.errors import ConfigError, DeviceMemoryError
from sennet_engine.gpu.predictor import GpuPredictor
from sennet_engine.trial_memory import TrialMemory

# A tile that costs less by no more than that is not worth a larger batch, its memory and its longer tail.
AS_GOOD = 1.02
# Batches as close as that to the fastest are measured once more: what else the machine did must not decide.
CLOSE = 1.1
# So many batches in a row that gain nothing end the sweep; one alone may be a step in the sizes that kernels like.
PATIENCE = 2
# Free memory that differs by more than that from what a sweep had makes it doubtful.
MEMORY_TOLERANCE = 0.1

# For one batch: the GPU comes to its clock rate, then rounds are timed, of which the fastest counts.
WARM_UP_SECONDS = 0.2
TIMED_SECONDS = 0.4
ROUND_SECONDS = 0.05
LEAST_ROUNDS = 2
# In a round, so that a batch is handed over while the one before it computes.
LEAST_CALLS = 2

TimeBatch = Callable[[int], float]


@dataclass(frozen=True)
class BatchChoice:
    """How many tiles a GPU computes in one call.

    Attributes:
        seconds_per_tile: as measured, with all contexts at work; None without a sweep.
        remembered: whether an earlier sweep found it.
        reason: for people: what was measured.
    """

    batch: int
    seconds_per_tile: float | None
    remembered: bool
    reason: str


def swept_batch(
    time_batch: TimeBatch,
    *,
    largest: int,
    memory: TrialMemory,
    facts: Mapping[str, Any],
    smallest: int = 1,
    free_memory: Callable[[], int] | None = None,
) -> BatchChoice:
    """The smallest batch with which a tile costs hardly more than with any other.

    Batches are doubled from `smallest` on until a tile gets no cheaper, the next batch would not fit into what memory
    is free, by what the last ones took, or `largest` was tried.

    Args:
        time_batch: computes some batches of that many tiles; seconds for a tile. See `seconds_per_tile`.
        smallest, largest: that the engine takes.
        memory: recalls what was found for the same `facts` and limits, unless free memory tells that it is doubtful.
        facts: a table of JSON with whatever decides the speed: the engine's sha256, the tile shape, the name of the
            GPU and its driver, the contexts.
        free_memory: of the GPU, in bytes. Without it a sweep that ran out of memory is not remembered.

    Raises:
        ConfigError: there is no batch from `smallest` to `largest`.
        DeviceMemoryError: there is not enough memory for `smallest`.
    """
    if not 1 <= smallest <= largest:
        raise ConfigError(f"batch: got {smallest} to {largest}, expected 1 <= smallest <= largest")
    known = json.loads(json.dumps({"trial": "batch", "smallest": smallest, "largest": largest, **facts}))
    free = None if free_memory is None else free_memory()
    recalled = memory.recalled(known)
    if recalled is not None and (choice := _choice_from_table(recalled, smallest, largest, free)):
        return choice
    sweep = _Sweep(time_batch, free_memory)
    choice = sweep.choice(_doubled(smallest, largest))
    if free is not None or not sweep.out_of_memory:
        found = {
            "batch": choice.batch, "seconds_per_tile": choice.seconds_per_tile, "reason": choice.reason,
            "free_bytes": free, "out_of_memory": bool(sweep.out_of_memory),
        }  # fmt: skip
        memory.remember(known, found)
    return choice


def seconds_per_tile(predictor: GpuPredictor, device: Device, shape: tuple[int, int], *, batch: int) -> float:
    """What a tile costs while all contexts of `predictor` compute batches of noise on streams of `device`.

    The tiles lie in the device's memory, and answers stay there. The seconds are the wall clock over the tiles of all
    contexts, in the fastest round of a short while.

    Args:
        shape: rows and columns of the tiles.

    Raises:
        ModelError: the model does not take such tiles.
        DeviceMemoryError: the device has no memory for that.
        DeviceError: the device failed.
    """
    tiles = (batch, 1, *shape)
    size = int(np.prod(tiles))
    noise = device.pinned(size)
    noise[:] = np.random.default_rng(0).integers(0, 256, size, np.uint8)
    contexts = range(predictor.contexts)
    buffers = [
        (device.buffer(size).shaped(tiles), device.buffer(size).shaped(tiles), device.buffer(batch).shaped((batch,)))
        for _ in contexts
    ]
    with Streams(device) as streams:
        lanes = [streams.on_device("compute", number=context) for context in contexts]
        for lane, (source, _, _) in zip(lanes, buffers, strict=True):
            device.copy_in(lane, noise.reshape(tiles), source)

        def seconds(calls: int) -> float:
            began = perf_counter()
            for _ in range(calls):
                for context, (source, target, overflowed) in enumerate(buffers):
                    device.compute(lanes[context], predictor, source, target, overflowed, context=context)
            for reached in [lane.record() for lane in lanes]:
                reached.synchronize()
            return perf_counter() - began

        seconds(1)  # in which memory is taken and kernels are made
        warm_since, call = perf_counter(), seconds(1)
        while perf_counter() - warm_since < WARM_UP_SECONDS:
            call = seconds(1)
        calls = max(LEAST_CALLS, ceil(ROUND_SECONDS / max(call, 1e-6)))
        timed_since, rounds = perf_counter(), [seconds(calls) for _ in range(LEAST_ROUNDS)]
        while perf_counter() - timed_since < TIMED_SECONDS:
            rounds.append(seconds(calls))
    return min(rounds) / (calls * batch * len(lanes))


def _doubled(smallest: int, largest: int) -> Iterator[int]:
    batch = smallest
    while batch < largest:
        yield batch
        batch *= 2
    yield largest


def _choice_from_table(table: dict[str, Any], smallest: int, largest: int, free: int | None) -> BatchChoice | None:
    """None where somebody has changed the file, or there is another amount of memory than the sweep had."""
    try:
        batch, seconds, reason = int(table["batch"]), float(table["seconds_per_tile"]), str(table["reason"])
        then, out_of_memory = table["free_bytes"], bool(table["out_of_memory"])
        if free is not None and then is not None:
            less, more = free < then * (1 - MEMORY_TOLERANCE), free > then * (1 + MEMORY_TOLERANCE)
            if less or (more and out_of_memory):
                return None
    except (KeyError, TypeError, ValueError):
        return None
    if not (smallest <= batch <= largest and 0 < seconds < inf):
        return None
    return BatchChoice(batch, seconds, remembered=True, reason=reason)


class _Sweep:
    """Attributes: `out_of_memory` says which batch ended the sweep for want of memory, and is empty otherwise."""

    def __init__(self, time_batch: TimeBatch, free_memory: Callable[[], int] | None) -> None:
        self._time_batch, self._free_memory = time_batch, free_memory
        self._found: dict[int, float] = {}
        self._free: dict[int, int] = {}
        self.out_of_memory = ""

    def choice(self, batches: Iterator[int]) -> BatchChoice:
        self._try(batches)
        fastest = min(self._found.values())
        close = [batch for batch, seconds in self._found.items() if seconds <= CLOSE * fastest]
        if len(close) > 1:
            for batch in close:
                self._measure(batch)
        fastest = min(self._found.values())
        best = min(batch for batch, seconds in self._found.items() if seconds <= AS_GOOD * fastest)
        measured = ", ".join(f"{batch}: {seconds * 1e3:.2f} ms" for batch, seconds in self._found.items())
        reason = f"a tile in batches of {measured}{self.out_of_memory}"
        return BatchChoice(best, self._found[best], remembered=False, reason=reason)

    def _try(self, batches: Iterator[int]) -> None:
        best, in_vain = inf, 0
        for batch in batches:
            if self._would_not_fit(batch):
                self.out_of_memory = f"; {batch} would not fit into the memory that is free"
                return
            self._measure(batch)
            if batch not in self._found:
                self.out_of_memory = f"; not enough memory for {batch}"
                return
            if self._free_memory is not None:
                self._free[batch] = self._free_memory()
            in_vain = 0 if self._found[batch] * AS_GOOD < best else in_vain + 1
            best = min(best, self._found[batch])
            if in_vain == PATIENCE:
                return

    def _measure(self, batch: int) -> None:
        """Note the least seconds that it ever took for a tile; nothing where there is no memory for it any more."""
        try:
            seconds = self._time_batch(batch)
        except DeviceMemoryError:
            self._found.pop(batch, None)
            if not self._found:
                raise
        else:
            self._found[batch] = min(seconds, self._found.get(batch, inf))

    def _would_not_fit(self, batch: int) -> bool:
        """By what each further tile of the last batch took."""
        if len(self._free) < 2:
            return False
        (before, free_before), (last, free) = list(self._free.items())[-2:]
        return (batch - last) * (free_before - free) > free * (last - before)
