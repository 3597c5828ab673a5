"""The trainer's own data path and its own training loop, as `sennet-train fit` runs them."""

from typing import cast

import torch
from torch.utils.data import DataLoader, Dataset

from sennet_bench.training.clock import StepClock, timed_crops
from sennet_bench.training.crops import Crop, held_crops, volumes_of
from sennet_bench.training.job import WARM_UP_CROPS, CropPass, Job, StepPass
from sennet_trainer.crops import EpochCrops
from sennet_trainer.epoch import train_epoch
from sennet_trainer.labelled_volume import LabelledVolume
from sennet_trainer.network import build_segmenter
from sennet_trainer.optimisation import initial_state
from sennet_trainer.parts import steps_of
from sennet_trainer.settings import FitSettings


def crops(job: Job) -> list[CropPass]:
    """Passes over the data path, with each number of workers, augmented and as cut."""
    volumes = volumes_of(job)
    return [
        _crop_pass(volumes, job.settings_with(crops=job.crops, workers=workers, augmented=augmented), augmented)
        for workers in job.workers
        for augmented in (True, False)
    ]


def network(job: Job) -> StepPass:
    """Steps on crops in memory."""
    return _steps(job, held_crops(job), _settings(job, workers=0))


def training(job: Job) -> StepPass:
    """Steps on the crops of the data path."""
    settings = _settings(job, workers=job.workers[-1])
    return _steps(job, EpochCrops(volumes_of(job), settings, epoch=0), settings)


def _crop_pass(volumes: list[LabelledVolume], settings: FitSettings, augmented: bool) -> CropPass:
    crops, workers = EpochCrops(volumes, settings, epoch=0), settings.training.workers
    for index in range(WARM_UP_CROPS):
        crops[index]
    batches = [list(part.crops) for step in steps_of(settings) for part in step]
    loader = DataLoader(crops, batch_sampler=batches, num_workers=workers, generator=torch.Generator())
    return timed_crops(loader, workers=workers, augmented=augmented)


def _settings(job: Job, *, workers: int) -> FitSettings:
    return job.settings_with(
        crops=job.steps_in_all * job.settings.training.batch, workers=workers, augmented=True
    )  # fmt: skip


def _steps(job: Job, crops: Dataset[Crop], settings: FitSettings) -> StepPass:
    torch.manual_seed(settings.seed)
    segmenter = build_segmenter(settings.network)
    state = initial_state(segmenter, settings, device=torch.device("cpu"), total_steps=job.steps_in_all)
    clock = StepClock()
    # The loop asks its crops for nothing but items.
    train_epoch(state, cast(EpochCrops, crops), settings, epoch=0, told=clock.step)
    return clock.steps(segmenter)
