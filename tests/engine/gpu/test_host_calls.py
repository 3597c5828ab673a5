"""Calls of a GPU's predictor from the host, on a GPU that is simulated."""

import gc
import threading

import numpy as np
import pytest

from sennet_engine.device.cuda import CudaDevice
from sennet_engine.errors import DeviceError, DeviceMemoryError, ModelError, OverflowedError
from sennet_engine.gpu.host_calls import HostCalls

from ...doubles.simulated_gpu import SimulatedGpu

# Larger, smaller, of another side, as large in bytes but of more tiles, and larger again.
SHAPES = [(1, 1, 4, 4), (3, 1, 8, 8), (2, 1, 4, 4), (1, 1, 8, 16), (12, 1, 4, 4), (200, 1, 1, 1), (5, 1, 16, 16)]
INFINITE = 255  # what the first byte of a tile says that overflows


def batch(shape, seed=0):
    return np.random.default_rng(seed).integers(0, INFINITE, shape, dtype=np.uint8)


class Kernels:
    """Answers tiles with their bits turned over, and flags those that begin with `INFINITE`."""

    def __init__(self, gpu):
        self.gpu, self.contexts, self.addresses, self.streams = gpu, [], [], set()

    def enqueue(self, stream, tiles, answers, overflowed, *, context):
        self.contexts.append(context)
        self.addresses.append(tiles.address)
        self.streams.add((context, stream))
        assert tiles.shape == answers.shape
        assert overflowed.shape == tiles.shape[:1]

        def kernel(memory):
            content = memory.read(tiles.address, int(np.prod(tiles.shape)))
            memory.write(answers.address, ~content)
            for index in np.flatnonzero(content.reshape(tiles.shape[0], -1)[:, 0] == INFINITE):
                memory.write(overflowed.address + int(index), np.ones(1, np.uint8))

        self.gpu.launch(int(stream.handle), kernel)


def calls_on(gpu, *, contexts=1, enqueue=None):
    return HostCalls(CudaDevice(0, core=gpu.core), enqueue or Kernels(gpu).enqueue, contexts=contexts)


@pytest.mark.parametrize("seed", range(3))
def test_answers_are_those_to_the_tiles_whatever_the_batches_before(seed):
    """Buffers grow, and are used again for smaller batches."""
    calls = calls_on(SimulatedGpu(seed))
    for number, shape in enumerate([*SHAPES, *reversed(SHAPES)]):
        tiles = batch(shape, number)
        assert np.array_equal(calls.predict(tiles), ~tiles)
    calls.close()


def test_tiles_need_not_lie_row_after_row():
    """Every other tile of an array, turned."""
    calls, tiles = calls_on(SimulatedGpu()), batch((6, 1, 8, 8))[::2].swapaxes(2, 3)
    assert np.array_equal(calls.predict(tiles), ~tiles)
    calls.close()


def test_buffers_are_kept_as_large_as_was_needed():
    """The same memory for batches that fit, and no more than the largest of them needs."""
    gpu = SimulatedGpu()
    kernels = Kernels(gpu)
    calls = calls_on(gpu, enqueue=kernels.enqueue)
    calls.predict(batch((4, 1, 8, 8)))
    in_use = gpu.bytes_in_use(), gpu.bytes_in_use(None)
    assert in_use == (2 * 256 + 4, 2 * 256 + 4)
    calls.predict(batch((2, 1, 8, 8)))
    assert len(set(kernels.addresses)) == 1
    assert (gpu.bytes_in_use(), gpu.bytes_in_use(None)) == in_use
    calls.close()


def test_buffers_that_are_too_small_go_before_others_come():
    """Both would not fit."""
    gpu = SimulatedGpu(memory_bytes=2 * 1024 + 16)
    calls = calls_on(gpu)
    for side in (16, 24, 31):
        tiles = batch((1, 1, side, side))
        assert np.array_equal(calls.predict(tiles), ~tiles)
    with pytest.raises(DeviceMemoryError, match="smaller --batch"):
        calls.predict(batch((2, 1, 31, 31)))
    assert np.array_equal(calls.predict(tiles), ~tiles)
    calls.close()


