"""How far from a tile's edge its answer is that of the whole plane: measured, not derived."""

from pathlib import Path

import numpy as np
import onnx
import onnxruntime

from sennet_engine.card import HaloError, Tiling
from sennet_export.calibration import Calibration

# Where no distance is good enough (networks that pool over their tile), this share of the side is thrown away.
HALO_SHARE_OF_NEVER_EXACT = 8
# The error is measured on tiles of at least this side, so that a receptive field larger than a training crop shows.
MEASURED_SIDE = 512
# Operators that mix what is far apart: pooling over the tile, attention, norms over space.
GLOBAL_OPERATORS = {
    "GlobalAveragePool", "GlobalMaxPool", "ReduceMean", "ReduceMax", "ReduceSum", "Softmax", "InstanceNormalization",
    "GroupNormalization", "MatMul", "Einsum", "Attention",
}  # fmt: skip


def measured_tiling(
    onnx_path: Path, calibration: Calibration, *, sides: list[int], stride: int, trained_side: int, tolerance: int
) -> Tiling:
    """The tile sides, the halo and the error curve of an exported file.

    A tile with all four edges inside a plane is compared with that plane, whose side is twice the tile's; the halo is
    the smallest multiple of `stride` from which on no pixel differs by more than `tolerance` grey levels. Never exact
    are files for one tile side only, which cannot be shown a whole plane, and graphs with an operator that pools over
    the tile: on calm planes they may seem to be exact.
    """
    measurable = len(sides) > 1
    curve = _error_by_distance(onnx_path, calibration, max(trained_side, MEASURED_SIDE), stride) if measurable else []
    halo = next((error.distance for error in curve if error.largest <= tolerance), None)
    if halo is None or _pools_over_tile(onnx_path):
        return Tiling(
            stride=stride, sides=[trained_side], default_side=trained_side,
            halo=_halo_of_never_exact(trained_side, stride), exact=False,
            halo_tolerance=tolerance, halo_error=curve,
        )  # fmt: skip
    # A tile should keep at least half of its width, or more is computed twice than once.
    useful = [side for side in sides if side >= 4 * halo] or [max(sides)]
    default = min((side for side in useful if side >= trained_side), default=max(useful))
    return Tiling(
        stride=stride, sides=useful, default_side=default, halo=halo, exact=True, halo_tolerance=tolerance,
        halo_error=curve,
    )  # fmt: skip


def _halo_of_never_exact(side: int, stride: int) -> int:
    """A share of the side; at least a stride where more than a stride of the tile is left."""
    return max(side // HALO_SHARE_OF_NEVER_EXACT // stride * stride, stride if side > 3 * stride else 0)


def _pools_over_tile(onnx_path: Path) -> bool:
    return any(node.op_type in GLOBAL_OPERATORS for node in onnx.load(onnx_path).graph.node)


def _error_by_distance(onnx_path: Path, calibration: Calibration, side: int, stride: int) -> list[HaloError]:
    session = onnxruntime.InferenceSession(onnx_path, providers=["CPUExecutionProvider"])
    side = side // stride * stride
    origin = side // 2 // stride * stride
    inside = slice(origin, origin + side)
    differences = []
    for plane in calibration.squares(2 * side):
        whole = session.run(None, {"tiles": plane[None]})[0][..., inside, inside]
        tile = session.run(None, {"tiles": np.ascontiguousarray(plane[None, :, inside, inside])})[0]
        differences.append(np.abs(whole.astype(int) - tile.astype(int))[0, 0])
    edge = np.minimum(np.arange(side), np.arange(side)[::-1])
    distance = np.minimum(edge[:, None], edge[None, :])
    stacked = np.stack(differences)
    curve = []
    for start in range(0, side // 2, stride):
        beyond = stacked[:, distance >= start]
        curve.append(HaloError(distance=start, largest=int(beyond.max()), mean=float(beyond.mean())))
    return curve
