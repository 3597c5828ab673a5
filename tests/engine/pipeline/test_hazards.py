"""The order of the pipeline's work holds whatever is slow, and errors end it whatever fails.

The plain result, which `test_stream_pipeline` compares with a loop, is what every run here must give.
"""

import linecache
import random
import signal
import sys
import threading
import time
from collections import Counter

import numpy as np
import pytest

from sennet_engine.device.host import HostDevice, HostEvent, HostStream
from sennet_engine.pipeline.stream_pipeline import run_axis
from sennet_engine.planning.cells import Occupancy
from sennet_engine.planning.layout import Layout, Rectangle, Tile
from sennet_engine.planning.passes import AxisPlan, Cascade, PassPlan, Slab

# Every third slab has no tiles, so that what it leaves standing in the buffers would be seen.
SHAPE = (12 * 16, 16, 32)
VOLUME = np.random.default_rng(4).integers(0, 256, SHAPE, dtype=np.uint8)
CELLS = np.ones((12, 1, 2), bool)
CELLS[2::3] = False

STAGES = ("read", "window", "resize", "cut", "copy in", "compute", "copy out", "accumulate", "write")


@pytest.fixture(autouse=True)
def no_thread_left():
    """No test leaves a stream behind."""
    yield
    assert not [thread.name for thread in threading.enumerate() if thread.name.startswith("sennet ")]


class Network:
    """Answers as `predict` of a runtime does: in a buffer of its own for each context."""

    runtime, threads = "test", 1

    def __init__(self, *, contexts=1):
        self.contexts = contexts
        self.buffers = [np.zeros((4, 1, 16, 48), np.uint8) for _ in range(contexts)]

    def predict(self, tiles, *, context=0):
        buffer = self.buffers[context][: tiles.shape[0], :, : tiles.shape[2], : tiles.shape[3]]
        np.bitwise_xor(tiles, 0x55, out=buffer)
        return buffer


class Source:
    """Planes of an array, of which reading makes a copy."""

    def read(self, start, stop):
        return VOLUME[start:stop].copy()

    def windowed(self, planes):
        return planes.copy()


class Sabotage(HostDevice):
    """Streams that run into trouble.

    Args:
        delays: seconds before each piece of a stage's work; or a function of the stage that tells them.
        fails: the stage whose third piece of work raises `error`.
        ignores: the wait, by its line in the source, that does not happen.

    Attributes:
        sites: how often each wait, by its line in the source, was come to.
    """

    def __init__(self, *, delays=lambda _: 0.0, fails=None, error=None, ignores=None):
        self.delays, self.fails, self.error, self.ignores = delays, fails, error, ignores
        self.sites = Counter()
        self.pieces = Counter()

    def come_to(self, frame):
        """Whether to wait in the line of `frame`."""
        site = linecache.getline(frame.f_code.co_filename, frame.f_lineno).strip().split("  #")[0]
        self.sites[site] += 1
        return site != self.ignores

    def host_stream(self, name, *, meter):
        return SabotagedStream(self, name, meter)

    device_stream = host_stream


class SabotagedStream(HostStream):
    """See Sabotage."""

    def __init__(self, device, name, meter):
        self.device = device
        super().__init__(name, meter=meter)

    def enqueue(self, work):
        stage = self.name.rstrip(" 0123456789")

        def sabotaged():
            time.sleep(self.device.delays(stage))
            self.device.pieces[stage] += 1
            if stage == self.device.fails and self.device.pieces[stage] == 3:
                raise self.device.error
            work()

        super().enqueue(sabotaged)

    def wait(self, event):
        if self.device.come_to(sys._getframe(1)):
            super().wait(event)

    def record(self):
        event = SabotagedEvent(self.device)
        self._pieces.put(lambda: event.reach(self._error))
        return event


class SabotagedEvent(HostEvent):
    """See Sabotage: the caller's own waiting is a wait as well."""

    def __init__(self, device):
        super().__init__()
        self.device = device

    def synchronize(self):
        if self.device.come_to(sys._getframe(1)):
            super().synchronize()


