"""A plain torch loop, as notebooks have it: tiles of 512 at a stride of 384, and the mean where they overlap."""

from collections.abc import Iterator

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn
from torch.nn import functional

from sennet_bench.peers.contestant import Job, Outcome
from sennet_bench.peers.torch_job import TILE, run_in_torch

STRIDE = 384


def run(job: Job) -> Outcome:
    """Float32, one tile at a time; the last tile of a row or column ends at the plane's edge."""
    return run_in_torch(job, _probabilities)


def _probabilities(network: nn.Module, grey: npt.NDArray[np.uint8]) -> Iterator[Tensor]:
    rows, columns = grey.shape[1:]
    missing = (0, max(0, TILE - columns), 0, max(0, TILE - rows))
    for plane in grey:
        padded = functional.pad(torch.from_numpy(plane).float()[None, None], missing)
        total, count = torch.zeros_like(padded), torch.zeros_like(padded)
        for top in _origins(padded.shape[2]):
            for left in _origins(padded.shape[3]):
                tile = (..., slice(top, top + TILE), slice(left, left + TILE))
                total[tile] += torch.sigmoid(network(padded[tile]))
                count[tile] += 1
        yield (total / count)[0, 0, :rows, :columns]


def _origins(side: int) -> list[int]:
    return [min(origin, side - TILE) for origin in range(0, side - TILE + STRIDE, STRIDE)]
