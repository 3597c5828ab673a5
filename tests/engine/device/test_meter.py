"""What a stage's time is, by whom it is measured, and that a GPU's streams measure their own."""

import itertools
import random
import threading
import time

import pytest

from sennet_engine.device.cuda import CudaDevice
from sennet_engine.device.meter import INTERVALS_KEPT, Meter
from sennet_engine.pipeline.stage_times import stage_times

from ...doubles.simulated_gpu import SimulatedGpu

# From, to: two that overlap, one inside another, two that touch, and one apart.
MEASURED = [(0.0, 2.0), (1.0, 3.0), (5.0, 9.0), (6.0, 7.0), (9.0, 10.0), (12.0, 12.5)]


def metered(measured):
    meter = Meter()
    for began, ended in measured:
        meter.add(began, ended)
    return meter


def test_measured_times_are_added_up_and_covered_once_in_any_order():
    """Streams tell of their work when they come to it, not in the order of the clock."""
    for order in itertools.permutations(MEASURED):
        meter = metered(order)
        assert meter.busy_seconds == pytest.approx(10.5)
        assert meter.covered_seconds == pytest.approx(3 + 5 + 0.5)


def test_one_piece_that_covers_all_that_was_apart():
    """And one that fills the gaps between."""
    apart = [(float(start), start + 0.5) for start in range(10)]
    assert metered(apart).covered_seconds == pytest.approx(5)
    assert metered([*apart, (-1.0, 20.0)]).covered_seconds == pytest.approx(21)
    assert metered([*apart, (2.25, 4.25)]).covered_seconds == pytest.approx(6)


def test_long_runs_keep_little_and_cover_as_much():
    """Pieces that are told a little late among thousands."""
    pieces = [(2.0 * number, 2.0 * number + 1) for number in range(5000)]
    late = random.Random(3)
    pieces.sort(key=lambda piece: piece[0] + late.uniform(0, INTERVALS_KEPT))
    meter = metered(pieces)
    assert meter.covered_seconds == pytest.approx(5000)
    assert len(meter._intervals) <= INTERVALS_KEPT


def test_nothing_is_covered_twice_however_late_it_is_told():
    """What is older than all that is kept counts as busy alone."""
    pieces = [(2.0 * number, 2.0 * number + 1) for number in range(3 * INTERVALS_KEPT)]
    meter = metered([*pieces, *pieces])
    assert meter.busy_seconds == pytest.approx(2 * len(pieces))
    assert meter.covered_seconds == pytest.approx(len(pieces))


