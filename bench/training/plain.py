"""A plain training loop, as notebooks have it: volumes in memory, albumentations, a data loader, smp, torch."""

import math
import os
from collections.abc import Callable, Iterable

import cv2
import numpy as np
import numpy.typing as npt
import segmentation_models_pytorch as smp
import torch
from segmentation_models_pytorch.losses import DiceLoss, SoftBCEWithLogitsLoss
from torch import Tensor, nn
from torch.utils.data import DataLoader, Dataset

from sennet_bench.training.clock import StepClock, timed_crops
from sennet_bench.training.crops import Crop, held_crops, volumes_of
from sennet_bench.training.job import PLAIN, TUNED, WARM_UP_CROPS, CropPass, Job, StepPass
from sennet_engine.card import FixedNormalisation, Normalisation
from sennet_engine.errors import SennetError
from sennet_trainer.labelled_volume import AXES, LabelledVolume
from sennet_trainer.settings import FitSettings

# The library asks PyPI for its newest version while it is imported, unless told not to.
os.environ.setdefault("NO_ALBUMENTATIONS_UPDATE", "1")
import albumentations as A
from albumentations.pytorch import ToTensorV2

UInt8 = npt.NDArray[np.uint8]

# White noise as a share of 255: on crops whose levels vary by 40, its mean sigma is that of the trainer's noise.
NOISE = 0.08

DICE, BCE = DiceLoss("binary"), SoftBCEWithLogitsLoss()
LAYOUTS = {PLAIN: torch.contiguous_format, TUNED: torch.channels_last}
LOSSES: dict[str, Callable[[Tensor, Tensor], Tensor]] = {
    "dice": DICE,
    "bce": BCE,
    "bce_dice": lambda logits, labels: (DICE(logits, labels) + BCE(logits, labels)) / 2,
}


class PlainVolume:
    """A volume with its labels, read whole into memory, and the transforms of its crops."""

    def __init__(self, volume: LabelledVolume, settings: FitSettings) -> None:
        self.images, self.labels = np.array(volume.images), np.array(volume.labels)
        self.axes = [AXES[axis] for axis in volume.settings.axes]
        self.transforms = transforms(settings, voxel_size_um=volume.voxel_size_um or settings.voxel_size_um)


class PlainCrops(Dataset[Crop]):
    """Random crops of random planes: normalised float32 [1, side, side] and labels 0/1, float32 of the same shape."""

    def __init__(self, volumes: list[PlainVolume], weights: Tensor, *, side: int, count: int) -> None:
        self._volumes, self._weights, self._side, self._count = volumes, weights, side, count

    def __len__(self) -> int:
        return self._count

    def __getitem__(self, _index: int) -> Crop:
        volume = self._volumes[int(torch.multinomial(self._weights, 1))]
        axis = volume.axes[_below(len(volume.axes))]
        window: list[slice | int] = [
            slice(start := _below(max(extent - self._side, 0) + 1), start + self._side)
            for extent in volume.images.shape
        ]
        window[axis] = _below(volume.images.shape[axis])
        changed = volume.transforms(image=volume.images[tuple(window)], mask=volume.labels[tuple(window)])
        return changed["image"], changed["mask"][None].float()


def crops(job: Job) -> list[CropPass]:
    """Passes over the data path, with each number of workers, augmented and as cut."""
    passes = []
    for workers in job.workers:
        for augmented in (True, False):
            settings = job.settings_with(crops=job.crops, workers=workers, augmented=augmented)
            made = _plain_crops(job, settings)
            for index in range(WARM_UP_CROPS):
                made[index]
            loader = DataLoader(made, batch_size=settings.training.batch, shuffle=True, num_workers=workers)
            passes.append(timed_crops(loader, workers=workers, augmented=augmented))
    return passes


def network(job: Job) -> StepPass:
    """Steps on the very crops that the trainer gets, in batches that are normalised already."""
    held, batch = held_crops(job), job.settings.training.batch
    normalise = A.Compose([_normalised(job.settings.network.normalisation), ToTensorV2()])
    batches = []
    for start in range(0, job.steps_in_all * batch, batch):
        crops = [held[index] for index in range(start, start + batch)]
        grey = torch.stack([normalise(image=one.numpy()[0])["image"] for one, _ in crops])
        batches.append((grey, torch.stack([labels for _, labels in crops]).float()))
    del held
    return _steps(job, batches)


