"""Devices that share slabs give what one gives, each slab once, whichever of them fails and when."""

import random
import signal
import threading
import time

import numpy as np
import pytest

from sennet_engine.device.host import HostDevice
from sennet_engine.errors import ConfigError, DeviceError, DeviceMemoryError
from sennet_engine.pipeline.shared_slabs import run_axis_on
from sennet_engine.pipeline.stage_times import StageTimes
from sennet_engine.pipeline.worker import Worker

from .test_hazards import CASCADE, STAGES, MistakeError, Network, Sabotage, Source, plan_of
from .test_hazards import run as run_on_one

pytestmark = pytest.mark.timeout(60)

LOST = DeviceError("cuda:1: is gone")


@pytest.fixture(autouse=True)
def no_thread_left():
    """No test leaves a worker or a stream behind."""
    before = set(threading.enumerate())
    yield
    assert not set(threading.enumerate()) - before


def workers_on(*devices, contexts=1):
    """A worker with networks of its own for each device."""
    return [
        Worker(f"device {number}", device, {name: Network(contexts=contexts) for name in ("cells", "whole")})
        for number, device in enumerate(devices)
    ]


class Together:
    """A source that windows no planes until `workers` of them have some: each has a slab before any is done."""

    def __init__(self, *, workers):
        self.missing, self.met = workers, threading.Event()
        self.seen, self.lock = set(), threading.Lock()

    def read(self, start, stop):
        return Source().read(start, stop)

    def windowed(self, planes):
        with self.lock:
            self.seen.add(threading.get_ident())
            if len(self.seen) >= self.missing:
                self.met.set()
        assert self.met.wait(20)
        return planes.copy()


class Run:
    """One run on devices: what came out by slab, and who was lost."""

    def __init__(
        self, *devices, source=None, slab=16, cascade=None, ring=2, contexts=1, sink=lambda _: None, slabs=None
    ):
        self.results, self.lost, self.times = {}, [], None
        self.workers = workers_on(*devices, contexts=contexts)
        self.plan = plan_of(slab=slab, cascade=cascade, batch=4)
        self._options = {
            "slabs": self.plan.slabs if slabs is None else self.plan.slabs[:slabs],
            "ring": ring, "first_pass_cells": None, "overflows": None, "on_lost": self._note,
        }  # fmt: skip
        self._source, self._sink, self._busy = source or Source(), sink, threading.Lock()

    def __call__(self):
        self.times = run_axis_on(self._source, self.plan, self.workers, self._keep, **self._options)
        return [self.results[start] for start in sorted(self.results)]

    def _keep(self, result):
        assert self._busy.acquire(blocking=False), "two at once"
        try:
            self._sink(result)
            assert result.slab.start not in self.results, "twice"
            self.results[result.slab.start] = (result.canvas.sums.copy(), result.grey.copy(), result.tiles_done)
        finally:
            self._busy.release()

    def _note(self, worker, error, slabs):
        self.lost.append((worker.name, error, slabs))


def choices(draw, *seconds):
    """Delays for `Sabotage`, drawn at random."""
    return lambda _: draw.choice(seconds)


def same(results, expected):
    """Whether two runs gave the same, with every slab in it."""
    return len(results) == len(expected) and all(
        (one[0] == other[0]).all() and (one[1] == other[1]).all() and one[2] == other[2]
        for one, other in zip(results, expected, strict=True)
    )


@pytest.mark.parametrize("cascade", [None, CASCADE], ids=["plain", "cascade"])
@pytest.mark.parametrize("count", [1, 2, 3, 4])
def test_any_number_of_devices_gives_the_same(count, cascade):
    """With random delays in every stage, rings and slabs of any size; nothing is lost, and nothing done twice."""
    for seed in range(4):
        draw = random.Random(seed * 10 + count)
        devices = [Sabotage(delays=choices(draw, 0, 0, 0, 0.0005, 0.002)) for _ in range(count)]
        options = {"slab": draw.choice((16, 40)), "ring": draw.choice((1, 2, 3)), "contexts": draw.choice((1, 2))}
        run = Run(*devices, cascade=cascade, **options)
        assert same(run(), run_on_one(cascade=cascade, slab=options["slab"]))
        assert not run.lost


def test_one_worker_works_in_the_callers_thread(monkeypatch):
    """It has no thread but the pipeline's own, and its slabs come in order."""
    started = []
    real = threading.Thread.start
    monkeypatch.setattr(threading.Thread, "start", lambda thread: (started.append(thread.name), real(thread)))
    run = Run(HostDevice())
    run()
    assert len(started) == len(set(started)) == len(STAGES)
    assert list(run.results) == sorted(run.results)


def test_all_devices_take_part():
    """Each has a slab before any is done."""
    run = Run(*[HostDevice() for _ in range(4)], source=Together(workers=4))
    assert same(run(), run_on_one())