def plan_of(*, slab=16, batch=2, cascade=None):
    """A pass on single cells, and one on whole mirrored planes."""
    cells = tuple(Tile((0, 16 * i), (16, 16), (Rectangle(0, 16 * i, 16, 16 * i + 16),)) for i in range(2))
    whole = (Tile((0, 0), (16, 48), (Rectangle(0, 0, 16, 32),)),)
    passes = []
    for name, padded, tiles in (("cells", (16, 32), cells), ("whole", (16, 48), whole)):
        full, empty = Layout(SHAPE[1:], padded, tiles), Layout(SHAPE[1:], padded, ())
        layouts = tuple(full if layer.any() else empty for layer in CELLS)
        passes.append(PassPlan(name, name, (1, 1), layouts, "none", 1, batch))
    slabs = tuple(Slab(start, min(start + slab, SHAPE[0])) for start in range(0, SHAPE[0], slab))
    return AxisPlan("z", SHAPE, slabs, tuple(passes), Occupancy(SHAPE, CELLS), 2, cascade)


def run(device=None, *, contexts=1, ring=2, cascade=None, slab=16, batch=4, source=None, sink=None):
    """Sums, grey levels and tiles done of each slab."""
    results = []

    def keep(result):
        results.append((result.canvas.sums.copy(), result.grey.copy(), result.tiles_done))

    plan = plan_of(slab=slab, batch=batch, cascade=cascade)
    networks = {"cells": Network(contexts=contexts), "whole": Network(contexts=contexts)}
    run_axis(source or Source(), plan, networks, sink or keep, device=device, ring=ring)
    return results


def same(one, other):
    """Whether two runs gave the same."""
    return len(one) == len(other) and all(
        (left[0] == right[0]).all() and (left[1] == right[1]).all() and left[2] == right[2]
        for left, right in zip(one, other, strict=True)
    )


# Half of the tiles of the second pass go on.
CASCADE = Cascade(255)

# Each wait of the pipeline, and the stage that it waits for: whose slowness makes leaving it out matter.
WAITS = {
    "self._read.wait(buffers.written)": "write",
    "self._window.wait(read)": "read",
    "self._resize.wait(windowed)": "window",
    "self._batches.cut.wait(prepared)": "resize",
    "accumulate.wait(prepared)": "write",
    "self.cut.wait(place.copied_in)": "copy in",
    "self._copy_in.wait(cut)": "cut",
    "self._copy_in.wait(place.computed)": "compute",
    "compute.wait(place.copied_in)": "copy in",
    "compute.wait(place.copied_out)": "copy out",
    "self._copy_out.wait(place.computed)": "compute",
    "self._copy_out.wait(place.accumulated)": "accumulate",
    "self.accumulate.wait(place.copied_out)": "copy out",
    "self._write.wait(settled)": "accumulate",
    "begun.decided.synchronize()": "accumulate",
}

# Waits without which the result is the same, and what they are for.
REDUNDANT = {
    "written[0].synchronize()": "bounds the streams' queues, as `test_the_streams_queues_do_not_grow` shows",
    "self._under_way[0].synchronize()": "bounds the streams' queues, likewise",
    "written[-1].synchronize()": "closing the streams waits as well, but Ctrl-C would not come through",
}


def test_all_waits_are_known():
    """The lists above name every wait that the pipeline comes to, and no other."""
    device = Sabotage()
    run(device, cascade=CASCADE, batch=1)
    assert set(device.sites) == set(WAITS) | set(REDUNDANT)


@pytest.mark.parametrize("site", WAITS)
def test_each_wait_is_needed(site):
    """Without it, and with the stage that it waits for slowed, the result is wrong or the run fails."""
    expected = run(cascade=CASCADE)
    for seconds in (0.002, 0.01, 0.05, 0.2):  # on a busy machine it takes a longer delay to lose the race
        slow = Sabotage(ignores=site, delays=lambda stage, seconds=seconds: seconds * (stage == WAITS[site]))
        try:
            if not same(run(slow, cascade=CASCADE), expected):
                return
        except (RuntimeError, KeyError):  # a buffer was used that nothing had been put into yet
            return
    pytest.fail(f"without `{site}` the result is the same")


