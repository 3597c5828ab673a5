"""Tiles, what they answer for, and the weights with which they overlap."""

import numpy as np
import pytest

from sennet_engine.planning.layout import Layout, Rectangle, Tile, blend_weights, mirrored
from sennet_engine.planning.rectangles import rectangles_of_cells


@pytest.mark.parametrize("shape", [(1, 1), (2, 3), (16, 16), (17, 64), (512, 384), (1024, 1024)])
def test_blending_weights_are_positive_symmetric_and_separable(shape):
    """A pyramid: 1 in the corner, highest in the middle, the same from all sides, the product of its edges."""
    weights = blend_weights(shape)
    assert weights.shape == shape
    assert weights.dtype == np.uint32
    assert weights.min() == weights[0, 0] == 1
    assert weights.max() == weights[shape[0] // 2, shape[1] // 2] <= 128 * 128
    assert (weights == weights[::-1]).all()
    assert (weights == weights[:, ::-1]).all()
    assert (weights == weights[:, :1] * weights[:1]).all()
    assert (np.diff(weights[: (shape[0] + 1) // 2].astype(int), axis=0) >= 0).all()


def test_shared_blending_weights_cannot_be_changed():
    """They are made once for a shape, so nobody may write into them."""
    with pytest.raises(ValueError, match="read-only"):
        blend_weights((8, 8))[0, 0] = 2


def test_a_rectangle_is_found_again_in_its_tile():
    """The kept pixels of the plane are the same ones within the tile's own pixels."""
    plane = np.arange(40 * 50).reshape(40, 50)
    tile = Tile((8, 16), (24, 32), (Rectangle(10, 20, 30, 33),))
    (kept,) = tile.kept
    assert (plane[tile.slices][kept.within(tile)] == plane[kept.slices]).all()
    assert plane[kept.slices].shape == (20, 13)


def test_weight_sums_add_up_what_tiles_keep():
    """Where two tiles overlap both count, and where none lies there is no weight."""
    tiles = tuple(Tile((0, left), (8, 8), (Rectangle(0, left, 8, left + 8),)) for left in (0, 4))
    sums = Layout((10, 16), (16, 16), tiles, blended=True).weight_sums
    weights = blend_weights((8, 8))
    assert (sums[:8, :4] == weights[:, :4]).all()
    assert (sums[:8, 4:8] == weights[:, 4:] + weights[:, :4]).all()
    assert not sums[8:].any()
    assert not sums[:, 12:].any()


def test_planes_are_mirrored_below_and_to_the_right():
    """Padding repeats the plane backwards from its last pixel, again and again where the plane is small."""
    planes = np.array([[[1, 2], [3, 4]]], np.uint8)
    assert mirrored(planes, (2, 2)) is planes
    assert mirrored(planes, (3, 6)).tolist() == [[[1, 2, 2, 1, 1, 2], [3, 4, 4, 3, 3, 4], [3, 4, 4, 3, 3, 4]]]


def test_the_description_counts_tiles_by_their_shape():
    """It says how many tiles of which shapes there are, and their pixels beside those of the plane."""
    shapes = [(640, 512), (640, 512), (384, 384)]
    tiles = tuple(Tile((0, 0), shape, ()) for shape in shapes)
    assert Layout((1000, 1000), (1008, 1008), tiles).description == (
        "3 tiles, 2 of 640 x 512 and 1 of 384 x 384: 0.80 Mpixel for a plane of 1.00"
    )
    assert Layout((1000, 1000), (1008, 1008), tiles[:2]).description.startswith("2 tiles of 640 x 512: 0.66 ")
    assert Layout((1000, 1000), (1008, 1008), tiles[2:]).description.startswith("1 tile of 384 x 384: ")


@pytest.mark.parametrize("seed", range(6))
def test_rectangles_hold_the_pixels_of_occupied_cells_once(seed):
    """Cells of uneven size, some of no pixel, cut by a part of the plane: each pixel of them is in one rectangle."""
    rng = np.random.default_rng(seed)
    row_edges, column_edges = (
        tuple(np.concatenate([[0], rng.integers(0, 5, count).cumsum()]).tolist()) for count in (9, 13)
    )
    cells = rng.random((9, 13)) < 0.6
    within = Rectangle(3, 2, row_edges[-1] - 1, column_edges[-1] - 3)
    wanted = np.repeat(np.repeat(cells, np.diff(row_edges), axis=0), np.diff(column_edges), axis=1).astype(int)
    wanted[:3], wanted[:, :2], wanted[within.bottom :], wanted[:, within.right :] = 0, 0, 0, 0
    held = np.zeros_like(wanted)
    for rectangle in rectangles_of_cells(cells, row_edges, column_edges, within=within):
        assert rectangle.top < rectangle.bottom
        assert rectangle.left < rectangle.right
        held[rectangle.slices] += 1
    assert (held == wanted).all()


def test_rectangles_are_few():
    """Like runs are joined across rows, or across columns where that gives fewer."""
    edges = tuple(range(0, 97, 16))
    cells = np.ones((6, 6), bool)
    whole = Rectangle(0, 0, 96, 96)
    assert rectangles_of_cells(cells, edges, edges, within=whole) == (whole,)
    cells[:3:2, 1] = False  # by rows 2 + 1 + 2 + 1 runs, by columns 1 + 2 + 1
    assert len(rectangles_of_cells(cells, edges, edges, within=whole)) == 4
    assert len(rectangles_of_cells(cells.T, edges, edges, within=whole)) == 4
