"""TensorRT for RTX without a GPU: an engine on a simulated GPU that holds its caller to the documented contract.

Whatever the documentation of `IExecutionContext` forbids is an AssertionError here, where the real thing is free to
answer wrongly or to crash. What the module has is what the engine's code uses; `test_api_names.py` holds it against the
real package.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from enum import Enum
from functools import wraps
from types import SimpleNamespace
from typing import Any

import numpy as np

from sennet_engine.engine_file import Profile

from .simulated_gpu import Memory, SimulatedGpu

ALIGNMENT = 256
VERSION = "1.7.1"
# Activations of one pixel.
BYTES_PER_PIXEL = 32


class DataType(Enum):
    UINT8 = 0
    FLOAT = 1


class TensorIOMode(Enum):
    INPUT = 0
    OUTPUT = 1


class ExecutionContextAllocationStrategy(Enum):
    STATIC = 0
    USER_MANAGED = 1


class DynamicShapesKernelSpecializationStrategy(Enum):
    LAZY = 0
    EAGER = 1


class ILogger:
    class Severity(Enum):
        INTERNAL_ERROR = 0
        ERROR = 1
        WARNING = 2


def answers_to(tiles: np.ndarray) -> np.ndarray:
    """What the engine computes."""
    return (tiles ^ 0x55) + np.roll(tiles, 1, axis=-1)


def overflowed_in(tiles: np.ndarray) -> np.ndarray:
    """[B]: the engine has no finite answer to tiles that begin with 200."""
    return (tiles[:, 0, 0, 0] == 200).astype(np.uint8)


@dataclass(frozen=True)
class Call:
    """Of one object of the module."""

    context: int
    name: str
    arguments: tuple[Any, ...]


@dataclass
class RecordingTensorrt:
    """The module and one engine in it.

    Args:
        gpu: has contexts' work launched on it; its streams learn to capture graphs.
        refuses: names of methods that say False or None, and why the log then has an error.
        deaf_to: names of methods whose calls are answered as if they had been heard, and come to nothing.
        capturable: what can be captured: all, nothing and it is said beforehand, or nothing and it shows on the way.

    Attributes:
        calls: of contexts, in their order.
        contexts: that were created.
        graphs: captured, and not closed.
    """

    gpu: SimulatedGpu
    profiles: Sequence[Profile]
    watches_overflow: bool = False
    milliseconds: float = 1.0
    refuses: set[str] = field(default_factory=set)
    deaf_to: set[str] = field(default_factory=set)
    capturable: str = "yes"
    dtype: DataType = DataType.UINT8
    calls: list[Call] = field(default_factory=list)
    contexts: "list[ExecutionContext]" = field(default_factory=list)
    graphs: "list[Graph]" = field(default_factory=list)
    captures: dict[int, "list[Launch]"] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.engine = Engine(self)
        self.module = SimpleNamespace(
            __version__=VERSION, DataType=DataType, TensorIOMode=TensorIOMode, ILogger=ILogger,
            ExecutionContextAllocationStrategy=ExecutionContextAllocationStrategy,
            DynamicShapesKernelSpecializationStrategy=DynamicShapesKernelSpecializationStrategy,
        )  # fmt: skip
        self.logger: Any = None
        self.gpu.core.Stream.create_graph_builder = lambda stream: GraphBuilder(self, int(stream.handle))

    @property
    def tensors(self) -> list[str]:
        return ["tiles", "probabilities", *(["overflowed"] if self.watches_overflow else [])]

    def shape(self, name: str, batch: int, side: int) -> tuple[int, ...]:
        return (batch,) if name == "overflowed" else (batch, 1, side, side)


class Engine:
    """See ICudaEngine."""

    def __init__(self, recorder: RecordingTensorrt) -> None:
        self._recorder = recorder

    @property
    def num_io_tensors(self) -> int:
        return len(self._recorder.tensors)

    @property
    def num_optimization_profiles(self) -> int:
        return len(self._recorder.profiles)

    def get_tensor_name(self, index: int) -> str:
        return self._recorder.tensors[index]

    def get_tensor_mode(self, name: str) -> TensorIOMode:
        return TensorIOMode.INPUT if name == "tiles" else TensorIOMode.OUTPUT

    def get_tensor_dtype(self, name: str) -> DataType:  # noqa: ARG002 (called with it)
        return self._recorder.dtype

    def get_tensor_shape(self, name: str) -> tuple[int, ...]:
        return self._recorder.shape(name, -1, -1)

    def create_runtime_config(self) -> "RuntimeConfig":
        return RuntimeConfig()

    def create_execution_context(self, runtime_config: Any) -> "ExecutionContext | None":
        if "create_execution_context" in self._recorder.refuses:
            self._recorder.logger.log(ILogger.Severity.ERROR, "create_execution_context: refused")
            return None
        if isinstance(runtime_config, RuntimeConfig):
            kernels, strategy = runtime_config.dynamic_shapes_kernel_specialization_strategy, runtime_config.strategy
            assert kernels is DynamicShapesKernelSpecializationStrategy.EAGER, "kernels may change on the way"
        else:
            strategy = runtime_config
        assert strategy is ExecutionContextAllocationStrategy.USER_MANAGED, "activations would be TensorRT's"
        context = ExecutionContext(self._recorder, len(self._recorder.contexts))
        self._recorder.contexts.append(context)
        return context


class RuntimeConfig:
    """See IRuntimeConfig."""

    dynamic_shapes_kernel_specialization_strategy = DynamicShapesKernelSpecializationStrategy.LAZY
    strategy = ExecutionContextAllocationStrategy.STATIC
    runtime_cache: Any = None

    def set_execution_context_allocation_strategy(self, strategy: ExecutionContextAllocationStrategy) -> None:
        self.strategy = strategy

    def set_runtime_cache(self, cache: Any) -> bool:
        self.runtime_cache = cache
        return True


def heard(method: Callable[..., Any]) -> Callable[..., Any]:
    """Record calls of a context's method, and let it refuse or be deaf where it is to."""

    @wraps(method)
    def call(self: "ExecutionContext", *arguments: Any) -> Any:
        recorder, name = self._recorder, method.__name__
        with recorder.gpu.lock:
            recorder.calls.append(Call(self.number, name, arguments))
            if name in recorder.refuses:
                recorder.logger.log(ILogger.Severity.ERROR, f"{name}: refused")
                return False
            if name in recorder.deaf_to:
                return {"infer_shapes": [], "update_device_memory_size_for_shapes": 1}.get(name, True)
            return method(self, *arguments)

    return call


