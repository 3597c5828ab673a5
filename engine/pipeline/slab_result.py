"""A slab whose passes along one axis are done."""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from sennet_engine.pipeline.canvas import Canvas
from sennet_engine.planning.passes import Slab


@dataclass(frozen=True)
class SlabResult:
    """Its arrays are the pipeline's own: valid until the sink returns, to be copied if kept.

    Attributes:
        slab: which.
        grey: [n, rows, columns] windowed grey levels.
        canvas: [n, rows, columns] sums of the axis's passes.
        first_answers: [n, rows, columns] of the first pass alone, where a cascade goes by them.
        tiles_done: that went through a network.
        tiles_not_gone_on: that a cascade left out.
    """

    slab: Slab
    grey: npt.NDArray[np.uint8]
    canvas: Canvas
    first_answers: npt.NDArray[np.uint8] | None
    tiles_done: int
    tiles_not_gone_on: int


Sink = Callable[[SlabResult], None]
