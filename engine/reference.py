"""What a mask means, in the shortest and most obvious way: the whole volume in memory, one tile at a time.

The pipeline equals it bit for bit; nobody should use it for work.
"""

import numpy as np
import numpy.typing as npt

from sennet_engine.plan import Plan
from sennet_engine.predictor import Predictor
from sennet_engine.volumes.volume import Volume
from sennet_engine.window import Window


def reference_probability(volume: Volume, predictor: Predictor, plan: Plan, *, window: Window) -> npt.NDArray[np.uint8]:
    """[Z, Y, X] probabilities 0..255 of `volume` as `plan` cuts it, with a batch of one."""
    grey = window.to_uint8(volume.read_planes(0, volume.shape_zyx[0]))
    result = np.zeros(volume.shape_zyx, np.uint8)
    rows, columns = plan.grid.padded_shape
    side = plan.grid.side
    for z, plane in enumerate(grey):
        padded = np.pad(plane, ((0, rows - plane.shape[0]), (0, columns - plane.shape[1])), mode="symmetric")
        for tile in plan.grid:
            top, left = tile.rows.origin, tile.columns.origin
            answer = predictor.predict(padded[None, None, top : top + side, left : left + side])[0, 0]
            for row in range(tile.rows.keep_start, tile.rows.keep_stop):
                start, stop = tile.columns.keep_start, tile.columns.keep_stop
                result[z, row, start:stop] = answer[row - top, start - left : stop - left]
    return result


def reference_mask(volume: Volume, predictor: Predictor, plan: Plan, *, window: Window) -> npt.NDArray[np.bool_]:
    """[Z, Y, X]: where probability / 255 is at or above the threshold."""
    probability = reference_probability(volume, predictor, plan, window=window)
    return probability.astype(np.int64) * 1000 >= plan.threshold_milli * 255
