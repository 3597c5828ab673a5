"""The answers of one pass over a slab, until they are in the slab's sums."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt

from sennet_engine.pipeline.canvas import Canvas
from sennet_engine.pipeline.resize import resized_answers
from sennet_engine.pipeline.tile_work import TileSlices
from sennet_engine.planning.cells import CELL
from sennet_engine.planning.layout import Layout, blend_weights
from sennet_engine.planning.passes import AxisPlan, PassPlan, Slab

Answers = npt.NDArray[np.uint8]


@dataclass(frozen=True)
class PassSlab:
    """Where the answers of a pass over a slab go.

    Attributes:
        slab: which.
        layouts: of the planes (numbers within the slab) that have tiles.
        canvas: the slab's sums.
        first: [n, rows, columns] of zeros in which the pass's own answers are wanted as well; None where they are not.
    """

    slab: Slab
    layouts: Mapping[int, Layout]
    canvas: Canvas
    first: Answers | None


class PassCanvas(Protocol):
    """What becomes of a pass's answers. One serves slab after slab: begin, add all tiles, settle."""

    def begin(self, target: PassSlab) -> None:
        """Make room for the answers."""
        ...

    def add(self, plane: int, tile: TileSlices, answer: Answers) -> None:
        """Take over what the network answered to a tile of `plane`: [rows, columns] of the tile, not flipped."""
        ...

    def settle(self) -> None:
        """Bring what is not yet in the sums there."""
        ...


class Scratch:
    """Memory that one pass after the other works in; never more than one at a time."""

    def __init__(self) -> None:
        self._bytes = np.empty(0, np.uint8)

    def array(self, shape: tuple[int, ...], dtype: npt.DTypeLike) -> npt.NDArray[Any]:
        """An array of any content, valid until the next one is asked for."""
        size = int(np.prod(shape)) * np.dtype(dtype).itemsize
        if self._bytes.size < size:
            self._bytes = np.empty(size, np.uint8)
        return self._bytes[:size].view(dtype).reshape(shape)


def pass_canvas(plan: PassPlan, axis: AxisPlan, scratch: Scratch, *, keeps_answers: bool) -> PassCanvas:
    """The cheapest canvas that is right for a pass. `keeps_answers`: whether it will be given `first`."""
    if any(layout.blended for layout in plan.layouts):
        return _BlendedCanvas(plan, axis, scratch)
    if keeps_answers or plan.layouts[0].plane_shape != axis.shape[1:]:
        return _ExactCanvas(plan, axis, scratch)
    return _DirectCanvas(plan, axis)


class _DirectCanvas:
    """Kept pixels are the plane's own voxels and disjoint: they go into the sums as they come."""

    def __init__(self, plan: PassPlan, axis: AxisPlan) -> None:
        self._weight = plan.weight
        self._is_alone = axis.total_weight == 1

    def begin(self, target: PassSlab) -> None:
        self._canvas = target.canvas

    def add(self, plane: int, tile: TileSlices, answer: Answers) -> None:
        if self._is_alone:
            # No voxel is added to twice, and to set it takes a third of the time.
            sums = self._canvas.sums[plane]
            for target, source in tile.kept:
                sums[target] = answer[source]
            return
        for target, source in tile.kept:
            self._canvas.add(plane, target, answer[source], weight=self._weight)

    def settle(self) -> None:
        return


class _PlaneWise:
    """Answers are gathered plane by plane in the network's pixels, and become voxels at the end."""

    def __init__(self, plan: PassPlan, axis: AxisPlan, scratch: Scratch) -> None:
        self._weight = plan.weight
        self._axis = axis
        self._scratch = scratch
        self._layer = -1
        self._occupied = np.empty((0, 0), np.uint8)

    def begin(self, target: PassSlab) -> None:
        self._target = target
        # Only planes with tiles take room.
        self._place = {plane: place for place, plane in enumerate(target.layouts)}

    def _room(self, dtype: npt.DTypeLike) -> npt.NDArray[Any]:
        """[planes with tiles, rows, columns] zeros, in the network's pixels."""
        layouts = self._target.layouts.values()
        room = self._scratch.array((len(layouts), *next(layout.plane_shape for layout in layouts)), dtype)
        room.fill(0)
        return room

    def _finish(self, plane: int, answers: Answers) -> None:
        occupied = self._occupied_of(self._target.slab.start + plane)
        voxels = resized_answers(answers[None], self._axis.shape[1:])[0] * occupied
        self._target.canvas.add(plane, (slice(None), slice(None)), voxels, weight=self._weight)
        if self._target.first is not None:
            self._target.first[plane] = voxels

    def _occupied_of(self, plane: int) -> npt.NDArray[np.uint8]:
        """1 where there may be organ, else 0. The same for all planes of a layer, of which the last is kept."""
        if plane // CELL != self._layer:
            self._layer = plane // CELL
            self._occupied = self._axis.occupancy.voxels_of_plane(self._axis.axis, plane).view(np.uint8)
        return self._occupied


class _ExactCanvas(_PlaneWise):
    """Each pixel is answered by one tile."""

    def begin(self, target: PassSlab) -> None:
        super().begin(target)
        self._answers = self._room(np.uint8)

    def add(self, plane: int, tile: TileSlices, answer: Answers) -> None:
        answers = self._answers[self._place[plane]]
        for target, source in tile.kept:
            answers[target] = answer[source]

    def settle(self) -> None:
        for plane in self._target.layouts:
            self._finish(plane, self._answers[self._place[plane]])


class _BlendedCanvas(_PlaneWise):
    """Overlapping answers are averaged with the tiles' blending weights, rounded half up."""

    def __init__(self, plan: PassPlan, axis: AxisPlan, scratch: Scratch) -> None:
        super().__init__(plan, axis, scratch)
        self._weights: dict[tuple[int, int], tuple[npt.NDArray[np.uint32], npt.NDArray[np.uint32]]] = {}

    def begin(self, target: PassSlab) -> None:
        super().begin(target)
        self._sums = self._room(np.uint32)

    def add(self, plane: int, tile: TileSlices, answer: Answers) -> None:
        shape = tile.tile.shape
        if shape not in self._weights:
            self._weights[shape] = blend_weights(shape), np.empty(shape, np.uint32)
        weights, weighted = self._weights[shape]
        np.multiply(weights, answer, out=weighted)
        sums = self._sums[self._place[plane]]
        for target, source in tile.kept:
            sums[target] += weighted[source]

    def settle(self) -> None:
        known: Layout | None = None
        for plane, layout in self._target.layouts.items():
            if layout is not known:
                known, totals = layout, layout.weight_sums
                half, divisor = totals // 2, np.maximum(totals, 1)
            # floor((2 * sum + W) / (2 * W)) without the doubling, which 32 bits need not hold.
            sums = self._sums[self._place[plane]]
            sums += half
            np.floor_divide(sums, divisor, out=sums)
            self._finish(plane, sums.astype(np.uint8))
