"""Pack tiles of several shapes around what is to be computed of a plane, for networks that are exact on tiles."""

from collections import Counter
from collections.abc import Sequence
from functools import lru_cache
from itertools import combinations

import numpy as np
import numpy.typing as npt

from sennet_engine.errors import ConfigError
from sennet_engine.planning.bands import IMPOSSIBLE, Box, cheapest_bands
from sennet_engine.planning.blocks import Blocks, Integers, blocks_of_axis
from sennet_engine.planning.cells import Cells
from sennet_engine.planning.layout import Layout, Rectangle, Tile
from sennet_engine.planning.rectangles import rectangles_of_cells

# What a tile costs beside its pixels, and what a further shape costs for which a runtime has to prepare itself: in
# pixels. Both are fixed, not measured, so that masks do not depend on the machine.
TILE_PIXELS = 16_384
SHAPE_PIXELS = 32_768
MOST_SHAPES = 4

# How far apart the sides of `sides_up_to` are, and how many of them there are at most, in pixels.
SIDE_STEP = 64

Shape = tuple[int, int]

_MOST_SIDES = 32


def packed_layout(
    cells: Cells,
    *,
    row_edges: npt.NDArray[np.intp],
    column_edges: npt.NDArray[np.intp],
    plane_shape: Shape,
    sides: Sequence[int],
    halo: int,
    stride: int,
    largest_pixels: int | None = None,
    whole_planes: bool = True,
) -> Layout:
    """Tiles of which each pixel of an occupied cell [R, C] is answered by one, with `halo` pixels of context.

    Context ends only at the border of the plane, which is padded to a multiple of the stride. The rows and columns of
    tiles are from `sides` or, with `whole_planes`, those of the padded plane. Tiles are chosen so that their pixels,
    `TILE_PIXELS` for each of them and `SHAPE_PIXELS` for each shape add up to as little as can be found: the plane is
    parted into bands of rows, and each of them into runs of columns, or the other way round; a tile is as small as
    what is occupied of its part allows. The answer depends on the arguments alone.

    Args:
        row_edges, column_edges: [R + 1] and [C + 1] pixels where cells end, see `engine.planning.cells.cell_edges`.
        largest_pixels: no tile has more of them.
        whole_planes: whether the network answers planes of any size, so that a tile may be as long as the plane.

    Raises:
        ConfigError: sides or halo are not multiples of the stride, the halo leaves nothing of any side, or
            `largest_pixels` is less than the smallest tile.
    """
    if not sides or stride < 1 or min(sides) < 1 or halo % stride or any(side % stride for side in sides):
        raise ConfigError(
            f"tile: got sides {list(sides)} and halo {halo}, "
            f"expected positive multiples of the network's stride {stride}"
        )
    fitting = tuple(sorted({side for side in sides if 0 <= 2 * halo < side}))
    if not fitting:
        raise ConfigError(
            f"halo: got {halo} with tile sides {list(sides)}, expected 0 <= 2 * halo < side; take a larger tile"
        )
    rows, columns = (blocks_of_axis(size, fitting, halo, stride, whole_planes) for size in plane_shape)
    smallest = rows.sides[0] * columns.sides[0]
    if largest_pixels is not None and largest_pixels < smallest:
        raise ConfigError(
            f"largest tile: got {largest_pixels} pixels, expected at least {smallest}, those of the smallest tile "
            f"{rows.sides[0]} x {columns.sides[0]}; allow more memory"
        )
    edges = tuple(row_edges.tolist()), tuple(column_edges.tolist())
    return _packed(cells.tobytes(), *edges, rows, columns, largest_pixels)


