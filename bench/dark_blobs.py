"""The baseline that a network must beat: dark blobs in the organ, found by morphology and tuned on the very truth.

Black top-hat: the closing of a plane by a square, minus the plane; large where something dark is narrower than the
square (Soille, Morphological Image Analysis, 2003, ch. 4).
"""

from dataclasses import dataclass
from itertools import product

import numpy as np
import numpy.typing as npt
from scipy import ndimage

from sennet_engine.metrics.surface_dice import SurfaceDice

SIDES = (5, 9, 17, 33)
CONTRASTS = (10, 15, 20, 30, 40, 60)
EROSIONS = (3, 9)
# A grey level, of the darkest to the brightest, that divides gel from tissue lies between these; each is tried.
ORGAN_LEVELS = (70, 90, 110)


@dataclass(frozen=True)
class DarkBlobs:
    """Settings of the baseline: side of the square, least contrast, level of the organ, and how far inside of it."""

    side: int
    contrast: int
    organ_level: int
    erosion: int

    def mask(self, grey: npt.NDArray[np.uint8]) -> npt.NDArray[np.bool_]:
        """[Y, X] bool of a windowed uint8 plane."""
        smooth = ndimage.median_filter(grey, 3)
        top_hat = ndimage.grey_closing(smooth, self.side).astype(int) - smooth
        organ = ndimage.binary_fill_holes(ndimage.uniform_filter(grey, 9) >= self.organ_level)
        inside = ndimage.minimum_filter(organ, 2 * self.erosion + 1)
        found: npt.NDArray[np.bool_] = (top_hat >= self.contrast) & inside
        return found


def tuned_dark_blobs(grey: npt.NDArray[np.uint8], truth: npt.NDArray[np.bool_]) -> DarkBlobs:
    """The settings with the best surface Dice on `grey`, windowed uint8 [Z, Y, X], against `truth`, its labels.

    Tuned on what it is scored on: more than any method could be in use.
    """
    grid = [DarkBlobs(*values) for values in product(SIDES, CONTRASTS, ORGAN_LEVELS, EROSIONS)]
    return max(grid, key=lambda blobs: _surface_dice(blobs, grey, truth))


def _surface_dice(blobs: DarkBlobs, grey: npt.NDArray[np.uint8], truth: npt.NDArray[np.bool_]) -> float:
    score = SurfaceDice(truth.shape[1:])
    for plane, labels in zip(grey, truth, strict=True):
        score.add_plane(blobs.mask(plane), labels)
    return score.score()