def test_planes_are_read_by_one_at_a_time():
    """A volume may hold one open file, in which it seeks."""
    busy = threading.Lock()

    class Alone(Source):
        def read(self, start, stop):
            assert busy.acquire(blocking=False), "two at once"
            time.sleep(0.001)
            busy.release()
            return super().read(start, stop)

    assert same(Run(*[HostDevice() for _ in range(4)], source=Alone())(), run_on_one())


@pytest.mark.parametrize("cascade", [None, CASCADE], ids=["plain", "cascade"])
@pytest.mark.parametrize("stage", STAGES)
def test_a_device_that_fails_leaves_its_slabs_to_the_others(stage, cascade):
    """In whichever stage; it is told, with its error and what it had in hand, and the result is the same."""
    told = 0
    for count in (2, 4):
        delays = {"delays": lambda _: 0.001}
        failing = Sabotage(fails=stage, error=LOST, **delays)
        run = Run(failing, *[Sabotage(**delays) for _ in range(count - 1)], source=Together(workers=count),
                  cascade=cascade)  # fmt: skip
        assert same(run(), run_on_one(cascade=cascade))
        assert [(name, error) for name, error, _ in run.lost] == [("device 0", LOST)] * (failing.pieces[stage] >= 3)
        told += len(run.lost)
        assert all(1 <= slabs <= 12 for _, _, slabs in run.lost)
    assert told


def test_all_but_one_may_fail():
    """One after another, at random places, with many seeds."""
    expected, lost = run_on_one(), 0
    for seed in range(15):
        draw = random.Random(seed)
        failing = [
            Sabotage(fails=draw.choice(STAGES), error=DeviceError("gone"), delays=choices(draw, 0, 0.001))
            for _ in range(3)
        ]
        devices = [*failing, HostDevice()]
        draw.shuffle(devices)
        run = Run(*devices, ring=draw.choice((1, 2, 3)))
        assert same(run(), expected)
        assert len(run.lost) <= 3
        lost += len(run.lost)
    assert lost > 15


def test_a_device_without_memory_is_given_up_before_its_first_slab():
    """It has nothing in hand then."""

    class Full(HostDevice):
        def buffer(self, size):
            raise DeviceMemoryError(f"{size} bytes")

    run = Run(Full(), HostDevice())
    assert same(run(), run_on_one())
    assert [(name, slabs) for name, _, slabs in run.lost] == [("device 0", 0)]


def test_when_all_fail_the_last_error_is_raised():
    """What the sink took over before is kept; the last one is not called lost."""
    errors = [DeviceError(str(number)) for number in range(3)]
    run = Run(*[Sabotage(fails="compute", error=error) for error in errors], source=Together(workers=3))
    with pytest.raises(DeviceError) as raised:
        run()
    told = [error for _, error, _ in run.lost]
    assert len(told) == 2
    assert {*map(str, told), str(raised.value)} == {"0", "1", "2"}


def gated(*, gate, entered=None, stage="compute"):
    """A device whose third piece of a stage waits for `gate`, and then fails."""

    class Gated(Sabotage):
        def come_to_third(self, one):
            if one == stage and self.pieces[stage] == 2:
                if entered is not None:
                    entered.set()
                assert gate.wait(20)
            return 0.0

    device = Gated(fails=stage, error=LOST)
    device.delays = device.come_to_third
    return device


def test_idle_devices_take_up_what_the_last_one_leaves():
    """All others wait, with nothing left to do, when it fails."""
    gate, entered = threading.Event(), threading.Event()
    run = Run(gated(gate=gate, entered=entered), HostDevice(), HostDevice(), source=Together(workers=3))

    def release():
        entered.wait(20)
        while len(run.results) < 9:  # of 12, of which the slow one can hold three
            time.sleep(0.001)
        time.sleep(0.05)
        gate.set()

    releasing = threading.Thread(target=release)
    releasing.start()
    assert same(run(), run_on_one())
    releasing.join()
    assert [name for name, _, _ in run.lost] == ["device 0"]


def test_two_that_fail_with_the_last_slabs_do_not_wait_for_each_other():
    """Each has its last slab in hand when its device fails."""
    for idle in (0, 1):
        devices = [Sabotage(fails="write", error=DeviceError(str(number))) for number in range(2)]
        for device in devices:
            device.pieces["write"] = 2  # so that the first slab fails
        run = Run(*devices, *[HostDevice()] * idle, slabs=2, source=Together(workers=2 if not idle else 1), ring=1)
        if idle:
            assert len(run()) == 2
        else:
            with pytest.raises(DeviceError):
                run()


@pytest.mark.parametrize("slabs", [0, 1, 3])
def test_fewer_slabs_than_devices(slabs):
    """Those that get none end with the others."""
    run = Run(*[Sabotage(delays=lambda _: 0.001) for _ in range(4)], slabs=slabs)
    assert same(run(), run_on_one()[:slabs])
    assert slabs or run.times == StageTimes()


def test_a_slab_that_was_taken_over_is_not_done_again():
    """Though its device fails right afterwards: each slab comes to the sink once, as `Run` asserts."""
    for seed in range(10):
        draw = random.Random(seed)
        stage = draw.choice(("read", "cut", "compute"))
        failing = Sabotage(fails=stage, error=LOST, delays=choices(draw, 0, 0.002))
        failing.pieces[stage] = -draw.randrange(8)  # later than at the third
        run = Run(failing, HostDevice())
        assert same(run(), run_on_one())


