"""What other tools have in common here: the volume in memory, the window, and the written mask."""

from collections.abc import Callable, Iterable
from time import perf_counter

import numpy as np
import numpy.typing as npt

from sennet_bench.peers.contestant import Job, Outcome
from sennet_engine.bundle import Bundle, open_bundle
from sennet_engine.results.stack_writer import StackWriter
from sennet_engine.volumes.open import open_volume
from sennet_engine.volumes.volume import ArrayVolume
from sennet_engine.window import surveyed_window

TILE, STRIDE = 512, 384

Grey = npt.NDArray[np.uint8]
# Grey levels [Z, Y, X] to masks bool [Y, X], plane by plane.
Predict = Callable[[Grey], Iterable[npt.NDArray[np.bool_]]]
# A bundle and the sides (Y, X) of the planes to come, to a network that is ready for them.
Load = Callable[[Bundle, tuple[int, int]], Predict]


def run_in_memory(job: Job, load: Load) -> Outcome:
    """Load the network, then read the whole volume, as such tools do, and write what the network finds in it.

    The first run of a network in a process is slower than those that follow; `load` makes it, so it counts as loading.
    """
    with open_volume(job.volume) as volume:
        sides = volume.shape_zyx[1:]
    began = perf_counter()
    predict = load(open_bundle(job.model), sides)
    loaded = perf_counter()
    with open_volume(job.volume) as volume:
        planes = volume.read_planes(0, volume.shape_zyx[0])
        voxel_size_um = volume.voxel_size_um
    read = perf_counter()
    grey = surveyed_window(ArrayVolume(planes)).to_uint8(planes)
    windowed = perf_counter()
    with StackWriter(job.mask, shape_zyx=grey.shape, voxel_size_um=voxel_size_um) as writer:
        for mask in predict(grey):
            writer.append(mask[None].astype(np.uint8) * np.uint8(255))
    written = perf_counter()
    stages = {"read": read - loaded, "window": windowed - read, "compute and write": written - windowed}
    return Outcome(seconds=written - loaded, load_seconds=loaded - began, stage_seconds=stages)


def tile_origins(side: int) -> list[int]:
    """Of tiles of TILE at a stride of STRIDE along a side of at least TILE; the last ends at the edge."""
    return [min(origin, side - TILE) for origin in range(0, side - TILE + STRIDE, STRIDE)]


def rounded_up(sides: tuple[int, int], stride: int) -> tuple[int, int]:
    """The next multiples of a network's stride."""
    y, x = (-(-side // stride) * stride for side in sides)
    return y, x