def test_threads_that_run_at_once_are_covered_once():
    """Two that run for as long as each other, together."""
    meter, together = Meter(), threading.Barrier(2)

    def run():
        with meter.running():
            together.wait()
            time.sleep(0.05)
            together.wait()

    threads = [threading.Thread(target=run) for _ in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert 0.05 <= meter.covered_seconds < meter.busy_seconds
    assert meter.busy_seconds == pytest.approx(2 * meter.covered_seconds, rel=0.3)


def test_handing_over_is_apart_from_being_busy():
    """Also where it fails."""
    meter = Meter()

    def fail():
        time.sleep(0.02)
        raise ValueError("no")

    with pytest.raises(ValueError, match="no"), meter.handing_over():
        fail()
    assert 0.02 <= meter.handing_over_seconds < 1
    assert meter.busy_seconds == meter.covered_seconds == 0


def test_waiting_is_kept_by_whom_it_was_for():
    """Of all waits together, also of one that fails; where nobody is known, nothing."""
    meter, other = Meter(), Meter()
    for _ in range(2):
        with meter.waiting_for(other):
            time.sleep(0.02)

    def fail():
        time.sleep(0.02)
        raise ValueError("no")

    with pytest.raises(ValueError, match="no"), meter.waiting_for(other):
        fail()
    with meter.waiting_for(None):
        time.sleep(0.02)
    assert list(meter.waited_seconds) == [other]
    assert 0.06 <= meter.waited_seconds[other] < 1
    assert not other.waited_seconds
    assert meter.busy_seconds == 0


@pytest.mark.parametrize("seed", range(3))
def test_a_stream_of_a_gpu_does_not_tell_for_whom_it_waits(seed):
    """Its thread may wait for the host while the GPU is at work; a stream of the host that waits for the GPU tells."""
    gpu = SimulatedGpu(seed)
    device = CudaDevice(0, core=gpu.core)
    meters = {name: Meter() for name in ("cut", "copy in", "compute", "accumulate")}
    cut = device.host_stream("cut", meter=meters["cut"])
    copy, compute = (device.device_stream(name, meter=meters[name]) for name in ("copy in", "compute"))
    accumulate = device.host_stream("accumulate", meter=meters["accumulate"])
    cut.enqueue(lambda: time.sleep(0.05))
    copy.wait(cut.record())
    copy.submit(lambda cuda: gpu.launch(int(cuda.handle), lambda _: None, milliseconds=10))
    compute.wait(copy.record())
    compute.submit(lambda cuda: gpu.launch(int(cuda.handle), lambda _: None, milliseconds=10))
    accumulate.wait(compute.record())
    for stream in (cut, copy, compute, accumulate):
        stream.close()
    assert list(meters["accumulate"].waited_seconds) == [meters["compute"]]
    assert meters["accumulate"].waited_seconds[meters["compute"]] > 0.02
    assert not meters["copy in"].waited_seconds
    assert not meters["compute"].waited_seconds
    waiting = stage_times(meters, wall=1.0).waiting["copy_in"]
    assert (waiting.for_input, waiting.for_place, waiting.otherwise) == (0, 0, 1 - meters["copy in"].busy_seconds)


@pytest.mark.parametrize("seed", range(3))
def test_a_stream_of_a_gpu_measures_what_the_gpu_takes(seed):
    """By the GPU's own clock, and the host's for handing over, whatever the order in which it is told."""
    gpu = SimulatedGpu(seed)
    device, meter = CudaDevice(0, core=gpu.core), Meter()
    streams = [device.device_stream(f"compute {number}", meter=meter) for number in range(2)]

    def launch(cuda):
        time.sleep(0.01)
        gpu.launch(int(cuda.handle), lambda _memory: None, milliseconds=250)

    for stream in streams:
        for _ in range(3):
            stream.submit(launch)
    for stream in streams:
        stream.close()
    assert meter.busy_seconds == pytest.approx(6 * 0.25)
    assert 0.75 <= meter.covered_seconds <= 1.5
    assert 0.06 <= meter.handing_over_seconds < 1.5
    times = stage_times({"compute": meter, "copy in": Meter()}, wall=20.0)
    assert (times.compute, times.handing_over) == (meter.busy_seconds, meter.handing_over_seconds)
    assert times.outside_network == 20 - meter.covered_seconds
    assert (times + times).handing_over == 2 * times.handing_over


@pytest.mark.parametrize("seed", range(3))
def test_a_stream_of_a_gpu_is_not_busy_while_it_waits(seed):
    """For another one: neither in the time that they cover together."""
    gpu = SimulatedGpu(seed)
    device, meters = CudaDevice(0, core=gpu.core), {"first": Meter(), "then": Meter()}
    first, then = (device.device_stream(name, meter=meter) for name, meter in meters.items())
    for _ in range(2):
        first.submit(lambda cuda: gpu.launch(int(cuda.handle), lambda _: None, milliseconds=5000))
        then.wait(first.record())
        then.submit(lambda cuda: gpu.launch(int(cuda.handle), lambda _: None, milliseconds=100))
    first.close()
    then.close()
    assert meters["first"].busy_seconds == pytest.approx(10)
    assert meters["then"].busy_seconds == meters["then"].covered_seconds == pytest.approx(0.2)


@pytest.mark.parametrize("seed", range(3))
def test_host_work_on_a_stream_of_a_gpu_comes_after_the_gpus(seed):
    """All that was handed over before is done then, and what comes later has not begun."""
    gpu = SimulatedGpu(seed)
    stream = CudaDevice(0, core=gpu.core).device_stream("compute", meter=Meter())
    done = []
    for number in range(4):
        stream.submit(lambda cuda, number=number: gpu.launch(int(cuda.handle), lambda _, one=number: done.append(one)))
        stream.enqueue(lambda number=number: done.append(f"after {number}"))
    stream.close()
    assert done == [one for number in range(4) for one in (number, f"after {number}")]


@pytest.mark.parametrize("seed", range(3))
def test_free_memory_is_what_is_not_allocated(seed):
    """Also what was let go a moment ago."""
    gpu = SimulatedGpu(seed, memory_bytes=10_000)
    device = CudaDevice(0, core=gpu.core)
    assert device.free_memory() == 10_000
    kept = device.buffer(6_000)
    assert device.free_memory() == 4_000
    del kept
    assert device.free_memory() == 10_000
