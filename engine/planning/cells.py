"""The coarse grid of cells on which it is known where the organ is."""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from sennet_engine.planning.axes import Axis, axis_first, seen_along

Cells = npt.NDArray[np.bool_]

# Voxels along each side of a cell. All planes of a layer of cells share their tiles, so masks do not depend on slabs.
CELL = 16


@dataclass(frozen=True)
class Occupancy:
    """Which cells of a volume may hold organ: what lies in the others is not computed and not vessel.

    Attributes:
        shape_zyx: of the volume, in voxels.
        cells: [Z, Y, X] in cells; those at the far faces may be smaller than CELL.
        reason: why nothing is skipped, where that is so (`--no-skip`; organ and background cannot be told apart).
    """

    shape_zyx: tuple[int, int, int]
    cells: Cells
    reason: str = ""

    @property
    def share(self) -> float:
        """Of the cells, those that may hold organ."""
        return float(self.cells.mean())

    def layers(self, axis: Axis) -> Cells:
        """[layers, rows, columns] of cells along `axis`: planes 16 * i to 16 * i + 15 belong to layer i."""
        return seen_along(self.cells, axis)

    def of_plane(self, axis: Axis, plane: int) -> Cells:
        """[rows, columns] of cells of one plane along `axis`."""
        layer: Cells = self.layers(axis)[plane // CELL]
        return layer

    def voxels_of_plane(self, axis: Axis, plane: int) -> npt.NDArray[np.bool_]:
        """[rows, columns] of one plane along `axis`, in voxels: where it may hold organ."""
        _, rows, columns = axis_first(self.shape_zyx, axis)
        large = np.repeat(np.repeat(self.of_plane(axis, plane), CELL, axis=0), CELL, axis=1)
        voxels: npt.NDArray[np.bool_] = large[:rows, :columns]
        return voxels


def everywhere(shape_zyx: tuple[int, int, int], *, reason: str) -> Occupancy:
    """All cells, for a volume of which nothing is skipped."""
    shape = tuple(-(-side // CELL) for side in shape_zyx)
    return Occupancy(shape_zyx, np.ones(shape, bool), reason)


def cell_edges(size: int, network_size: int) -> npt.NDArray[np.intp]:
    """Where cells of an axis of `size` voxels end, resized to `network_size` pixels: [cells + 1], beginning with 0."""
    edges = np.minimum(np.arange(0, size + CELL, CELL), size)
    return np.rint(edges * (network_size / size)).astype(np.intp)
