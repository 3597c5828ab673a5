"""A run on a GPU, which is simulated, gives what a run on the host gives."""

import gc
from itertools import product

import numpy as np
import pytest

from sennet_engine.device.cuda import CudaDevice
from sennet_engine.errors import DeviceError, DeviceMemoryError, ModelError
from sennet_engine.pipeline.stream_pipeline import run_axis

from ...doubles.simulated_gpu import SimulatedGpu
from ..pipeline.test_hazards import CASCADE, Network, Source, no_thread_left, plan_of, run, same

__all__ = ["no_thread_left"]


class GpuNetwork(Network):
    """The network of the host's tests as a kernel."""

    def __init__(self, gpu, *, contexts=1):
        self.gpu, self.contexts = gpu, contexts

    def enqueue(self, stream, tiles, answers, overflowed, *, context):  # noqa: ARG002
        def kernel(memory):
            memory.write(answers.address, memory.read(tiles.address, int(np.prod(tiles.shape))) ^ 0x55)

        self.gpu.launch(int(stream.handle), kernel)


def run_on(gpu, *, device=None, network=GpuNetwork, contexts=1, ring=2, cascade=None, sink=lambda _: None):
    """Sums, grey levels and tiles done of each slab."""
    results = []

    def keep(one):
        sink(one)
        results.append((one.canvas.sums.copy(), one.grey.copy(), one.tiles_done))

    networks = {name: network(gpu, contexts=contexts) for name in ("cells", "whole")}
    plan = plan_of(batch=4, cascade=cascade)
    run_axis(Source(), plan, networks, keep, device=device or CudaDevice(0, core=gpu.core), ring=ring)
    return results


def memory_in_use(gpu):
    """Bytes of the GPU, and bytes that are pinned."""
    gc.collect()
    return gpu.bytes_in_use() + gpu.bytes_in_use(None)


# Three for each ring and number of contexts, one of each kind, 36 in all.
SEEDS = {
    (ring, contexts): range(start, start + 3)
    for start, (ring, contexts) in zip(range(0, 36, 3), product((1, 2, 3, 4), (1, 2, 3)), strict=True)
}


@pytest.mark.parametrize("ring", [1, 2, 3, 4])
@pytest.mark.parametrize("contexts", [1, 2, 3])
def test_a_run_on_a_gpu_equals_one_on_the_host(ring, contexts):
    """Whether the GPU is late, soon, or either by stream; and nothing is left in its memory."""
    for seed in SEEDS[(ring, contexts)]:
        gpu = SimulatedGpu(seed)
        assert same(run_on(gpu, contexts=contexts, ring=ring, cascade=CASCADE), run(cascade=CASCADE))
        assert not memory_in_use(gpu)


@pytest.mark.parametrize("work", ["copy", "kernel", "fill"])
@pytest.mark.parametrize("seed", range(3))
def test_a_gpu_that_fails_ends_the_run(work, seed):
    """Nothing hangs, and neither threads nor memory are left."""
    gpu = SimulatedGpu(seed)
    gpu.fails[work] = 3
    with pytest.raises(DeviceError, match=f"the {work} fails"):
        run_on(gpu)
    assert not memory_in_use(gpu)


def test_memory_that_a_gpu_does_not_have_is_told():
    """As such, at whichever buffer; and what was allocated before is let go."""
    for memory_bytes in range(0, 12000, 1500):
        gpu = SimulatedGpu(memory_bytes=memory_bytes)
        with pytest.raises(DeviceMemoryError, match="smaller --batch"):
            run_on(gpu)
        assert not memory_in_use(gpu)


@pytest.mark.parametrize("seed", range(3))
def test_an_error_of_the_model_reaches_the_caller(seed):
    """The very one that `enqueue` raised, though the GPU has work in hand; it goes on with another run."""
    gpu, error = SimulatedGpu(seed), ModelError("does not take such tiles")

    class Refuses(GpuNetwork):
        def enqueue(self, stream, tiles, answers, overflowed, *, context):
            super().enqueue(stream, tiles, answers, overflowed, context=context)
            if gpu.done["kernel"] >= 3 * (seed > 0):
                raise error

    with pytest.raises(ModelError) as raised:
        run_on(gpu, network=Refuses)
    assert raised.value is error
    del raised
    error.__traceback__ = None  # which holds the buffers of the run
    assert not memory_in_use(gpu)
    assert same(run_on(gpu), run())
