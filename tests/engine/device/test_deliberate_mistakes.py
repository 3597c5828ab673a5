"""Mistakes that people make with GPUs are found on the one that is simulated, and the code without them passes."""

import gc
import signal
import subprocess
import sys
import time
from dataclasses import replace
from functools import cache
from itertools import count
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest

from sennet_engine.device.cuda import CudaDevice
from sennet_engine.device.cuda_stream import CudaEvent, CudaStream
from sennet_engine.errors import DeviceError, OverflowedError

from ...doubles.simulated_gpu import SimulatedCudaError, SimulatedGpu
from ..pipeline.test_hazards import CASCADE, MistakeError, no_thread_left, run, same
from .test_cuda import GpuNetwork, run_on
from .test_cuda_waits import SLOW, ForgetfulDevice

__all__ = ["no_thread_left"]

REPOSITORY = Path(__file__).parents[3]
# Of each kind of GPU a few: late, soon, either by stream.
SEEDS = range(9)
CONTEXTS = 2


def forgetting(site):
    """A device which leaves a wait out, where it matters most."""
    return lambda gpu: ForgetfulDevice(gpu, ignores=site, slow=SLOW.get(site))


class OtherStreams(CudaDevice):
    """A device whose streams are of another class."""

    def __init__(self, gpu, kind=CudaStream):
        self.kind = kind
        super().__init__(0, core=gpu.core)

    def device_stream(self, name, *, meter):
        return self.kind(name, driver=self.driver, meter=meter)


class RecordsTooEarly(CudaStream):
    """Its events stand before the work that they tell of."""

    last = None

    def submit(self, work):
        self._submit_last()
        self.last = work

    def record(self):
        event = super().record()
        self._submit_last()
        return event

    def _submit_last(self):
        if self.last is not None:
            super().submit(self.last)
        self.last = None


class HandedOverIsDone(CudaEvent):
    """The host takes what was handed over for done."""

    def outcome(self):
        return self.place()[1]


class TellsTooSoon(CudaStream):
    """See HandedOverIsDone."""

    def record(self):
        event = HandedOverIsDone(self._driver)
        self._pieces.put(lambda: event.hand_over(self._place(), self._error))
        return event


class LeavesTooSoon(CudaStream):
    """Does not wait for the GPU when it is closed."""

    def _synchronise(self):
        pass


class WaitsForTheHostOnly(CudaStream):
    """What was handed over by another stream is taken for done."""

    def _wait(self, event):
        if isinstance(event, CudaEvent):
            event.place()
        else:
            super()._wait(event)


class ForgetsItsDevice(CudaStream):
    """Its thread has none."""

    def _run(self):
        self._driver = SimpleNamespace(calls=self._driver.calls, make_current=lambda: None, core=self._driver.core)
        super()._run()


class FreesTooSoon(OtherStreams):
    """Answers go through memory that is let go when all is handed over, which is before any of it is done."""

    def compute(self, stream, predictor, source, target, overflowed, *, context):
        def work(cuda):
            between = self.buffer(target.size).shaped(target.shape)
            overflowed.clear(stream=cuda)
            arrays = source.gpu_array, between.gpu_array, overflowed.gpu_array
            predictor.enqueue(cuda, *arrays, context=context)
            target._view().copy_from(between._view(), stream=cuda)

        stream.submit(work)


class FreesInTime(OtherStreams):
    """The same with memory that belongs to the work, which the stream keeps until it is done."""

    def compute(self, stream, predictor, source, target, overflowed, *, context):
        between = self.buffer(target.size).shaped(target.shape)

        def work(cuda):
            overflowed.clear(stream=cuda)
            arrays = source.gpu_array, between.gpu_array, overflowed.gpu_array
            predictor.enqueue(cuda, *arrays, context=context)
            target._view().copy_from(between._view(), stream=cuda)

        stream.submit(work)


class WithoutOwners(GpuNetwork):
    """A network that does not keep the memory that it is shown: it only looks at addresses."""

    def enqueue(self, stream, tiles, answers, overflowed, *, context):
        tiles, answers, overflowed = (replace(one, owner=None) for one in (tiles, answers, overflowed))
        super().enqueue(stream, tiles, answers, overflowed, context=context)


