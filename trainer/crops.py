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
        self._augmentations = [
            Augmentation(
                settings.augmentation,
                side=settings.crops.side,
                voxel_size_um=volume.voxel_size_um or settings.voxel_size_um,
            )
            for volume in volumes
        ]
        weights = np.array([volume.settings.weight for volume in volumes])
        self._shares = weights / weights.sum()

    def __len__(self) -> int:
        return self._crops.per_epoch

    def __getitem__(self, index: int) -> tuple[Tensor, Tensor]:
        generator = np.random.default_rng((*self._entropy, index))
        drawn = generator.choice(len(self._volumes), p=self._shares)
        volume, augmentation = self._volumes[drawn], self._augmentations[drawn]
        grey, labels = augmentation(*self._cut(volume, augmentation.cut_side, generator), generator)
        return torch.from_numpy(grey)[None], torch.from_numpy(labels)[None]

    def _cut(self, volume: LabelledVolume, cut_side: int, generator: np.random.Generator) -> tuple[UInt8, UInt8]:
        """A crop of `side`, which lies within its plane where that is large enough, and a margin all around it."""
        axis = AXES[generator.choice(list(volume.settings.axes))]
        images, labels = volume.images, volume.labels
        side, margin = self._crops.side, (cut_side - self._crops.side) // 2
        centre_zyx = self._centre_zyx(volume, images.shape, axis, generator)
        starts = [_start(c, extent, side) - margin for c, extent in zip(centre_zyx, images.shape, strict=True)]
        starts[axis] = centre_zyx[axis]
        sides = [1 if a == axis else cut_side for a in range(3)]
        return _mirrored_cut(images, starts, sides).squeeze(axis), _mirrored_cut(labels, starts, sides).squeeze(axis)

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


def _start(centre: int, extent: int, side: int) -> int:
    """Where `side` pixels around `centre` start, moved to lie within `extent`; around the middle of a smaller one."""
    if extent < side:
        return -((side - extent) // 2)
    return min(max(centre - side // 2, 0), extent - side)


def _mirrored_cut(array: UInt8, starts: Sequence[int], sides: Sequence[int]) -> UInt8:
    """A copy of `sides` voxels of `array` from `starts` on, mirrored where they lie outside."""
    gaps = [
        (max(0, -start), max(0, start + side - extent))
        for start, side, extent in zip(starts, sides, array.shape, strict=True)
    ]
    window = tuple(
        slice(start + before, start + side - after)
        for start, side, (before, after) in zip(starts, sides, gaps, strict=True)
    )
    return np.pad(array[window], gaps, mode="symmetric")
