"""GPUs that are simulated share slabs: the same mask, whichever of them breaks and when."""

import gc
import threading
import time

import pytest

from sennet_engine.device.cuda import CudaDevice
from sennet_engine.errors import DeviceError
from sennet_engine.pipeline.shared_slabs import run_axis_on
from sennet_engine.pipeline.worker import Worker

from ...doubles.simulated_gpu import SimulatedGpu
from ..device.test_cuda import GpuNetwork
from .test_hazards import CASCADE, Source, plan_of, run, same

pytestmark = pytest.mark.timeout(60)
SEEDS = range(3)


@pytest.fixture(autouse=True)
def no_thread_left():
    """No test leaves a worker or a stream behind."""
    before = set(threading.enumerate())
    yield
    assert not set(threading.enumerate()) - before


class Together(Source):
    """Planes that are not windowed before each of two workers has some: both take part."""

    def __init__(self):
        self.met = threading.Barrier(2)
        self.seen = set()

    def windowed(self, planes):
        worker = threading.get_ident()
        if worker not in self.seen:
            self.seen.add(worker)
            self.met.wait(20)
        time.sleep(0.001)
        return super().windowed(planes)


def worker_on(gpu, number, *, index=0, contexts=1):
    """A worker with networks of its own."""
    networks = {name: GpuNetwork(gpu, contexts=contexts) for name in ("cells", "whole")}
    return Worker(f"gpu {number}", CudaDevice(index, core=gpu.core), networks)


def run_on_both(workers, *, cascade=None):
    """Sums, grey levels and tiles done of each slab, and who was lost, with which error."""
    results, lost = {}, []

    def keep(one):
        assert one.slab.start not in results, "twice"
        results[one.slab.start] = one.canvas.sums.copy(), one.grey.copy(), one.tiles_done

    plan = plan_of(cascade=cascade, batch=4)
    run_axis_on(
        Together(), plan, workers, keep, slabs=plan.slabs, ring=2, first_pass_cells=None, overflows=None,
        on_lost=lambda worker, error, _: lost.append((worker.name, str(error))),
    )  # fmt: skip
    return [results[start] for start in sorted(results)], lost


@pytest.mark.parametrize("cascade", [None, CASCADE], ids=["plain", "cascade"])
@pytest.mark.parametrize("seed", SEEDS)
def test_two_gpus_give_what_one_gives(seed, cascade):
    """Of one driver, with an index each; nothing is lost, and no memory is left."""
    gpu = SimulatedGpu(seed, devices=2)
    workers = [worker_on(gpu, index, index=index, contexts=2) for index in (0, 1)]
    results, lost = run_on_both(workers, cascade=cascade)
    assert same(results, run(cascade=cascade))
    assert not lost
    del workers
    gc.collect()
    assert [gpu.bytes_in_use(memory) for memory in (0, 1, None)] == [0, 0, 0]


@pytest.mark.parametrize("work", ["copy", "kernel", "fill"])
@pytest.mark.parametrize("seed", SEEDS)
def test_a_gpu_that_breaks_leaves_its_slabs_to_the_other(seed, work):
    """In the middle; it is told once, with what broke it."""
    broken, sound = SimulatedGpu(seed), SimulatedGpu(seed + 1)
    broken.fails[work] = 2
    results, lost = run_on_both([worker_on(broken, 0), worker_on(sound, 1)])
    assert same(results, run())
    assert [name for name, _ in lost] == ["gpu 0"]
    assert f"the {work} fails" in lost[0][1]


@pytest.mark.parametrize("seed", SEEDS)
def test_gpus_that_both_break_end_the_run(seed):
    """With the error of the last; the other one was told."""
    gpus = [SimulatedGpu(seed), SimulatedGpu(seed + 1)]
    for gpu, work in zip(gpus, ("kernel", "copy"), strict=True):
        gpu.fails[work] = 2
    with pytest.raises(DeviceError, match=r"the (kernel|copy) fails"):
        run_on_both([worker_on(gpu, number) for number, gpu in enumerate(gpus)])
