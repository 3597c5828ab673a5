"""Plain torch, as notebooks have it: overlapping tiles and the mean where they overlap, or whole planes."""

from collections.abc import Iterator
from functools import partial

import torch
from torch import Tensor, nn
from torch.nn import functional

from sennet_bench.peers.contestant import Job, Outcome
from sennet_bench.peers.in_memory import TILE, Grey, rounded_up, tile_origins
from sennet_bench.peers.torch_job import TorchSettings, run_in_torch
from sennet_engine.bundle import read_card


def run(
    job: Job,
    *,
    whole_planes: bool = False,
    channels_last: bool = False,
    compiled: bool = False,
    bfloat16: bool = False,
) -> Outcome:
    """One tile or plane at a time; the last tile of a row or column ends at the plane's edge."""
    settings = TorchSettings(
        None if whole_planes else TILE, channels_last=channels_last, compiled=compiled, bfloat16=bfloat16
    )
    predict = partial(_by_planes, read_card(job.model).tiling.stride) if whole_planes else _by_tiles
    return run_in_torch(job, predict, settings)


def _by_tiles(network: nn.Module, grey: Grey) -> Iterator[Tensor]:
    rows, columns = grey.shape[1:]
    missing = (0, max(0, TILE - columns), 0, max(0, TILE - rows))
    for plane in grey:
        padded = functional.pad(torch.from_numpy(plane).float()[None, None], missing)
        total, count = torch.zeros_like(padded), torch.zeros_like(padded)
        for top in tile_origins(padded.shape[2]):
            for left in tile_origins(padded.shape[3]):
                tile = (..., slice(top, top + TILE), slice(left, left + TILE))
                total[tile] += torch.sigmoid(network(padded[tile]).float())
                count[tile] += 1
        yield (total / count)[0, 0, :rows, :columns]


def _by_planes(stride: int, network: nn.Module, grey: Grey) -> Iterator[Tensor]:
    rows, columns = grey.shape[1:]
    y, x = rounded_up((rows, columns), stride)
    for plane in grey:
        padded = functional.pad(torch.from_numpy(plane).float()[None, None], (0, x - columns, 0, y - rows))
        yield torch.sigmoid(network(padded).float())[0, 0, :rows, :columns]
