"""Masks beside each other: in how many voxels they differ, and whether that is within a limit."""

from dataclasses import dataclass
from pathlib import Path

import numpy as np

from sennet_bench.gpu_check.ways import Limit
from sennet_bench.mask_files import surface_dice_of
from sennet_engine.volumes.open import open_volume


@dataclass(frozen=True)
class Difference:
    """Between a mask and the reference's; see `Segmentation`."""

    differing_voxels: int
    differing_share: float
    dice_with_reference: float | None
    dice_with_truth: float | None
    reference_dice_with_truth: float | None


def difference_of(mask: Path, reference: Path, truth: Path) -> Difference:
    """Compare the masks plane by plane. Raises VolumeError where one cannot be read, or their shapes differ."""
    dice = surface_dice_of(mask, reference)
    differing = vessels = 0
    with open_volume(mask) as one, open_volume(reference) as other:
        for z in range(one.shape_zyx[0]):
            expected = other.read_planes(z, z + 1) != 0
            differing += int(np.count_nonzero((one.read_planes(z, z + 1) != 0) != expected))
            vessels += int(np.count_nonzero(expected))
    return Difference(
        differing_voxels=differing,
        differing_share=differing / max(1, vessels),
        dice_with_reference=dice,
        dice_with_truth=surface_dice_of(mask, truth),
        reference_dice_with_truth=surface_dice_of(reference, truth),
    )


def beyond_limit(found: Difference, limit: Limit) -> list[str]:
    """What is beyond `limit`, in sentences; none where all is within it."""
    told = []
    if found.differing_share > limit.differing_share:
        told.append(
            f"{found.differing_voxels:,} voxels differ from the reference, {found.differing_share:.3%} of its vessels; "
            f"at most {limit.differing_share:.3%} may"
        )
    if (found.dice_with_reference or 0.0) < limit.dice_with_reference:
        told.append(
            f"surface Dice with the reference is {_told(found.dice_with_reference)}; at least "
            f"{limit.dice_with_reference} is demanded"
        )
    lost = (found.reference_dice_with_truth or 0.0) - (found.dice_with_truth or 0.0)
    if lost > limit.truth_loss:
        told.append(
            f"surface Dice with the truth is {_told(found.dice_with_truth)}, {lost:.4f} below the reference's; at most "
            f"{limit.truth_loss} is allowed"
        )
    return told


def _told(dice: float | None) -> str:
    return "undefined, no mask holds a vessel" if dice is None else f"{dice:.4f}"
