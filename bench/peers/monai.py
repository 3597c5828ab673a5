"""MONAI's SlidingWindowInferer over the planes, as its documentation calls it."""

from collections.abc import Iterator

import numpy as np
import numpy.typing as npt
import torch
from monai.inferers import SlidingWindowInferer
from torch import Tensor, nn

from sennet_bench.peers.contestant import Job, Outcome
from sennet_bench.peers.torch_job import TILE, run_in_torch


def run(job: Job, *, overlap: float) -> Outcome:
    """Windows of 512 that overlap by the share `overlap`, weighted by a Gaussian, one at a time."""
    inferer = SlidingWindowInferer(roi_size=(TILE, TILE), sw_batch_size=1, overlap=overlap, mode="gaussian")

    def probabilities(network: nn.Module, grey: npt.NDArray[np.uint8]) -> Iterator[Tensor]:
        for plane in grey:
            logits = inferer(torch.from_numpy(plane).float()[None, None], network)
            yield torch.sigmoid(logits)[0, 0]

    return run_in_torch(job, probabilities)
