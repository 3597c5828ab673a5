"""Thresholds: true, false and missed voxels at every one of them, from one pass."""

from pathlib import Path

import numpy as np
import pytest

from sennet_trainer.prediction import mean_probability as blocks
from sennet_trainer.prediction.mean_probability import MeanProbability
from sennet_trainer.prediction.threshold_table import ThresholdTable, threshold_table

from .conftest import Watched

SHAPE_ZYX = (9, 20, 30)


@pytest.fixture
def labels() -> np.ndarray:
    """0/1 labels [Z, Y, X], a fifth of them 1."""
    return (np.random.default_rng(1).random(SHAPE_ZYX) < 0.2).astype(np.uint8)


@pytest.fixture
def mean(tmp_path: Path, labels: np.ndarray) -> MeanProbability:
    """Sums of two passes, higher where there is a label."""
    sums = np.random.default_rng(2).integers(0, 400, SHAPE_ZYX) + 110 * labels
    np.save(tmp_path / "sums.npy", sums.astype(np.uint16))
    return MeanProbability(tmp_path / "sums.npy", passes=2)


def table_of(mean: MeanProbability, labels: np.ndarray) -> ThresholdTable:
    return threshold_table(mean, labels, observer=Watched())


def test_every_threshold_counts_the_voxels_at_or_above_it(mean: MeanProbability, labels: np.ndarray) -> None:
    """Of the labelled voxels some are found; what else is found counts as unlabelled vessel in the share."""
    table, probability = table_of(mean, labels), mean.sums.astype(np.int64)
    for milli in (1, 137, 500, 721, 999):
        # In integers, since 0.5 * 255 * 2 has to count as reached.
        found = probability * 1000 >= milli * 255 * 2
        row = table.row(milli)
        assert row.true_positives == np.count_nonzero(found & (labels == 1))
        assert row.false_positives == np.count_nonzero(found & (labels == 0))
        assert row.false_negatives == np.count_nonzero(~found & (labels == 1))
        assert row.labelled_share == labels.sum() / np.count_nonzero(found | (labels == 1))


@pytest.mark.parametrize("fraction", [0.2, 0.5, 0.65, 0.85, 1.0])
def test_nearest_threshold_has_the_nearest_share_of_all_thousandths(
    mean: MeanProbability, labels: np.ndarray, fraction: float
) -> None:
    """Of equally near ones it is the highest, which adds the fewest voxels."""
    table = table_of(mean, labels)
    distance = {milli: abs(table.row(milli).labelled_share - fraction) for milli in range(1, 1000)}
    nearest = [milli for milli, value in distance.items() if value == min(distance.values())]
    assert table.nearest(fraction).threshold == max(nearest) / 1000


def test_blocks_do_not_change_the_counts(
    mean: MeanProbability, labels: np.ndarray, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Plane by plane or at once, the table is the same."""
    at_once = table_of(mean, labels)
    monkeypatch.setattr(blocks, "BLOCK_BYTES", 1)
    by_plane = table_of(mean, labels)
    assert (at_once.labelled == by_plane.labelled).all()
    assert (at_once.unlabelled == by_plane.unlabelled).all()
    assert at_once.labelled.sum() + at_once.unlabelled.sum() == labels.size
