"""Streams and events on the host."""

import threading
import time

import numpy as np
import pytest

from sennet_engine.device.host import HostDevice, HostStream
from sennet_engine.device.meter import Meter
from sennet_engine.device.streams import Streams
from sennet_engine.errors import ModelError

SOON = 0.02


class MistakeError(Exception):
    """Raised by work in these tests."""


def fail(text="a"):
    """A piece of work that fails."""
    raise MistakeError(text)


@pytest.fixture(autouse=True)
def no_thread_left():
    """No test leaves a stream behind."""
    yield
    assert not [thread.name for thread in threading.enumerate() if thread.name.startswith("sennet ")]


@pytest.fixture
def streams():
    """Opens streams on the host and closes them."""
    opened = []

    def stream(name="s"):
        opened.append(HostStream(name, meter=Meter()))
        return opened[-1]

    yield stream
    for one in opened:
        one.close()


def test_work_is_done_in_order_and_elsewhere(streams):
    """Each piece runs after the one before, in one thread that bears the stream's name."""
    stream, seen = streams("read"), []
    for number in range(50):
        stream.enqueue(lambda number=number: seen.append((number, threading.current_thread().name)))
    stream.record().synchronize()
    assert seen == [(number, "sennet read") for number in range(50)]


def test_streams_run_at_the_same_time(streams):
    """Two pieces of work that need each other both end."""
    meeting = threading.Barrier(2, timeout=5)
    events = []
    for name in "ab":
        stream = streams(name)
        stream.enqueue(meeting.wait)
        events.append(stream.record())
    for event in events:
        event.synchronize()


def test_nothing_is_ordered_but_by_events(streams):
    """Work behind a wait starts after the event; work before it does not wait."""
    slow, quick, seen = streams("slow"), streams("quick"), []
    gate = threading.Event()
    slow.enqueue(gate.wait)
    slow.enqueue(lambda: seen.append("slow"))
    event = slow.record()
    quick.enqueue(lambda: seen.append("before"))
    before = quick.record()
    quick.wait(event)
    quick.enqueue(lambda: seen.append("after"))
    before.synchronize()
    assert seen == ["before"]
    assert not event.done
    gate.set()
    quick.record().synchronize()
    assert seen == ["before", "slow", "after"]
    assert event.done


def test_an_event_is_the_place_where_it_was_recorded(streams):
    """It comes to pass before work that was handed over later is done."""
    stream, gate = streams(), threading.Event()
    event = stream.record()
    stream.enqueue(gate.wait)
    event.synchronize()
    gate.set()


def test_an_error_poisons_the_stream_and_those_that_wait_for_it(streams):
    """Later work of either is not done; a stream that does not wait goes on."""
    failing, waiting, other, seen = streams("failing"), streams("waiting"), streams("other"), []
    failing.enqueue(lambda: seen.append("before"))
    before = failing.record()
    failing.enqueue(fail)
    failing.enqueue(lambda: seen.append("never"))
    event = failing.record()
    waiting.wait(event)
    waiting.enqueue(lambda: seen.append("never"))
    other.wait(before)
    other.enqueue(lambda: seen.append("other"))
    other.record().synchronize()
    for poisoned in (event, waiting.record()):
        with pytest.raises(MistakeError):
            poisoned.synchronize()
        assert poisoned.done
    assert seen == ["before", "other"]
    assert isinstance(failing.failure[1], MistakeError)
    assert waiting.failure is None


def test_an_event_after_an_error_waits_for_what_came_before_it(streams):
    """Who takes a poisoned stream's event for the end of its waiting is not told too early."""
    slow, poisoned, gate = streams("slow"), streams("poisoned"), threading.Event()
    slow.enqueue(gate.wait)
    poisoned.enqueue(fail)
    poisoned.wait(slow.record())
    event = poisoned.record()
    time.sleep(SOON)
    assert not event.done
    gate.set()
    with pytest.raises(MistakeError):
        event.synchronize()


def test_an_abandoned_stream_ends_its_piece_and_begins_no_other(streams):
    """And its events come to pass with the error."""
    stream, gate, seen = streams(), threading.Event(), []
    entered = threading.Event()
    stream.enqueue(lambda: (entered.set(), gate.wait(), seen.append("begun")))
    stream.enqueue(lambda: seen.append("never"))
    event = stream.record()
    entered.wait()
    stream.abandon(MistakeError())
    gate.set()
    with pytest.raises(MistakeError):
        event.synchronize()
    assert seen == ["begun"]


def test_a_waiting_stream_does_not_spin(streams):
    """Waiting for work, for an event, and in the caller costs next to no processor time."""
    slow, waiting = streams("slow"), streams("waiting")
    streams("idle")
    slow.enqueue(lambda: time.sleep(0.4))
    waiting.wait(slow.record())
    before = time.process_time()
    waiting.record().synchronize()
    assert time.process_time() - before < 0.1


