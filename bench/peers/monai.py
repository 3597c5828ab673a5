"""MONAI's SlidingWindowInferer over the planes, as its documentation calls it."""

from collections.abc import Iterator

import torch
from monai.inferers import SlidingWindowInferer
from monai.transforms import DivisiblePad
from torch import Tensor, nn

from sennet_bench.peers.contestant import Job, Outcome
from sennet_bench.peers.in_memory import TILE, Grey
from sennet_bench.peers.torch_job import TorchSettings, run_in_torch
from sennet_engine.bundle import read_card

WHOLE = -1


def run(
    job: Job,
    *,
    overlap: float,
    mode: str = "gaussian",
    whole_planes: bool = False,
    channels_last: bool = False,
    compiled: bool = False,
) -> Outcome:
    """Windows of 512, or of the whole plane, that overlap by the share `overlap`, one at a time.

    Whole planes are first padded at their ends to the network's stride, by MONAI: SlidingWindowInferer itself would
    pad on all sides, by no multiple of the stride, and find less.
    """
    side = WHOLE if whole_planes else TILE
    inferer = SlidingWindowInferer(roi_size=(side, side), sw_batch_size=1, overlap=overlap, mode=mode)
    pad = DivisiblePad(k=read_card(job.model).tiling.stride if whole_planes else 1, method="end")

    def probabilities(network: nn.Module, grey: Grey) -> Iterator[Tensor]:
        rows, columns = grey.shape[1:]
        for plane in grey:
            shown = pad(torch.from_numpy(plane)[None]).as_tensor().float()
            logits = inferer(shown[None], network)
            yield torch.sigmoid(logits)[0, 0, :rows, :columns]

    settings = TorchSettings(None if whole_planes else TILE, channels_last=channels_last, compiled=compiled)
    return run_in_torch(job, probabilities, settings)
