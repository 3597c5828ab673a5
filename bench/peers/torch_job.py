"""What contestants in torch have in common: the network, reading, the window, the threshold and the written mask."""

from collections.abc import Callable, Iterator
from time import perf_counter

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn

from sennet_bench.peer_network import network_from_bundle
from sennet_bench.peers.contestant import Job, Outcome
from sennet_engine.bundle import open_bundle
from sennet_engine.results.stack_writer import StackWriter
from sennet_engine.volumes.open import open_volume
from sennet_engine.volumes.volume import ArrayVolume
from sennet_engine.window import surveyed_window

TILE = 512

# Network and grey levels uint8 [Z, Y, X] to probabilities float [Y, X], plane by plane.
Predict = Callable[[nn.Module, npt.NDArray[np.uint8]], Iterator[Tensor]]


def run_in_torch(job: Job, predict: Predict) -> Outcome:
    """Do `job` by `predict`, which gets the whole volume in memory, as such tools do, and a network that has run once.

    The first run of a network in a process is slower than those that follow; here it counts as loading.
    """
    torch.set_num_threads(job.threads)
    began = perf_counter()
    bundle = open_bundle(job.model)
    network = network_from_bundle(bundle)
    with torch.inference_mode():
        network(torch.zeros(1, 1, TILE, TILE))
        loaded = perf_counter()
        with open_volume(job.volume) as volume:
            planes = volume.read_planes(0, volume.shape_zyx[0])
            voxel_size_um = volume.voxel_size_um
        read = perf_counter()
        grey = surveyed_window(ArrayVolume(planes)).to_uint8(planes)
        windowed = perf_counter()
        with StackWriter(job.mask, shape_zyx=grey.shape, voxel_size_um=voxel_size_um) as writer:
            for probability in predict(network, grey):
                mask = (probability >= bundle.card.threshold.value).numpy()
                writer.append(mask[None].astype(np.uint8) * np.uint8(255))
        written = perf_counter()
    stages = {"read": read - loaded, "window": windowed - read, "compute and write": written - windowed}
    return Outcome(seconds=written - loaded, load_seconds=loaded - began, stage_seconds=stages)
