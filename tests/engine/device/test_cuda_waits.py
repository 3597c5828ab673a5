"""Each wait between the host and a GPU is needed, which leaving it out shows on a GPU that is simulated."""

import linecache
import sys
from collections import Counter

import pytest

from sennet_engine.device.cuda import CudaDevice
from sennet_engine.device.cuda_stream import CudaEvent, CudaStream
from sennet_engine.device.host import HostStream
from sennet_engine.errors import DeviceError, OverflowedError

from ...doubles.simulated_gpu import SimulatedGpu
from ..pipeline.test_hazards import CASCADE, Sabotage, SabotagedStream, no_thread_left, run, same
from .test_cuda import run_on

__all__ = ["no_thread_left"]


class ForgetfulDevice(CudaDevice):
    """A GPU on which a wait does not happen.

    Args:
        ignores: the wait, by its line in the source.
        slow: the stage of the host that takes a while for each piece of its work.

    Attributes:
        of_the_gpu: lines with waits of streams of the GPU, or for events of one.
    """

    def __init__(self, gpu, *, ignores=None, slow=None):
        self.ignores, self.fails = ignores, None
        self.delays = lambda stage: 0.002 * (stage == slow)
        self.gpu, self.sites, self.pieces, self.of_the_gpu = gpu, Counter(), Counter(), set()
        super().__init__(0, core=gpu.core)

    come_to = Sabotage.come_to

    def host_stream(self, name, *, meter):
        return ForgetfulHostStream(self, name, meter)

    def device_stream(self, name, *, meter):
        return ForgetfulStream(self, name, meter)


def site_of(frame):
    """The line of the source that `frame` is at, as `come_to` knows it."""
    return linecache.getline(frame.f_code.co_filename, frame.f_lineno).strip().split("  #")[0]


class ForgetfulHostStream(SabotagedStream):
    """See ForgetfulDevice."""

    def wait(self, event):
        frame = sys._getframe(1)
        if isinstance(event, CudaEvent):
            self.device.of_the_gpu.add(site_of(frame))
        if self.device.come_to(frame):
            HostStream.wait(self, event)


class ForgetfulStream(CudaStream):
    """See ForgetfulDevice."""

    def __init__(self, device, name, meter):
        self.device = device
        super().__init__(name, driver=device.driver, meter=meter)

    def wait(self, event):
        frame = sys._getframe(1)
        self.device.of_the_gpu.add(site_of(frame))
        if self.device.come_to(frame):
            super().wait(event)


# Each wait that the GPU does, or that the host does for the GPU. None of them is redundant.
GPU_WAITS = [
    "self.cut.wait(place.copied_in)",
    "self._copy_in.wait(cut)",
    "self._copy_in.wait(place.computed)",
    "compute.wait(place.copied_in)",
    "compute.wait(place.copied_out)",
    "self._copy_out.wait(place.computed)",
    "self._copy_out.wait(place.accumulated)",
    "self.accumulate.wait(place.copied_out)",
]

# For some of them, the stage of the host whose slowness makes it matter.
SLOW = {
    "self._copy_in.wait(cut)": "cut",
    "compute.wait(place.copied_out)": "accumulate",
    "self._copy_out.wait(place.accumulated)": "accumulate",
}
SEEDS = range(24)


def test_all_waits_are_known():
    """The list above is of all waits to which a stream of the GPU, or an event of one, is a party."""
    device = ForgetfulDevice(SimulatedGpu())
    run_on(device.gpu, device=device, cascade=CASCADE)
    assert set(GPU_WAITS) == device.of_the_gpu


@pytest.mark.parametrize("site", GPU_WAITS)
def test_each_wait_is_needed(site):
    """Without it the result is wrong or the run fails, under one of a few seeds."""
    expected = run(cascade=CASCADE)
    for seed in SEEDS:
        device = ForgetfulDevice(SimulatedGpu(seed), ignores=site, slow=SLOW.get(site))
        try:
            if not same(run_on(device.gpu, device=device, cascade=CASCADE), expected):
                return
        except (DeviceError, OverflowedError):
            return
    pytest.fail(f"without `{site}` the result is the same")
