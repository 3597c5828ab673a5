"""What a mask means, in the shortest and most obvious way: the whole volume in memory, one tile at a time.

The pipeline equals it bit for bit; nobody should use it for work. Cascades, which leave tiles out, are not in it.
"""

from collections.abc import Mapping

import numpy as np
import numpy.typing as npt
from PIL import Image

from sennet_engine.ensemble import Flip
from sennet_engine.errors import OverflowedError
from sennet_engine.pipeline.overflow import OverflowWatch
from sennet_engine.planning.axes import Axis, seen_along
from sennet_engine.planning.layout import blend_weights
from sennet_engine.planning.passes import PassPlan, Plan
from sennet_engine.predictor import Predictor, Tiles
from sennet_engine.volumes.volume import Volume
from sennet_engine.window import Window

STEPS: dict[Flip, tuple[int, int]] = {"none": (1, 1), "rows": (-1, 1), "columns": (1, -1), "both": (-1, -1)}


def reference_sums(
    volume: Volume,
    predictors: Mapping[str, Predictor],
    plan: Plan,
    *,
    window: Window,
    overflows: OverflowWatch | None = None,
) -> npt.NDArray[np.int64]:
    """[Z, Y, X] sums over the passes of `plan` of the probabilities 0..255 times the pass's weight.

    Args:
        overflows: answers in place of networks that overflow; by default that is an error.
    """
    overflows = overflows or OverflowWatch()
    grey = window.to_uint8(volume.read_planes(0, volume.shape_zyx[0]))
    sums = np.zeros(volume.shape_zyx, np.int64)
    for axis in plan.axes:
        for one in axis.passes:
            for number, (plane, sums_of_plane) in enumerate(
                zip(seen_along(grey, axis.axis), seen_along(sums, axis.axis), strict=True)
            ):
                answer = _answer(plane, one, predictors[one.model], overflows, number=number, axis=axis.axis)
                organ = plan.occupancy.voxels_of_plane(axis.axis, number)
                sums_of_plane += one.weight * np.where(organ, answer, 0).astype(np.int64)
    return sums


def reference_mask(
    volume: Volume,
    predictors: Mapping[str, Predictor],
    plan: Plan,
    *,
    window: Window,
    overflows: OverflowWatch | None = None,
) -> npt.NDArray[np.bool_]:
    """[Z, Y, X]: where the mean probability / 255 is at or above the threshold; no component is removed."""
    sums = reference_sums(volume, predictors, plan, window=window, overflows=overflows)
    return sums * 1000 >= plan.threshold_milli * 255 * plan.total_weight


def _answer(
    plane: Tiles, one: PassPlan, predictor: Predictor, overflows: OverflowWatch, *, number: int, axis: Axis
) -> Tiles:
    """The uint8 probability [rows, columns] of plane `number`, of that shape; 0 where no tile is."""
    layout = one.layout_of(number)
    seen = _resized(plane, layout.plane_shape, Image.Resampling.BICUBIC)
    below, right = np.subtract(layout.padded_shape, layout.plane_shape)
    padded = np.pad(seen, ((0, below), (0, right)), mode="symmetric")
    sums, weights = np.zeros((2, *layout.plane_shape), np.int64)
    row_step, column_step = STEPS[one.flip]
    for tile in layout:
        shown = np.ascontiguousarray(padded[tile.slices][::row_step, ::column_step])
        try:
            answer = predictor.predict(shown[None, None])[0, 0]
        except OverflowedError:
            answer = overflows.answer(one, number, tile, shown, axis=axis)
        answer = answer[::row_step, ::column_step]
        weight = blend_weights(tile.shape) if layout.blended else np.ones(tile.shape, np.int64)
        for kept in tile.kept:
            sums[kept.slices] += (weight * answer)[kept.within(tile)]
            weights[kept.slices] += weight[kept.within(tile)]
    mean = (2 * sums + weights) // np.maximum(2 * weights, 1)
    return _resized(mean.astype(np.uint8), plane.shape, Image.Resampling.BOX)


def _resized(plane: Tiles, shape: tuple[int, ...], filter_: Image.Resampling) -> Tiles:
    if plane.shape == shape:
        return plane
    rows, columns = shape
    return np.asarray(Image.fromarray(plane).resize((columns, rows), filter_))
