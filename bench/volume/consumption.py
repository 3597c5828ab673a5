"""What a run took beside time and the memory of its process: energy, and memory of GPUs."""

import threading
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from functools import partial
from types import TracebackType
from typing import Protocol, Self

from sennet_bench.volume.energy import ProcessorEnergy, UntoldError
from sennet_bench.volume.gpu_meters import GpuEnergy, GpuLibrary, GpuMemory

# Short beside what a run holds memory for, and long beside what asking takes.
SAMPLE_SECONDS = 0.05


@dataclass(frozen=True)
class Consumption:
    """Of the whole machine while something ran, since no counter knows whose work it was.

    Attributes:
        processor_joules: of the processors' packages, without memory chips.
        gpu_joules: of the GPUs that were to compute.
        gpu_peak_mb: the most memory in use on these together, in MB (10^6 bytes), above what was so at the start; by
            samples, so that less than SAMPLE_SECONDS may go unseen.
        untold: of those that are None, why, for people.
    """

    processor_joules: float | None = None
    gpu_joules: float | None = None
    gpu_peak_mb: float | None = None
    untold: dict[str, str] = field(default_factory=dict)


class Gauge(Protocol):
    """Something that is measured from its making on."""

    def sample(self) -> None:
        """Look at it. Raises UntoldError where it does not tell any more."""
        ...

    def value(self) -> float:
        """As of the last `sample`."""
        ...


class ConsumptionWatch:
    """A context manager that samples what can be measured, in a thread, and tells when it is left.

    Args:
        gpus: that are to compute, as CUDA counts them.
        processors: makes the gauge of the processors.
        library: opens GPUs.

    Attributes:
        found: what was consumed, once it is left.
    """

    def __init__(
        self,
        gpus: Sequence[int],
        *,
        processors: Callable[[], Gauge] = ProcessorEnergy,
        library: Callable[[Sequence[int]], GpuLibrary] = GpuLibrary,
    ) -> None:
        self._gpus, self._processors, self._open = gpus, processors, library
        self._gauges: dict[str, Gauge] = {}
        self._untold: dict[str, str] = {}
        self._ended = threading.Event()
        self._thread: threading.Thread | None = None
        self.found = Consumption()

    def __enter__(self) -> Self:
        with ExitStack() as stack:
            self._begin("processor_joules", self._processors)
            try:
                library = self._open(self._gpus)
            except UntoldError as error:
                self._untold |= dict.fromkeys(("gpu_joules", "gpu_peak_mb"), str(error))
            else:
                stack.callback(library.close)
                self._begin("gpu_joules", partial(GpuEnergy, library))
                self._begin("gpu_peak_mb", partial(GpuMemory, library))
            if self._gauges:
                self._thread = threading.Thread(target=self._run, name="consumption", daemon=True)
                self._thread.start()
            self._opened = stack.pop_all()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._ended.set()
        if self._thread:
            self._thread.join()
        self._sample()
        self._opened.close()
        self.found = Consumption(
            **{name: gauge.value() for name, gauge in self._gauges.items()}, untold=dict(self._untold)
        )

    def _begin(self, name: str, make: Callable[[], Gauge]) -> None:
        try:
            self._gauges[name] = make()
        except UntoldError as error:
            self._untold[name] = str(error)

    def _run(self) -> None:
        while not self._ended.wait(SAMPLE_SECONDS):
            self._sample()

    def _sample(self) -> None:
        for name, gauge in list(self._gauges.items()):
            try:
                gauge.sample()
            except UntoldError as error:
                del self._gauges[name]
                self._untold[name] = str(error)
