"""What contestants in torch have in common: the network, made ready in one of several ways, and the threshold."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch._dynamo.exc import BackendCompilerFailed

from sennet_bench.peers.child import ContestantError
from sennet_bench.peers.contestant import Job, Outcome
from sennet_bench.peers.in_memory import Grey, Predict, rounded_up, run_in_memory
from sennet_bench.peers.network import network_from_bundle
from sennet_engine.bundle import Bundle

# Network and grey levels uint8 [Z, Y, X] to probabilities float [Y, X], plane by plane.
PredictInTorch = Callable[[nn.Module, Grey], Iterator[Tensor]]


@dataclass(frozen=True)
class TorchSettings:
    """How a network is made ready.

    Attributes:
        tile: the side of what it will be shown; None for whole planes, up to the next multiple of its stride.
        channels_last: its weights in the memory format that torch's documentation recommends for convolutions on CPUs.
        compiled: by torch.compile.
        bfloat16: computed under torch.autocast, where the processor has it as where it has not.
    """

    tile: int | None = 512
    channels_last: bool = False
    compiled: bool = False
    bfloat16: bool = False


def run_in_torch(job: Job, predict: PredictInTorch, settings: TorchSettings) -> Outcome:
    """Do `job` by `predict`, which gets the whole volume in memory and a network that has run once."""
    torch.set_num_threads(job.threads)

    def load(bundle: Bundle, sides: tuple[int, int]) -> Predict:
        network = _ready(bundle, sides, settings)
        threshold = bundle.card.threshold.value
        return lambda grey: ((found >= threshold).numpy() for found in predict(network, grey))

    with torch.inference_mode(), torch.autocast("cpu", torch.bfloat16, enabled=settings.bfloat16):
        return run_in_memory(job, load)


def _ready(bundle: Bundle, sides: tuple[int, int], settings: TorchSettings) -> nn.Module:
    network: nn.Module = network_from_bundle(bundle)
    if settings.channels_last:
        network = network.to(memory_format=torch.channels_last)
    if settings.compiled:
        network.compile(dynamic=False)
    y, x = (settings.tile, settings.tile) if settings.tile else rounded_up(sides, bundle.card.tiling.stride)
    try:
        network(torch.zeros(1, 1, y, x))
    except BackendCompilerFailed as error:
        raise ContestantError(f"torch.compile: {str(error).strip().splitlines()[0]}; is g++ complete?") from error
    return network
