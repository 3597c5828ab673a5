"""Overlapping tiles on grids around what is to be computed."""

import numpy as np
import pytest

from sennet_engine.errors import ConfigError
from sennet_engine.planning.blending import blended_layout
from sennet_engine.planning.cells import cell_edges
from sennet_engine.planning.layout import blend_weights


def layout_of(cells, plane_shape, *, size=None, side=128, step=96, stride=16):
    """The layout of cells of a plane of `size` voxels that is resized to `plane_shape` pixels."""
    edges = [cell_edges(voxels, pixels) for voxels, pixels in zip(size or plane_shape, plane_shape, strict=True)]
    sizes = {"side": side, "step": step, "stride": stride}
    return blended_layout(cells, row_edges=edges[0], column_edges=edges[1], plane_shape=plane_shape, **sizes), edges


def blobs(rng, shape, count):
    """Cells of a few random rectangles."""
    cells = np.zeros(shape, bool)
    for _ in range(count):
        (top, bottom), (left, right) = (np.sort(rng.integers(0, side + 1, 2)) for side in shape)
        cells[top:bottom, left:right] = True
    return cells


def voxels_of(cells, edges, plane_shape):
    wanted = np.zeros(plane_shape, bool)
    for row, column in zip(*np.nonzero(cells), strict=True):
        wanted[edges[0][row] : edges[0][row + 1], edges[1][column] : edges[1][column + 1]] = True
    return wanted


@pytest.mark.parametrize(
    ("size", "plane_shape", "side", "step", "stride"),
    [
        ((400, 333), (400, 333), 128, 96, 32),
        ((400, 333), (400, 333), 96, 96, 16),
        ((1000, 300), (1000, 300), 128, 48, 16),
        ((40, 700), (40, 700), 160, 128, 32),
        ((7, 9), (7, 9), 64, 48, 16),
        ((300, 200), (378, 252), 80, 48, 16),
        ((600, 500), (36, 30), 12, 9, 3),
    ],
)
@pytest.mark.parametrize("seed", range(4))
def test_each_occupied_voxel_lies_well_inside_a_tile(size, plane_shape, side, step, stride, seed):
    """It is (side - step) / 2 pixels away from the edge of one tile, but for edges at the plane's own border."""
    rng = np.random.default_rng(seed)
    shape = tuple(-(-length // 16) for length in size)
    cells = rng.random(shape) < 0.1 if seed == 0 else blobs(rng, shape, seed)
    layout, edges = layout_of(cells, plane_shape, size=size, side=side, step=step, stride=stride)
    assert layout.blended
    assert layout.padded_shape == tuple(max(side, -(-length // stride) * stride) for length in plane_shape)
    wanted, inside, touched = voxels_of(cells, edges, plane_shape), np.zeros(plane_shape, bool), []
    for tile in layout:
        assert tile.shape == (side, side)
        (kept,) = tile.kept
        assert (kept.top, kept.left) == tile.origin
        inner = []
        for axis, end in enumerate((kept.bottom, kept.right)):
            origin, length = tile.origin[axis], plane_shape[axis]
            assert origin % stride == 0
            assert 0 <= origin <= origin + side <= layout.padded_shape[axis]
            assert end == min(origin + side, length)
            first = origin + (side - step) // 2 if origin else 0
            inner.append(slice(first, end - (side - step) // 2 if origin + side < length else end))
        inside[tuple(inner)] = True
        touched.append(wanted[kept.slices].any())
    assert inside[wanted].all()
    assert all(touched)
    assert len(set(layout)) == len(layout)


def test_all_cells_are_the_whole_grid():
    """Without cells, and with all of them, tiles begin at the corner and the last is flush with the plane's end."""
    layout, edges = layout_of(None, (400, 300))
    origins = {tile.origin for tile in layout}
    assert origins == {(row, column) for row in (0, 96, 192, 272) for column in (0, 96, 176)}
    assert len(layout) == 12
    shape = tuple(len(one) - 1 for one in edges)
    assert layout_of(np.ones(shape, bool), (400, 300))[0] == layout


def test_nothing_to_compute_needs_no_tile():
    """Without an occupied cell there is no tile."""
    assert len(layout_of(np.zeros((25, 19), bool), (400, 300))[0]) == 0


def test_cells_without_a_pixel_need_no_tile():
    """Where planes are made so small that a cell vanishes, there is nothing to answer for."""
    cells, edges = np.zeros((63, 63), bool), cell_edges(1000, 40)
    cells[np.flatnonzero(np.diff(edges) == 0)[5], 30:40] = True
    assert len(layout_of(cells, (40, 40), size=(1000, 1000), side=16, step=12, stride=4)[0]) == 0


def test_tiles_move_to_what_is_occupied():
    """An organ that needs four tiles of the fixed grid gets the one that it fits into, with the margin around it."""
    cells = np.zeros((40, 40), bool)
    cells[8:14, 8:14] = True  # pixels 128 to 224, across the borders of the tiles at 0, 96 and 192
    layout, _ = layout_of(cells, (640, 640))
    assert [tile.origin for tile in layout] == [(112, 112)]


def test_bands_move_each_on_their_own():
    """Tiles follow an oblique organ: fewer of them than one grid needs, wherever it begins."""
    row, column = np.indices((60, 60))
    cells = abs(row - column) < 3
    layout, _ = layout_of(cells, (960, 960))
    # Pixels that lie nearest to the middle of a tile are step by step large, so this is how many a grid needs.
    squares = [
        len({((16 * r - shift) // 96, (16 * c - shift) // 96) for r, c in zip(*np.nonzero(cells), strict=True)})
        for shift in range(0, 96, 16)
    ]
    assert len(layout) < min(squares)


@pytest.mark.parametrize(
    ("sizes", "message"),
    [
        ({"side": 100}, "multiples of the network's stride 16"),
        ({"step": 90}, "multiples of the network's stride 16"),
        ({"step": 0}, "positive multiples"),
        ({"step": 144}, "expected 4 to 128"),
        ({"side": 1024, "step": 16}, "expected 32 to 1024"),
    ],
)
def test_sizes_that_cannot_work_are_refused(sizes, message):
    """Unaligned sides or steps, gaps, and more overlap than the sums hold are errors."""
    with pytest.raises(ConfigError, match=message):
        layout_of(None, (400, 300), **sizes)


def test_sums_stay_within_32_bits_at_the_most_overlap():
    """Twice the sum of the largest answers, and the weight for rounding beside it, fit at the closest step."""
    layout, _ = layout_of(None, (700, 640), side=512, step=16, stride=16)
    exact = np.zeros(layout.plane_shape, np.uint64)
    for tile in layout:
        exact[tile.kept[0].slices] += blend_weights(tile.shape)[tile.kept[0].within(tile)]
    assert int(exact.max()) * (2 * 255 + 1) < 2**32
    assert (layout.weight_sums == exact).all()
