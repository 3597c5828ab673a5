"""Cells of 16 voxels say where organ may be, for planes along any axis and at any scale."""

import numpy as np
import pytest

from sennet_engine.planning.axes import AXES, axis_first, seen_along
from sennet_engine.planning.cells import CELL, Occupancy, cell_edges, everywhere

SHAPE = (20, 33, 48)
CELLS = np.random.default_rng(0).random((2, 3, 3)) < 0.5
VOXELS = CELLS.repeat(CELL, 0).repeat(CELL, 1).repeat(CELL, 2)[: SHAPE[0], : SHAPE[1], : SHAPE[2]]


@pytest.mark.parametrize("axis", AXES)
def test_a_plane_is_occupied_where_the_voxels_of_its_cells_are(axis):
    """Cells at the far faces are cut off as the volume is."""
    occupancy = Occupancy(SHAPE, CELLS)
    planes = seen_along(VOXELS, axis)
    assert 0 < VOXELS.mean() < 1
    for number, plane in enumerate(planes):
        assert (occupancy.voxels_of_plane(axis, number) == plane).all()


@pytest.mark.parametrize("axis", AXES)
def test_all_planes_of_a_layer_share_their_cells(axis):
    """Sixteen planes at a time, whatever the axis."""
    occupancy = Occupancy(SHAPE, CELLS)
    for number in range(axis_first(SHAPE, axis)[0]):
        assert (occupancy.of_plane(axis, number) == occupancy.layers(axis)[number // CELL]).all()
    assert len(occupancy.layers(axis)) == -(-axis_first(SHAPE, axis)[0] // CELL)


def test_the_share_is_that_of_cells():
    """One of eight is an eighth."""
    cells = np.zeros((2, 2, 2), bool)
    cells[1, 0, 1] = True
    assert Occupancy((32, 32, 32), cells).share == 1 / 8


@pytest.mark.parametrize("shape", [(1, 1, 1), (16, 17, 48), (100, 3, 65)])
def test_everywhere_leaves_out_nothing(shape):
    """Of volumes of any size; and says why."""
    occupancy = everywhere(shape, reason="asked for")
    assert (occupancy.share, occupancy.reason) == (1, "asked for")
    for axis in AXES:
        planes, *sides = axis_first(shape, axis)
        voxels = occupancy.voxels_of_plane(axis, planes - 1)
        assert voxels.shape == tuple(sides)
        assert voxels.all()


@pytest.mark.parametrize("size", [1, 15, 16, 17, 160, 1303])
@pytest.mark.parametrize("scale", [1, 0.3, 0.05, 1.2616, 3])
def test_edges_of_cells_part_the_resized_axis(size, scale):
    """From its first pixel to its last, in order; unscaled every 16; scaled within half a pixel of where they were."""
    network_size = max(1, round(size * scale))
    edges = cell_edges(size, network_size)
    assert (edges[0], edges[-1], len(edges)) == (0, network_size, -(-size // CELL) + 1)
    assert (np.diff(edges) >= 0).all()
    exact = np.minimum(np.arange(len(edges)) * CELL, size) * network_size / size
    assert np.abs(edges - exact).max() <= 0.5
    if scale == 1:
        assert edges[:-1].tolist() == list(range(0, size, CELL))
