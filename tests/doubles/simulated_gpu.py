"""A GPU that is simulated, as far as the order of its work and the reach of its memory go.

What it does as a GPU does:

- Work is handed to streams and done later, in its order within each stream. Nothing orders the work of different
  streams but events, and nothing tells the host how far it is but `sync`.
- Kernels read their inputs and write their outputs when the stream comes to them. Copies take several steps, between
  which other streams and the host go on.
- The host cannot touch the device's memory, and the device none of the host's but what is pinned.
- Memory is allocated and released when a stream comes to it. It is full of rubbish before it is first written to and
  after it was released; a kernel or a copy that touches it then breaks the GPU, and everything asked of it from then
  on fails.
- Threads have a current device, and have to set it.

What it does worse than a GPU: there is no time but the host's calls. At each of them a few steps are done, of streams
and in numbers drawn from the seed; seeds are of three kinds, which do work as late as they may, as soon as they may,
and some streams late and others soon. So a mistake in the order shows under some seed, and under the same seed again as
far as the host's threads make their calls in the same order.
"""

import random
import threading
from collections import Counter, deque
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from functools import partial
from itertools import pairwise
from queue import SimpleQueue
from types import SimpleNamespace

import numpy as np

from .simulated_core import SimulatedCudaError, simulated_core
from .simulated_memory import Allocation, IllegalAddressError, Memory

__all__ = ["IllegalAddressError", "Memory", "SimulatedCudaError", "SimulatedGpu"]

# How likely a call of the host lets a stream take another step: late, soon, between; by the kind of seed, one of them.
LATE, SOON, BETWEEN = 0.0, 0.97, 0.5
EAGERNESS = ((LATE,), (SOON,), (LATE, SOON, BETWEEN))
# Into how many steps copies are cut.
COPY_STEPS = 3
COPY_MILLISECONDS = KERNEL_MILLISECONDS = 1.0


@dataclass
class Mark:
    """A place in a stream, which is what an event stands for once it is recorded."""

    queue: "WorkQueue"
    reached: bool = False
    milliseconds: float = 0.0


@dataclass
class Work:
    """A piece of a stream's work: `steps` yields wherever others may come between."""

    name: str
    steps: Iterator[None]
    milliseconds: float = 0.0
    waits_for: Mark | None = None


@dataclass(eq=False)
class WorkQueue:
    """A stream as the GPU sees it.

    Attributes:
        eagerness: how likely a call of the host lets it take another step.
        milliseconds: when its last piece of work ended, in the GPU's time: pieces take as long as they say, whatever
            the order in which they are simulated.
    """

    device: int
    handle: int
    eagerness: float
    work: deque[Work] = field(default_factory=deque)
    milliseconds: float = 0.0

    @property
    def ready(self) -> bool:
        return bool(self.work) and (self.work[0].waits_for is None or self.work[0].waits_for.reached)


