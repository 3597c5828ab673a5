"""Part a plane into bands of rows, and each band into runs of columns, so that tiles around them are cheapest."""

import numpy as np
import numpy.typing as npt

from sennet_engine.planning.blocks import Blocks, Integers

# Blocks that one tile answers for: top, left, bottom, right; exclusive at their end.
Box = tuple[int, int, int, int]

# The cost of a tile that must not be.
IMPOSSIBLE = 1 << 44

# Places where bands may begin in a first look; a second one moves them: it bounds the time that packing takes.
_MOST_CUTS = 16


def cheapest_bands(occupied: npt.NDArray[np.bool_], rows: Blocks, columns: Blocks, costs: Integers) -> list[Box]:
    """Boxes, each for one tile, that hold all occupied blocks [rows, columns], no block in two of them.

    Of all partitions into bands of rows, and of these into runs of columns, it is the one whose tiles cost least; on
    planes of many blocks it is the best but for a few per cent.

    Args:
        costs: [sides of rows, sides of columns] of a tile.
    """
    found = np.flatnonzero(occupied.any(axis=1))
    if not len(found):
        return []
    first, stop = int(found[0]), int(found[-1]) + 1
    # Tiles with the shortest side must still answer for all rows between two cuts.
    step = min(-(-(stop - first) // _MOST_CUTS), max(1, (rows.sides[0] - 2 * rows.halo) // rows.block))
    cuts = np.array([*range(first, stop, step), stop])
    boxes, chosen = _parted(occupied, rows, columns, costs, cuts)
    if step == 1 or not chosen:
        return boxes
    # The second look moves the cuts that were chosen, by fewer steps where there are many of them.
    spacing = 1 + 2 * step * len(chosen) // (3 * _MOST_CUTS)
    farthest = (step - 1) // spacing * spacing
    near = np.add.outer(chosen, np.arange(-farthest, farthest + 1, spacing)).ravel()
    cuts = np.unique([first, *near[(near > first) & (near < stop)].tolist(), stop])
    return _parted(occupied, rows, columns, costs, cuts)[0]


def _parted(
    occupied: npt.NDArray[np.bool_], rows: Blocks, columns: Blocks, costs: Integers, cuts: Integers
) -> tuple[list[Box], list[int]]:
    """The cheapest boxes with bands from cut to cut; and at which of the cuts bands meet."""
    tops, bottoms = np.triu_indices(len(cuts), 1)
    # A band is the rows from cuts[tops[i]] to cuts[bottoms[i]]; all of them go through the columns at once.
    possible = rows.needed[cuts[tops], cuts[bottoms]] < len(rows.sides)
    tops, bottoms = tops[possible], bottoms[possible]

    count, width = occupied.shape
    rows_down = np.arange(count)[:, None]
    padding = np.full((1, width), count)
    # The first occupied row of a column at or below a cut, and the end of the last one above it.
    first = np.minimum.accumulate(np.vstack([np.where(occupied, rows_down, count), padding])[::-1])[::-1][cuts]
    last = np.maximum.accumulate(np.vstack([0 * padding, np.where(occupied, rows_down + 1, 0)]))[cuts]

    table = np.vstack([costs, np.full((1, costs.shape[1]), IMPOSSIBLE)])[rows.needed.ravel()].T.ravel()
    offsets = np.arange(len(columns.sides))[:, None] * rows.needed.size
    left, right = (int(column) for column in np.flatnonzero(occupied.any(axis=0))[[0, -1]] + [0, 1])
    later = np.zeros((right + 1, len(tops)), np.int64)  # of a band, from a column on
    options: dict[int, Integers] = {}  # [sides, bands]: what a column's tile costs with all that comes after it
    for column in range(right - 1, left - 1, -1):
        # Of the sides that reach the last occupied column, the shortest is the cheapest.
        useful = int((columns.reach[column] < right).sum()) + 1
        reach = np.minimum(columns.reach[column, :useful], right)
        top = np.minimum.accumulate(first[:, column:right], axis=1).T[reach - column - 1]
        bottom = np.maximum.accumulate(last[:, column:right], axis=1).T[reach - column - 1]
        place = (top * (count + 1) + offsets[:useful]).take(tops, axis=1)
        place += bottom.take(bottoms, axis=1)
        options[column] = table.take(place) + later[reach]
        begins = first[tops, column] < cuts[bottoms]
        later[column] = np.where(begins, options[column].min(axis=0), later[column + 1])

    boxes: list[Box] = []
    chain = _chain(later[left], tops, bottoms, len(cuts))
    for band in chain:
        top_row, bottom_row, column = int(cuts[tops[band]]), int(cuts[bottoms[band]]), left
        while column < right:
            stop = column + 1
            if occupied[top_row:bottom_row, column].any():
                stop = min(int(columns.reach[column, options[column][:, band].argmin()]), right)
                boxes.append(_trimmed(occupied, (top_row, column, bottom_row, stop)))
            column = stop
    return boxes, [int(cuts[tops[band]]) for band in chain[1:]]


def _chain(costs: Integers, tops: Integers, bottoms: Integers, cuts: int) -> list[int]:
    """The cheapest bands, by their index, that follow one another from the first cut to the last."""
    best, chosen = np.zeros(cuts, np.int64), np.zeros(cuts, np.int64)
    for cut in range(cuts - 2, -1, -1):
        here = np.flatnonzero(tops == cut)
        totals = costs[here] + best[bottoms[here]]
        best[cut], chosen[cut] = totals.min(), here[totals.argmin()]
    chain, cut = [], 0
    while cut < cuts - 1:
        chain.append(int(chosen[cut]))
        cut = int(bottoms[chosen[cut]])
    return chain


def _trimmed(occupied: npt.NDArray[np.bool_], box: Box) -> Box:
    """What is left of a box without empty blocks around."""
    top, left, bottom, right = box
    part = occupied[top:bottom, left:right]
    rows, columns = np.flatnonzero(part.any(axis=1)), np.flatnonzero(part.any(axis=0))
    return top + int(rows[0]), left + int(columns[0]), top + int(rows[-1]) + 1, left + int(columns[-1]) + 1
