"""The tiles of one pass, layer by layer of cells: packed around the organ, or blended."""

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from sennet_engine.ensemble_file import Pass
from sennet_engine.planning.axes import axis_first
from sennet_engine.planning.blending import blended_layout
from sennet_engine.planning.cells import Cells, Occupancy, cell_edges
from sennet_engine.planning.layout import Layout
from sennet_engine.planning.packing import packed_layout, sides_up_to
from sennet_engine.planning.scale import network_shape

Edges = npt.NDArray[np.intp]


def layouts_of_pass(
    one: Pass, occupancy: Occupancy, largest_pixels: int, sides: Sequence[int] | None
) -> tuple[Layout, ...]:
    """One for each layer of cells along the axis of the pass.

    `sides`: where what is loaded takes square tiles alone, of these sides; the one with the least to compute is taken.
    """
    if sides is None or one.tile is not None:
        return _layouts_of_side(one, occupancy, largest_pixels, one.tile)
    possible = [side for side in sides if side * side <= largest_pixels] or [min(sides)]
    found = [_layouts_of_side(one, occupancy, largest_pixels, side) for side in possible]
    return min(found, key=lambda layouts: sum(layout.computed_pixels for layout in layouts))


def _layouts_of_side(one: Pass, occupancy: Occupancy, largest_pixels: int, side: int | None) -> tuple[Layout, ...]:
    _, rows, columns = axis_first(occupancy.shape_zyx, one.axis)
    plane_shape = network_shape((rows, columns), one.scale)
    edges = cell_edges(rows, plane_shape[0]), cell_edges(columns, plane_shape[1])
    return tuple(_layout(one, cells, edges, plane_shape, largest_pixels, side) for cells in occupancy.layers(one.axis))


def _layout(
    one: Pass,
    cells: Cells,
    edges: tuple[Edges, Edges],
    plane_shape: tuple[int, int],
    largest_pixels: int,
    side: int | None,
) -> Layout:
    tiling = one.bundle.card.tiling
    if tiling.exact:
        # A card that offers a single side is that of a file which takes no other.
        any_size = side is None and len(tiling.sides) > 1
        return packed_layout(
            cells,
            row_edges=edges[0],
            column_edges=edges[1],
            plane_shape=plane_shape,
            sides=sides_up_to(plane_shape, sides=tiling.sides, stride=tiling.stride)
            if any_size
            else [side or tiling.default_side],
            halo=tiling.halo,
            stride=tiling.stride,
            largest_pixels=largest_pixels,
            whole_planes=any_size,
        )
    assert one.tile is not None  # `expanded_passes` gives them to all networks that are not exact
    assert one.stride is not None
    return blended_layout(
        cells,
        row_edges=edges[0],
        column_edges=edges[1],
        plane_shape=plane_shape,
        side=one.tile,
        step=one.stride,
        stride=tiling.stride,
    )
