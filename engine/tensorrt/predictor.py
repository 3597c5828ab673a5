"""Tiles through an engine of TensorRT or of TensorRT for RTX: one code over both.

The engine's own docstring of `IExecutionContext` is the contract that is kept; a double that refuses anything else
stands in for it where there is no GPU.
"""

import logging
import threading
from types import TracebackType
from typing import Any, Self

from sennet_engine.device.cuda import CudaDevice
from sennet_engine.engine_file import Profile
from sennet_engine.errors import DeviceMemoryError, ModelError
from sennet_engine.gpu.host_calls import HostCalls
from sennet_engine.gpu.predictor import CudaGraphs, GpuArray
from sennet_engine.predictor import Tiles
from sennet_engine.tensorrt.contexts import EngineContext, Shape
from sennet_engine.tensorrt.ends import ends_of
from sennet_engine.tensorrt.graphs import GraphPolicy
from sennet_engine.tensorrt.loaded import LoadedEngine

logger = logging.getLogger(__name__)


class TensorrtPredictor:
    """A GpuPredictor over a loaded engine.

    A batch that is larger than the engine or the memory takes is computed in pieces; one that is smaller than the
    engine takes is filled up. The loaded engine is the predictor's from then on.

    Args:
        device: the GPU that the engine was loaded on.
        contexts: how many batches may be computed at the same time.
        cuda_graphs: whether launches are recorded and replayed.
        runtime_cache: an `IRuntimeCache` of RTX, for the kernels that it compiles.

    Raises:
        ModelError: it is no engine for uint8 tiles.
        DeviceError: the product refuses an execution context.
    """

    threads = 1

    def __init__(
        self,
        loaded: LoadedEngine,
        device: CudaDevice,
        *,
        contexts: int = 2,
        cuda_graphs: CudaGraphs = "auto",
        runtime_cache: Any = None,
    ) -> None:
        self.runtime = f"{loaded.product.kind.title} {loaded.product.version}"
        self.contexts = contexts
        self._name, self._path = loaded.path.name, loaded.path
        self._runtime_cache = runtime_cache  # contexts need it for as long as they are
        self._profiles = loaded.facts.identity.profiles
        device.driver.make_current()
        ends = ends_of(loaded)
        self.watches_overflow = ends.overflowed is not None
        self._contexts = [
            EngineContext(
                loaded, device, ends,
                graphs=GraphPolicy(self._name, cuda_graphs, device.driver), runtime_cache=runtime_cache,
            )
            for _ in range(contexts)
        ]  # fmt: skip
        # By side, the largest batch for whose activations there was memory.
        self._fitting: dict[int, int] = {}
        self._fitting_lock = threading.Lock()
        self._host_calls = HostCalls(device, self.enqueue, contexts=contexts)

    def enqueue(self, stream: Any, tiles: GpuArray, answers: GpuArray, overflowed: GpuArray, *, context: int) -> None:
        """See GpuPredictor.

        Raises:
            DeviceMemoryError: not even the smallest batch that the engine takes fits into the GPU's memory.
        """
        while True:
            shape = self._shape(tiles.shape)
            try:
                self._contexts[context].run(stream, shape, tiles, answers, overflowed)
            except DeviceMemoryError as error:
                self._halve(shape, error)
            else:
                return

    def predict(self, tiles: Tiles, *, context: int = 0) -> Tiles:
        self._shape(tiles.shape)
        return self._host_calls.predict(tiles, context=context)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._host_calls.close()
        for context in self._contexts:
            context.close()
        self._contexts.clear()

    def _shape(self, tiles: tuple[int, ...]) -> Shape:
        """In which pieces tiles of that shape are computed: equal ones, as large as can be, and as few."""
        fitting = [
            (index, profile)
            for index, profile in enumerate(self._profiles)
            if tiles[1:] == (1, profile.side, profile.side)
        ]
        if not fitting or not tiles[0]:
            raise ModelError(
                f"{self._path}: got tiles of shape {tiles}, expected [B, 1, H, W] with H and W both one of "
                f"{', '.join(sorted({str(profile.side) for profile in self._profiles}))}; build an engine for others "
                f"with sennet-export --tile"
            )
        index, profile = min(fitting, key=lambda one: _misfit(one[1], tiles[0]))
        largest = max(profile.batch_smallest, min(profile.batch_largest, self._fitting.get(profile.side, tiles[0])))
        pieces = -(-tiles[0] // largest)
        return Shape(index, max(profile.batch_smallest, -(-tiles[0] // pieces)), profile.side)

    def _halve(self, shape: Shape, error: DeviceMemoryError) -> None:
        smaller, smallest = shape.batch // 2, self._profiles[shape.profile].batch_smallest
        if smaller < smallest:
            raise DeviceMemoryError(
                f"{self._path}: got too little memory for {shape.batch} tiles of {shape.side} x {shape.side}, the "
                f"fewest that the engine takes, expected enough; end other programs that use the GPU, or try fewer "
                f"contexts or smaller tiles ({error})"
            ) from error
        with self._fitting_lock:
            if smaller >= self._fitting.get(shape.side, shape.batch):
                return
            self._fitting[shape.side] = smaller
        logger.warning(
            "%s: the GPU has no memory for %d tiles of %d x %d at a time; computing %d at a time from now on, with "
            "which answers may differ by one grey level (%s)",
            self._name, shape.batch, shape.side, shape.side, smaller, error,
        )  # fmt: skip


def _misfit(profile: Profile, batch: int) -> tuple[int, int]:
    """How badly a profile fits a batch: by the tiles that it cannot take at once, then by how large it is."""
    outside = max(batch - profile.batch_largest, profile.batch_smallest - batch, 0)
    return outside, profile.batch_largest
