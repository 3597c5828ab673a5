"""Tiles packed around what is to be computed."""

from functools import cache
from itertools import pairwise, product

import numpy as np
import pytest

from sennet_engine.errors import ConfigError
from sennet_engine.planning.bands import cheapest_bands
from sennet_engine.planning.blocks import blocks_of_axis
from sennet_engine.planning.cells import cell_edges
from sennet_engine.planning.packing import MOST_SHAPES, TILE_PIXELS, packed_layout, sides_up_to

SIDES = (320, 384, 448, 512, 640, 768, 832, 1024)


def layout_of(cells, plane_shape, *, size=None, **options):
    """The layout of cells of a plane of `size` voxels that is resized to `plane_shape` pixels."""
    edges = [cell_edges(voxels, pixels) for voxels, pixels in zip(size or plane_shape, plane_shape, strict=True)]
    assert cells.shape == tuple(len(one) - 1 for one in edges)
    options = {"sides": SIDES, "halo": 80, "stride": 16} | options
    return packed_layout(cells, row_edges=edges[0], column_edges=edges[1], plane_shape=plane_shape, **options), edges


def full(plane_shape):
    return np.ones([-(-side // 16) for side in plane_shape], bool)


def ellipse(plane_shape, share, *, angle=0.0, aspect=1.3, notch=False):
    """Cells of an ellipse, or of a kidney's shape, that cover about a share of the plane."""
    row, column = np.indices([-(-side // 16) for side in plane_shape]) * 16.0
    row, column = row - plane_shape[0] / 2, column - plane_shape[1] / 2
    along = (column * np.cos(angle) + row * np.sin(angle)) / aspect
    across = row * np.cos(angle) - column * np.sin(angle)
    for radius in range(50, 2000, 5):
        cells = along**2 + across**2 < radius**2
        if notch:
            cells &= along**2 + (across - radius) ** 2 > (0.6 * radius) ** 2
        if cells.mean() >= share:
            return cells
    raise AssertionError


def blobs(rng, shape, count):
    """Cells of a few random rectangles."""
    cells = np.zeros(shape, bool)
    for _ in range(count):
        (top, bottom), (left, right) = (np.sort(rng.integers(0, side + 1, 2)) for side in shape)
        cells[top:bottom, left:right] = True
    return cells


def check(layout, cells, edges, *, sides, halo, stride):
    """Each voxel of an occupied cell is answered once, with its halo, by tiles that lie where they may."""
    rows, columns = layout.plane_shape
    wanted = np.zeros(layout.plane_shape, bool)
    for row, column in zip(*np.nonzero(cells), strict=True):
        wanted[edges[0][row] : edges[0][row + 1], edges[1][column] : edges[1][column + 1]] = True
    answers = np.zeros(layout.plane_shape, int)
    for tile in layout:
        assert tile.kept
        for axis in (0, 1):
            origin, side, padded = tile.origin[axis], tile.shape[axis], layout.padded_shape[axis]
            assert origin % stride == 0
            assert 0 <= origin <= origin + side <= padded
            assert side in sides or side == padded
        for kept in tile.kept:
            assert 0 <= kept.top < kept.bottom <= rows
            assert 0 <= kept.left < kept.right <= columns
            answers[kept.slices] += 1
            for axis, (first, stop) in enumerate([(kept.top, kept.bottom), (kept.left, kept.right)]):
                start, end = tile.origin[axis], tile.origin[axis] + tile.shape[axis]
                assert start == 0 or first - start >= halo
                assert end == layout.padded_shape[axis] or end - stop >= halo
    assert (answers == wanted).all()
    shapes = [tile.shape for tile in layout]
    assert len(set(shapes)) == len(shapes) - sum(one == other for one, other in pairwise(shapes))
    assert len(set(shapes)) <= MOST_SHAPES
    assert layout.padded_shape == tuple(-(-side // stride) * stride for side in layout.plane_shape)


def cost(layout):
    return layout.computed_pixels + TILE_PIXELS * len(layout)


@pytest.mark.parametrize(
    ("size", "plane_shape", "sides", "halo", "stride"),
    [
        ((400, 333), (400, 333), (64, 96, 160), 16, 16),
        ((400, 333), (400, 333), (64, 128), 0, 32),
        ((400, 333), (401, 331), (96, 160, 256), 32, 32),
        ((40, 700), (40, 700), (96, 160), 32, 16),
        ((7, 9), (7, 9), (64,), 16, 16),
        ((300, 200), (378, 252), (80, 128, 256), 32, 16),
        ((300, 200), (1234, 823), (64, 512), 24, 8),
        ((600, 500), (60, 50), (32, 48), 8, 4),
        ((600, 500), (36, 30), (12, 16), 3, 1),
        ((50, 9000), (50, 9000), (64,), 16, 16),
    ],
)
@pytest.mark.parametrize("seed", range(4))
def test_each_occupied_voxel_is_answered_once_with_its_halo(size, plane_shape, sides, halo, stride, seed):
    """At any scale, halo and stride, with planes smaller than a tile, and scattered cells as well as lumps."""
    rng = np.random.default_rng(seed)
    shape = tuple(-(-side // 16) for side in size)
    cells = rng.random(shape) < 0.1 if seed == 0 else blobs(rng, shape, seed)
    layout, edges = layout_of(cells, plane_shape, size=size, sides=sides, halo=halo, stride=stride)
    check(layout, cells, edges, sides=sides, halo=halo, stride=stride)


@pytest.mark.parametrize("notch", [False, True])
@pytest.mark.parametrize(("plane_shape", "share"), [((1706, 1510), 0.23), ((1706, 1510), 0.4), ((1303, 912), 0.23)])
def test_an_organ_costs_less_than_the_plane_and_than_square_tiles(plane_shape, share, notch):
    """Mixed rectangles beat square tiles of any one side, and the whole plane."""
    cells = ellipse(plane_shape, share, angle=0.5, notch=notch)
    layout, edges = layout_of(cells, plane_shape)
    check(layout, cells, edges, sides=SIDES, halo=80, stride=16)
    squares = [layout_of(cells, plane_shape, sides=[side], whole_planes=False)[0] for side in SIDES]
    assert cost(layout) < 0.95 * min(cost(one) for one in squares)
    assert layout.computed_pixels < (0.65 if share < 0.3 else 0.9) * plane_shape[0] * plane_shape[1]


def _brute(occupied, rows, columns, costs):
    """The least that bands of rows and runs of columns in them cost, by trying all of them."""

    @cache
    def side(blocks, first, stop):
        for index, length in enumerate(blocks.sides):
            for origin in range(0, blocks.padded - length + 1, blocks.stride):
                begins = origin == 0 or origin + blocks.halo <= blocks.edges[first]
                ends = origin + length == blocks.padded or origin + length - blocks.halo >= blocks.edges[stop]
                if begins and ends:
                    return index
        return None

    def partitions(length):
        for choice in product([False, True], repeat=length - 1):
            borders = [0, *(place + 1 for place, cut in enumerate(choice) if cut), length]
            yield list(pairwise(borders))

    @cache
    def tile(top, bottom, left, right):
        at_rows, at_columns = np.nonzero(occupied[top:bottom, left:right])
        if not len(at_rows):
            return 0
        height = side(rows, int(top + at_rows.min()), int(top + at_rows.max()) + 1)
        width = side(columns, int(left + at_columns.min()), int(left + at_columns.max()) + 1)
        return np.inf if height is None or width is None else costs[height, width]

    def band(top, bottom):
        return min(sum(tile(top, bottom, *run) for run in runs) for runs in partitions(occupied.shape[1]))

    known = {(top, bottom): band(top, bottom) for bottom in range(occupied.shape[0] + 1) for top in range(bottom)}
    return min(sum(known[one] for one in bands) for bands in partitions(occupied.shape[0]))


@pytest.mark.parametrize("seed", range(16))
def test_no_other_bands_are_cheaper(seed):
    """On small planes, all partitions into bands of rows and runs of columns cost as much or more."""
    rng = np.random.default_rng(seed)
    shape = tuple(rng.integers(4, 10, 2))
    occupied = rng.random(shape) < rng.choice([0.05, 0.15, 0.4])
    sides = [(48, 64), (48, 80, 112)][seed % 2]
    rows, columns = (blocks_of_axis(int(side) * 16 - 3, sides, 16, 16, whole_planes=seed % 3 > 0) for side in shape)
    areas = np.multiply.outer(rows.sides, columns.sides)
    costs = areas + int(rng.choice([0, 500, 5000]))

    def side(blocks, first, stop):
        return blocks.sides[int(blocks.needed[first, stop])]

    found = cheapest_bands(occupied, rows, columns, costs)
    held = np.zeros(occupied.shape, int)
    for top, left, bottom, right in found:
        held[top:bottom, left:right] += 1
    assert held.max(initial=0) <= 1
    assert (held[occupied] == 1).all()
    paid = sum(
        side(rows, top, bottom) * side(columns, left, right) + costs[0, 0] - areas[0, 0]
        for top, left, bottom, right in found
    )
    assert paid == _brute(occupied, rows, columns, costs)


def test_nothing_to_compute_needs_no_tile():
    """Without an occupied cell there is no tile."""
    layout, _ = layout_of(np.zeros((20, 30), bool), (320, 480))
    assert len(layout) == 0
    assert layout.computed_pixels == 0
    assert "no tiles" in layout.description


def test_a_full_plane_is_one_tile():
    """Where everything is occupied, the plane with its padding is the cheapest tile."""
    layout, edges = layout_of(full((1706, 1510)), (1706, 1510))
    check(layout, full((1706, 1510)), edges, sides=SIDES, halo=80, stride=16)
    assert [tile.shape for tile in layout] == [layout.padded_shape] == [(1712, 1520)]
    assert layout.description == "the whole plane as 1 tile of 1712 x 1520: 2.60 Mpixel for a plane of 2.58"


@pytest.mark.parametrize("side", SIDES)
def test_a_full_plane_in_squares_is_the_regular_grid(side):
    """With one side alone, there are as many tiles as a grid has whose tiles overlap by twice the halo."""
    plane_shape = (1706, 1510)
    layout, _ = layout_of(full(plane_shape), plane_shape, sides=[side], whole_planes=False)
    # The first and the last tile of a row need no halo at the plane's border.
    expected = [max(1, -(-(-(-size // 16) * 16 - 160) // (side - 160))) for size in plane_shape]
    assert len(layout) == expected[0] * expected[1]


def test_no_tile_is_larger_than_allowed():
    """A limit of pixels holds for every tile, and still all of the plane is answered."""
    plane_shape = (1000, 900)
    for limit in (320 * 320, 400_000, 600_000):
        layout, edges = layout_of(full(plane_shape), plane_shape, largest_pixels=limit)
        check(layout, full(plane_shape), edges, sides=SIDES, halo=80, stride=16)
        assert max(rows * columns for rows, columns in (tile.shape for tile in layout)) <= limit
    with pytest.raises(ConfigError, match="expected at least 102400"):
        layout_of(full(plane_shape), plane_shape, largest_pixels=320 * 320 - 1)


def test_without_whole_planes_tiles_have_listed_sides_alone():
    """A plane smaller than a tile is padded to one, and a larger one to a multiple of the stride."""
    layout, _ = layout_of(full((100, 700)), (100, 700), whole_planes=False)
    assert layout.padded_shape == (320, 704)
    assert all(side in SIDES for tile in layout for side in tile.shape)
    assert {tile.shape[0] for tile in layout} == {320}


def test_one_tile_is_taken_where_two_save_too_little():
    """A tile costs something beside its pixels, and a further shape as well."""
    options = {"sides": range(64, 1600, 16), "halo": 0}
    cells = np.zeros((100, 100), bool)
    cells[4:8, 4:8] = cells[4:8, 20:24] = True  # two tiles of 64 x 64, or one of 64 x 320
    assert [tile.shape for tile in layout_of(cells, (1600, 1600), **options)[0]] == [(64, 320)]
    cells[4:8, 60:64] = True
    assert [tile.shape for tile in layout_of(cells, (1600, 1600), **options)[0]] == [(64, 320)] * 2


def test_few_shapes_are_used():
    """However different the parts are, tiles have four shapes at most."""
    cells = np.zeros((150, 150), bool)
    cells[2:62, 2:12] = cells[70:80, 2:100] = cells[2:42, 20:60] = cells[90:148, 2:40] = cells[2:20, 70:140] = True
    cells[100:148, 120:148] = True
    sides = range(64, 2400, 16)
    layout, edges = layout_of(cells, (2400, 2400), sides=sides, halo=16)
    check(layout, cells, edges, sides=sides, halo=16, stride=16)
    assert len(layout) > MOST_SHAPES == len({tile.shape for tile in layout})


def test_longer_sides_fit_more_closely():
    """Sides up to the plane's, which a network for planes of any size answers as well, save pixels."""
    plane_shape = (1706, 1510)
    cells = ellipse(plane_shape, 0.4, angle=1.0)
    sides = sides_up_to(plane_shape, sides=SIDES, stride=16)
    assert set(SIDES) < set(sides)
    assert all(side % 16 == 0 and side < 1706 for side in sides)
    more, edges = layout_of(cells, plane_shape, sides=sides)
    check(more, cells, edges, sides=sides, halo=80, stride=16)
    assert cost(more) < 0.95 * cost(layout_of(cells, plane_shape)[0])


def test_the_same_cells_are_packed_the_same_way():
    """The layout depends on nothing but the arguments, and turns with the plane."""
    cells = ellipse((700, 900), 0.3, angle=0.3)
    layout, _ = layout_of(cells, (700, 900))
    again, _ = layout_of(np.asfortranarray(cells), (700, 900))
    turned, _ = layout_of(cells.T, (900, 700))
    assert again == layout
    assert cost(turned) == cost(layout)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"sides": [100]}, "multiples of the network's stride 16"),
        ({"sides": []}, "expected"),
        ({"halo": 8}, "multiples of the network's stride 16"),
        ({"sides": [128, 160]}, "take a larger tile"),
        ({"halo": -16}, "expected 0 <= 2"),
    ],
)
def test_sizes_that_cannot_work_are_refused(options, message):
    """Unaligned sides or halos, and halos that leave nothing of any side, are errors."""
    with pytest.raises(ConfigError, match=message):
        layout_of(full((200, 200)), (200, 200), **options)