class SimulatedGpu:
    """One GPU, or several.

    Args:
        seed: of all that is left to chance; `seed % 3` tells whether work is done late, soon, or either by stream.
        devices: how many GPUs.
        memory_bytes: of each of them.

    Attributes:
        core: quacks like the module `cuda.core`, and has none of the names that the module does not have.
        done: how many pieces of work were done, by name ("copy", "fill", "kernel").
        fails: by name, the number of the piece of work that breaks the GPU: {"copy": 3}.
    """

    def __init__(self, seed: int = 0, *, devices: int = 1, memory_bytes: int = 1 << 30) -> None:
        self.devices, self.memory_bytes = devices, memory_bytes
        self.memory = Memory(np.random.default_rng(seed))
        self.done: Counter[str] = Counter()
        self.fails: dict[str, int] = {}
        self.fault: Exception | None = None
        self.lock = threading.RLock()
        self._draw = random.Random(seed)
        self._eagerness = EAGERNESS[seed % len(EAGERNESS)]
        self._queues: dict[int, WorkQueue] = {}
        self._bytes_in_use: Counter[int | None] = Counter()
        self._reserved: Counter[int] = Counter()
        self._handed_back: SimpleQueue[tuple[Allocation, WorkQueue | None]] = SimpleQueue()
        self.core: SimpleNamespace = simulated_core(self)

    def launch(
        self, stream_handle: int, kernel: Callable[[Memory], None], *, milliseconds: float = KERNEL_MILLISECONDS
    ) -> None:
        """Hand over a kernel; it runs when the stream comes to it, and an exception of it breaks the GPU."""
        if not isinstance(stream_handle, int) or stream_handle not in self._queues:
            raise SimulatedCudaError(f"CUDA_ERROR_INVALID_HANDLE: {stream_handle!r} is no stream")
        self.hand_over(self._queues[stream_handle], "kernel", lambda: kernel(self.memory), milliseconds=milliseconds)

    def bytes_in_use(self, device: int | None = 0) -> int:
        """Of a device's memory, or of pinned memory: allocated, and not handed back."""
        with self.lock:
            self._take_back()
            return self._bytes_in_use[device]

    # What follows is for `simulated_core`.

    def open_queue(self, device: int) -> WorkQueue:
        with self.lock:
            queue = WorkQueue(device, 0x1000 + 0x10 * len(self._queues), self._draw.choice(self._eagerness))
            self._queues[queue.handle] = queue
            return queue

    def hand_over(self, queue: WorkQueue, name: str, work: Callable[[], None], *, milliseconds: float = 0.0) -> None:
        """Work of a single step."""
        self.append(queue, Work(name, _once(work), milliseconds))

    def copy(self, queue: WorkQueue, target: int, source: int, size: int) -> None:
        """Hand over a copy, in steps."""

        def steps() -> Iterator[None]:
            edges = [size * step // COPY_STEPS for step in range(COPY_STEPS + 1)]
            for start, stop in pairwise(edges):
                self.memory.write(target + start, self.memory.read(source + start, stop - start))
                yield

        self.append(queue, Work("copy", steps(), COPY_MILLISECONDS))

    def fill(self, queue: WorkQueue, target: int, size: int, value: int) -> None:
        """Hand over that memory be set to a value."""
        self.hand_over(queue, "fill", lambda: self.memory.write(target, np.full(size, value, np.uint8)))

    def allocate(self, queue: WorkQueue, size: int) -> Allocation:
        """Memory of the stream's device, which is there when the stream comes to it."""
        with self.lock:
            self.come_by()
            if size > self.free_bytes(queue.device):
                raise SimulatedCudaError(f"CUDA_ERROR_OUT_OF_MEMORY: {size} bytes")
            allocation = self.memory.allocate(size, device=queue.device, live=False)
            self._bytes_in_use[queue.device] += allocation.size
            self._reserved[queue.device] = max(self._reserved[queue.device], self._bytes_in_use[queue.device])

            def begin() -> None:
                allocation.live = True

            self.hand_over(queue, "allocation", begin)
            return allocation

    def pin(self, size: int) -> Allocation:
        """Memory of the host which the device reaches, at once."""
        with self.lock:
            self.come_by()
            allocation = self.memory.allocate(size, device=None, live=True)
            self._bytes_in_use[None] += allocation.size
            return allocation

    def reserved_bytes(self, device: int) -> int:
        """Of a device's memory, the pool of this process: what it frees it keeps for its next allocation."""
        return self._reserved[device]

    def free_bytes(self, device: int) -> int:
        """Of a device's memory, once all is done that was handed over."""
        return self.memory_bytes - self.bytes_in_use(device)

    def mark(self, queue: WorkQueue) -> Mark:
        """The place after all that was handed over to a stream."""
        mark = Mark(queue)

        def reach() -> None:
            mark.reached, mark.milliseconds = True, queue.milliseconds

        self.hand_over(queue, "mark", reach)
        return mark

    def wait(self, queue: WorkQueue, mark: Mark) -> None:
        """Let the stream stay where it is until `mark` is reached."""

        def come_by() -> Iterator[None]:
            queue.milliseconds = max(queue.milliseconds, mark.milliseconds)
            yield

        self.append(queue, Work("wait", come_by(), waits_for=mark))

    def append(self, queue: WorkQueue, work: Work) -> None:
        with self.lock:
            self.come_by()
            queue.work.append(work)
            self.come_by()

    def come_by(self) -> None:
        """The host makes a call: some steps are done; what is broken says so."""
        with self.lock:
            self._take_back()
            while eager := self._eager():
                self._step(self._draw.choice(eager))
            self.check()

    def reach(self, mark: Mark) -> None:
        """Let streams go on, at least until `mark` is reached."""
        with self.lock:
            self.come_by()
            while not mark.reached:
                self._step(self._draw.choice(self._eager() or [self._needed_for(mark)]))
                self.check()

    def run_all(self, device: int) -> None:
        """Let all streams of a device come to their end."""
        with self.lock:
            for queue in [queue for queue in self._queues.values() if queue.device == device]:
                self.reach(self.mark(queue))

    def hand_back(self, allocation: Allocation, queue: WorkQueue | None) -> None:
        """Release memory: when the stream comes to it, or at once. Called by the garbage collector, at any time."""
        self._handed_back.put((allocation, queue))

    def check(self) -> None:
        """Raises what broke the GPU, for every call from then on."""
        if self.fault is not None:
            raise SimulatedCudaError(f"CUDA_ERROR_ILLEGAL_ADDRESS: {self.fault}") from self.fault

    def _take_back(self) -> None:
        while not self._handed_back.empty():
            allocation, queue = self._handed_back.get()
            self._bytes_in_use[allocation.device] -= allocation.size
            if queue is None or self.fault is not None:
                self.memory.release(allocation)
            else:
                queue.work.append(Work("release", _once(partial(self.memory.release, allocation))))

    def _eager(self) -> list[WorkQueue]:
        """Streams that take another step by themselves."""
        queues = self._queues.values() if self.fault is None else ()
        return [one for one in queues if one.ready and self._draw.random() < one.eagerness]

    def _needed_for(self, mark: Mark) -> WorkQueue:
        """The stream without a step of which `mark` is not reached."""
        while not mark.queue.ready:
            waits_for = mark.queue.work[0].waits_for
            assert waits_for is not None
            mark = waits_for
        return mark.queue

    def _step(self, queue: WorkQueue) -> None:
        work = queue.work[0]
        try:
            if self.fails.get(work.name) == self.done[work.name] + 1:
                raise RuntimeError(f"the {work.name} fails")
            next(work.steps)
        except StopIteration:
            queue.milliseconds += work.milliseconds
            self.done[work.name] += 1
            queue.work.popleft()
        except Exception as error:  # noqa: BLE001 (whatever a kernel raises, a GPU only says that it is broken)
            # What is broken does nothing any more, and holds nothing of what its work would have used.
            self.fault = error.with_traceback(None)
            for one in self._queues.values():
                one.work.clear()


def _once(work: Callable[[], None]) -> Iterator[None]:
    work()
    yield
