"""What the pipeline holds of a slab: its planes, its sums, and the work on the host that goes from one to the other."""

from collections.abc import Iterator
from typing import Any

import numpy as np
import numpy.typing as npt

from sennet_engine.device.stream import Event
from sennet_engine.pipeline.canvas import Canvas, Sums, accumulator
from sennet_engine.pipeline.network_planes import NetworkPlanes
from sennet_engine.pipeline.plane_source import PlaneSource
from sennet_engine.planning.passes import AxisPlan, Slab

Answers = npt.NDArray[np.uint8]


class SlabBuffers:
    """A place in the ring of slabs, used again for slab after slab. Each method but the last two is one stage's work.

    Attributes:
        written: the event that lets the next slab in.
        network: the planes as the networks see them.
    """

    def __init__(self, plan: AxisPlan, *, most_planes: int, keeps_answers: bool, written: Event) -> None:
        self._plan = plan
        shape = (most_planes, *plan.shape[1:])
        self._sums: Sums = np.empty(shape, accumulator(plan.total_weight))
        self._first = np.empty(shape, np.uint8) if keeps_answers else None
        self._planes: npt.NDArray[Any] | None = None
        self._grey: npt.NDArray[np.uint8] | None = None
        self.network = NetworkPlanes(plan.passes, most_planes=most_planes)
        self.written = written

    def read(self, source: PlaneSource, slab: Slab) -> None:
        """The planes as they are stored."""
        self._planes = source.read(slab.start, slab.stop)

    def window(self, source: PlaneSource) -> None:
        """Their grey levels; what was read is let go."""
        if self._planes is None:
            raise RuntimeError("the slab's planes are windowed before they are read")
        self._grey, self._planes = source.windowed(self._planes), None

    def prepare(self, slab: Slab) -> None:
        """The planes for all networks."""
        wanted: dict[tuple[int, int], list[int]] = {}
        for plane in range(slab.start, slab.stop):
            for shape in self._network_shapes(plane):
                wanted.setdefault(shape, []).append(plane - slab.start)
        self.network.fill(self.grey, wanted)

    def clear(self, slab: Slab) -> None:
        """Nothing is answered yet."""
        self.canvas(slab).sums.fill(0)
        if self._first is not None:
            self._first[: len(slab)].fill(0)

    @property
    def grey(self) -> npt.NDArray[np.uint8]:
        """[n, rows, columns] grey levels."""
        if self._grey is None:
            raise RuntimeError("the slab's planes are used before they are windowed")
        return self._grey

    def canvas(self, slab: Slab) -> Canvas:
        """The sums of the planes of `slab`, not copied."""
        return Canvas.over(self._sums[: len(slab)], total_weight=self._plan.total_weight)

    def first_answers(self, slab: Slab) -> Answers | None:
        """[n, rows, columns] of a cascade's first pass, not copied; None where they are not kept."""
        return None if self._first is None else self._first[: len(slab)]

    def _network_shapes(self, plane: int) -> Iterator[tuple[int, int]]:
        layouts = [one.layout_of(plane) for one in self._plan.passes]
        yield from {layout.plane_shape for layout in layouts if layout.tiles}
