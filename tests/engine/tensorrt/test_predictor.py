"""TensorrtPredictor keeps the contract of TensorRT's execution contexts, and answers what the engine computes."""

import logging
import re

import numpy as np
import pytest

from sennet_engine.engine_file import Profile
from sennet_engine.errors import DeviceError, DeviceMemoryError, ModelError, OverflowedError
from sennet_engine.gpu.predictor import GpuArray
from sennet_engine.pipeline.stream_pipeline import run_axis
from sennet_engine.planning.cells import Occupancy
from sennet_engine.planning.layout import Layout, Rectangle, Tile
from sennet_engine.planning.passes import AxisPlan, PassPlan, Slab
from sennet_engine.tensorrt.contexts import EngineContext

from ...doubles.recording_tensorrt import BYTES_PER_PIXEL, DataType, answers_to, overflowed_in
from ...doubles.tensorrt_bench import bench

DRAW = np.random.default_rng(3)
SHAPING = [
    "set_optimization_profile_async", "set_input_shape", "infer_shapes", "get_tensor_shape", "get_tensor_shape",
    "update_device_memory_size_for_shapes", "set_device_memory",
]  # fmt: skip
BINDING = ["set_tensor_address"] * 3


def tiles_of(batch, side):
    return DRAW.integers(0, 256, (batch, 1, side, side), dtype=np.uint8)


def test_calls_come_in_the_order_of_the_contract():
    """Profile, shapes, memory, addresses, launch; the second batch of the shape is bound and launched, no more."""
    one = bench(watches_overflow=True)
    stream = one.stream()
    for _ in range(2):
        one.enqueue(tiles_of(4, 32), stream=stream)
    assert one.names == [*SHAPING, *BINDING, "execute_async_v3", *BINDING, "execute_async_v3"]


def test_arguments_are_those_that_were_asked_for():
    """The profile by its number, the stream by its handle, the shape whole, and addresses by the tensors' names."""
    one = bench(watches_overflow=True)
    stream = one.stream()
    tiles = one.array(tiles_of(3, 32), stream)
    answers, overflowed = (one.device.array(size) for size in (3 * 32 * 32, 3))
    one.predictor.enqueue(
        stream, tiles, GpuArray(answers.address, tiles.shape, answers), GpuArray(overflowed.address, (3,), overflowed),
        context=0,
    )  # fmt: skip
    calls = {call.name: call.arguments for call in one.trt.calls}
    handle = int(stream.handle)
    assert calls["set_optimization_profile_async"] == (1, handle)
    assert calls["set_input_shape"] == ("tiles", (3, 1, 32, 32))
    assert calls["execute_async_v3"] == (handle,)
    assert [call.arguments for call in one.trt.calls if call.name == "set_tensor_address"] == [
        ("tiles", tiles.address), ("probabilities", answers.address), ("overflowed", overflowed.address),
    ]  # fmt: skip
    address, size = calls["set_device_memory"]
    assert size == 3 * 32 * 32 * BYTES_PER_PIXEL
    assert address % 256 == 0


@pytest.mark.parametrize("watches_overflow", [False, True])
@pytest.mark.parametrize("seed", range(6))
def test_answers_are_the_engines(seed, watches_overflow):
    """For any side, batch and context, over and over, with none of them waited for in between."""
    one = bench(seed, contexts=2, watches_overflow=watches_overflow)
    streams, done = [one.stream() for _ in range(2)], []
    shapes = [(4, 16), (2, 32), (1, 16), (9, 16), (1, 32), (4, 16), (17, 32), (4, 16)]
    for number, (batch, side) in enumerate(shapes * 2):
        tiles = tiles_of(batch, side)
        tiles[-1, 0, 0, 0] = 200
        done.append((tiles, one.enqueue(tiles, stream=streams[number % 2], context=number % 2)))
    for stream in streams:
        stream.sync()
    for tiles, (answers, overflowed) in done:
        np.testing.assert_array_equal(one.read(answers), answers_to(tiles))
        np.testing.assert_array_equal(one.read(overflowed), overflowed_in(tiles) * watches_overflow)


def test_a_profile_is_chosen_by_side_and_batch():
    """Of several for a side, the smallest that takes the batch; else the one that takes most of it."""
    profiles = tuple(
        Profile(side=16, batch_smallest=low, batch_usual=high, batch_largest=high) for low, high in ((4, 8), (1, 2))
    )
    one = bench(profiles=profiles)
    stream = one.stream()
    for batch in (1, 2, 5, 20):
        one.enqueue(tiles_of(batch, 16), stream=stream)
    shapes = [call.arguments[1][0] for call in one.trt.calls if call.name == "set_input_shape"]
    chosen = [call.arguments[0] for call in one.trt.calls if call.name == "set_optimization_profile_async"]
    assert shapes == [1, 2, 5, 7]
    assert chosen == [1, 0]


