"""Scores at many thresholds from one pass over a volume, the best of them, and the range in which it is stable."""

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from sennet_engine.card import Threshold
from sennet_engine.config import Config
from sennet_engine.metrics.surface_dice import SurfaceDice
from sennet_engine.pipeline.canvas import sum_at_threshold

# Thresholds whose score is within this of the best are the stable range.
STABLE_WITHIN = 0.01


class SweepRow(Config):
    """Scores at one threshold, 0 to 1; surface Dice at tolerance 0."""

    threshold: float
    surface_dice: float
    dice: float


class Sweep:
    """Scores planes at several thresholds at once; in memory are two planes a threshold.

    Args:
        thresholds: 0 to 1, taken to the thousandth.
        shape_yx: rows and columns of every plane.
        passes: how many uint8 probabilities are added up in the sums that will be shown.
    """

    def __init__(self, thresholds: Sequence[float], *, shape_yx: tuple[int, ...], passes: int = 1) -> None:
        self._scorers = [_Scorer(threshold, shape_yx=shape_yx, passes=passes) for threshold in sorted(thresholds)]

    def add_plane(self, sums_yx: npt.NDArray[np.unsignedinteger], truth_yx: npt.NDArray[np.uint8]) -> None:
        """Show the next plane: sums of probabilities [Y, X], and the truth [Y, X], vessel where not 0."""
        truth = truth_yx != 0
        for scorer in self._scorers:
            scorer.add_plane(sums_yx, truth)

    def rows(self) -> list[SweepRow]:
        """The scores of the planes so far, by ascending threshold."""
        return [scorer.row() for scorer in self._scorers]


def stable_threshold(thresholds: Sequence[float], scores: Sequence[float]) -> Threshold:
    """The threshold with the best score, and the range around it in which scores stay within 0.01 of the best.

    Args:
        thresholds: ascending.
        scores: one for each threshold.
    """
    best = int(np.argmax(scores))
    stable = np.asarray(scores) >= scores[best] - STABLE_WITHIN
    low = high = best
    while low > 0 and stable[low - 1]:
        low -= 1
    while high + 1 < len(thresholds) and stable[high + 1]:
        high += 1
    return Threshold(value=thresholds[best], low=thresholds[low], high=thresholds[high])


class _Scorer:
    """Dice and surface Dice of one threshold."""

    def __init__(self, threshold: float, *, shape_yx: tuple[int, ...], passes: int) -> None:
        self._threshold = threshold
        self._level = sum_at_threshold(round(threshold * 1000), total_weight=passes)
        self._surface = SurfaceDice(shape_yx)
        self._common = self._both = 0

    def add_plane(self, sums: npt.NDArray[np.unsignedinteger], truth: npt.NDArray[np.bool_]) -> None:
        prediction = sums >= self._level
        self._common += int(np.count_nonzero(prediction & truth))
        self._both += int(np.count_nonzero(prediction)) + int(np.count_nonzero(truth))
        self._surface.add_plane(prediction, truth)

    def row(self) -> SweepRow:
        return SweepRow(
            threshold=self._threshold, surface_dice=float(self._surface.score()), dice=2 * self._common / self._both
        )
