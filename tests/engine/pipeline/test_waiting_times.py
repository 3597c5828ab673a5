"""What each stage's streams did not work: for which side they waited, and that it adds up to the clock."""

import time

import pytest

from sennet_engine.device.host import HostDevice, HostStream
from sennet_engine.device.meter import Meter
from sennet_engine.pipeline.stage_times import STAGES, StageTimes, Waiting, stage_times
from sennet_engine.pipeline.stream_pipeline import run_axis

from .test_hazards import Network, Source, plan_of

# Long beside what the made pieces of work take by themselves.
SLOW = 0.01


class SlowStream(HostStream):
    """Sleeps before each piece of work."""

    def enqueue(self, work):
        super().enqueue(lambda: (time.sleep(SLOW), work()))


class SlowAt(HostDevice):
    """A device on which one stage takes long for each piece of work."""

    def __init__(self, stage):
        self.stage = stage

    def host_stream(self, name, *, meter):
        kind = SlowStream if name.startswith(self.stage) else HostStream
        return kind(name, meter=meter)

    device_stream = host_stream


def times_of(device=None, *, contexts=1, slab=8, sink=lambda _result: None):
    """Of a run over planes of which each has two batches of tiles, or nearly."""
    networks = {name: Network(contexts=contexts) for name in ("cells", "whole")}
    plan = plan_of(slab=slab, batch=2)
    return run_axis(Source(), plan, networks, sink, device=device, slabs=plan.slabs[: 32 // slab])


@pytest.mark.parametrize("contexts", [1, 3])
def test_work_and_waiting_are_the_clock_of_each_stream(contexts):
    """Of a stage of one stream once; of as many as a network has contexts so often."""
    times = times_of(SlowAt("copy in"), contexts=contexts)
    assert tuple(times.waiting) == STAGES
    for stage, waiting in times.waiting.items():
        streams = contexts if stage == "compute" else 1
        whole = getattr(times, stage) + waiting.for_input + waiting.for_place + waiting.otherwise
        assert whole == pytest.approx(streams * times.wall), stage
        assert min(waiting.for_input, waiting.for_place, waiting.otherwise) >= 0
    for stage in ("copy_in", "compute", "copy_out", "accumulate"):
        # All of their work is handed over while they still have some.
        assert times.waiting[stage].otherwise < 0.25 * (contexts if stage == "compute" else 1) * times.wall, stage


def test_stages_before_a_slow_one_wait_for_a_place_and_those_after_it_for_input():
    """The slow one itself waits for hardly anything."""
    times = times_of(SlowAt("compute"))
    assert times.compute > 0.8 * times.wall
    for stage in ("cut", "copy_in"):
        assert times.waiting[stage].for_place > 0.5 * times.wall > times.waiting[stage].for_input, stage
    for stage in ("copy_out", "accumulate"):
        assert times.waiting[stage].for_input > 0.5 * times.wall > 50 * times.waiting[stage].for_place, stage
    # As much is under way as may be: reading is not asked for more.
    assert times.waiting["read"].for_input == 0
    assert times.waiting["read"].otherwise > 0.5 * times.wall


def test_a_slow_disk_holds_up_what_comes_before_it():
    """Reading waits for slabs to be written, whose buffers it fills again; nothing is read meanwhile."""
    times = times_of(slab=1, sink=lambda _result: time.sleep(SLOW))
    assert times.write > 0.8 * times.wall
    assert times.waiting["read"].for_place > 0.5 * times.wall
    assert times.waiting["compute"].for_input > 0.5 * times.wall


def test_runs_after_one_another_add_their_waiting():
    """Also a run of which no stage waited."""
    one = StageTimes(wall=2.0, waiting={"read": Waiting(1, 2, 3), "write": Waiting(5, 0, 0)})
    both = one + StageTimes(wall=1.0) + StageTimes(waiting={"read": Waiting(10, 20, 30)})
    assert both.waiting == {"read": Waiting(11, 22, 33), "write": Waiting(5, 0, 0)}
    assert both.seconds()["wall"] == 3
    assert "waiting" not in both.seconds()


def test_waiting_is_told_apart_by_the_side_of_the_stage_that_was_waited_for():
    """Meters know of whom; the order of the stages says which side that is. Streams that only idled tell no side."""
    meters = {stage.replace("_", " "): Meter() for stage in STAGES}
    device = HostDevice()
    streams = {name: device.host_stream(name, meter=meter) for name, meter in meters.items()}
    for name in ("cut", "compute"):
        streams[name].enqueue(lambda: time.sleep(SLOW))
        streams["copy in"].wait(streams[name].record())
    for stream in streams.values():
        stream.close()
    times = stage_times(meters, wall=1.0)
    found = times.waiting["copy_in"]
    assert 0 < found.for_input <= 1.5 * SLOW + 0.1
    assert found.for_input + found.for_place + found.otherwise == pytest.approx(1.0)
    assert times.waiting["read"] == Waiting(otherwise=1.0)
    assert times.waiting["cut"] == Waiting(otherwise=1.0 - times.cut)