def sides_up_to(plane_shape: Shape, *, sides: Sequence[int], stride: int) -> tuple[int, ...]:
    """`sides`, and more of them from the shortest up to the longer side of the plane, about `SIDE_STEP` pixels apart.

    For networks that answer planes of any size: they are as exact on any part of them, and tiles fit more closely.
    """
    longest = max(plane_shape)
    step = max(SIDE_STEP, (longest - min(sides)) // _MOST_SIDES)
    return tuple(sorted({*sides, *range(min(sides), longest, -(-step // stride) * stride)}))


# All layers of a volume of which nothing is skipped share one layout, and so do layers that look alike.
@lru_cache(maxsize=64)
def _packed(
    cell_bytes: bytes,
    row_edges: tuple[int, ...],
    column_edges: tuple[int, ...],
    rows: Blocks,
    columns: Blocks,
    largest_pixels: int | None,
) -> Layout:
    cells = np.frombuffer(cell_bytes, bool).reshape(len(row_edges) - 1, len(column_edges) - 1)
    occupied = rows.overlaps(row_edges) @ cells.astype(np.float32) @ columns.overlaps(column_edges).T > 0
    areas = np.multiply.outer(rows.sides, columns.sides).astype(np.int64)
    costs = np.where(areas <= (largest_pixels or areas.max()), areas + TILE_PIXELS, IMPOSSIBLE)
    candidates = [
        cheapest_bands(occupied, rows, columns, costs),
        [_turned(box) for box in cheapest_bands(occupied.T, columns, rows, costs.T)],
    ]
    chosen = min((_shaped(boxes, rows, columns, costs) for boxes in candidates), key=_cost)
    tiles = []
    for box, (height, width) in chosen:
        top, left, bottom, right = box
        origin = rows.origin(top, bottom, height), columns.origin(left, right, width)
        part = Rectangle(rows.edges[top], columns.edges[left], rows.edges[bottom], columns.edges[right])
        tiles.append(Tile(origin, (height, width), rectangles_of_cells(cells, row_edges, column_edges, within=part)))
    tiles.sort(key=lambda tile: (-tile.shape[0] * tile.shape[1], tile.shape, tile.origin))
    return Layout((rows.size, columns.size), (rows.padded, columns.padded), tuple(tiles))


def _turned(box: Box) -> Box:
    top, left, bottom, right = box
    return left, top, right, bottom


def _shaped(boxes: list[Box], rows: Blocks, columns: Blocks, costs: Integers) -> list[tuple[Box, Shape]]:
    """The boxes with the shapes of their tiles: as small as fits, but larger where fewer shapes make that good."""
    least = [(int(rows.needed[box[0], box[2]]), int(columns.needed[box[1], box[3]])) for box in boxes]

    def total(shapes: frozenset[Shape]) -> int:
        return sum(number * _cheapest(shapes, one, costs)[0] for one, number in Counter(least).items()) + (
            len(shapes) * SHAPE_PIXELS
        )

    shapes = frozenset(least)
    while len(shapes) > 1:
        joined = [
            shapes - {one, other} | {(max(one[0], other[0]), max(one[1], other[1]))}
            for one, other in combinations(sorted(shapes), 2)
        ]
        cheapest = min(joined, key=lambda some: (total(some), sorted(some)))
        too_many = len(shapes) > MOST_SHAPES and total(cheapest) < IMPOSSIBLE
        if not too_many and total(cheapest) >= total(shapes):
            break
        shapes = cheapest
    indices = [_cheapest(shapes, one, costs)[1] for one in least]
    return [(box, (rows.sides[row], columns.sides[col])) for box, (row, col) in zip(boxes, indices, strict=True)]


def _cheapest(shapes: frozenset[Shape], least: Shape, costs: Integers) -> tuple[int, Shape]:
    return min((int(costs[one]), one) for one in shapes if one[0] >= least[0] and one[1] >= least[1])


def _cost(tiles: list[tuple[Box, Shape]]) -> int:
    pixels = sum(height * width + TILE_PIXELS for _, (height, width) in tiles)
    return pixels + SHAPE_PIXELS * len({shape for _, shape in tiles})