class LosesItsMemory(OtherStreams):
    """Memory is freed as soon as it is allocated, since nothing keeps it."""

    def buffer(self, size):
        kept = super().buffer(size)
        return type(kept)(kept.address, kept.shape, kept.size, None, kept.core)


class CopiesOnAnotherStream(OtherStreams):
    """Copies in are handed to a stream that nothing waits for."""

    def __init__(self, gpu):
        super().__init__(gpu)
        self.other = self.open_stream()

    def copy_in(self, stream, source, target):
        stream.submit(lambda _: target.copy_from(source, stream=self.other))


class NotPinned(OtherStreams):
    """Copies are to and from memory of the host that the GPU cannot reach."""

    def pinned(self, size):
        return np.zeros(size, np.uint8)


class NotCleared(OtherStreams):
    """Flags of overflow are whatever the memory was full of."""

    def compute(self, stream, predictor, source, target, overflowed, *, context):
        arrays = source.gpu_array, target.gpu_array, overflowed.gpu_array
        stream.submit(lambda cuda: predictor.enqueue(cuda, *arrays, context=context))


class TwoKernels(GpuNetwork):
    """A network whose contexts have memory of their own, between its first kernel and its last."""

    def __init__(self, gpu, *, contexts=1):
        super().__init__(gpu, contexts=contexts)
        self.between = [CudaDevice(0, core=gpu.core).buffer(4 * 16 * 48) for _ in range(contexts)]

    def enqueue(self, stream, tiles, answers, overflowed, *, context):  # noqa: ARG002
        between, size = self.between_of(context), int(np.prod(tiles.shape))

        def first(memory):
            memory.write(between.address, memory.read(tiles.address, size) ^ 0x50)

        def last(memory):
            memory.write(answers.address, memory.read(between.address, size) ^ 0x05)

        self.gpu.launch(int(stream.handle), first)
        self.gpu.launch(int(stream.handle), last)

    def between_of(self, context):
        return self.between[context]


class SharedByContexts(TwoKernels):
    """All contexts use the memory of one."""

    def between_of(self, context):  # noqa: ARG002
        return self.between[0]


class AnswersOfAnotherContext(GpuNetwork):
    """Answers are put where the context before was told to put them."""

    last = None

    def enqueue(self, stream, tiles, answers, overflowed, *, context):
        self.last, answers = answers, self.last or answers
        super().enqueue(stream, tiles, answers, overflowed, context=context)


class TooSoon(GpuNetwork):
    """Takes its inputs when it is handed over, and not when it runs."""

    def enqueue(self, stream, tiles, answers, overflowed, *, context):  # noqa: ARG002
        with self.gpu.lock:
            taken = self.gpu.memory.read(tiles.address, int(np.prod(tiles.shape)))
        self.gpu.launch(int(stream.handle), lambda memory: memory.write(answers.address, taken ^ 0x55))


def streams(kind):
    """A device with such streams."""
    return lambda gpu: OtherStreams(gpu, kind)


# By name, the device and the network with the mistake.
MISTAKES = {
    "compute does not wait for the copy in": (forgetting("compute.wait(place.copied_in)"), GpuNetwork),
    "the copy out does not wait for compute": (forgetting("self._copy_out.wait(place.computed)"), GpuNetwork),
    "tiles are overwritten before they are computed": (forgetting("self._copy_in.wait(place.computed)"), GpuNetwork),
    "answers are overwritten before they are copied out": (forgetting("compute.wait(place.copied_out)"), GpuNetwork),
    "pinned tiles are overwritten while they are copied": (forgetting("self.cut.wait(place.copied_in)"), GpuNetwork),
    "events are recorded before the work": (streams(RecordsTooEarly), GpuNetwork),
    "the host waits for the handing over only": (streams(TellsTooSoon), GpuNetwork),
    "streams wait for the handing over only": (streams(WaitsForTheHostOnly), GpuNetwork),
    "streams are closed without a synchronise": (streams(LeavesTooSoon), GpuNetwork),
    "a thread has not set its device": (streams(ForgetsItsDevice), GpuNetwork),
    "memory is freed while it is in use": (FreesTooSoon, WithoutOwners),
    "memory is freed at once": (LosesItsMemory, GpuNetwork),
    "a copy is handed to another stream": (CopiesOnAnotherStream, GpuNetwork),
    "the host's memory is not pinned": (NotPinned, GpuNetwork),
    "flags are not cleared": (NotCleared, GpuNetwork),
    "contexts share memory": (OtherStreams, SharedByContexts),
    "answers go to the buffer of another context": (OtherStreams, AnswersOfAnotherContext),
    "a kernel takes its inputs when it is handed over": (OtherStreams, TooSoon),
}

