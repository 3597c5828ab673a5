"""How many voxels a threshold finds, labelled and not, for every threshold from one pass over a volume."""

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from sennet_engine.config import Config
from sennet_engine.pipeline.canvas import sum_at_threshold
from sennet_trainer.prediction.mean_probability import MeanProbability, plane_blocks
from sennet_trainer.prediction.passes import Observer

Counts = npt.NDArray[np.int64]

# Counting takes eight bytes a voxel.
PIECE = 2**20


class ThresholdRow(Config):
    """Voxels at one threshold, of the mean probability against the real labels.

    Attributes:
        true_positives: labelled and found.
        false_positives: found and not labelled; pseudo-labels, if the labels are sparse.
        false_negatives: labelled and not found.
        labelled_share: labelled / (labelled + false positives). Labels are merged with what is found and none is
            removed, so this is the share of the merged vessels that was labelled by hand; it is to be the fraction
            that is known to be labelled (third-place write-up, section 3.8).
    """

    threshold: float
    true_positives: int
    false_positives: int
    false_negatives: int
    labelled_share: float


@dataclass(frozen=True)
class ThresholdTable:
    """Voxels by their sum of probabilities.

    Attributes:
        labelled, unlabelled: int64 [255 * passes + 1], how many voxels have each sum.
        passes: how many uint8 probabilities are in a sum.
    """

    labelled: Counts
    unlabelled: Counts
    passes: int

    @property
    def labelled_voxels(self) -> int:
        """All voxels with a real label."""
        return int(self.labelled.sum())

    def row(self, threshold_milli: int) -> ThresholdRow:
        """The voxels at `threshold_milli` thousandths."""
        level = sum_at_threshold(threshold_milli, total_weight=self.passes)
        found, added = int(self.labelled[level:].sum()), int(self.unlabelled[level:].sum())
        return ThresholdRow(
            threshold=threshold_milli / 1000,
            true_positives=found,
            false_positives=added,
            false_negatives=self.labelled_voxels - found,
            labelled_share=self.labelled_voxels / (self.labelled_voxels + added),
        )

    def nearest(self, label_fraction: float) -> ThresholdRow:
        """The threshold, in thousandths, whose labelled share is nearest to `label_fraction`; of equals the highest."""
        found_from = np.cumsum(self.unlabelled[::-1])[::-1]
        levels = [sum_at_threshold(milli, total_weight=self.passes) for milli in range(1, 1000)]
        share = self.labelled_voxels / (self.labelled_voxels + found_from[levels])
        distance = np.abs(share - label_fraction)
        return self.row(1 + int(np.flatnonzero(distance == distance.min())[-1]))

    def rows(self, thresholds_milli: Iterable[int]) -> list[ThresholdRow]:
        """Rows in ascending order, each threshold once."""
        return [self.row(milli) for milli in sorted(set(thresholds_milli))]


def threshold_table(mean: MeanProbability, labels: npt.NDArray[np.uint8], *, observer: Observer) -> ThresholdTable:
    """Count the voxels of `mean` by their sum, apart for the voxels where `labels` [Z, Y, X] is 0 and where not.

    Reads both once, in blocks of planes.
    """
    sums = mean.sums
    bins = 255 * mean.passes + 1
    everywhere, labelled = np.zeros(bins, np.int64), np.zeros(bins, np.int64)
    for planes in plane_blocks(sums.shape, bytes_a_voxel=2):
        values = np.array(sums[planes]).ravel()
        for start in range(0, values.size, PIECE):
            everywhere += np.bincount(values[start : start + PIECE], minlength=bins)
        labelled += np.bincount(values[np.flatnonzero(labels[planes])], minlength=bins)
        observer("counting", planes.stop, sums.shape[0])
    return ThresholdTable(labelled=labelled, unlabelled=everywhere - labelled, passes=mean.passes)
