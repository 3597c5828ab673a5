"""What code sees of a simulated GPU: as much of the module `cuda.core` as the engine uses, and nothing else.

`tests/engine/device/test_cuda_names.py` holds every name and every parameter against the real package.
"""

import threading
from dataclasses import dataclass
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any, Self

from .simulated_memory import Allocation

if TYPE_CHECKING:
    from .simulated_gpu import Mark, SimulatedGpu, WorkQueue


class SimulatedCudaError(Exception):
    """What cuda.core calls CUDAError: its text begins with the driver's name of the error."""


@dataclass
class StreamOptions:
    """Of a new stream."""

    nonblocking: Any = True
    priority: int | None = None


@dataclass
class EventOptions:
    """Of a new event."""

    timing_enabled: bool | None = False
    blocking_sync: bool | None = False


class Handle:
    """What the driver's handles are in Python: objects that say their address if they are asked by `int`."""

    def __init__(self, address: int) -> None:
        self._address = address

    def __int__(self) -> int:
        return self._address


def simulated_core(gpu: "SimulatedGpu") -> SimpleNamespace:
    """A module `cuda.core` of which every call goes to `gpu`."""
    current = threading.local()

    def need_current(device: int | None = None) -> None:
        """Raises where the calling thread has not set its device, or has set another one."""
        index = getattr(current, "index", None)
        if index is None or (device is not None and device != index):
            raise SimulatedCudaError(f"CUDA_ERROR_INVALID_CONTEXT: got {index}, expected {device}")

    class Event:
        """See cuda.core.Event."""

        def __init__(self) -> None:
            raise RuntimeError("Event objects cannot be instantiated directly")

        _mark: "Mark"
        _options: EventOptions

        @property
        def is_done(self) -> bool:
            need_current(self._mark.queue.device)
            gpu.come_by()
            return self._mark.reached

        def sync(self) -> None:
            need_current(self._mark.queue.device)
            gpu.reach(self._mark)

        def close(self) -> None:
            pass

        def __sub__(self, other: "Event") -> float:
            if not (self._options.timing_enabled and other._options.timing_enabled):
                raise RuntimeError("both events must be created with timing enabled")
            gpu.come_by()
            if not (self._mark.reached and other._mark.reached):
                raise RuntimeError("one or both events have not completed")
            return self._mark.milliseconds - other._mark.milliseconds

    class Stream:
        """See cuda.core.Stream."""

        def __init__(self) -> None:
            raise RuntimeError("Stream objects cannot be instantiated directly")

        _queue: "WorkQueue"
        _options: StreamOptions
        _closed = False

        @property
        def is_nonblocking(self) -> bool:
            return bool(self._options.nonblocking)

        @property
        def handle(self) -> Handle:
            return Handle(self._queue.handle)

        @property
        def is_closed(self) -> bool:
            return self._closed

        def sync(self) -> None:
            need_current(self._queue.device)
            gpu.reach(gpu.mark(_open(self)))

        def record(self, event: Event | None = None, options: EventOptions | None = None) -> Event:
            need_current(self._queue.device)
            if event is None:
                event = Event.__new__(Event)
                event._options = options or EventOptions()
            event._mark = gpu.mark(_open(self))
            return event

        def wait(self, event_or_stream: Event) -> None:
            need_current(self._queue.device)
            gpu.wait(_open(self), event_or_stream._mark)

        def close(self) -> None:
            self._closed = True

    class Buffer:
        """See cuda.core.Buffer."""

        def __init__(self) -> None:
            raise RuntimeError("Buffer objects cannot be instantiated directly")

        _address: int
        _size: int
        _owner: object = None
        _allocation: Allocation | None = None
        _freed_on: "WorkQueue | None" = None

        @staticmethod
        def from_handle(ptr: int, size: int, *, owner: object = None) -> "Buffer":
            buffer = Buffer.__new__(Buffer)
            buffer._address, buffer._size, buffer._owner = int(ptr), size, owner
            return buffer

        @property
        def handle(self) -> int:
            return self._address

        @property
        def size(self) -> int:
            return self._size

        def copy_from(self, src: "Buffer", *, stream: Stream) -> None:
            src.copy_to(self, stream=stream)

        def copy_to(self, dst: "Buffer", *, stream: Stream) -> "Buffer":
            need_current(stream._queue.device)
            if dst._size != self._size:
                raise ValueError(f"buffer sizes mismatch between src and dst ({self._size} and {dst._size})")
            gpu.copy(_open(stream), dst._address, self._address, self._size)
            return dst

        def fill(self, value: int, *, stream: Stream) -> None:
            need_current(stream._queue.device)
            gpu.fill(_open(stream), self._address, self._size, value)

        def close(self, stream: Stream | None = None) -> None:
            if self._allocation is not None:
                queue = self._freed_on if stream is None else stream._queue
                gpu.hand_back(self._allocation, queue)
                self._allocation = None

        def __del__(self) -> None:
            self.close()

    class Device:
        """See cuda.core.Device."""

        def __new__(cls, device_id: int | None = None) -> Self:
            index = getattr(current, "index", 0) if device_id is None else device_id
            if not 0 <= index < gpu.devices:
                raise ValueError(f"device_id must be within [0, {gpu.devices}), got {index}")
            device = super().__new__(cls)
            device._index = index
            return device

        _index: int

        @property
        def device_id(self) -> int:
            return self._index

        @property
        def memory_resource(self) -> SimpleNamespace:
            """The pool that `allocate` takes memory from."""
            reserved, used = gpu.reserved_bytes(self._index), gpu.bytes_in_use(self._index)
            return SimpleNamespace(attributes=SimpleNamespace(reserved_mem_current=reserved, used_mem_current=used))

        def set_current(self) -> None:
            current.index = self._index

        def create_stream(self, *, options: StreamOptions | None = None) -> Stream:
            need_current(self._index)
            gpu.come_by()
            stream = Stream.__new__(Stream)
            stream._options = options or StreamOptions()
            stream._queue = gpu.open_queue(self._index)
            return stream

        def allocate(self, size: int, *, stream: Stream) -> Buffer:
            need_current(self._index)
            allocation = gpu.allocate(_open(stream), size)
            buffer = Buffer.from_handle(allocation.address, size)
            buffer._allocation, buffer._freed_on = allocation, stream._queue
            return buffer

        def sync(self) -> None:
            need_current(self._index)
            gpu.run_all(self._index)

    class LegacyPinnedMemoryResource:
        """See cuda.core.LegacyPinnedMemoryResource."""

        def allocate(self, size: int) -> Buffer:
            need_current()
            allocation = gpu.pin(size)
            buffer = Buffer.from_handle(allocation.address, size)
            buffer._allocation = allocation
            return buffer

    class _Driver:
        """See cuda.bindings.driver."""

        @staticmethod
        def cuMemGetInfo() -> tuple[int, int, int]:
            need_current()
            return 0, gpu.memory_bytes - gpu.reserved_bytes(current.index), gpu.memory_bytes

    def _open(stream: Stream) -> "WorkQueue":
        if stream._closed:
            raise RuntimeError("the stream is closed")
        return stream._queue

    cuda_utils = SimpleNamespace(CUDAError=SimulatedCudaError, driver=_Driver)
    return SimpleNamespace(
        Buffer=Buffer, Device=Device, Event=Event, EventOptions=EventOptions,
        LegacyPinnedMemoryResource=LegacyPinnedMemoryResource, Stream=Stream, StreamOptions=StreamOptions,
        _utils=SimpleNamespace(cuda_utils=cuda_utils),
    )  # fmt: skip
