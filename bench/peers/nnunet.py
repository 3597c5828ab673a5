"""nnU-Net's own predictor, as installed, with our network in it: two-dimensional patches at step 0.5, no mirroring."""

from collections.abc import Iterator
from types import SimpleNamespace

import numpy as np
import numpy.typing as npt
import torch
from nnunetv2.inference.predict_from_raw_data import nnUNetPredictor
from torch import Tensor, nn

from sennet_bench.peers.contestant import Job, Outcome
from sennet_bench.peers.torch_job import TILE, run_in_torch

STEP = 0.5


def run(job: Job) -> Outcome:
    """Its sliding window alone: half-precision sums over the whole volume, weighted by a Gaussian.

    Its preprocessing, its resampling of logits and its processes for export are left out, which favours it.
    """
    return run_in_torch(job, _probabilities)


def _probabilities(network: nn.Module, grey: npt.NDArray[np.uint8]) -> Iterator[Tensor]:
    predictor = nnUNetPredictor(
        tile_step_size=STEP, use_gaussian=True, use_mirroring=False, perform_everything_on_device=False,
        device=torch.device("cpu"), allow_tqdm=False,
    )  # fmt: skip
    # What `manual_initialization` would take from a trained nnU-Net.
    predictor.network = network
    predictor.configuration_manager = SimpleNamespace(patch_size=[TILE, TILE])
    predictor.label_manager = SimpleNamespace(num_segmentation_heads=1)
    volume = torch.from_numpy(grey).float()[None]
    logits = predictor.predict_sliding_window_return_logits(volume)[0]
    yield from (torch.sigmoid(plane.float()) for plane in logits)