@pytest.mark.parametrize("shape", [(2, 1, 16, 32), (2, 1, 48, 48), (2, 3, 16, 16), (0, 1, 16, 16), (16, 16)])
def test_other_tiles_are_refused_with_those_that_it_takes(shape):
    """By both ways in, and before the engine hears of them."""
    one = bench()
    for call in (
        lambda: one.predictor.predict(np.zeros(shape, np.uint8)),
        lambda: one.predictor.enqueue(one.stream(), *[GpuArray(0, shape, None)] * 3, context=0),
    ):
        with pytest.raises(ModelError, match=re.escape(f"got tiles of shape {shape}") + ".*one of 16, 32"):
            call()
    assert not one.names


def test_predict_shares_contexts_with_streams_that_are_busy():
    """Host arrays in and out, of any batch, while the same context computes for a stream."""
    for seed in range(6):
        one = bench(seed, watches_overflow=True)
        stream, under_way = one.stream(), tiles_of(3, 32)
        answers, _ = one.enqueue(under_way, stream=stream)
        alone = tiles_of(1, 32) % 200
        np.testing.assert_array_equal(one.predictor.predict(alone), answers_to(alone))
        stream.sync()
        np.testing.assert_array_equal(one.read(answers), answers_to(under_way))


def test_predict_names_the_tiles_that_overflow():
    """And has the answers to the others."""
    one = bench(watches_overflow=True)
    tiles = tiles_of(5, 16) % 200
    tiles[[1, 4], 0, 0, 0] = 200
    with pytest.raises(OverflowedError) as overflowed:
        one.predictor.predict(tiles)
    assert overflowed.value.tiles == (1, 4)
    np.testing.assert_array_equal(overflowed.value.answers, answers_to(tiles))


@pytest.mark.parametrize(
    "name",
    [
        "set_optimization_profile_async", "set_input_shape", "infer_shapes", "update_device_memory_size_for_shapes",
        "set_tensor_address", "execute_async_v3",
    ],
)  # fmt: skip
def test_what_is_refused_is_an_error_with_what_was_said(name):
    """TensorRT refuses by False, and says why in its log."""
    one = bench(refuses={name})
    with pytest.raises(DeviceError, match=rf"model.engine: TensorRT for RTX 1.7.1 refuses[^\n]*\n  {name}: refused"):
        one.predictor.predict(tiles_of(2, 16))


def test_a_context_that_is_refused_is_an_error():
    """By None."""
    with pytest.raises(DeviceError, match=r"expected an execution context[^\n]*\n  create_execution_context: refused"):
        bench(refuses={"create_execution_context"})


def test_an_engine_of_other_tensors_is_refused():
    """Uint8 is what crosses the bus."""
    with pytest.raises(ModelError, match=r"DataType.FLOAT.*expected an input of uint8 \[B, 1, H, W\]"):
        bench(dtype=DataType.FLOAT)


# Every call that is left out breaks a rule of the contract.
LEFT_OUT = {
    "set_optimization_profile_async": "is outside of the profile",
    "set_input_shape": "got no shapes of tiles",
    "infer_shapes": "sized before the shapes are known",
    "update_device_memory_size_for_shapes": "memory is given before it is known how much",
    "set_device_memory": "without memory for activations",
    "set_tensor_address": "with no address for tiles, probabilities",
}


@pytest.mark.parametrize("name", LEFT_OUT)
def test_a_call_that_is_left_out_is_seen(name):
    """So the double would see it if the predictor left it out."""
    one = bench(deaf_to={name})
    with pytest.raises((AssertionError, DeviceError), match=LEFT_OUT[name]):
        one.enqueue(tiles_of(2, 32), stream=one.stream())


def test_a_context_that_is_not_waited_for_is_seen(monkeypatch):
    """Another profile while it computes; another stream while it computes."""
    monkeypatch.setattr(EngineContext, "_wait", lambda _: None)
    for second, said in (((2, 16), "profile is switched while"), ((2, 32), "two streams at the same time")):
        one = bench()
        one.enqueue(tiles_of(2, 32), stream=one.stream())
        with pytest.raises(AssertionError, match=said):
            one.enqueue(tiles_of(*second), stream=one.stream())


def test_memory_that_is_exchanged_too_early_is_seen(monkeypatch):
    """The larger batch needs more, and the smaller one still computes."""
    monkeypatch.setattr(EngineContext, "_wait", lambda _: None)
    one = bench()
    stream = one.stream()
    one.enqueue(tiles_of(1, 16), stream=stream)
    with pytest.raises(AssertionError, match="memory is exchanged while"):
        one.enqueue(tiles_of(4, 16), stream=stream)


def test_memory_of_two_contexts_is_their_own(monkeypatch):
    """Contexts that had the same memory would be seen, and so would too little of it."""
    one = bench(contexts=2)
    memory = one.device.array(1 << 18)

    def give(size):
        def hold(context, _):
            context._memory, context._memory_bytes = memory, size

        monkeypatch.setattr(EngineContext, "_hold", hold)

    give(100)
    with pytest.raises(AssertionError, match="got 100 bytes of activation memory"):
        one.enqueue(tiles_of(2, 16), stream=one.stream())
    give(memory.size)
    one.enqueue(tiles_of(2, 16), stream=one.stream(), context=0)
    with pytest.raises(AssertionError, match="contexts share their memory"):
        one.enqueue(tiles_of(2, 16), stream=one.stream(), context=1)


