"""Where the time of a run went, stage by stage: at work, and waiting for which side."""

from collections.abc import Mapping
from dataclasses import dataclass, field, fields

from sennet_engine.device.meter import Meter

# In the order in which the data goes through them.
STAGES = ("read", "window", "resize", "cut", "copy_in", "compute", "copy_out", "accumulate", "write")


@dataclass(frozen=True)
class Waiting:
    """Seconds in which the streams of a stage did not work, added up over them.

    With the stage's busy seconds they are the wall clock, as often as the stage has streams.

    Attributes:
        for_input: work was handed to a stream, and it stood still until an earlier stage had come so far.
        for_place: it had its input, and stood still until a later stage had done with the buffer that it writes to.
        otherwise: nothing was handed to it: before its first work, after its last, while a cascade decided, or while as
            much was under way as may be, so that the first stages were not asked for more; and the moments from one
            piece of work to the next. Of the streams of a GPU it is all of their waiting: what they wait for is known
            to the GPU alone.
    """

    for_input: float = 0.0
    for_place: float = 0.0
    otherwise: float = 0.0

    def __add__(self, other: "Waiting") -> "Waiting":
        return Waiting(
            self.for_input + other.for_input, self.for_place + other.for_place, self.otherwise + other.otherwise
        )


@dataclass(frozen=True)
class StageTimes:
    """Seconds. Stages overlap, so their sum is more than the wall clock; `a + b` are two runs after one another.

    Attributes:
        read, window, resize, cut, copy_in, copy_out, accumulate, write: in which the stage was busy. Of several devices
            that share a run they are added up; in `read` and `write`, which are done for one device at a time, those
            that wait for their turn count as busy.
        compute: in which the networks' contexts were busy, added up over them and over the devices.
        wall: from the first to the last, by the clock, whatever the number of devices.
        outside_network: of `wall`, in which no context of any device was busy.
        handing_over: in which the host handed the networks' work over to GPUs, added up over contexts and devices; 0
            where the host computes. Where it comes near to `compute`, GPUs wait for the host.
        waiting: of each of STAGES, in which it did not work.
    """

    read: float = 0.0
    window: float = 0.0
    resize: float = 0.0
    cut: float = 0.0
    copy_in: float = 0.0
    compute: float = 0.0
    copy_out: float = 0.0
    accumulate: float = 0.0
    write: float = 0.0
    wall: float = 0.0
    outside_network: float = 0.0
    handing_over: float = 0.0
    waiting: Mapping[str, Waiting] = field(default_factory=dict)

    def seconds(self) -> dict[str, float]:
        """All but `waiting`, by name."""
        return {one.name: getattr(self, one.name) for one in fields(self) if one.name != "waiting"}

    def __add__(self, other: "StageTimes") -> "StageTimes":
        others = other.seconds()
        stages = [stage for stage in STAGES if stage in self.waiting or stage in other.waiting]
        none = Waiting()
        return StageTimes(
            **{name: seconds + others[name] for name, seconds in self.seconds().items()},
            waiting={stage: self.waiting.get(stage, none) + other.waiting.get(stage, none) for stage in stages},
        )


def stage_times(meters: Mapping[str, Meter], *, wall: float) -> StageTimes:
    """Of a run that took `wall` seconds; `meters` by the name of the stage."""
    by_stage = {stage.replace(" ", "_"): meter for stage, meter in meters.items()}
    places = {meter: STAGES.index(stage) for stage, meter in by_stage.items()}
    compute = by_stage["compute"]
    return StageTimes(
        **{stage: meter.busy_seconds for stage, meter in by_stage.items()},
        wall=wall,
        outside_network=wall - compute.covered_seconds,
        handing_over=compute.handing_over_seconds,
        waiting={stage: _waiting(by_stage[stage], places, wall=wall) for stage in STAGES if stage in by_stage},
    )


def _waiting(meter: Meter, places: Mapping[Meter, int], *, wall: float) -> Waiting:
    own = places[meter]
    waited = [(places[other], seconds) for other, seconds in meter.waited_seconds.items()]
    for_input = sum(seconds for place, seconds in waited if place < own)
    for_place = sum(seconds for place, seconds in waited if place > own)
    rest = meter.streams * wall - meter.busy_seconds - for_input - for_place
    return Waiting(for_input, for_place, max(rest, 0.0))
