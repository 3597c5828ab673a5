"""Connected components of a mask: how many, and how large the largest, plane by plane."""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

Integers = npt.NDArray[np.int64]

# Runs that are gathered before they are linked, so that many planes with few vessels share numpy's cost of a call.
RUNS_A_BATCH = 1 << 16
PLANES_A_BATCH = 1024


@dataclass(frozen=True)
class ComponentCounts:
    """Components are 26-connected: voxels belong together if they share a face, an edge or a corner.

    Attributes:
        components: how many there are.
        largest_voxels: voxels of the largest one; 0 for an empty mask.
    """

    components: int
    largest_voxels: int


class Components:
    """Counts the 26-connected components of a mask that is shown plane by plane.

    Planes become runs of positive voxels along x. Runs are nodes of a graph whose edges join neighbouring runs of a
    plane and of successive planes. Of the planes that were linked already, only the last one's runs are kept, with the
    component of each; a component that does not reach the last plane is finished, and just a number. So memory follows
    the runs of a few planes, not the number of planes or components.
    """

    def __init__(self, shape_yx: tuple[int, ...]) -> None:
        rows, columns = shape_yx
        self._shape_yx = (rows, columns)
        # Runs lie on one line, on which an empty column ends each row and an empty row each plane: neighbours are a
        # constant step apart, and a step out of a plane ends where no run is.
        self._row = columns + 1
        self._plane = (rows + 1) * self._row
        self._pending: list[_Runs] = []
        self._planes_pending = self._runs_pending = 0
        self._last = _Runs(_none(), _none())
        self._component_of_last = _none()
        self._open_voxels = _none()
        self._finished = ComponentCounts(0, 0)

    def add_plane(self, mask_yx: npt.NDArray[np.bool_]) -> None:
        """Take the next plane: [Y, X]."""
        if mask_yx.shape != self._shape_yx:
            raise ValueError(f"got a plane of shape {mask_yx.shape}, expected {self._shape_yx}")
        self._planes_pending += 1
        runs = _runs_of_plane(mask_yx).moved(self._planes_pending * self._plane)
        self._pending.append(runs)
        self._runs_pending += runs.starts.size
        if self._runs_pending >= RUNS_A_BATCH or self._planes_pending >= PLANES_A_BATCH:
            self._link()

    def counts(self) -> ComponentCounts:
        """The components of the planes so far; more planes may follow."""
        self._link()
        return ComponentCounts(
            self._finished.components + self._open_voxels.size,
            max(self._finished.largest_voxels, int(self._open_voxels.max(initial=0))),
        )

    def _link(self) -> None:
        """Join the pending runs with each other and with the open components, and finish those that end."""
        if not self._pending:
            return
        new = _joined(self._pending)
        runs = _joined([self._last, new])
        open_components = self._open_voxels.size
        nodes = np.concatenate([self._component_of_last, open_components + np.arange(new.starts.size)])
        steps = (self._row, self._plane - self._row, self._plane, self._plane + self._row)
        pairs = nodes[np.concatenate([_touching(runs, step) for step in steps], axis=1)]
        component = _components(open_components + new.starts.size, pairs)
        voxels = np.zeros(component.max(initial=-1) + 1, np.int64)
        np.add.at(voxels, component, np.concatenate([self._open_voxels, new.stops - new.starts]))

        base = self._planes_pending * self._plane
        first = int(np.searchsorted(runs.starts, base))
        self._last = _Runs(runs.starts[first:], runs.stops[first:]).moved(-base)
        still_open, self._component_of_last = np.unique(component[nodes[first:]], return_inverse=True)
        self._open_voxels = voxels[still_open]
        finished = np.delete(voxels, still_open)
        self._finished = ComponentCounts(
            self._finished.components + finished.size,
            max(self._finished.largest_voxels, int(finished.max(initial=0))),
        )
        self._pending, self._planes_pending, self._runs_pending = [], 0, 0


@dataclass(frozen=True)
class _Runs:
    """Runs [n] of positive voxels on the line, ascending; `stops` are exclusive."""

    starts: Integers
    stops: Integers

    def moved(self, distance: int) -> "_Runs":
        return _Runs(self.starts + distance, self.stops + distance)


def _none() -> Integers:
    return np.zeros(0, np.int64)


def _joined(parts: list[_Runs]) -> _Runs:
    return _Runs(np.concatenate([part.starts for part in parts]), np.concatenate([part.stops for part in parts]))


def _runs_of_plane(mask_yx: npt.NDArray[np.bool_]) -> _Runs:
    """The runs of one plane that begins at position 0."""
    rows, columns = mask_yx.shape
    line = np.zeros(rows * (columns + 1) + 1, bool)
    line[1:].reshape(rows, columns + 1)[:, :columns] = mask_yx
    changes = np.flatnonzero(line[1:] != line[:-1])
    return _Runs(changes[::2], changes[1::2])


def _touching(runs: _Runs, step: int) -> Integers:
    """Pairs [2, n] of runs of which the second touches the first one moved by `step`, also by a corner."""
    # A run touches where it begins at most at the stop of the other: that is one voxel past its end.
    first = np.searchsorted(runs.stops, runs.starts + step, side="left")
    last = np.searchsorted(runs.starts, runs.stops + step, side="right")
    count = last - first
    before = np.cumsum(count) - count
    return np.stack(
        [
            np.repeat(np.arange(count.size), count),
            np.arange(int(count.sum())) + np.repeat(first - before, count),
        ]
    )


def _components(nodes: int, pairs: Integers) -> Integers:
    """The component [nodes] of each node, numbered from 0, of the graph with the edges `pairs` [2, n].

    Each round hangs every root below the lowest root that it has an edge to, and then points all nodes at their roots.
    """
    root = np.arange(nodes)
    while True:
        one, other = root[pairs]
        apart = one != other
        if not apart.any():
            number = np.cumsum(root == np.arange(nodes)) - 1
            return number[root]
        pairs, one, other = pairs[:, apart], one[apart], other[apart]
        np.minimum.at(root, np.maximum(one, other), np.minimum(one, other))
        while not np.array_equal(above := root[root], root):
            root = above
