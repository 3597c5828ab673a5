"""The best of many thresholds, and how far around it the score is stable."""

import pytest

from sennet_trainer.prediction.sweep import stable_threshold

THRESHOLDS = [0.1, 0.2, 0.3, 0.4, 0.5, 0.6]


@pytest.mark.parametrize(
    ("scores", "value", "low", "high"),
    [
        ([0.5, 0.6, 0.7, 0.6, 0.5, 0.4], 0.3, 0.3, 0.3),
        ([0.695, 0.60, 0.70, 0.695, 0.691, 0.6], 0.3, 0.3, 0.5),  # not beyond a gap
        ([0.7, 0.699, 0.698, 0.2, 0.1, 0.0], 0.1, 0.1, 0.3),
        ([0.1, 0.2, 0.3, 0.3, 0.695, 0.7], 0.6, 0.5, 0.6),
        ([0.7, 0.7, 0.7, 0.7, 0.7, 0.7], 0.1, 0.1, 0.6),
    ],
)
def test_stable_range_is_the_unbroken_one_around_the_best(
    scores: list[float], value: float, low: float, high: float
) -> None:
    """It ends where the score is more than 0.01 below the best; of equal thresholds the lowest is the best."""
    stable = stable_threshold(THRESHOLDS, scores)
    assert (stable.value, stable.low, stable.high) == (value, low, high)
