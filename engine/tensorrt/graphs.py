"""When launches of an execution context are recorded as a CUDA graph, and the recording.

A launch of a graph costs the host one call, however many kernels are in it. That pays where handing kernels over takes
about as long as computing them: small networks, small batches.

RTX can capture graphs by itself (`IRuntimeConfig.cuda_graph_strategy`). That is left off: it captures whatever it is
given, worth it or not, says nothing when it cannot, and TensorRT has nothing like it; one way serves both products.
"""

import logging
from collections.abc import Callable, Hashable
from contextlib import suppress
from statistics import median
from time import perf_counter
from typing import Any

from sennet_engine.device.cuda_driver import CudaDriver
from sennet_engine.errors import DeviceError
from sennet_engine.gpu.predictor import CudaGraphs

logger = logging.getLogger(__name__)

# Of each shape, so many plain launches are measured before it is decided; the first, which sets things up, is not.
LAUNCHES_MEASURED = 5
# Where handing over takes the larger part of the time from the first kernel to the last, the GPU waits for the host.
WORTH_FROM_SHARE = 0.7


class GraphPolicy:
    """Whether launches are recorded: for one execution context, by its shape.

    Args:
        name: of the engine, for warnings.
        mode: `auto` decides from the time of the first launches.
    """

    def __init__(self, name: str, mode: CudaGraphs, driver: CudaDriver) -> None:
        self._name, self._driver = name, driver
        self._mode = mode
        self._worth: dict[Hashable, bool] = {}
        self._pending: list[tuple[Hashable, float, Any, Any]] = []
        self._shares: dict[Hashable, list[float]] = {}

    def wants(self, shape: Hashable) -> bool:
        """Whether the launches of `shape` are to be recorded."""
        if self._mode == "auto":
            self._read_times()
            return self._worth.get(shape, False)
        return self._mode == "on"

    def launch(self, shape: Hashable, stream: Any, submit: Callable[[], None], *, first: bool) -> None:
        """Hand over plainly by `submit`, and measure it where that decides something."""
        if self._mode != "auto" or first or shape in self._worth:
            submit()
            return
        timed = self._driver.core.EventOptions(timing_enabled=True)
        began = stream.record(options=timed)
        start = perf_counter()
        submit()
        seconds = perf_counter() - start
        self._pending.append((shape, seconds, began, stream.record(options=timed)))

    def give_up(self, reason: str) -> None:
        """Record nothing any more."""
        self._mode = "off"
        self._pending.clear()
        logger.warning("%s: cannot be recorded as a CUDA graph (%s); launched without", self._name, reason)

    def _read_times(self) -> None:
        # Without waiting: a batch that is still being computed is measured by a later call.
        while self._pending and self._pending[0][3].is_done:
            shape, seconds, began, ended = self._pending.pop(0)
            self._shares.setdefault(shape, []).append(1000 * seconds / max(ended - began, 1e-6))
        for shape, shares in self._shares.items():
            if shape not in self._worth and len(shares) >= LAUNCHES_MEASURED:
                self._worth[shape] = median(shares) >= WORTH_FROM_SHARE
                logger.info(
                    "%s: %s: handing over takes %.0f%% of the GPU's time; %s CUDA graph",
                    self._name, shape, 100 * median(shares), "by a" if self._worth[shape] else "without a",
                )  # fmt: skip


def captured(stream: Any, submit: Callable[[], None], driver: CudaDriver) -> Any:
    """A `cuda.core.graph.Graph` of what `submit` hands to `stream`, none of which is computed.

    Raises:
        DeviceError: it cannot be captured. The stream can be used as before.
    """
    builder = stream.create_graph_builder()
    try:
        with driver.calls("to capture a CUDA graph"):
            # Other threads may allocate meanwhile; what this one may not do would not be in the graph.
            builder.begin_building("thread_local")
            submit()
            return builder.end_building().complete()
    except RuntimeError as error:
        raise DeviceError(f"{driver.name}: got no CUDA graph, expected one: {error}") from error
    finally:
        if builder.is_building:
            # It fails where the capture broke off, and the stream leaves its capture all the same.
            with suppress(DeviceError, RuntimeError), driver.calls("to end a capture"):
                builder.end_building()
        builder.close()
