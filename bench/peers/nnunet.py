"""nnU-Net's own predictor, as installed, with our network in it: two-dimensional patches, no mirroring."""

from collections.abc import Iterator
from types import SimpleNamespace

import torch
from nnunetv2.inference.predict_from_raw_data import nnUNetPredictor
from torch import Tensor, nn

from sennet_bench.peers.contestant import Job, Outcome
from sennet_bench.peers.in_memory import TILE, Grey
from sennet_bench.peers.torch_job import TorchSettings, run_in_torch


def run(job: Job, *, step: float = 0.5, compiled: bool = False, channels_last: bool = False) -> Outcome:
    """Its sliding window alone: half-precision sums over the whole volume, weighted by a Gaussian.

    Its preprocessing, its resampling of logits and its processes for export are left out, which favours it.
    """

    def probabilities(network: nn.Module, grey: Grey) -> Iterator[Tensor]:
        predictor = nnUNetPredictor(
            tile_step_size=step, use_gaussian=True, use_mirroring=False, perform_everything_on_device=False,
            device=torch.device("cpu"), allow_tqdm=False,
        )  # fmt: skip
        # What `manual_initialization` would take from a trained nnU-Net.
        predictor.network = network
        predictor.configuration_manager = SimpleNamespace(patch_size=[TILE, TILE])
        predictor.label_manager = SimpleNamespace(num_segmentation_heads=1)
        volume = torch.from_numpy(grey).float()[None]
        logits = predictor.predict_sliding_window_return_logits(volume)[0]
        yield from (torch.sigmoid(plane.float()) for plane in logits)

    return run_in_torch(job, probabilities, TorchSettings(TILE, channels_last=channels_last, compiled=compiled))
