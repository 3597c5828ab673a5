"""Grids of overlapping tiles around what is to be computed of a plane, for networks that are never exact on tiles."""

from functools import lru_cache
from itertools import pairwise

import numpy as np
import numpy.typing as npt

from sennet_engine.errors import ConfigError
from sennet_engine.planning.cells import Cells
from sennet_engine.planning.layout import Layout, Rectangle, Tile

# Tiles over one pixel along one axis, at most: the pixel's weighted sum then stays within 32 bits, see `blend_weights`.
_MOST_OVERLAP = 32

# An origin of a tile along an axis, and the pixels of the plane that lie nearest to its middle: from, to (exclusive).
_Core = tuple[int, int, int]


def blended_layout(
    cells: Cells | None,
    *,
    row_edges: npt.NDArray[np.intp],
    column_edges: npt.NDArray[np.intp],
    plane_shape: tuple[int, int],
    side: int,
    step: int,
    stride: int,
) -> Layout:
    """Square tiles `step` pixels apart, each of them kept whole, that cover the occupied cells [R, C]; None: all cells.

    The tiles stand in bands of rows or of columns. Bands, and the tiles within each of them, lie either on the grid
    that begins at the plane's corner, the last flush with the end of the padded plane, or on one that begins at what
    is occupied; of these the fewest tiles are taken. Where the plane does not end, the pixels of occupied cells are at
    least (side - step) / 2 away from the edge of one tile; tiles without any such pixel are left out.

    Args:
        row_edges, column_edges: [R + 1] and [C + 1] pixels where cells end, see `engine.planning.cells.cell_edges`.
        stride: the network's: origins are multiples of it.

    Raises:
        ConfigError: side or step is not a multiple of the stride, the step leaves gaps between the tiles, or more
            tiles overlap than sums of 32 bits hold.
    """
    if stride < 1 or side < 1 or step < 1 or side % stride or step % stride:
        raise ConfigError(
            f"tile: got side {side} and step {step}, expected positive multiples of the network's stride {stride}"
        )
    if not step <= side <= _MOST_OVERLAP * step:
        raise ConfigError(
            f"stride of the tiles: got {step} with tile side {side}, expected {-(-side // _MOST_OVERLAP)} to {side}"
        )
    if cells is None:
        cells = np.ones((len(row_edges) - 1, len(column_edges) - 1), bool)
    edges = tuple(row_edges.tolist()), tuple(column_edges.tolist())
    return _blended(cells.tobytes(), *edges, plane_shape, side, step, stride)


def usual_step(side: int, stride: int) -> int:
    """How far apart tiles are where nothing is said: three quarters of their side, in whole strides."""
    return max(1, 3 * side // 4 // stride) * stride


# Layers that look alike share one layout.
@lru_cache(maxsize=64)
def _blended(
    cell_bytes: bytes,
    row_edges: tuple[int, ...],
    column_edges: tuple[int, ...],
    plane_shape: tuple[int, int],
    side: int,
    step: int,
    stride: int,
) -> Layout:
    cells = np.frombuffer(cell_bytes, bool).reshape(len(row_edges) - 1, len(column_edges) - 1)
    candidates: list[list[tuple[int, int]]] = []
    for shifted in (False, True):
        candidates.append(_bands(cells, row_edges, column_edges, plane_shape, (side, step, stride), shifted=shifted))
        turned = _bands(cells.T, column_edges, row_edges, plane_shape[::-1], (side, step, stride), shifted=shifted)
        candidates.append([(row, column) for column, row in turned])
    origins = min(candidates, key=lambda some: len(some))
    rows, columns = plane_shape
    tiles = tuple(
        Tile((row, column), (side, side), (Rectangle(row, column, min(row + side, rows), min(column + side, columns)),))
        for row, column in sorted(origins)
    )
    padded = _padded(rows, side, stride), _padded(columns, side, stride)
    return Layout(plane_shape, padded, tiles, blended=True)


def _bands(
    cells: Cells,
    row_edges: tuple[int, ...],
    column_edges: tuple[int, ...],
    plane_shape: tuple[int, int],
    sizes: tuple[int, int, int],
    *,
    shifted: bool,
) -> list[tuple[int, int]]:
    """Origins (row, column) of the tiles: rows on one of the grids, the columns of each band on the better one."""
    rows, columns = plane_shape
    found = _spans(cells, row_edges)
    if not found:
        return []
    bands = _shifted(found[0][0], found[-1][1], rows, *sizes) if shifted else _fixed(rows, *sizes)
    origins = []
    for row, first, stop in bands:
        spans = _spans(cells[_touched(row_edges, first, stop)].T, column_edges)
        if spans:
            grids = _fixed(columns, *sizes), _shifted(spans[0][0], spans[-1][1], columns, *sizes)
            chosen = min(([one for one in grid if _holds(one, spans)] for grid in grids), key=lambda some: len(some))
            origins += [(row, column) for column, _, _ in chosen]
    return origins


def _fixed(size: int, side: int, step: int, stride: int) -> list[_Core]:
    """The grid over the whole axis, whatever of it is occupied."""
    last = _padded(size, side, stride) - side
    return _cores([*range(0, last, step), last], size, side, step)


def _shifted(first: int, stop: int, size: int, side: int, step: int, stride: int) -> list[_Core]:
    """The grid that begins before pixel `first`, as short as it covers the pixels up to `stop`, with the margin."""
    padded = _padded(size, side, stride)
    margin = (side - step) // 2
    begin, end = max(0, first - margin) // stride * stride, min(padded, stop + margin)
    count = 1 + max(0, -(-(end - begin - side) // step))
    span = side + (count - 1) * step
    # What it covers too much is shared between both ends.
    origin = max(0, begin - (begin + span - end) // 2 // stride * stride)
    origin = min(origin, padded - span)
    if origin < 0:
        return _fixed(size, side, step, stride)
    return _cores([origin + index * step for index in range(count)], size, side, step)


def _cores(origins: list[int], size: int, side: int, step: int) -> list[_Core]:
    """Neighbours part in the middle of their overlap, the first and the last end a margin from their outer edge."""
    margin = (side - step) // 2
    begin = origins[0] + margin if origins[0] else 0
    end = origins[-1] + side - margin if origins[-1] + side < size else size
    borders = [begin, *((left + side + right) // 2 for left, right in pairwise(origins)), end]
    return [(origin, *core) for origin, core in zip(origins, pairwise(borders), strict=True)]


def _padded(size: int, side: int, stride: int) -> int:
    return max(side, -(-size // stride) * stride)


def _spans(cells: Cells, edges: tuple[int, ...]) -> list[tuple[int, int]]:
    """Pixels from, to (exclusive) of the occupied cells along the first axis; cells without a pixel are none."""
    spans = ((edges[cell], edges[cell + 1]) for cell in np.flatnonzero(cells.any(axis=1)).tolist())
    return [(first, stop) for first, stop in spans if first < stop]


def _touched(edges: tuple[int, ...], first: int, stop: int) -> slice:
    """The cells with pixels from `first` to `stop`."""
    return slice(int(np.searchsorted(edges, first, "right")) - 1, int(np.searchsorted(edges, stop, "left")))


def _holds(core: _Core, spans: list[tuple[int, int]]) -> bool:
    return any(first < core[2] and core[1] < stop for first, stop in spans)