def test_the_first_error_of_all_streams_is_raised():
    """The one that happened first, though another one reached the caller."""

    def run():
        with Streams(HostDevice()) as streams:
            first, second = streams.on_host("read"), streams.on_host("write")
            first.enqueue(lambda: fail("first"))
            gate = threading.Event()
            second.enqueue(gate.wait)
            second.enqueue(lambda: fail("second"))
            while first.failure is None:
                time.sleep(0.001)
            gate.set()
            second.record().synchronize()

    with pytest.raises(MistakeError, match="first"):
        run()


def test_an_error_that_nobody_waited_for_is_raised_at_the_end():
    """It does not get lost with the stream."""
    with pytest.raises(MistakeError), Streams(HostDevice()) as streams:
        streams.on_host("read").enqueue(fail)


def test_an_error_of_the_caller_leaves_as_it_is_and_ends_the_streams():
    """What was not begun is not done."""
    seen, gate = [], threading.Event()

    def run():
        with Streams(HostDevice()) as streams:
            stream = streams.on_host("read")
            stream.enqueue(lambda: gate.wait(5))
            stream.enqueue(lambda: seen.append("never"))
            threading.Timer(SOON, gate.set).start()
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        run()
    assert not seen


def test_without_an_error_all_work_is_done_at_the_end():
    """Closing comes after what was handed over."""
    seen = []
    with Streams(HostDevice()) as streams:
        streams.on_host("read").enqueue(lambda: (time.sleep(SOON), seen.append("done")))
    assert seen == ["done"]


def test_a_meter_counts_each_stream_and_the_clock_once():
    """Of two streams that overlap, both are counted as busy, and the wall clock from the first to the last."""
    with Streams(HostDevice()) as streams:
        first, second = (streams.on_device("compute", number=number) for number in range(2))
        halfway, over = threading.Event(), threading.Event()
        first.enqueue(lambda: (time.sleep(0.05), halfway.set(), over.wait(5)))
        halfway.wait(5)
        second.enqueue(lambda: (time.sleep(0.05), over.set()))
    meter = streams.meters["compute"]
    assert meter.covered_seconds >= 0.1
    assert meter.busy_seconds >= meter.covered_seconds + 0.045


def test_copies_happen_when_the_stream_comes_to_them(streams):
    """They take what is in the source then, into memory of their own."""
    device, stream, gate = HostDevice(), streams(), threading.Event()
    source, target = device.pinned(6).reshape(2, 3), device.buffer(100).shaped((2, 3))
    result = device.pinned(6).reshape(2, 3)
    stream.enqueue(gate.wait)
    device.copy_in(stream, source, target)
    device.copy_out(stream, target, result)
    source[:] = 5
    gate.set()
    stream.record().synchronize()
    source[:] = 9
    assert (result == 5).all()


class Doubling:
    """Answers twice the grey level, in a buffer of its own that the next call overwrites."""

    runtime, threads, contexts = "doubling 1.0", 1, 1

    def __init__(self, *, cut=0):
        self.cut = cut
        self.contexts_used = set()
        self.buffer = np.zeros((2, 1, 2, 2), np.uint8)

    def predict(self, tiles, *, context=0):
        self.contexts_used.add(context)
        np.multiply(tiles, 2, out=self.buffer)
        return self.buffer[: len(tiles) - self.cut]


def test_answers_outlive_the_predictors_next_call(streams):
    """They are in the device's buffer, not in the predictor's."""
    device, stream, predictor = HostDevice(), streams(), Doubling()
    tiles, results = device.pinned(8).reshape(2, 1, 2, 2), []
    for level in (3, 40):
        on_device, answers = (device.buffer(8).shaped(tiles.shape) for _ in range(2))
        overflowed = device.buffer(2)
        stream.enqueue(lambda level=level: tiles.fill(level))
        device.copy_in(stream, tiles, on_device)
        device.compute(stream, predictor, on_device, answers, overflowed, context=7)
        results.append((device.pinned(8).reshape(tiles.shape), answers))
    for result, answers in results:
        device.copy_out(stream, answers, result)
    stream.record().synchronize()
    assert [set(result.ravel().tolist()) for result, _ in results] == [{6}, {80}]
    assert predictor.contexts_used == {7}


def test_answers_of_another_shape_are_an_error(streams):
    """They are not spread over the batch."""
    device, stream = HostDevice(), streams()
    source, target = (device.buffer(8).shaped((2, 1, 2, 2)) for _ in range(2))
    device.compute(stream, Doubling(cut=1), source, target, device.buffer(2), context=0)
    with pytest.raises(ModelError, match=r"doubling 1\.0: got answers of shape \(1, 1, 2, 2\)"):
        stream.record().synchronize()