@pytest.mark.parametrize("error", [MistakeError("planes"), DeviceError("planes")])
def test_planes_that_cannot_be_read_end_the_run(error):
    """Whatever the error: it is not the device's."""

    class Broken(Source):
        def read(self, start, stop):
            if start == 64:
                raise error
            return super().read(start, stop)

    run = Run(HostDevice(), HostDevice(), source=Broken())
    with pytest.raises(type(error)) as raised:
        run()
    assert raised.value is error
    assert not run.lost


@pytest.mark.parametrize("error", [OSError(28, "full"), DeviceError("sink")])
def test_an_error_of_the_sink_ends_the_run(error):
    """Nothing is handed over after it, by no device, and its slab does not count as done."""
    calls = []

    def sink(result):
        calls.append(result.slab)
        if len(calls) == 3:
            raise error

    run = Run(*[HostDevice() for _ in range(3)], sink=sink)
    with pytest.raises(type(error)) as raised:
        run()
    assert raised.value is error
    assert len(calls) == 3 == len(run.results) + 1
    assert not run.lost


@pytest.mark.parametrize("stage", STAGES)
def test_another_error_stops_all_devices(stage):
    """They begin no other piece of work."""
    error = MistakeError(stage)
    others = [Sabotage(delays=lambda _: 0.003) for _ in range(2)]
    run = Run(Sabotage(fails=stage, error=error), *others, source=Together(workers=3))
    with pytest.raises(MistakeError) as raised:
        run()
    assert raised.value is error
    assert sum(other.pieces["write"] for other in others) < 12
    assert not run.lost


def test_idle_devices_end_when_the_last_one_meets_an_error():
    """They wait for slabs that do not come."""
    gate = threading.Event()
    device = gated(gate=gate)
    device.error = MistakeError()
    run = Run(device, HostDevice(), HostDevice(), source=Together(workers=3))
    timer = threading.Timer(0.2, gate.set)
    timer.start()
    with pytest.raises(MistakeError):
        run()
    timer.join()


def test_an_error_of_who_is_told_ends_the_run():
    """It is not swallowed with the device."""
    run = Run(Sabotage(fails="compute", error=LOST), HostDevice(), source=Together(workers=2))

    def told(*_):
        raise MistakeError

    run._options["on_lost"] = told
    with pytest.raises(MistakeError):
        run()


@pytest.mark.parametrize("times", [1, 2])
def test_an_interrupt_ends_the_run(times):
    """Ctrl-C in the calling thread: no slab is begun any more, and after a second one nothing hangs either."""
    interrupted = threading.Event()

    def sink(_):
        if not interrupted.is_set():
            interrupted.set()
            for _ in range(times):
                signal.pthread_kill(threading.main_thread().ident, signal.SIGINT)
                time.sleep(0.1)

    before = set(threading.enumerate())
    devices = [Sabotage(delays=lambda _: 0.002) for _ in range(3)]
    run = Run(*devices, sink=sink)
    with pytest.raises(KeyboardInterrupt):
        run()
    for thread in set(threading.enumerate()) - before:
        thread.join(10)  # after the second one they end by themselves
    assert len(run.results) == 1
    assert sum(device.pieces["read"] for device in devices) < 12


def test_times_add_up_and_the_clock_does_not():
    """Networks of two devices that sleep at the same time are busy twice; also those of a device that fails."""

    class Slow(Network):
        def predict(self, tiles, *, context=0):
            time.sleep(0.02)
            return super().predict(tiles, context=context)

    for fails in (None, "write"):
        run = Run(Sabotage(fails=fails, error=LOST), HostDevice(), source=Together(workers=2))
        run.workers = [Worker(one.name, one.device, dict.fromkeys(one.predictors, Slow())) for one in run.workers]
        run.workers[1] = Worker("b", HostDevice(), {name: Slow() for name in run.workers[1].predictors})
        began = time.perf_counter()
        run()
        wall = time.perf_counter() - began
        assert wall - 0.1 < run.times.wall <= wall
        assert run.times.compute > 1.2 * run.times.wall * (fails is None)
        assert run.times.compute > 8 * 2 * 0.02  # of 8 slabs with tiles, two batches or more each
        assert 0 < run.times.outside_network < 0.5 * run.times.wall
        assert min(run.times.read, run.times.write, run.times.accumulate) > 0


def test_no_worker_and_no_ring_are_refused():
    """There must be somebody, and room for a slab."""
    with pytest.raises(ConfigError, match="workers"):
        Run()()
    with pytest.raises(ConfigError, match="ring"):
        Run(HostDevice(), HostDevice(), ring=0)()


def test_sums_are_worth_comparing():
    """The results that the tests above compare are not all 0, and differ from slab to slab."""
    results = run_on_one()
    assert np.any(results[0][0])
    assert not same(results[:1], results[1:2])
