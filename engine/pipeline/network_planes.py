"""A slab's planes as the networks see them: resized and mirrored at their edges, once for all passes."""

from collections.abc import Iterable, Mapping

import numpy as np
import numpy.typing as npt

from sennet_engine.pipeline.resize import resized_grey
from sennet_engine.planning.layout import Layout
from sennet_engine.planning.passes import PassPlan

Shape = tuple[int, int]
Grey = npt.NDArray[np.uint8]


class NetworkPlanes:
    """Buffers for one slab at every size that a pass wants, filled again for slab after slab.

    Passes of one scale share their planes: they are padded to the largest `padded_shape` of their layouts, and the
    tiles of the others lie within it.
    """

    def __init__(self, passes: Iterable[PassPlan], *, most_planes: int) -> None:
        self._padded_shapes: dict[Shape, Shape] = {}
        for layout in (layout for one in passes for layout in one.layouts):
            known = self._padded_shapes.get(layout.plane_shape, (0, 0))
            self._padded_shapes[layout.plane_shape] = _larger(known, layout.padded_shape)
        self._most_planes = most_planes
        self._buffers: dict[Shape, Grey] = {}
        self._planes: dict[Shape, Grey] = {}

    def fill(self, grey: Grey, planes_with_tiles: Mapping[Shape, Iterable[int]]) -> None:
        """Take over the [n, rows, columns] planes of a slab; of the others than `planes_with_tiles`, nothing is made.

        `planes_with_tiles` are numbers within the slab, by the `plane_shape` of the layouts. `grey` itself is used, not
        copied, where nothing has to be done to it.
        """
        for shape, planes in planes_with_tiles.items():
            if self._padded_shapes[shape] == shape == grey.shape[1:]:
                self._planes[shape] = grey
                continue
            if shape not in self._buffers:
                self._buffers[shape] = np.empty((self._most_planes, *self._padded_shapes[shape]), np.uint8)
            self._planes[shape] = self._buffers[shape]
            for plane in planes:
                _mirror_into(self._buffers[shape][plane], resized_grey(grey[plane : plane + 1], shape)[0])

    def of(self, layout: Layout) -> Grey:
        """[n, rows, columns] planes from which tiles of `layout` are cut; only those that were asked for are filled."""
        return self._planes[layout.plane_shape]


def _mirror_into(target: Grey, plane: Grey) -> None:
    """What `layout.mirrored` does, for one plane and without a new array."""
    rows, columns = plane.shape
    target[:rows, :columns] = plane
    target[rows:, :columns] = plane[_beyond(rows, target.shape[0])]
    target[:, columns:] = target[:, _beyond(columns, target.shape[1])]


def _beyond(size: int, padded: int) -> npt.NDArray[np.intp]:
    """Which pixels 0..size - 1 appear at size..padded - 1 in a row that is mirrored again and again."""
    place = np.arange(size, padded) % (2 * size)
    return np.where(place < size, place, 2 * size - 1 - place)


def _larger(one: Shape, other: Shape) -> Shape:
    return max(one[0], other[0]), max(one[1], other[1])
