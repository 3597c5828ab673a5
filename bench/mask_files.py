"""Masks in files: what they hold, and how well two of them agree."""

import hashlib
import math
from pathlib import Path

import numpy as np

from sennet_engine.errors import VolumeError
from sennet_engine.metrics.score import score_masks
from sennet_engine.volumes.open import open_volume


def mask_sha256(mask: Path) -> str:
    """Of the voxels of a mask, whatever file they are in. Raises VolumeError where it cannot be read."""
    digest = hashlib.sha256()
    with open_volume(mask) as volume:
        for z in range(volume.shape_zyx[0]):
            digest.update(np.packbits(volume.read_planes(z, z + 1) != 0).tobytes())
    return digest.hexdigest()


def surface_dice_of(mask: Path, truth: Path) -> float | None:
    """As `scores_of` has it."""
    return scores_of(mask, truth)[0]


def scores_of(mask: Path, truth: Path | None) -> tuple[float | None, float | None]:
    """Surface Dice at tolerance 0, and Dice; None where neither file holds a vessel, or without a truth.

    Raises:
        VolumeError: one of them cannot be read, or their shapes differ.
    """
    if truth is None:
        return None, None
    with open_volume(mask) as predicted, open_volume(truth) as true:
        found = score_masks(predicted, true)
    surface_dice_0, dice = (None if math.isnan(one) else one for one in (found.surface_dice_0, found.dice))
    return surface_dice_0, dice


def shape_with_truth(volume: Path, truth: Path | None) -> tuple[int, int, int]:
    """Planes, rows and columns of `volume`.

    Raises:
        VolumeError: it or the truth cannot be read, or their shapes differ.
    """
    with open_volume(volume) as opened:
        shape = opened.shape_zyx
    if truth:
        with open_volume(truth) as true:
            if true.shape_zyx != shape:
                raise VolumeError(f"{truth}: got shape {true.shape_zyx}, expected {shape} as the volume has")
    return shape