@pytest.mark.parametrize("site", REDUNDANT)
def test_redundant_waits_do_not_change_the_result(site):
    """They are there for another reason than order."""
    assert same(run(Sabotage(ignores=site), cascade=CASCADE), run(cascade=CASCADE))


@pytest.mark.parametrize("stage", STAGES)
def test_a_slow_stage_changes_nothing(stage):
    """Whichever it is, with the waits in place."""
    slow = Sabotage(delays=lambda one: 0.002 * (one == stage))
    assert same(run(slow, cascade=CASCADE, contexts=2), run(cascade=CASCADE))


@pytest.mark.parametrize("ring", [1, 2, 3, 4])
@pytest.mark.parametrize("contexts", [1, 2, 3])
def test_random_delays_change_nothing(ring, contexts):
    """In every stage at once, for every ring and number of contexts, with and without a cascade."""
    draw = random.Random(ring * 10 + contexts)
    for cascade in (None, CASCADE):
        device = Sabotage(delays=lambda _: draw.choice((0, 0, 0, 0.0005, 0.003)))
        options = {"slab": draw.choice((16, 40)), "cascade": cascade}
        assert same(run(device, ring=ring, contexts=contexts, **options), run(**options))


class MistakeError(Exception):
    """Raised by a stage in these tests."""


@pytest.mark.parametrize("ring", [1, 3])
@pytest.mark.parametrize("stage", STAGES)
@pytest.mark.parametrize("cascade", [None, CASCADE], ids=["plain", "cascade"])
def test_an_error_in_any_stage_reaches_the_caller(stage, ring, cascade):
    """The very error that was raised; nothing hangs and no thread is left."""
    error = MistakeError(stage)
    with pytest.raises(MistakeError) as raised:
        run(Sabotage(fails=stage, error=error), ring=ring, contexts=2, cascade=cascade)
    assert raised.value is error


def test_slabs_before_a_plane_that_cannot_be_read_are_finished():
    """Their results are not thrown away."""

    class Broken(Source):
        def read(self, start, stop):
            if start == 64:
                raise MistakeError
            return super().read(start, stop)

    done = []
    with pytest.raises(MistakeError):
        run(source=Broken(), sink=lambda result: done.append(result.slab.start))
    assert done[:3] == [0, 16, 32]
    assert max(done) < 64


def test_nothing_is_handed_over_after_the_sink_raised():
    """Its first error ends the run."""
    calls = []

    def sink(result):
        calls.append(result.slab)
        raise MistakeError(len(calls))

    with pytest.raises(MistakeError, match="1"):
        run(sink=sink)
    assert len(calls) == 1


@pytest.mark.parametrize("stage", ["read", "compute", "write"])
def test_an_interrupt_ends_the_run(stage):
    """Ctrl-C while the caller waits: what is in work is ended, nothing else is begun, and no thread is left."""
    interrupted = []

    def delay(one):
        if one == stage and device.pieces[stage] == 2 and not interrupted:
            interrupted.append(dict(device.pieces))
            signal.pthread_kill(threading.main_thread().ident, signal.SIGINT)
            time.sleep(0.1)
        return 0.001

    device = Sabotage(delays=delay)
    with pytest.raises(KeyboardInterrupt):
        run(device)
    assert device.pieces[stage] <= 4
    assert device.pieces["write"] < 12


def test_planes_are_not_replaced_while_they_are_prepared():
    """Also where no tile of their slab goes on, so that nothing else waits for them; the last slab is a thin one."""
    device = Sabotage(delays=lambda stage: 0.02 if stage == "resize" else 0.0)
    plan, seen = plan_of(slab=20, cascade=Cascade(255)), []
    run_axis(
        Source(), plan, {"cells": Network(), "whole": Network()}, lambda result: seen.append(result.grey.copy()),
        device=device, first_pass_cells=np.zeros(CELLS.shape, np.uint8),
    )  # fmt: skip
    assert (np.concatenate(seen) == VOLUME).all()
