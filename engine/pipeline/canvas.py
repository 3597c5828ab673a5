"""A slab's sum of weighted uint8 probabilities, in integers: the order of additions cannot change the mask."""

from typing import Any

import numpy as np
import numpy.typing as npt

from sennet_engine.errors import ConfigError

# 255 * weight must fit: 1 in uint8, up to 257 in uint16, up to 16843009 in uint32.
ACCUMULATORS = {1: np.uint8, 257: np.uint16, 16_843_009: np.uint32}

# Any of ACCUMULATORS; numpy has no type for "one of these".
Sums = npt.NDArray[Any]


def accumulator(total_weight: int) -> npt.DTypeLike:
    """The narrowest integers that hold 255 * `total_weight`. Raises ConfigError where there are none."""
    dtype = next((dtype for limit, dtype in ACCUMULATORS.items() if total_weight <= limit), None)
    if dtype is None or total_weight < 1:
        raise ConfigError(f"weights: got a total of {total_weight}, expected 1 to {max(ACCUMULATORS)}")
    return dtype


def sum_at_threshold(threshold_milli: int, *, total_weight: int) -> int:
    """The smallest sum of weighted probabilities that is vessel: sum / (255 * weight) >= threshold_milli / 1000."""
    return -(-threshold_milli * 255 * total_weight // 1000)


class Canvas:
    """[n, Y, X] sums of probabilities 0..255 times integer weights that add up to `total_weight` at every voxel.

    Attributes:
        sums: [n, Y, X] of `accumulator(total_weight)`.
        total_weight: 1 to 16843009.
    """

    def __init__(self, shape_zyx: tuple[int, int, int], *, total_weight: int = 1) -> None:
        self.sums: Sums = np.zeros(shape_zyx, accumulator(total_weight))
        self.total_weight = total_weight

    @classmethod
    def over(cls, sums: Sums, *, total_weight: int) -> "Canvas":
        """The canvas whose sums are `sums`, which it does not copy. Raises ConfigError where their type is another."""
        if sums.dtype != np.dtype(accumulator(total_weight)):
            expected = np.dtype(accumulator(total_weight))
            raise ConfigError(f"sums: got {sums.dtype} for a total weight of {total_weight}, expected {expected}")
        canvas = cls((0, 0, 0), total_weight=total_weight)
        canvas.sums = sums
        return canvas

    def add(
        self, plane: int, rows_columns: tuple[slice, slice], probability: npt.NDArray[np.uint8], *, weight: int = 1
    ) -> None:
        """Add `weight` times a [rows, columns] uint8 probability at `rows_columns` of `plane`."""
        target = self.sums[(plane, *rows_columns)]
        if weight == 1:
            target += probability
        else:
            target += probability.astype(self.sums.dtype) * self.sums.dtype.type(weight)

    def mask(self, threshold_milli: int) -> npt.NDArray[np.bool_]:
        """[n, Y, X]: where the weighted mean probability is at or above threshold_milli / 1000."""
        mask: npt.NDArray[np.bool_] = self.sums >= sum_at_threshold(threshold_milli, total_weight=self.total_weight)
        return mask

    def probability(self) -> npt.NDArray[np.uint8]:
        """[n, Y, X] weighted mean probability, 0..255, rounded half up; a copy."""
        if self.total_weight == 1:
            return self.sums.astype(np.uint8)
        doubled = self.sums.astype(np.uint64) * 2 + self.total_weight
        return (doubled // (2 * self.total_weight)).astype(np.uint8)
