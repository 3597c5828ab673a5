"""Which tiles of a slab a pass computes, in batches of one shape."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import numpy.typing as npt

from sennet_engine.ensemble import Flip
from sennet_engine.planning.axes import seen_along
from sennet_engine.planning.cells import CELL
from sennet_engine.planning.layout import Layout, Slices, Tile
from sennet_engine.planning.passes import AxisPlan, PassPlan, Slab

FORWARD, BACKWARD = slice(None), slice(None, None, -1)
# For indexing a tile's rows and columns, both on the way into the network and on the way out.
FLIPPED: dict[Flip, Slices] = {
    "none": (FORWARD, FORWARD),
    "rows": (BACKWARD, FORWARD),
    "columns": (FORWARD, BACKWARD),
    "both": (BACKWARD, BACKWARD),
}

# Whether a tile of a plane (numbered within its slab) goes through the network.
Chooser = Callable[[int, "TileSlices"], bool]


@dataclass(frozen=True)
class TileSlices:
    """A tile with all that it takes to cut it out and to put its answer back, made once for the planes of a layer."""

    tile: Tile
    layout: Layout

    @cached_property
    def source(self) -> Slices:
        """Its pixels in the padded plane."""
        return self.tile.slices

    @cached_property
    def kept(self) -> tuple[tuple[Slices, Slices], ...]:
        """What it answers for: in the plane, and in its answer."""
        return tuple((kept.slices, kept.within(self.tile)) for kept in self.tile.kept)

    def kept_in_voxels(self, shape: tuple[int, int]) -> list[Slices]:
        """What it answers for in a plane of `shape` voxels, rounded outward."""
        scales = tuple(zip(shape, self.layout.plane_shape, strict=True))
        return [
            (_outward(kept.top, kept.bottom, *scales[0]), _outward(kept.left, kept.right, *scales[1]))
            for kept in self.tile.kept
        ]


@dataclass(frozen=True)
class TileWork:
    """What one pass computes of a slab.

    Attributes:
        plan: of the pass.
        tiles: (plane within the slab, tile), those of one shape following one another.
        left_out: tiles of the layouts that a cascade does not go on to.
    """

    plan: PassPlan
    tiles: tuple[tuple[int, TileSlices], ...]
    left_out: int

    @cached_property
    def layouts(self) -> dict[int, Layout]:
        """The layout of each plane that has a tile, in order of the planes."""
        return dict(sorted(((plane, tile.layout) for plane, tile in self.tiles), key=lambda one: one[0]))

    def batches(self) -> Iterator[Sequence[tuple[int, TileSlices]]]:
        """At most `plan.batch` tiles of one shape at a time."""
        by_shape: dict[tuple[int, int], list[tuple[int, TileSlices]]] = {}
        for one in self.tiles:
            by_shape.setdefault(one[1].tile.shape, []).append(one)
        for tiles in by_shape.values():
            for start in range(0, len(tiles), self.plan.batch):
                yield tiles[start : start + self.plan.batch]


def tile_work(plan: PassPlan, slab: Slab, *, chooser: Chooser | None = None) -> TileWork:
    """The tiles of `slab` in the layouts of `plan`, without those that `chooser` does not go on to."""
    prepared: dict[int, list[TileSlices]] = {}
    tiles, left_out = [], 0
    for plane in range(slab.start, slab.stop):
        layer = plane // CELL
        if layer not in prepared:
            prepared[layer] = [TileSlices(tile, plan.layout_of(plane)) for tile in plan.layout_of(plane)]
        for tile in prepared[layer]:
            if chooser is None or chooser(plane - slab.start, tile):
                tiles.append((plane - slab.start, tile))
            else:
                left_out += 1
    return TileWork(plan, tuple(tiles), left_out)


def chooser_by_answers(answers: npt.NDArray[np.uint8], level: int) -> Chooser:
    """Tiles where a slab's [n, rows, columns] answers of the first pass are `level` or more at some voxel."""
    shape = (answers.shape[1], answers.shape[2])
    seen = [int(plane.max(initial=0)) >= level for plane in answers]

    def chosen(plane: int, tile: TileSlices) -> bool:
        return seen[plane] and any(
            int(answers[(plane, *kept)].max(initial=0)) >= level for kept in tile.kept_in_voxels(shape)
        )

    return chosen


def chooser_by_cells(first_pass_cells: npt.NDArray[np.uint8], plan: AxisPlan, slab: Slab, level: int) -> Chooser:
    """Tiles that touch a cell in which the first pass answered `level` or more.

    `first_pass_cells` is [Z, Y, X] in cells: the first pass's largest answer in each.
    """
    seen = seen_along(first_pass_cells, plan.axis) >= level

    def chosen(plane: int, tile: TileSlices) -> bool:
        cells = seen[(slab.start + plane) // CELL]
        return any(
            bool(cells[tuple(slice(side.start // CELL, -(-side.stop // CELL)) for side in kept)].any())
            for kept in tile.kept_in_voxels(plan.shape[1:])
        )

    return chosen


def _outward(start: int, stop: int, voxels: int, pixels: int) -> slice:
    return slice(start * voxels // pixels, -(-stop * voxels // pixels))
