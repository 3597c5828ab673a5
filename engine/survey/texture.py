"""How a plane looks cell by cell: brightness, the brightest and the darkest patch, roughness."""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from sennet_engine.planning.cells import CELL

# Pixels along each side of a patch: their mean hides the noise of single pixels and shows the wall of a vessel.
PATCH = 4
PATCHES = CELL // PATCH

Values = npt.NDArray[np.float32]


@dataclass(frozen=True)
class Texture:
    """Figures of cells in grey levels, 0..255; float32 arrays of one shape.

    Attributes:
        brightness: mean of the cell.
        brightest, darkest: the highest and the lowest mean of a patch in it.
        roughness: standard deviation of the means of its patches.
    """

    brightness: Values
    brightest: Values
    darkest: Values
    roughness: Values


def texture_of_plane(plane: npt.NDArray[np.uint8]) -> Texture:
    """The texture [rows, columns] of a [Y, X] plane's cells; those at its far edges are filled up by mirroring."""
    below, right = (-size % CELL for size in plane.shape)
    if below or right:
        plane = np.pad(plane, ((0, below), (0, right)), mode="symmetric")
    rows, columns = plane.shape[0] // CELL, plane.shape[1] // CELL
    # One axis after the other, whole rows at a time: several times quicker than a mean over both.
    of_rows = plane.reshape(rows * PATCHES, PATCH, -1).sum(1, dtype=np.uint16)
    sums = sum(of_rows[:, start::PATCH] for start in range(PATCH))
    patches = (sums / np.float32(PATCH * PATCH)).reshape(rows, PATCHES, columns, PATCHES)
    return Texture(patches.mean((1, 3)), patches.max((1, 3)), patches.min((1, 3)), patches.std((1, 3)))


def stacked(planes: list[Texture]) -> Texture:
    """The texture [planes, rows, columns] of several planes."""
    return Texture(
        brightness=np.stack([plane.brightness for plane in planes]),
        brightest=np.stack([plane.brightest for plane in planes]),
        darkest=np.stack([plane.darkest for plane in planes]),
        roughness=np.stack([plane.roughness for plane in planes]),
    )