NO_MISTAKE = {
    "plain": (lambda gpu: CudaDevice(0, core=gpu.core), GpuNetwork),
    "nothing forgotten": (ForgetfulDevice, GpuNetwork),
    "memory that is freed in time": (FreesInTime, WithoutOwners),
    "contexts with memory of their own": (OtherStreams, TwoKernels),
}


@cache
def expected():
    """From the host."""
    return run(cascade=CASCADE)


def found(device_of, network, *, seed):
    """What tells of a mistake; None where nothing does: neither in a run nor in one that is interrupted, nor later."""
    for interrupted in (False, True):
        gpu = SimulatedGpu(seed)
        try:
            if not ends_as_it_should(gpu, device_of(gpu), network, interrupted=interrupted):
                return "another result"
            gc.collect()
            let_all_be_done(gpu)
            if gpu.bytes_in_use() or gpu.bytes_in_use(None):
                return "memory that is left"
        except (DeviceError, OverflowedError, SimulatedCudaError) as error:
            return str(error)
    return None


def ends_as_it_should(gpu, device, network, *, interrupted):
    """Whether a run gives what one on the host does; or ends with the error that comes where a batch is handed out."""
    if interrupted:
        device.copy_out = interrupted_copy_out(device.copy_out)
    try:
        results = run_on(gpu, device=device, network=network, contexts=CONTEXTS, cascade=CASCADE)
    except MistakeError:
        return interrupted
    finally:
        vars(device).pop("copy_out", None)
    return same(results, expected())


def interrupted_copy_out(copy_out):
    """As Ctrl-C does: what was handed over before is left with nothing that waits for it."""
    calls = count()

    def interrupted(*arguments):
        if next(calls) == 4:
            time.sleep(0.01)
            raise MistakeError
        copy_out(*arguments)

    return interrupted


def let_all_be_done(gpu):
    """Raises where the GPU broke after the run was over."""
    device = gpu.core.Device(0)
    device.set_current()
    device.sync()


@pytest.mark.parametrize("mistake", MISTAKES)
def test_each_mistake_is_found(mistake):
    """Under one of a few seeds."""
    device_of, network = MISTAKES[mistake]
    assert any(found(device_of, network, seed=seed) for seed in SEEDS)


@pytest.mark.parametrize("code", NO_MISTAKE)
def test_code_without_a_mistake_passes(code):
    """Under all of those seeds, so what was found above was the mistake."""
    device_of, network = NO_MISTAKE[code]
    assert [found(device_of, network, seed=seed) for seed in SEEDS] == [None] * len(SEEDS)


def test_a_host_that_touches_the_devices_memory_does_not_get_away_with_it():
    """As with a GPU, the process is killed."""
    touch = (
        "import ctypes; from tests.doubles.simulated_gpu import SimulatedGpu; "
        "from sennet_engine.device.cuda import CudaDevice; "
        "buffer = CudaDevice(0, core=SimulatedGpu().core).buffer(16); "
        "print('reads', flush=True); ctypes.string_at(buffer.address, 16)"
    )
    done = subprocess.run([sys.executable, "-c", touch], cwd=REPOSITORY, capture_output=True, text=True, check=False)
    assert (done.stdout, done.returncode) == ("reads\n", -signal.SIGSEGV)
