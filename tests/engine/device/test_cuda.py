"""A run on a GPU, which is simulated, gives what a run on the host gives."""

import numpy as np
import pytest

from sennet_engine.device.cuda import CudaDevice
from sennet_engine.errors import DeviceError, DeviceMemoryError
from sennet_engine.pipeline.stream_pipeline import run_axis

from ...doubles.simulated_gpu import SimulatedGpu
from ..pipeline.test_hazards import CASCADE, Network, Source, no_thread_left, plan_of, run, same

__all__ = ["no_thread_left"]


class GpuNetwork(Network):
    """The network of the host's tests as a kernel."""

    def __init__(self, gpu, *, contexts=1):
        self.gpu, self.contexts = gpu, contexts

    def enqueue(self, stream, tiles, answers, overflowed, *, context):
        def kernel(memory):
            memory.write(answers.address, memory.read(tiles.address, int(np.prod(tiles.shape))) ^ 0x55)

        self.gpu.launch(int(stream.handle), kernel)


def run_on(gpu, *, contexts=1, ring=2, cascade=None):
    """Sums, grey levels and tiles done of each slab."""
    results = []
    networks = {name: GpuNetwork(gpu, contexts=contexts) for name in ("cells", "whole")}
    run_axis(
        Source(), plan_of(batch=4, cascade=cascade), networks,
        lambda one: results.append((one.canvas.sums.copy(), one.grey.copy(), one.tiles_done)),
        device=CudaDevice(0, core=gpu.core), ring=ring,
    )  # fmt: skip
    return results


@pytest.mark.parametrize("ring", [1, 2, 3, 4])
@pytest.mark.parametrize("contexts", [1, 2, 3])
def test_a_run_on_a_gpu_equals_one_on_the_host(ring, contexts):
    """Whether the GPU is late, soon, or between."""
    for seed in range(3):
        gpu = SimulatedGpu(seed)
        assert same(run_on(gpu, contexts=contexts, ring=ring, cascade=CASCADE), run(cascade=CASCADE))


@pytest.mark.parametrize("work", ["copy", "kernel", "fill"])
@pytest.mark.parametrize("seed", range(3))
def test_a_gpu_that_fails_ends_the_run(work, seed):
    """Nothing hangs and no thread is left."""
    gpu = SimulatedGpu(seed)
    gpu.fails[work] = 3
    with pytest.raises(DeviceError, match=f"the {work} fails"):
        run_on(gpu)


def test_memory_that_a_gpu_does_not_have_is_told():
    """As such."""
    with pytest.raises(DeviceMemoryError, match="smaller --batch"):
        run_on(SimulatedGpu(memory_bytes=1000))
