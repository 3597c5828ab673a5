"""Crops of labelled volumes: which one an index means, and how it looks after augmentation.

A crop is decided by (seed, epoch, index) and by nothing else. So crops do not depend on the number of workers or on
the order in which they are asked for, and an interrupted training goes on with the very crops that it would have seen.
"""

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor
from torch.utils.data import Dataset

from sennet_trainer.augmentation import Augmentation
from sennet_trainer.labelled_volume import AXES, LabelledVolume
from sennet_trainer.settings import FitSettings

UInt8 = npt.NDArray[np.uint8]


class EpochCrops(Dataset[tuple[Tensor, Tensor]]):
    """The crops of one epoch: `len` of them; item `index` is (grey, labels), both uint8 [1, side, side], labels 0/1."""

    def __init__(self, volumes: Sequence[LabelledVolume], settings: FitSettings, *, epoch: int) -> None:
        self._volumes = volumes
        self._crops = settings.crops
        self._entropy = (settings.seed, epoch)
        self._augmentation = Augmentation(settings.augmentation)
        weights = np.array([volume.settings.weight for volume in volumes])
        self._shares = weights / weights.sum()

    def __len__(self) -> int:
        return self._crops.per_epoch

    def __getitem__(self, index: int) -> tuple[Tensor, Tensor]:
        generator = np.random.default_rng((*self._entropy, index))
        grey, labels = self._augmentation(*self._drawn(generator), generator)
        return torch.from_numpy(grey)[None], torch.from_numpy(labels)[None]

    def _drawn(self, generator: np.random.Generator) -> tuple[UInt8, UInt8]:
        volume = self._volumes[generator.choice(len(self._volumes), p=self._shares)]
        axis = AXES[generator.choice(list(volume.settings.axes))]
        images = volume.images
        centre_zyx = self._centre_zyx(volume, images.shape, axis, generator)
        side = self._crops.side
        window = tuple(
            slice(centre_zyx[a], centre_zyx[a] + 1) if a == axis else _span(centre_zyx[a], images.shape[a], side)
            for a in range(3)
        )
        return (
            _padded(images[window].squeeze(axis), side),
            _padded(volume.labels[window].squeeze(axis), side),
        )

    def _centre_zyx(
        self, volume: LabelledVolume, shape_zyx: tuple[int, ...], axis: int, generator: np.random.Generator
    ) -> list[int]:
        """A labelled voxel, moved within the plane by up to a quarter of the side; or any voxel."""
        labelled = volume.labelled
        if labelled.size == 0 or generator.random() >= self._crops.vessel_share:
            return [int(generator.integers(extent)) for extent in shape_zyx]
        voxel = np.unravel_index(labelled[generator.integers(labelled.size)], shape_zyx)
        reach = self._crops.side // 4
        jitter = generator.integers(-reach, reach + 1, 3)
        return [int(voxel[a]) + (0 if a == axis else int(jitter[a])) for a in range(3)]


def _span(centre: int, extent: int, side: int) -> slice:
    """`side` pixels around `centre`, moved to lie within the plane; all of a plane that is smaller."""
    start = min(max(centre - side // 2, 0), max(extent - side, 0))
    return slice(start, start + min(side, extent))


def _padded(plane: UInt8, side: int) -> UInt8:
    """A copy, mirrored at both ends to `side` where it is smaller."""
    missing = [side - extent for extent in plane.shape]
    if not any(missing):
        return np.array(plane)
    return np.pad(plane, [(gap // 2, gap - gap // 2) for gap in missing], mode="symmetric")
