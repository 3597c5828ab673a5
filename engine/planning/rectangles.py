"""Cells as few rectangles of pixels."""

from bisect import bisect_left, bisect_right
from itertools import pairwise

import numpy as np

from sennet_engine.planning.cells import Cells
from sennet_engine.planning.layout import Rectangle


def rectangles_of_cells(
    cells: Cells, row_edges: tuple[int, ...], column_edges: tuple[int, ...], *, within: Rectangle
) -> tuple[Rectangle, ...]:
    """The pixels of the occupied cells [R, C] that lie within a part of the plane: disjoint, in reading order.

    The runs of each row are joined with those alike in the next, or those of each column, whatever gives fewer.
    """
    # Only the cells near the part: there are as many parts as tiles.
    rows, columns = (
        slice(bisect_right(edges, first) - 1, bisect_left(edges, stop))
        for edges, first, stop in (
            (row_edges, within.top, within.bottom),
            (column_edges, within.left, within.right),
        )
    )
    cells, row_edges, column_edges = (
        cells[rows, columns],
        row_edges[rows.start : rows.stop + 1],
        column_edges[columns.start : columns.stop + 1],
    )
    by_rows = _runs(cells, row_edges, column_edges, within)
    by_columns = [_turned(one) for one in _runs(cells.T, column_edges, row_edges, _turned(within))]
    return tuple(sorted(by_columns if len(by_columns) < len(by_rows) else by_rows, key=lambda one: (one.top, one.left)))


def _turned(one: Rectangle) -> Rectangle:
    return Rectangle(one.left, one.top, one.right, one.bottom)


def _runs(
    cells: Cells, row_edges: tuple[int, ...], column_edges: tuple[int, ...], within: Rectangle
) -> list[Rectangle]:
    """Runs of occupied cells in each row, those alike in neighbouring rows in one."""
    lefts, rights = (np.clip(side, within.left, within.right) for side in (column_edges[:-1], column_edges[1:]))
    steps = np.diff((cells & (lefts < rights)).astype(np.int8), axis=1, prepend=0, append=0)
    rows, starts = np.nonzero(steps == 1)
    spans = list(zip(lefts[starts].tolist(), rights[np.nonzero(steps == -1)[1] - 1].tolist(), strict=True))
    borders = np.searchsorted(rows, np.arange(len(cells) + 1)).tolist()

    done: list[Rectangle] = []
    growing: dict[tuple[int, int], int] = {}  # where the runs of the row before begin, from their first row on
    for (top, bottom), (first, stop) in zip(pairwise(row_edges), pairwise(borders), strict=True):
        top, bottom = max(top, within.top), min(bottom, within.bottom)
        if top < bottom:
            runs = spans[first:stop]
            done += [Rectangle(growing[left, right], left, top, right) for left, right in growing.keys() - runs]
            growing = {run: growing.get(run, top) for run in runs}
    return done + [Rectangle(since, left, within.bottom, right) for (left, right), since in growing.items()]