@pytest.mark.parametrize("seed", range(6))
def test_contexts_are_used_from_several_threads_at_once(seed):
    """Each has a stream and buffers of its own."""
    gpu, wrong = SimulatedGpu(seed), []
    kernels = Kernels(gpu)
    calls = calls_on(gpu, contexts=3, enqueue=kernels.enqueue)

    def work(context):
        for number in range(12):
            tiles = batch(SHAPES[(number + context) % len(SHAPES)], 100 * context + number)
            if not np.array_equal(calls.predict(tiles, context=context), ~tiles):
                wrong.append((context, number))

    threads = [threading.Thread(target=work, args=(context,)) for context in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not wrong
    assert sorted(kernels.contexts) == [0] * 12 + [1] * 12 + [2] * 12
    assert len(kernels.streams) == len({stream for _, stream in kernels.streams}) == 3
    calls.close()
    assert all(stream.is_closed for _, stream in kernels.streams)


@pytest.mark.parametrize("seed", range(3))
def test_tiles_that_overflow_are_told_with_the_answers_to_the_others(seed):
    """And the next batch is free of them: the flags are cleared."""
    calls, tiles = calls_on(SimulatedGpu(seed)), batch((5, 1, 4, 4))
    bad = tiles.copy()
    bad[[1, 4], 0, 0, 0] = INFINITE
    with pytest.raises(OverflowedError, match=r"tiles 1, 4 of a batch of 5.*--precision fp32") as raised:
        calls.predict(bad)
    assert raised.value.tiles == (1, 4)
    assert np.array_equal(raised.value.answers, ~bad)
    assert np.array_equal(calls.predict(tiles), ~tiles)
    calls.close()


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize("kind", [ModelError, DeviceError])
def test_an_error_while_handing_over_is_the_callers_and_the_next_call_is_right(seed, kind):
    """What was handed over before it is done by then: the buffers are not written to afterwards."""
    gpu = SimulatedGpu(seed)
    kernels, fails = Kernels(gpu), [True]

    def enqueue(stream, tiles, *others, context):
        if fails:
            raise kind("no such tiles")
        kernels.enqueue(stream, tiles, *others, context=context)

    calls, tiles = calls_on(gpu, enqueue=enqueue), batch((2, 1, 8, 8))
    with pytest.raises(kind, match="no such tiles"):
        calls.predict(tiles)
    copies = gpu.done["copy"]
    assert copies == 1
    fails.clear()
    assert np.array_equal(calls.predict(~tiles), tiles)
    calls.close()


@pytest.mark.parametrize("work", ["copy", "fill", "kernel"])
@pytest.mark.parametrize("seed", range(3))
def test_a_gpu_that_fails_is_told_as_such(work, seed):
    """At the call during which it fails, and at each that follows; closing says nothing more."""
    gpu = SimulatedGpu(seed)
    calls, tiles = calls_on(gpu), batch((2, 1, 8, 8))
    calls.predict(tiles)
    gpu.fails[work] = gpu.done[work] + 1
    for _ in range(2):
        with pytest.raises(DeviceError, match=rf"cuda:0: failed.*the {work} fails.*--device cpu"):
            calls.predict(tiles)
    calls.close()


def test_the_drivers_error_from_within_the_predictor_is_ours():
    """Of a launch on a stream that is none."""
    gpu = SimulatedGpu()
    calls = calls_on(gpu, enqueue=lambda *_, **__: gpu.launch(7, lambda _: None))
    with pytest.raises(DeviceError, match="CUDA_ERROR_INVALID_HANDLE"):
        calls.predict(batch((1, 1, 4, 4)))
    calls.close()


@pytest.mark.parametrize("seed", range(3))
def test_closing_frees_all_but_answers_that_are_held(seed):
    """Of the GPU's memory, and of what is pinned."""
    gpu = SimulatedGpu(seed)
    calls = calls_on(gpu, contexts=2)
    tiles = batch((3, 1, 8, 8))
    answers = calls.predict(tiles, context=0)
    calls.predict(tiles, context=1)
    calls.close()
    gc.collect()
    assert gpu.bytes_in_use() == 0
    assert gpu.bytes_in_use(None) == tiles.size
    assert np.array_equal(answers, ~tiles)
    del answers
    gc.collect()
    assert gpu.bytes_in_use(None) == 0
