"""The window that a volume opens on the physical world, and smooth fields within it."""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

Field = npt.NDArray[np.float32]  # [Z, Y, X]

REFERENCE_UM = 50.0


@dataclass(frozen=True)
class Frame:
    """A grid of voxels in a world whose unit is 50 µm and whose origin is the organ's middle, axes (z, y, x).

    Attributes:
        shape_zyx: voxels along each axis.
        scale: voxels per unit of the world, 50 / voxel size in µm.
        middle: [3], the world's coordinates of the middle of the grid.
    """

    shape_zyx: tuple[int, int, int]
    scale: float
    middle: npt.NDArray[np.float64]

    def voxels_from_world(self, points: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
        """Points [..., 3] of the world in voxels; (0, 0, 0) is the centre of the first voxel."""
        return (points - self.middle) * self.scale + (np.array(self.shape_zyx) - 1) / 2

    def coarse(self, step: int) -> tuple[npt.NDArray[np.float64], ...]:
        """World coordinates z [a, 1, 1], y [1, b, 1], x [1, 1, c] of a grid whose points lie `step` voxels apart."""
        axes = []
        for axis, size in enumerate(coarse_shape(self.shape_zyx, step)):
            voxels = np.arange(size) * step
            world = (voxels - (self.shape_zyx[axis] - 1) / 2) / self.scale + self.middle[axis]
            axes.append(world.reshape([-1 if other == axis else 1 for other in range(3)]))
        return tuple(axes)


def coarse_shape(shape_zyx: tuple[int, int, int], step: int) -> tuple[int, int, int]:
    """The shape of a grid whose points lie `step` voxels apart and which covers `shape_zyx`."""
    z, y, x = (-(-(size - 1) // step) + 1 for size in shape_zyx)
    return z, y, x


def fine_from_coarse(field: Field, *, step: int, shape_zyx: tuple[int, int, int]) -> Field:
    """Linear interpolation of a field on the grid of `coarse_shape` to every voxel: float32 [Z, Y, X]."""
    fine = np.asarray(field, np.float32)
    for axis, size in enumerate(shape_zyx):
        position = np.arange(size, dtype=np.float32) / step
        below = np.minimum(position.astype(np.int64), max(fine.shape[axis] - 2, 0))
        above = np.minimum(below + 1, fine.shape[axis] - 1)
        share = (position - below).reshape([-1 if other == axis else 1 for other in range(3)])
        lower = np.take(fine, below, axis=axis)
        fine = np.take(fine, above, axis=axis)
        fine -= lower
        fine *= share
        fine += lower
    return fine


def cloud(shape_zyx: tuple[int, int, int], *, pitch: float, rng: np.random.Generator) -> Field:
    """A smooth random field of mean 0 and standard deviation near 1 that varies over about `pitch` voxels."""
    step = max(1, round(pitch / 2))
    rough = rng.standard_normal([size + 2 for size in coarse_shape(shape_zyx, step)], np.float32)
    for axis in range(3):  # binomial smoothing over three nodes; 8 / 3 restores the variance
        parts = [np.take(rough, range(first, rough.shape[axis] - 2 + first), axis=axis) for first in range(3)]
        rough = (parts[0] + 2 * parts[1] + parts[2]) / np.float32(np.sqrt(6))
    return fine_from_coarse(rough, step=step, shape_zyx=shape_zyx)