class ExecutionContext:
    """See IExecutionContext."""

    def __init__(self, recorder: RecordingTensorrt, number: int) -> None:
        self._recorder, self.number = recorder, number
        self.profile = 0
        self.tile_shape: tuple[int, ...] | None = None
        self.inferred = self.sized = False
        self.memory: tuple[int, int] | None = None
        self.addresses: dict[str, int] = {}
        self.busy: list[int] = []  # the streams of what was handed over and is not computed
        self.state = 0  # another one after every change
        self.plain_launches = 0  # with this shape

    @heard
    def set_optimization_profile_async(self, profile_index: int, stream_handle: int) -> bool:
        assert not self.busy, "the profile is switched while the context computes"
        assert isinstance(stream_handle, int), "a stream is told by its handle"
        assert 0 <= profile_index < len(self._recorder.profiles)
        self.profile = profile_index
        self._unshape()
        return True

    @heard
    def set_input_shape(self, name: str, shape: tuple[int, ...]) -> bool:
        assert name == "tiles", f"{name} is no input"
        profile = self._recorder.profiles[self.profile]
        batch, channels, *sides = shape
        assert (channels, *sides) == (1, profile.side, profile.side), f"{shape} is outside of the profile {profile}"
        assert profile.batch_smallest <= batch <= profile.batch_largest, f"{shape} is outside of the profile {profile}"
        self._unshape()
        self.tile_shape = shape
        return True

    @heard
    def infer_shapes(self) -> list[str]:
        if self.tile_shape is None:
            return ["tiles"]
        self.inferred = True
        return []

    @heard
    def get_tensor_shape(self, name: str) -> tuple[int, ...]:
        assert self.tile_shape is not None, "asked for a shape before the input's is set"
        return self._recorder.shape(name, self.tile_shape[0], self.tile_shape[2])

    @heard
    def update_device_memory_size_for_shapes(self) -> int:
        assert self.tile_shape is not None, "sized before the shapes are known"
        assert self.inferred, "sized before the shapes are known"
        self.sized, self.memory = True, None
        return self.needed

    @heard
    def set_device_memory(self, memory: int, size: int) -> None:
        assert not self.busy, "memory is exchanged while the context computes"
        assert self.sized, "memory is given before it is known how much"
        assert memory % ALIGNMENT == 0, "activation memory is not aligned"
        assert size >= self.needed, f"got {size} bytes of activation memory, expected {self.needed}"
        self.memory = memory, size
        self.state += 1

    @heard
    def set_tensor_address(self, name: str, memory: int) -> bool:
        assert name in self._recorder.tensors, f"there is no {name}"
        assert self.tile_shape is not None, "an address is set before the shapes are"
        assert memory % ALIGNMENT == 0, f"{name} is not aligned"
        self.addresses[name] = memory
        self.state += 1
        return True

    @heard
    def is_stream_capturable(self, stream: int) -> bool:  # noqa: ARG002 (called with it)
        return self._recorder.capturable != "no"

    @heard
    def execute_async_v3(self, stream_handle: int) -> bool:
        assert isinstance(stream_handle, int), "a stream is told by its handle"
        assert self.tile_shape is not None, "executed before the shapes are known"
        assert self.inferred, "executed before the shapes are known"
        assert self.memory is not None, "executed without memory for activations"
        unbound = [name for name in self._recorder.tensors if name not in self.addresses]
        assert not unbound, f"executed with no address for {', '.join(unbound)}"
        launch = Launch(self, dict(self.addresses), self.memory, self.tile_shape, self.state)
        if stream_handle in self._recorder.captures:
            assert self.plain_launches, "captured before a plain launch with this shape"
            if self._recorder.capturable != "yes":
                self._recorder.logger.log(ILogger.Severity.ERROR, "operation not permitted when stream is capturing")
                return False
            self._recorder.captures[stream_handle].append(launch)
        else:
            self.plain_launches += 1
            launch.hand_over(stream_handle)
        return True

    @property
    def needed(self) -> int:
        """Bytes of activation memory."""
        assert self.tile_shape is not None
        return BYTES_PER_PIXEL * int(np.prod(self.tile_shape))

    def _unshape(self) -> None:
        self.tile_shape, self.inferred, self.sized, self.memory = None, False, False, None
        self.addresses, self.plain_launches = {}, 0
        self.state += 1


