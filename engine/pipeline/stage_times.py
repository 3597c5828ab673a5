"""Where the time of a run went, stage by stage."""

from collections.abc import Mapping
from dataclasses import dataclass, fields

from sennet_engine.device.meter import Meter


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

    def __add__(self, other: "StageTimes") -> "StageTimes":
        names = [field.name for field in fields(self)]
        return StageTimes(**{name: getattr(self, name) + getattr(other, name) for name in names})


def stage_times(meters: Mapping[str, Meter], *, wall: float) -> StageTimes:
    """Of a run that took `wall` seconds; `meters` by the name of the stage."""
    busy = {stage.replace(" ", "_"): meter.busy_seconds for stage, meter in meters.items()}
    compute = meters["compute"]
    return StageTimes(
        **busy,
        wall=wall,
        outside_network=wall - compute.covered_seconds,
        handing_over=compute.handing_over_seconds,
    )
