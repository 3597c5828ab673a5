"""How far from a tile's edge its answer is that of the whole plane: measured, not derived."""

import itertools
from collections.abc import Sequence

import numpy as np
import numpy.typing as npt
import onnx

from sennet_engine.card import HaloAgainst, HaloError, Tiling
from sennet_engine.errors import ConfigError
from sennet_export.answers import RUNTIMES, AnswerTile
from sennet_export.calibration import Calibration

# Where no distance is good enough (networks that pool over their tile), this share of the side is thrown away.
HALO_SHARE_OF_NEVER_EXACT = 8
# The error is measured on tiles of at least this side, so that a receptive field larger than a training crop shows.
MEASURED_SIDE = 512
# A network for one tile side runs nine times for each plane, so that fewer planes must do.
PLANES_WITH_NEIGHBOURS = 2
# Operators that mix what is far apart: pooling over the tile, attention, norms over space.
GLOBAL_OPERATORS = {
    "GlobalAveragePool", "GlobalMaxPool", "ReduceMean", "ReduceMax", "ReduceSum", "Softmax", "InstanceNormalization",
    "GroupNormalization", "MatMul", "Einsum", "Attention",
}  # fmt: skip

Difference = npt.NDArray[np.int64]


def measured_tiling(
    model: onnx.ModelProto, calibration: Calibration, *, sides: list[int], asked: Sequence[int] = (), stride: int,
    trained_side: int, tolerance: int,
) -> Tiling:  # fmt: skip
    """The tile sides, the halo and the error curve of an exported graph.

    A tile with all four edges inside a plane is compared with that plane, whose side is twice the tile's; the halo is
    the smallest multiple of `stride` from which on no pixel differs by more than `tolerance` grey levels. A network for
    one tile side only cannot be shown a whole plane: its tile is compared with its neighbours, half a side away, each
    pixel with the tile in whose middle it lies most. Such networks are never exact, nor are graphs with an operator
    that pools over the tile: on calm planes they may seem to be.

    Args:
        sides: those that the network takes.
        asked: those that a person wants, among `sides`; by default all that are useful.

    Raises:
        ConfigError: a tile that was asked for has nothing left within the halo.
    """
    answer = RUNTIMES["onnxruntime"](model)
    against: HaloAgainst
    if len(sides) > 1:
        side, against = max(trained_side, MEASURED_SIDE) // stride * stride, "whole plane"
        differences = [_against_plane(answer, plane, side, stride) for plane in calibration.squares(2 * side)]
        curve = _curve(differences, stride, farthest=side // 2)
    else:
        side, against = trained_side, "neighbouring tiles"
        planes = calibration.squares(2 * side)[:PLANES_WITH_NEIGHBOURS]
        differences = [_against_neighbours(answer, plane, side, stride) for plane in planes]
        curve = _curve(differences, stride, farthest=side // 4)
    halo = next((error.distance for error in curve if error.largest <= tolerance), None)
    exact = halo is not None and len(sides) > 1 and not _pools_over_tile(model)
    if exact and halo is not None:
        # A tile should keep at least half of its width, or more is computed twice than once.
        useful = list(asked) or [side for side in sides if side >= 4 * halo] or [max(sides)]
    else:
        useful = list(asked) or [trained_side]
        halo = _halo_of_never_exact(min(useful), stride)
    if small := [side for side in useful if side <= 2 * halo]:
        raise ConfigError(
            f"--tile {small[0]}: nothing of it is left within the halo of {halo} pixels that this network needs; "
            f"expected more than {2 * halo}"
        )
    default = min((side for side in useful if side >= trained_side), default=max(useful))
    return Tiling(
        stride=stride, sides=sorted(useful), default_side=default, halo=halo, exact=exact, halo_tolerance=tolerance,
        halo_error=curve, halo_against=against,
    )  # fmt: skip


def _halo_of_never_exact(side: int, stride: int) -> int:
    """A share of the side; at least a stride where more than a stride of the tile is left."""
    return max(side // HALO_SHARE_OF_NEVER_EXACT // stride * stride, stride if side > 3 * stride else 0)


def _pools_over_tile(model: onnx.ModelProto) -> bool:
    return any(node.op_type in GLOBAL_OPERATORS for node in model.graph.node)


def _against_plane(answer: AnswerTile, plane: npt.NDArray[np.uint8], side: int, stride: int) -> Difference:
    """|tile - plane| [side, side] for the tile in the middle of `plane` [1, 2 side, 2 side]."""
    origin = side // 2 // stride * stride
    inside = slice(origin, origin + side)
    whole = answer(plane[None]).probabilities
    tile = answer(np.ascontiguousarray(plane[None, :, inside, inside])).probabilities
    difference: Difference = np.abs(whole[0, 0, inside, inside].astype(np.int64) - tile[0, 0])
    return difference


def _against_neighbours(answer: AnswerTile, plane: npt.NDArray[np.uint8], side: int, stride: int) -> Difference:
    """|tile - the most central of its neighbours and itself| [side, side], for the tile in the middle of `plane`."""
    shift = side // 2 // stride * stride
    depth = _distance_to_edge(side)
    wide = np.zeros((3 * side, 3 * side), np.int64)
    most_central, deepest = wide.copy(), wide - 1
    for top, left in itertools.product((0, shift, 2 * shift), repeat=2):
        shown = np.ascontiguousarray(plane[None, :, top : top + side, left : left + side])
        tile = answer(shown).probabilities
        here = (slice(top, top + side), slice(left, left + side))
        deeper = depth > deepest[here]
        most_central[here][deeper], deepest[here][deeper] = tile[0, 0][deeper], depth[deeper]
        if top == left == shift:
            middle = tile[0, 0].astype(np.int64)
    difference: Difference = np.abs(middle - most_central[shift : shift + side, shift : shift + side])
    return difference


def _distance_to_edge(side: int) -> Difference:
    edge = np.minimum(np.arange(side), np.arange(side)[::-1])
    return np.minimum(edge[:, None], edge[None, :])


def _curve(differences: list[Difference], stride: int, *, farthest: int) -> list[HaloError]:
    stacked = np.stack(differences)
    distance = _distance_to_edge(stacked.shape[-1])
    curve = []
    for start in range(0, farthest, stride):
        beyond = stacked[:, distance >= start]
        curve.append(HaloError(distance=start, largest=int(beyond.max()), mean=float(beyond.mean())))
    return curve
