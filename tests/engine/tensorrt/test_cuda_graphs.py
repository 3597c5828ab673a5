"""CUDA graphs: recorded once for a shape, launched as they were recorded, left alone where they do not pay."""

import logging

import numpy as np
import pytest

from sennet_engine.tensorrt.contexts import EngineContext
from sennet_engine.tensorrt.graphs import LAUNCHES_MEASURED

from ...doubles.recording_tensorrt import answers_to, overflowed_in
from ...doubles.tensorrt_bench import bench

DRAW = np.random.default_rng(4)


def run(one, shapes, *, context=0, stream=None):
    """Hand all over, then wait, and compare."""
    stream = stream or one.stream()
    batches = [DRAW.integers(0, 256, (batch, 1, side, side), dtype=np.uint8) for batch, side in shapes]
    done = [one.enqueue(tiles, stream=stream, context=context) for tiles in batches]
    stream.sync()
    for tiles, (answers, overflowed) in zip(batches, done, strict=True):
        np.testing.assert_array_equal(one.read(answers), answers_to(tiles))
        np.testing.assert_array_equal(one.read(overflowed), overflowed_in(tiles) * one.trt.watches_overflow)


@pytest.mark.parametrize("seed", range(6))
def test_a_shape_is_launched_plainly_once_and_then_by_its_graph(seed):
    """Whatever memory the batches lie in: one capture, and its launches answer each batch by itself."""
    one = bench(seed, cuda_graphs="on", watches_overflow=True)
    run(one, [(4, 16)] * 6)
    assert one.names.count("execute_async_v3") == 2
    assert [graph.times for graph in one.trt.graphs] == [5]


@pytest.mark.parametrize("seed", range(3))
def test_another_shape_has_another_graph(seed):
    """Never more than one for each context: the context is not what it was when the other one was captured."""
    one = bench(seed, contexts=2, cuda_graphs="on", watches_overflow=True)
    for context in (0, 1):
        run(one, [(4, 16)] * 3 + [(2, 32)] * 3 + [(4, 16)] * 3, context=context)
    assert [graph.times for graph in one.trt.graphs] == [2, 2]
    with one.predictor:
        pass
    assert not one.trt.graphs


def test_pieces_of_a_large_batch_go_through_the_graph():
    """The first piece of all is launched plainly."""
    one = bench(cuda_graphs="on")
    run(one, [(8, 16), (7, 16)])
    assert [graph.times for graph in one.trt.graphs] == [2]


@pytest.mark.parametrize(("milliseconds", "graphs"), [(0.0, 1), (1000.0, 0)])
def test_auto_records_where_handing_over_takes_longer_than_computing(milliseconds, graphs):
    """After some measured launches, and not where the GPU has enough to do."""
    one = bench(cuda_graphs="auto", milliseconds=milliseconds)
    stream = one.stream()
    for _ in range(LAUNCHES_MEASURED + 1):
        run(one, [(2, 16)], stream=stream)
    assert not one.trt.graphs
    for _ in range(3):
        run(one, [(2, 16)], stream=stream)
    assert len(one.trt.graphs) == graphs


def test_off_records_nothing():
    """Not even where it would pay."""
    one = bench(cuda_graphs="off", milliseconds=0.0)
    for _ in range(LAUNCHES_MEASURED + 3):
        run(one, [(2, 16)])
    assert not one.trt.graphs


@pytest.mark.parametrize(("capturable", "said"), [("no", "says so beforehand"), ("breaks", "when stream is capturing")])
def test_what_cannot_be_captured_is_launched_plainly(capturable, said, caplog):
    """With one warning that says why; the stream is as usable as before."""
    one = bench(cuda_graphs="on", capturable=capturable)
    with caplog.at_level(logging.WARNING):
        run(one, [(2, 16)] * 4 + [(3, 16)] * 3)
    assert not one.trt.graphs
    assert len(caplog.records) == 1
    assert said in caplog.text
    assert "cannot be recorded as a CUDA graph" in caplog.text


def test_a_graph_of_a_changed_context_is_seen(monkeypatch):
    """Left in place when the shape changes, it would compute with what is no more; closed at once, while it runs."""
    one = bench(cuda_graphs="on")
    stream = one.stream()
    run(one, [(4, 16)] * 2, stream=stream)
    with monkeypatch.context() as patched:
        patched.setattr(EngineContext, "_drop_graph", lambda _: None)
        with pytest.raises(AssertionError, match="the context changed since"):
            run(one, [(2, 16)] * 2, stream=stream)
    one = bench(cuda_graphs="on")
    monkeypatch.setattr(EngineContext, "_wait", lambda _: None)
    with pytest.raises(AssertionError, match=r"a graph is closed while it runs|the profile is switched"):
        run(one, [(4, 16)] * 3 + [(2, 32)])


def test_a_capture_without_a_plain_launch_is_seen(monkeypatch):
    """TensorRT may still set things up in the first launch of a shape."""
    one = bench(cuda_graphs="on")
    taken = EngineContext._take_shape

    def take(context, stream, shape):
        taken(context, stream, shape)
        context._launches += 1

    monkeypatch.setattr(EngineContext, "_take_shape", take)
    with pytest.raises(AssertionError, match="captured before a plain launch"):
        run(one, [(4, 16)])