def training(job: Job) -> StepPass:
    """Steps on the crops of its own data path."""
    batch, workers = job.settings.training.batch, job.workers[-1]
    settings = job.settings_with(crops=job.steps_in_all * batch, workers=workers, augmented=True)
    return _steps(
        job, DataLoader(_plain_crops(job, settings), batch_size=batch, shuffle=True, num_workers=workers)
    )  # fmt: skip


def transforms(settings: FitSettings, *, voxel_size_um: float) -> A.Compose:
    """The trainer's operations in the trainer's order, as the library's own pipeline of a crop of the final side."""
    chosen, side = settings.augmentation, settings.crops.side
    border, reach = cv2.BORDER_REFLECT_101, round(chosen.shift * side)
    return A.Compose(
        [
            A.PadIfNeeded(side, side, border_mode=border),
            A.HorizontalFlip(p=chosen.flip),
            A.VerticalFlip(p=chosen.flip),
            A.RandomRotate90(p=chosen.flip),
            A.Affine(
                scale=chosen.scale_for(voxel_size_um), keep_ratio=True, rotate=(-chosen.rotate, chosen.rotate),
                translate_px={"x": (-reach, reach), "y": (-reach, reach)}, border_mode=border,
                p=chosen.shift_scale_rotate,
            ),
            A.OneOf(
                [A.GaussianBlur(), A.MedianBlur((3, 5)), A.MotionBlur((3, 5)), A.GaussNoise((0.02, 0.1))],
                p=chosen.blur_or_noise,
            ),
            A.RandomBrightnessContrast(0.2, 0.2, p=chosen.brightness_contrast),
            A.RandomGamma((80, 120), p=chosen.gamma),
            A.OneOf(
                [
                    A.ElasticTransform(alpha=60, sigma=8, border_mode=border),
                    A.GridDistortion(num_steps=5, distort_limit=0.3, border_mode=border),
                    A.OpticalDistortion(distort_limit=0.3, border_mode=border),
                ],
                p=chosen.distortion,
            ),
            A.OneOf([A.Sharpen(), A.CLAHE()], p=chosen.sharpen_or_clahe),
            A.GaussNoise((0, min(NOISE * chosen.noise, 1.0)), p=float(chosen.noise > 0)),
            _normalised(settings.network.normalisation),
            ToTensorV2(),
        ]
    )  # fmt: skip


def _normalised(normalisation: Normalisation) -> A.BasicTransform:
    if isinstance(normalisation, FixedNormalisation):
        return A.Normalize(mean=(normalisation.mean,), std=(normalisation.std,))
    return A.Normalize(normalization="image")


def _plain_crops(job: Job, settings: FitSettings) -> PlainCrops:
    volumes = [PlainVolume(volume, settings) for volume in volumes_of(job)]
    weights = torch.tensor([volume.weight for volume in settings.volumes])
    return PlainCrops(volumes, weights, side=settings.crops.side, count=settings.crops.per_epoch)


def _below(end: int) -> int:
    # torch's generator: a data loader seeds it in every worker.
    return int(torch.randint(end, ()))


def _steps(job: Job, batches: Iterable[Crop]) -> StepPass:
    settings, training = job.settings.network, job.settings.training
    torch.manual_seed(job.settings.seed)
    model = smp.create_model(
        settings.decoder, encoder_name=settings.encoder, encoder_depth=settings.encoder_depth, encoder_weights=None,
        in_channels=1, classes=1, **settings.decoder_options,
    )  # fmt: skip
    optimizer = torch.optim.AdamW(model.parameters(), lr=training.learning_rate, weight_decay=training.weight_decay)
    scheduler = torch.optim.lr_scheduler.OneCycleLR(optimizer, training.learning_rate, total_steps=job.steps_in_all)
    layout = LAYOUTS[job.contestant]
    model.to(memory_format=layout).train()
    clock = StepClock()
    for images, labels in batches:
        optimizer.zero_grad()
        logits = model(images.to(memory_format=layout))
        loss = torch.stack([weight * LOSSES[name](logits, labels) for name, weight in training.loss.items()]).sum()
        torch.autograd.backward(loss)
        nn.utils.clip_grad_norm_(model.parameters(), training.gradient_clip)
        optimizer.step()
        scheduler.step()
        if not math.isfinite(value := loss.item()):
            raise SennetError(f"the plain loop: got a loss of {value}; lower training.learning_rate")
        clock.step(value)
    return clock.steps(model)