def test_memory_that_is_not_aligned_is_refused():
    """TensorRT wants multiples of 256, and says nothing where they are not."""
    one = bench()
    stream = one.stream()
    tiles = one.array(tiles_of(2, 16), stream)
    askew = GpuArray(tiles.address + 128, (1, 1, 16, 16), tiles)
    with pytest.raises(DeviceError, match="expected a multiple of 256"):
        one.predictor.enqueue(stream, askew, tiles, tiles, context=0)


def test_memory_that_is_not_there_halves_the_batch(caplog):
    """Down to what fits, once for all contexts, with a warning for each step; answers are whole."""
    # Activations of eight tiles do not fit, those of four fit once, and then those of two.
    room = 260_000
    assert 8 * 32 * 32 * BYTES_PER_PIXEL > room > (4 + 2) * 32 * 32 * BYTES_PER_PIXEL
    one = bench(contexts=2, memory_bytes=room, watches_overflow=True)
    tiles = tiles_of(8, 32)
    streams = [one.stream() for _ in range(2)]
    with caplog.at_level(logging.WARNING):
        done = [one.enqueue(tiles, stream=stream, context=number) for number, stream in enumerate(streams)]
    for stream, (answers, overflowed) in zip(streams, done, strict=True):
        stream.sync()
        np.testing.assert_array_equal(one.read(answers), answers_to(tiles))
        np.testing.assert_array_equal(one.read(overflowed), overflowed_in(tiles))
    said = [record.getMessage() for record in caplog.records if "no memory for" in record.getMessage()]
    assert len(said) == 2
    assert "no memory for 8 tiles of 32 x 32 at a time; computing 4 at a time" in said[0]
    assert "computing 2 at a time" in said[1]


def test_memory_for_the_fewest_tiles_is_an_error_with_what_to_do():
    """The profile of side 32 begins with two tiles."""
    one = bench(memory_bytes=32 * 32 * BYTES_PER_PIXEL)
    with pytest.raises(DeviceMemoryError, match=r"too little memory for 2 tiles of 32 x 32.*fewer contexts or smaller"):
        one.enqueue(tiles_of(2, 32), stream=one.stream())


def test_leaving_waits_and_hands_all_memory_back():
    """Even while a batch is being computed."""
    one = bench(contexts=2)
    before = one.gpu.bytes_in_use()
    tiles = tiles_of(9, 16)
    with one.predictor:
        answers, overflowed = one.enqueue(tiles, stream=one.stream(), context=1)
        held = one.gpu.bytes_in_use()
    np.testing.assert_array_equal(one.read(answers), answers_to(tiles))
    del answers, overflowed
    one.kept.clear()
    assert one.gpu.bytes_in_use() == before < held


@pytest.mark.parametrize("cuda_graphs", ["off", "on"])
@pytest.mark.parametrize("seed", range(3))
def test_a_run_on_the_gpu_is_the_run_on_the_host(seed, cuda_graphs):
    """The whole pipeline, with two contexts and last batches that are filled up: the same sums, bit for bit."""

    class OnHost:
        runtime, threads, contexts, watches_overflow = "host", 1, 2, False

        def predict(self, tiles, *, context=0):  # noqa: ARG002 (called with it)
            return answers_to(tiles)

    one = bench(seed, contexts=2, cuda_graphs=cuda_graphs)
    np.testing.assert_array_equal(
        sums_of_run({"model": one.predictor}, device=one.device), sums_of_run({"model": OnHost()}, device=None)
    )
    assert {call.context for call in one.trt.calls} == {0, 1}
    assert bool(one.trt.graphs) == (cuda_graphs == "on")


VOLUME = DRAW.integers(0, 256, (12, 16, 48), dtype=np.uint8)


class Source:
    """Planes of the volume."""

    def read(self, start, stop):
        return VOLUME[start:stop].copy()

    def windowed(self, planes):
        return planes.copy()


def sums_of_run(predictors, *, device):
    """Of all slabs, one after another; three tiles of 16 in each plane, in batches of four."""
    tiles = tuple(Tile((0, 16 * i), (16, 16), (Rectangle(0, 16 * i, 16, 16 * i + 16),)) for i in range(3))
    layout, cells = Layout(VOLUME.shape[1:], (16, 48), tiles), np.ones((1, 1, 3), bool)
    one = PassPlan("model", "model", (1, 1), (layout,) * len(cells), "none", 1, 4)
    slabs = tuple(Slab(start, min(start + 5, len(VOLUME))) for start in range(0, len(VOLUME), 5))
    plan, sums = AxisPlan("z", VOLUME.shape, slabs, (one,), Occupancy(VOLUME.shape, cells), 2, None), []
    run_axis(Source(), plan, predictors, lambda result: sums.append(result.canvas.sums.copy()), device=device)
    return np.concatenate(sums)
