"""Augmentation: grey levels and labels are bent together, and thin vessels outlive it."""

from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from scipy.ndimage import label

from sennet_trainer.augmentation import Augmentation
from sennet_trainer.augmentation_settings import AugmentationSettings

UInt8 = npt.NDArray[np.uint8]

GEOMETRY_ALONE: dict[str, Any] = {
    "blur_or_noise": 0, "brightness_contrast": 0, "gamma": 0, "sharpen_or_clahe": 0, "noise": 0,
}  # fmt: skip
STILL = GEOMETRY_ALONE | {"flip": 0, "shift_scale_rotate": 0, "distortion": 0}


def small_components(side: int = 128) -> UInt8:
    """Components of 1 to 12 pixels, eight pixels apart."""
    labels = np.zeros((side, side), np.uint8)
    shapes = [(1, 1), (1, 2), (2, 2), (1, 6), (2, 4), (3, 4)]
    for index, (y, x) in enumerate(np.ndindex(side // 8, side // 8)):
        height, width = shapes[index % len(shapes)]
        labels[8 * y + 2 : 8 * y + 2 + height, 8 * x + 1 : 8 * x + 1 + width] = 1
    return labels


def blobs(side: int = 128) -> UInt8:
    """Discs of five to twelve pixels' radius, 0/1."""
    draw = np.random.default_rng(3)
    y, x = np.mgrid[:side, :side]
    discs = [np.hypot(y - draw.uniform(0, side), x - draw.uniform(0, side)) < draw.uniform(5, 12) for _ in range(12)]
    return np.any(discs, axis=0).astype(np.uint8)


def middle_of(augmented: UInt8) -> UInt8:
    """The border is mirrored, and there components merge."""
    return augmented[32:96, 32:96]


def augmented_components(settings: AugmentationSettings) -> list[UInt8]:
    """The middles of many augmentations of `small_components`."""
    before, augmentation = small_components(), Augmentation(settings)
    return [
        middle_of(augmentation(before * np.uint8(255), before, np.random.default_rng(seed))[1]) for seed in range(60)
    ]


def test_small_components_keep_their_area() -> None:
    """Under the default settings components of 1 to 12 pixels cover as large a share of the crop as before."""
    areas = [labels.sum() for labels in augmented_components(AugmentationSettings())]
    assert np.mean(areas) == pytest.approx(middle_of(small_components()).sum(), rel=0.05)


def test_few_small_components_vanish() -> None:
    """Under the default settings, but at a constant magnification, there are nearly as many as before."""
    settings = AugmentationSettings(scale=(1.0, 1.0), shift=0)
    counts = [label(labels, np.ones((3, 3)))[1] for labels in augmented_components(settings)]
    assert np.mean(counts) > 0.95 * label(middle_of(small_components()))[1]


@pytest.mark.parametrize("offset", [0, 2])
def test_grey_levels_and_labels_undergo_the_same_geometry(offset: int) -> None:
    """A picture of its own labels still agrees with them afterwards; labels two pixels off would be noticed."""
    augmentation, before = Augmentation(AugmentationSettings(**GEOMETRY_ALONE)), blobs()
    agreement = []
    for seed in range(24):
        grey, labels = augmentation(before * np.uint8(255), np.roll(before, offset, 1), np.random.default_rng(seed))
        agreement.append(2 * np.sum((grey >= 128) & (labels > 0)) / (np.sum(grey >= 128) + labels.sum()))
    assert (min(agreement) > 0.93 and np.mean(agreement) > 0.97) == (offset == 0)


@pytest.mark.parametrize("scale", [0.5, 2.0])
def test_scale_is_the_magnification(scale: float) -> None:
    """A disc in the middle grows or shrinks by the square of the scale."""
    y, x = np.mgrid[:128, :128]
    disc = (np.hypot(y - 64, x - 64) < 16).astype(np.uint8)
    settings = AugmentationSettings(**STILL | {"shift_scale_rotate": 1, "scale": (scale, scale), "shift": 0})
    _, labels = Augmentation(settings)(disc, disc, np.random.default_rng(0))
    assert labels[32:96, 32:96].sum() == pytest.approx(disc.sum() * scale**2, rel=0.05)
