"""The baseline that a network must beat: dark blobs in the organ, found by morphology and tuned on the very truth.

Black top-hat: the closing of a plane by a square, minus the plane; large where something dark is narrower than the
square (Soille, Morphological Image Analysis, 2003, ch. 4).
"""

from itertools import product

import numpy as np
import numpy.typing as npt
from scipy import ndimage

from sennet_engine.metrics.surface_dice import SurfaceDice

# Sides of the square, pixels; least contrast, grey levels.
SIDES = (5, 9, 17, 33)
CONTRASTS = (10, 15, 20, 30, 40, 60)
# The grey level that divides gel from tissue, and the pixels by which the organ is shrunk: each pair is tried.
ORGANS = tuple(product((70, 90, 110), (3, 9)))

Grey = npt.NDArray[np.uint8]
Mask = npt.NDArray[np.bool_]


def tuned_dark_blobs(grey: Grey, truth: Mask) -> Mask:
    """The best mask of the baseline, [Z, Y, X]: that of the settings with the best surface Dice against `truth`.

    `grey` is windowed uint8 [Z, Y, X]. Tuned on what it is scored on: more than any method could be in use.
    """
    top_hats = {side: np.stack([_top_hat(plane, side) for plane in grey]) for side in SIDES}
    organs = {organ: np.stack([_organ(plane, *organ) for plane in grey]) for organ in ORGANS}
    masks = (
        (top_hats[side] >= contrast) & organs[organ] for side, contrast, organ in product(SIDES, CONTRASTS, ORGANS)
    )
    return max(masks, key=lambda mask: _surface_dice(mask, truth))


def _top_hat(plane: Grey, side: int) -> Grey:
    smooth = ndimage.median_filter(plane, 3)
    closed: Grey = ndimage.grey_closing(smooth, side)
    top_hat: Grey = closed - smooth  # a closing is nowhere below its image
    return top_hat


def _organ(plane: Grey, level: int, shrink: int) -> Mask:
    organ = ndimage.binary_fill_holes(ndimage.uniform_filter(plane, 9) >= level)
    inside: Mask = ndimage.minimum_filter(organ, 2 * shrink + 1)
    return inside


def _surface_dice(mask: Mask, truth: Mask) -> float:
    score = SurfaceDice(truth.shape[1:])
    for plane, labels in zip(mask, truth, strict=True):
        score.add_plane(plane, labels)
    return float(np.nan_to_num(score.score()))