@dataclass(frozen=True)
class Launch:
    """Kernels of an execution context, with all that was set when they were handed over."""

    context: ExecutionContext
    addresses: dict[str, int]
    memory: tuple[int, int]
    tile_shape: tuple[int, ...]
    state: int

    def hand_over(self, stream_handle: int) -> None:
        recorder, context = self.context._recorder, self.context
        with recorder.gpu.lock:
            others = [other for other in recorder.contexts if other is not context and other.busy]
            assert set(context.busy) <= {stream_handle}, "a context computes on two streams at the same time"
            for other in others:
                assert other.memory is None or not _overlap(self.memory, other.memory), "contexts share their memory"
            context.busy.append(stream_handle)
            recorder.gpu.launch(stream_handle, self._compute, milliseconds=recorder.milliseconds)

    def _compute(self, memory: Memory) -> None:
        tiles = memory.read(self.addresses["tiles"], int(np.prod(self.tile_shape))).reshape(self.tile_shape)
        address, size = self.memory
        memory.write(address, np.zeros(size, np.uint8))
        memory.write(self.addresses["probabilities"], answers_to(tiles))
        if "overflowed" in self.addresses:
            memory.write(self.addresses["overflowed"], overflowed_in(tiles))
        self.context.busy.pop(0)


class GraphBuilder:
    """See cuda.core.graph.GraphBuilder."""

    def __init__(self, recorder: RecordingTensorrt, handle: int) -> None:
        self._recorder, self._handle = recorder, handle
        self._launches: list[Launch] | None = None

    @property
    def is_building(self) -> bool:
        return self._handle in self._recorder.captures

    def begin_building(self, mode: str = "relaxed") -> "GraphBuilder":
        assert mode in ("global", "thread_local", "relaxed")
        assert not self.is_building
        self._recorder.captures[self._handle] = []
        return self

    def end_building(self) -> "GraphBuilder":
        self._launches = self._recorder.captures.pop(self._handle)
        return self

    def complete(self) -> "Graph":
        assert self._launches, "a graph of nothing"
        graph = Graph(self._recorder, self._launches)
        self._recorder.graphs.append(graph)
        return graph

    def close(self) -> None:
        assert not self.is_building, "a stream is left in its capture"


class Graph:
    """See cuda.core.graph.Graph."""

    def __init__(self, recorder: RecordingTensorrt, launches: list[Launch]) -> None:
        self._recorder, self.launches = recorder, launches
        self.times = 0

    def launch(self, stream: Any) -> None:
        assert self in self._recorder.graphs, "a closed graph is launched"
        self.times += 1
        for launch in self.launches:
            assert launch.state == launch.context.state, "the context changed since its graph was captured"
            launch.hand_over(int(stream.handle))

    def close(self) -> None:
        assert not any(launch.context.busy for launch in self.launches), "a graph is closed while it runs"
        self._recorder.graphs.remove(self)


def _overlap(one: tuple[int, int], other: tuple[int, int]) -> bool:
    return one[0] < other[0] + other[1] and other[0] < one[0] + one[1]
