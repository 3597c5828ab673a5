"""An execution context of an engine with its memory: profile, shapes, memory, addresses and launch, in this order."""

import threading
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

from sennet_engine.device.cuda import CudaDevice
from sennet_engine.errors import DeviceError, ModelError
from sennet_engine.gpu.predictor import GpuArray
from sennet_engine.tensorrt.ends import Ends, ask
from sennet_engine.tensorrt.graphs import GraphPolicy, captured
from sennet_engine.tensorrt.loaded import LoadedEngine

# What addresses of tensors and of activation memory are multiples of.
ALIGNMENT = 256


@dataclass(frozen=True)
class Shape:
    """Of the tiles of a launch, under one of the engine's profiles."""

    profile: int
    batch: int
    side: int

    @property
    def tiles(self) -> tuple[int, int, int, int]:
        """[B, 1, H, W]."""
        return self.batch, 1, self.side, self.side

    def __str__(self) -> str:
        return " x ".join(map(str, self.tiles))


class EngineContext:
    """One `IExecutionContext`, used on one stream at a time.

    A call on another stream than the last one's waits until that is done, and so does one of another shape: profile
    and memory are changed only while the context is idle. Calls take turns by a lock, which is held while work is
    handed over and not while it is computed. So `predict`, which is for single tiles and has streams of its own, shares
    contexts and their memory with `enqueue`.

    The product never allocates activations: this does, for the shapes in use, and waits until nothing uses the memory
    before it lets go of it.
    """

    def __init__(
        self, loaded: LoadedEngine, device: CudaDevice, ends: Ends, *, graphs: GraphPolicy, runtime_cache: Any
    ) -> None:
        self._loaded, self._device, self._ends, self._policy = loaded, device, ends, graphs
        self._context = ask(loaded, "an execution context", _created, loaded, runtime_cache)
        self._lock = threading.Lock()
        self._stream: Any = None
        self._last: Any = None
        self._profile: int | None = None
        self._shape: Shape | None = None
        self._launches = 0
        self._memory: Any = None
        self._memory_bytes = 0
        self._staging: dict[str, Any] = {}
        self._graph: Any = None

    def run(self, stream: Any, shape: Shape, tiles: GpuArray, answers: GpuArray, overflowed: GpuArray) -> None:
        """Hand over a batch in pieces of `shape`, the last of them filled up.

        Raises:
            DeviceMemoryError: there is no memory for activations of this shape. Nothing was handed over.
            DeviceError: the product or the driver refuses.
        """
        with self._lock, self._device.driver.calls("to launch an engine"):
            if stream is not self._stream:
                self._wait()
            self._stream = stream
            self._take_shape(stream, shape)
            by_graph = self._launches > 0 and self._policy.wants(shape)
            if by_graph or tiles.shape[0] != shape.batch:
                self._stage(shape)
            try:
                if by_graph or tiles.shape[0] != shape.batch:
                    for start in range(0, tiles.shape[0], shape.batch):
                        self._run_piece(stream, shape, start, (tiles, answers, overflowed), by_graph=by_graph)
                else:
                    self._bind(self._named(tiles.address, answers.address, overflowed.address))
                    self._launch(stream, shape)
            finally:
                self._last = stream.record()

    def close(self) -> None:
        """Wait until it is idle, and let go of all that it has."""
        with self._lock:
            # A GPU that failed does nothing any more, and whoever used it has been told.
            with suppress(DeviceError), self._device.driver.calls("to be idle"):
                self._device.driver.make_current()
                self._wait()
            self._drop_graph()
            self._context = self._memory = None
            self._staging.clear()

    def _take_shape(self, stream: Any, shape: Shape) -> None:
        if shape == self._shape:
            return
        self._wait()
        # A graph holds the addresses and the state that the context had when it was captured.
        self._drop_graph()
        self._shape, self._launches = None, 0
        context, loaded, ends = self._context, self._loaded, self._ends
        if shape.profile != self._profile:
            self._profile = None
            wanted = f"optimization profile {shape.profile}"
            ask(loaded, wanted, context.set_optimization_profile_async, shape.profile, int(stream.handle))
            self._profile = shape.profile
        ask(loaded, f"to take tiles of {shape}", context.set_input_shape, ends.tiles, shape.tiles)
        if missing := ask(loaded, f"to infer shapes from tiles of {shape}", context.infer_shapes):
            raise DeviceError(f"{loaded.path.name}: got no shapes of {', '.join(missing)} from tiles of {shape}")
        self._check_answers(shape)
        wanted = f"the memory for activations of {shape}"
        needed = ask(loaded, wanted, context.update_device_memory_size_for_shapes)
        self._hold(needed)
        if needed:
            context.set_device_memory(self._memory.address, self._memory_bytes)
        self._shape = shape

    def _check_answers(self, shape: Shape) -> None:
        expected = {self._ends.probabilities: shape.tiles}
        if self._ends.overflowed is not None:
            expected[self._ends.overflowed] = (shape.batch,)  # type: ignore[assignment]
        for name, wanted in expected.items():
            found = tuple(self._context.get_tensor_shape(name))
            if found != wanted:
                raise ModelError(
                    f"{self._loaded.path}: got {name} of shape {found} to tiles of shape {shape.tiles}, expected "
                    f"{wanted}; export the model again"
                )

    def _hold(self, size: int) -> None:
        """As much activation memory as that, and no more than was needed at once."""
        if size <= self._memory_bytes:
            return
        self._memory, self._memory_bytes = None, 0
        rounded = -(-size // ALIGNMENT) * ALIGNMENT
        self._memory = self._device.array(rounded)
        self._memory_bytes = rounded

    def _stage(self, shape: Shape) -> None:
        """Have memory for a whole batch between the caller's and the engine's."""
        sizes = dict.fromkeys((self._ends.tiles, self._ends.probabilities), shape.batch * shape.side**2)
        if self._ends.overflowed is not None:
            sizes[self._ends.overflowed] = shape.batch
        if all(name in self._staging and self._staging[name].size >= size for name, size in sizes.items()):
            return
        self._wait()
        self._drop_graph()
        self._staging.clear()
        self._staging = {name: self._device.array(size) for name, size in sizes.items()}

    def _run_piece(
        self, stream: Any, shape: Shape, start: int, arrays: tuple[GpuArray, ...], *, by_graph: bool
    ) -> None:
        stop = min(start + shape.batch, arrays[0].shape[0])
        staged = {name: buffer.address for name, buffer in self._staging.items()}
        if self._graph is None:
            self._bind(staged)
        names = self._named(*arrays)
        copied = {name: (_bytes(array, start, stop), staged[name]) for name, array in names.items()}
        (source, size), target = copied.pop(self._ends.tiles)
        # What follows the last tiles of a piece that is not full are tiles of earlier pieces, or whatever was there:
        # tiles do not influence each other, and these answers go nowhere.
        self._copy(stream, source, target, size)
        self._launch(stream, shape, by_graph=by_graph)
        for (place, size), answer in copied.values():
            self._copy(stream, answer, place, size)

    def _named(self, tiles: Any, answers: Any, overflowed: Any) -> dict[str, Any]:
        named = {self._ends.tiles: tiles, self._ends.probabilities: answers}
        return named if self._ends.overflowed is None else named | {self._ends.overflowed: overflowed}

    def _bind(self, addresses: dict[str, int]) -> None:
        for name, address in addresses.items():
            if address % ALIGNMENT:
                raise DeviceError(f"{name}: got memory at {address:#x}, expected a multiple of {ALIGNMENT}")
            ask(self._loaded, f"{name} at {address:#x}", self._context.set_tensor_address, name, address)

    def _copy(self, stream: Any, source: int, target: int, size: int) -> None:
        buffer = self._device.driver.core.Buffer
        buffer.from_handle(source, size).copy_to(buffer.from_handle(target, size), stream=stream)

    def _launch(self, stream: Any, shape: Shape, *, by_graph: bool = False) -> None:
        handle = int(stream.handle)

        def submit() -> None:
            ask(self._loaded, f"to compute tiles of {shape}", self._context.execute_async_v3, handle)

        first, self._launches = not self._launches, self._launches + 1
        if by_graph and self._graph is None:
            self._capture(stream, handle, submit)
        if self._graph is not None:
            self._graph.launch(stream)
        else:
            self._policy.launch(shape, stream, submit, first=first)

    def _capture(self, stream: Any, handle: int, submit: Any) -> None:
        capturable = getattr(self._context, "is_stream_capturable", None)  # RTX alone can tell beforehand
        if capturable is not None and not capturable(handle):
            self._policy.give_up(f"{self._loaded.product.kind.title} says so beforehand")
            return
        try:
            self._graph = captured(stream, submit, self._device.driver)
        except DeviceError as error:
            self._policy.give_up(str(error))

    def _drop_graph(self) -> None:
        if self._graph is not None:
            self._graph.close()
            self._graph = None

    def _wait(self) -> None:
        """Until nothing of it is in the GPU's hands."""
        if self._last is not None:
            self._last.sync()
            self._last = None


def _bytes(array: GpuArray, start: int, stop: int) -> tuple[int, int]:
    """Where rows `start` to `stop` of an array lie, and how many bytes they are."""
    row = 1
    for length in array.shape[1:]:
        row *= length
    return array.address + start * row, (stop - start) * row


def _created(loaded: LoadedEngine, runtime_cache: Any) -> Any:
    trt, engine = loaded.product.module, loaded.engine
    memory_is_ours = trt.ExecutionContextAllocationStrategy.USER_MANAGED
    kernels = getattr(trt, "DynamicShapesKernelSpecializationStrategy", None)
    if kernels is None:
        return engine.create_execution_context(memory_is_ours)
    # By itself RTX begins with other kernels than those that it compiles meanwhile: answers could change by a grey
    # level from one batch to the next, and a graph would keep the slow ones.
    config = engine.create_runtime_config()
    config.set_execution_context_allocation_strategy(memory_is_ours)
    config.dynamic_shapes_kernel_specialization_strategy = kernels.EAGER
    if runtime_cache is not None:
        config.set_runtime_cache(runtime_cache)
    return engine.create_execution_context(config)
