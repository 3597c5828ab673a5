"""Energy and memory of GPUs, as their driver tells by NVML (`cuda.bindings.nvml`)."""

import importlib
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

from sennet_bench.volume.energy import UntoldError

NO_GPU = "no GPU computed"


class GpuLibrary:
    """The GPUs of a run, held open in NVML until `close`.

    Args:
        indices: as CUDA counts GPUs.
        nvml: the module `cuda.bindings.nvml`, or what does as it does.
        core: likewise `cuda.core`; it knows which GPU CUDA means by a number, and NVML knows it by that name.

    Raises:
        UntoldError: no GPU was asked for, NVML cannot be used, or does not know them.
    """

    def __init__(self, indices: Sequence[int], *, nvml: Any = None, core: Any = None) -> None:
        if not indices:
            raise UntoldError(NO_GPU)
        self.nvml = _installed("cuda.bindings.nvml") if nvml is None else nvml
        core = _installed("cuda.core") if core is None else core
        with self.asked("NVML"):
            self.nvml.init_v2()
        try:
            self.handles = [self._handle(core, index) for index in indices]
        except UntoldError:
            self.close()
            raise

    def close(self) -> None:
        """Let go of NVML."""
        self.nvml.shutdown()

    @contextmanager
    def asked(self, what: str) -> Iterator[None]:
        """Around asking for something. Raises UntoldError where there is no answer."""
        try:
            yield
        # Besides the answers of NVML, that its library is not there: an error of the loader's own.
        except (self.nvml.NvmlError, RuntimeError) as error:
            raise UntoldError(f"{what}: the driver of the GPU does not tell ({error})") from error

    def _handle(self, core: Any, index: int) -> int:
        with self.asked(f"cuda:{index}"):
            uuid = core.Device(index).uuid
        # NVML puts before the UUID what it is of: a whole GPU, or an instance on a divided one.
        for kind in ("GPU", "MIG"):
            try:
                return int(self.nvml.device_get_handle_by_uuid(f"{kind}-{uuid}"))
            except self.nvml.NvmlError:
                continue
        raise UntoldError(f"cuda:{index}: NVML does not know a GPU of the UUID {uuid}")


class _Gauge:
    """What is asked of each GPU again and again."""

    def __init__(self, library: GpuLibrary, ask: Callable[[int], int]) -> None:
        self._library, self._ask = library, ask
        self._first = self._last = self._most = self._asked()

    def sample(self) -> None:
        """Ask. Raises UntoldError where there is no answer."""
        self._last = self._asked()
        self._most = max(self._most, self._last)

    def _asked(self) -> int:
        with self._library.asked(type(self).__name__):
            return sum(self._ask(handle) for handle in self._library.handles)


class GpuEnergy(_Gauge):
    """Joules of all GPUs together since its making, whatever programs used them. Raises UntoldError."""

    def __init__(self, library: GpuLibrary) -> None:
        super().__init__(library, library.nvml.device_get_total_energy_consumption)

    def value(self) -> float:
        """Joules until the last `sample`; NVML counts millijoules."""
        return (self._last - self._first) / 1e3


class GpuMemory(_Gauge):
    """The most memory of all GPUs together that was in use at any `sample`, above what was so at its making.

    Whatever programs use it: within a container NVML does not know its processes. Raises UntoldError.
    """

    def __init__(self, library: GpuLibrary) -> None:
        super().__init__(library, lambda handle: int(library.nvml.device_get_memory_info_v2(handle).used))

    def value(self) -> float:
        """In MB (10^6 bytes)."""
        return (self._most - self._first) / 1e6


def _installed(name: str) -> Any:
    try:
        return importlib.import_module(name)
    except ImportError as error:
        raise UntoldError(f"{name} is not installed ({error}); run: pip install 'sennet[gpu]'") from error
