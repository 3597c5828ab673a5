"""A GPU of NVIDIA, through cuda.core: streams, pinned memory, and memory of its own."""

import ctypes
from dataclasses import dataclass, replace
from math import prod
from typing import Any, Self

import numpy as np

from sennet_engine.device.cuda_driver import CudaDriver
from sennet_engine.device.cuda_stream import CudaStream
from sennet_engine.device.host import HostStream
from sennet_engine.device.meter import Meter
from sennet_engine.device.stream import Bytes, Stream
from sennet_engine.gpu.predictor import GpuArray, GpuPredictor


@dataclass(frozen=True)
class CudaBuffer:
    """Memory of a GPU as a uint8 array, row after row.

    Attributes:
        address: of its first byte; a multiple of 256, as the driver promises of all that it allocates (CUDA C++
            Programming Guide, "Device Memory Accesses") and TensorRT asks of tensors.
        shape: of the array.
        size: bytes of the memory.
        owner: the `cuda.core.Buffer` that frees the memory when nothing refers to it any more.
        core: the module `cuda.core`.
    """

    address: int
    shape: tuple[int, ...]
    size: int
    owner: Any
    core: Any

    @property
    def gpu_array(self) -> GpuArray:
        """As predictors take it."""
        return GpuArray(self.address, self.shape, self.owner)

    def shaped(self, shape: tuple[int, ...]) -> Self:
        if prod(shape) > self.size:
            raise ValueError(f"shape: got {shape}, expected at most {self.size} bytes")
        return replace(self, shape=shape)

    def copy_from(self, source: Bytes, *, stream: Any) -> None:
        """Hand the `cuda.core.Stream` a copy of pinned memory to here. Raises ValueError for another size."""
        self._view().copy_from(self._view_of(source), stream=stream)

    def copy_to(self, target: Bytes, *, stream: Any) -> None:
        """Hand the `cuda.core.Stream` a copy from here to pinned memory. Raises ValueError for another size."""
        self._view().copy_to(self._view_of(target), stream=stream)

    def clear(self, *, stream: Any) -> None:
        """Let the `cuda.core.Stream` set all of it to 0."""
        self._view().fill(0, stream=stream)

    def _view(self) -> Any:
        return self.core.Buffer.from_handle(self.address, prod(self.shape), owner=self.owner)

    def _view_of(self, pinned: Bytes) -> Any:
        if not pinned.flags.c_contiguous:
            raise ValueError(f"pinned memory: got strides {pinned.strides}, expected row after row")
        return self.core.Buffer.from_handle(pinned.ctypes.data, pinned.nbytes, owner=pinned)


class CudaDevice:
    """One GPU. See `Device` for the methods that are not described here.

    Args:
        index: the driver's, as CUDA_VISIBLE_DEVICES leaves it.
        core: the module `cuda.core`, or what does as it does.

    Attributes:
        index: that.
        name: "cuda:0".
        driver: that of the GPU.

    Raises:
        MissingExtraError: cuda.core is not installed.
        DeviceError: there is no such GPU, or none that this process may use.
    """

    def __init__(self, index: int, *, core: Any = None) -> None:
        self.driver = CudaDriver(index, core=core)
        self.index, self.name = index, self.driver.name
        # Memory is allocated and freed in the order of this stream, in which nothing else is done.
        self._memory_stream = self.open_stream()

    def free_memory(self) -> int:
        """Bytes that this process could still allocate on the GPU."""
        with self.driver.calls("to hear how much memory is free"):
            device = self.driver.make_current()
            self._memory_stream.sync()
            free = self.driver.free_memory()
            # The process keeps what it has freed, for its own next allocation; GPUs without such pools keep nothing.
            pool = getattr(device.memory_resource, "attributes", None)
            return free if pool is None else free + pool.reserved_mem_current - pool.used_mem_current

    def open_stream(self) -> Any:
        """A `cuda.core.Stream` of the GPU."""
        with self.driver.calls("a stream"):
            options = self.driver.core.StreamOptions(nonblocking=True)
            return self.driver.make_current().create_stream(options=options)

    def host_stream(self, name: str, *, meter: Meter) -> Stream:
        return HostStream(name, meter=meter)

    def device_stream(self, name: str, *, meter: Meter) -> CudaStream:
        return CudaStream(name, driver=self.driver, meter=meter)

    def pinned(self, size: int) -> Bytes:
        with self.driver.calls(f"{size} bytes that are pinned"):
            self.driver.make_current()
            memory = self.driver.core.LegacyPinnedMemoryResource().allocate(max(size, 1))
        mapped = (ctypes.c_uint8 * size).from_address(int(memory.handle))
        mapped.memory = memory  # type: ignore[attr-defined] # every view of the array keeps it
        array: Bytes = np.ctypeslib.as_array(mapped)
        return array

    def buffer(self, size: int) -> CudaBuffer:
        """`size` bytes of the GPU's memory, full of rubbish, freed when nothing refers to them any more.

        Raises:
            DeviceMemoryError: they do not fit.
        """
        with self.driver.calls(f"{size} bytes"):
            device = self.driver.make_current()
            memory = device.allocate(max(size, 1), stream=self._memory_stream)
            self._memory_stream.sync()  # before that they are this stream's alone
        return CudaBuffer(int(memory.handle), (size,), size, memory, self.driver.core)

    # What predictors of the GPU call the same.
    array = buffer

    def copy_in(self, stream: Stream, source: Bytes, target: CudaBuffer) -> None:
        _of_a_gpu(stream).submit(lambda cuda: target.copy_from(source, stream=cuda))

    def compute(
        self,
        stream: Stream,
        predictor: GpuPredictor,
        source: CudaBuffer,
        target: CudaBuffer,
        overflowed: CudaBuffer,
        *,
        context: int,
    ) -> None:
        def work(cuda: Any) -> None:
            overflowed.clear(stream=cuda)
            arrays = source.gpu_array, target.gpu_array, overflowed.gpu_array
            predictor.enqueue(cuda, *arrays, context=context)

        _of_a_gpu(stream).submit(work)

    def copy_out(self, stream: Stream, source: CudaBuffer, target: Bytes) -> None:
        _of_a_gpu(stream).submit(lambda cuda: source.copy_to(target, stream=cuda))


def _of_a_gpu(opened: Stream) -> CudaStream:
    assert isinstance(opened, CudaStream), f"stream: got {opened.name!r} of the host, expected one of the GPU"
    return opened
