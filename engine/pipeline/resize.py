"""Resize planes to a pass's scale, and its answers back.

Grey levels by Pillow's bicubic filter, which keeps thin walls sharp. Answers by its box filter, the mean of the pixels
that a voxel covers: a smoother one smears them, and with low thresholds every vessel becomes thicker.
"""

import numpy as np
import numpy.typing as npt
from PIL import Image

Planes = npt.NDArray[np.uint8]


def resized_grey(planes: Planes, shape: tuple[int, int]) -> Planes:
    """[n, rows, columns] uint8 grey levels at `shape` (rows, columns).

    Where planes become smaller, the filter widens with the scale, so that nothing between two pixels is lost. Planes
    that have the shape already are returned as they are, not as a copy.
    """
    return _resized(planes, shape, Image.Resampling.BICUBIC)


def resized_answers(planes: Planes, shape: tuple[int, int]) -> Planes:
    """[n, rows, columns] uint8 probabilities at `shape` (rows, columns); as they are where they have it already."""
    return _resized(planes, shape, Image.Resampling.BOX)


def _resized(planes: Planes, shape: tuple[int, int], filter_: Image.Resampling) -> Planes:
    if planes.shape[1:] == shape:
        return planes
    result = np.empty((len(planes), *shape), np.uint8)
    for plane, target in zip(planes, result, strict=True):
        target[:] = np.asarray(Image.fromarray(plane).resize(shape[::-1], filter_))
    return result
