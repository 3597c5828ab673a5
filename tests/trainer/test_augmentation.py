"""Augmentation: grey levels and labels are bent together, and thin vessels outlive it."""

from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from scipy.ndimage import label

from sennet_engine.errors import ConfigError
from sennet_trainer.augmentation import Augmentation
from sennet_trainer.augmentation_settings import AugmentationSettings

UInt8 = npt.NDArray[np.uint8]

GEOMETRY_ALONE: dict[str, Any] = {
    "blur_or_noise": 0, "brightness_contrast": 0, "gamma": 0, "sharpen_or_clahe": 0, "noise": 0,
}  # fmt: skip
STILL = GEOMETRY_ALONE | {"flip": 0, "shift_scale_rotate": 0, "distortion": 0}


SIDE = 128


def augmentation_of(settings: AugmentationSettings) -> Augmentation:
    """Makes crops of 128, from a volume of 50 µm."""
    return Augmentation(settings, side=SIDE, voxel_size_um=50.0)


def small_components(side: int) -> UInt8:
    """Components of 1 to 12 pixels, eight pixels apart."""
    labels = np.zeros((side, side), np.uint8)
    shapes = [(1, 1), (1, 2), (2, 2), (1, 6), (2, 4), (3, 4)]
    for index, (y, x) in enumerate(np.ndindex(side // 8, side // 8)):
        height, width = shapes[index % len(shapes)]
        labels[8 * y + 2 : 8 * y + 2 + height, 8 * x + 1 : 8 * x + 1 + width] = 1
    return labels


def blobs(side: int) -> UInt8:
    """Discs of five to twelve pixels' radius, 0/1, twelve on 128 × 128 pixels."""
    draw = np.random.default_rng(3)
    y, x = np.mgrid[:side, :side]
    count = round(12 * (side / 128) ** 2)
    discs = [np.hypot(y - draw.uniform(0, side), x - draw.uniform(0, side)) < draw.uniform(5, 12) for _ in range(count)]
    return np.any(discs, axis=0).astype(np.uint8)


def middle_of(labels: UInt8) -> UInt8:
    """The inner 64 × 64 pixels: distortions mirror the border, and there components merge."""
    margin = (labels.shape[0] - 64) // 2
    return labels[margin : margin + 64, margin : margin + 64]


def augmented_components(settings: AugmentationSettings) -> list[UInt8]:
    """The middles of many augmentations of `small_components`."""
    augmentation = augmentation_of(settings)
    before = small_components(augmentation.cut_side)
    return [
        middle_of(augmentation(before * np.uint8(255), before, np.random.default_rng(seed))[1]) for seed in range(60)
    ]


def test_small_components_keep_their_area() -> None:
    """Under the default settings components of 1 to 12 pixels cover as large a share of the crop as before."""
    areas = [labels.sum() for labels in augmented_components(AugmentationSettings())]
    assert np.mean(areas) == pytest.approx(middle_of(small_components(SIDE)).sum(), rel=0.05)


def test_few_small_components_vanish() -> None:
    """Under the default settings, but at a constant magnification, there are nearly as many as before."""
    settings = AugmentationSettings(scale=(1.0, 1.0), shift=0)
    counts = [label(labels, np.ones((3, 3)))[1] for labels in augmented_components(settings)]
    assert np.mean(counts) > 0.95 * label(middle_of(small_components(SIDE)))[1]


@pytest.mark.parametrize("offset", [0, 2])
def test_grey_levels_and_labels_undergo_the_same_geometry(offset: int) -> None:
    """A picture of its own labels still agrees with them afterwards; labels two pixels off would be noticed."""
    augmentation = augmentation_of(AugmentationSettings(**GEOMETRY_ALONE))
    before = blobs(augmentation.cut_side)
    agreement = []
    for seed in range(24):
        grey, labels = augmentation(before * np.uint8(255), np.roll(before, offset, 1), np.random.default_rng(seed))
        agreement.append(2 * np.sum((grey >= 128) & (labels > 0)) / (np.sum(grey >= 128) + labels.sum()))
    assert (min(agreement) > 0.93 and np.mean(agreement) > 0.97) == (offset == 0)


def area_of_shown_disc(settings: AugmentationSettings, *, voxel_size_um: float, radius: int = 16) -> int:
    """Pixels of a disc of `radius` in the middle of the crop, after the augmentation."""
    augmentation = Augmentation(settings, side=SIDE, voxel_size_um=voxel_size_um)
    y, x = np.mgrid[: augmentation.cut_side, : augmentation.cut_side] - augmentation.cut_side / 2
    disc = (np.hypot(y, x) < radius).astype(np.uint8)
    _, labels = augmentation(disc, disc, np.random.default_rng(0))
    assert labels.shape == (SIDE, SIDE)
    return int(labels.sum())


@pytest.mark.parametrize("scale", [0.5, 1.0, 2.0])
def test_scale_is_the_magnification(scale: float) -> None:
    """A disc in the middle grows or shrinks by the square of the scale, and stays in the middle."""
    settings = AugmentationSettings(**STILL | {"shift_scale_rotate": 1, "scale": (scale, scale), "shift": 0})
    area = area_of_shown_disc(settings, voxel_size_um=50.0)
    assert area == pytest.approx(np.pi * 16**2 * scale**2, rel=0.05)


@pytest.mark.parametrize(("voxel_size_um", "scale"), [(50.0, 50 / 63), (63.0, 1.0), (25.0, 25 / 63)])
def test_magnification_follows_from_the_voxel_sizes(voxel_size_um: float, scale: float) -> None:
    """A volume of 50 µm is shown as one of 63 µm: at 0.79, centred there for every volume by its own voxel size."""
    settings = AugmentationSettings(
        **STILL | {"shift_scale_rotate": 1, "target_voxel_size_um": 63.0, "scale_spread": 0, "shift": 0}
    )
    area = area_of_shown_disc(settings, voxel_size_um=voxel_size_um)
    assert area == pytest.approx(np.pi * 16**2 * scale**2, rel=0.05)


def test_magnification_spreads_around_its_centre() -> None:
    """50 µm shown as 63 µm: 0.79 ± 0.25 (the write-up, section 3.3, rounds this to 0.55 to 1.05)."""
    low, high = AugmentationSettings(target_voxel_size_um=63.0).scale_for(50.0)
    assert (low, high) == pytest.approx((50 / 63 - 0.25, 50 / 63 + 0.25))
    assert (low, high) == pytest.approx((0.55, 1.05), abs=0.01)


def test_spread_beyond_any_magnification_is_refused() -> None:
    """The error names the largest spread that can be used."""
    with pytest.raises(ConfigError, match=r"scale_spread: got 0\.25, expected at most 0\.19 .* 15 µm shown as 63 µm"):
        AugmentationSettings(target_voxel_size_um=63.0).scale_for(15.0)


def test_shrunken_crops_show_their_surroundings() -> None:
    """What lies around the crop comes into view at 0.55, and no mirror image: distances from the middle still grow."""
    settings = AugmentationSettings(**STILL | {"shift_scale_rotate": 1, "scale": (0.55, 0.55), "shift": 0, "rotate": 0})
    augmentation = augmentation_of(settings)
    y, x = np.mgrid[: augmentation.cut_side, : augmentation.cut_side]
    distance = np.maximum(abs(y - augmentation.cut_side // 2), abs(x - augmentation.cut_side // 2)).astype(np.uint8)
    shown, _ = augmentation(distance, distance, np.random.default_rng(0))
    assert augmentation.cut_side == pytest.approx(SIDE / 0.55, abs=2)
    assert (np.diff(shown[SIDE // 2, SIDE // 2 + 2 :].astype(int)) >= 1).all()
    assert shown.max() == pytest.approx(SIDE / 2 / 0.55, abs=2)


def test_shift_is_a_share_of_the_crop_that_comes_out() -> None:
    """At any magnification: a point in the middle comes out up to 30 % of the side away, and no farther."""
    settings = AugmentationSettings(**STILL | {"shift_scale_rotate": 1, "scale": (0.5, 0.5), "shift": 0.3, "rotate": 0})
    augmentation = augmentation_of(settings)
    before = np.zeros((augmentation.cut_side, augmentation.cut_side), np.uint8)
    middle = augmentation.cut_side // 2
    before[middle - 2 : middle + 2, middle - 2 : middle + 2] = 1
    reached = []
    for seed in range(80):
        _, labels = augmentation(before, before, np.random.default_rng(seed))
        reached.append(abs(np.argwhere(labels).mean(0) - (SIDE - 1) / 2).max())
    assert 0.27 * SIDE < max(reached) <= 0.3 * SIDE + 1


def test_crop_without_a_warp_is_cut_exactly() -> None:
    """With shift_scale_rotate = 0 there is no margin to cut away."""
    assert augmentation_of(AugmentationSettings(shift_scale_rotate=0)).cut_side == SIDE


def test_a_target_magnifies_every_crop() -> None:
    """Also those that are not moved: a square of 40 pixels at 25 µm is one of 20 at 50 µm."""
    settings = AugmentationSettings.model_validate(STILL | {"target_voxel_size_um": 50.0})
    augmentation = Augmentation(settings, side=SIDE, voxel_size_um=25.0)
    square = np.zeros((augmentation.cut_side,) * 2, np.uint8)
    middle = augmentation.cut_side // 2
    square[middle - 20 : middle + 20, middle - 20 : middle + 20] = 1
    _, labels = augmentation(square * np.uint8(100), square, np.random.default_rng(1))
    assert labels.shape == (SIDE, SIDE)
    assert np.sqrt(labels.sum()) == pytest.approx(20, abs=1)


def test_a_magnification_that_would_cut_huge_crops_is_refused() -> None:
    """A slip of the finger shall not ask for hundreds of gigabytes."""
    with pytest.raises(ValueError, match=r"0\.05 <= smallest"):
        AugmentationSettings(scale=(0.001, 1.05))
