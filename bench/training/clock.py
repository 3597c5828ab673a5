"""Time what a data path and a training loop do, in the same way for all of them."""

import os
from collections.abc import Iterable
from time import perf_counter, process_time
from typing import Any

from torch import Tensor, nn

from sennet_bench.training.job import CropPass, StepPass


def timed_crops(batches: Iterable[tuple[Tensor, Tensor]], *, workers: int, augmented: bool) -> CropPass:
    """Take all `batches` of a data loader."""
    used, began = _cpu_seconds(), perf_counter()
    crops = sum(len(grey) for grey, _ in batches)
    seconds = perf_counter() - began
    return CropPass(workers, augmented, crops, seconds, _cpu_seconds() - used)


class StepClock:
    """Runs from its making on."""

    def __init__(self) -> None:
        self._cpu_seconds = _cpu_seconds()
        self._last = perf_counter()
        self._seconds: list[float] = []
        self._losses: list[float] = []

    def step(self, loss: float) -> None:
        """A step has ended."""
        now = perf_counter()
        self._seconds.append(now - self._last)
        self._losses.append(loss)
        self._last = now

    def steps(self, network: nn.Module) -> StepPass:
        """All of them, after the last one, whose gradients `network` still has."""
        return StepPass(
            step_seconds=self._seconds,
            losses=self._losses,
            cpu_seconds=_cpu_seconds() - self._cpu_seconds,
            parameters=_count(network.parameters()),
            trained_parameters=_count(one for one in network.parameters() if one.grad is not None),
        )


def _count(parameters: Iterable[Any]) -> int:
    return sum(one.numel() for one in parameters)


def _cpu_seconds() -> float:
    """Of this process and of its children that have ended."""
    return process_time() + sum(os.times()[2:4])
