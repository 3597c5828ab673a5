"""What computes slabs: a device with the networks that are loaded on it."""

from collections.abc import Mapping
from dataclasses import dataclass

from sennet_engine.device.stream import Device
from sennet_engine.predictor import Predictor


@dataclass(frozen=True)
class Worker:
    """One device, or the host.

    Attributes:
        name: for people: "cuda:0", "cpu".
        predictors: by the keys of the plan's models, loaded on the device.
    """

    name: str
    device: Device
    predictors: Mapping[str, Predictor]
