"""The integer canvas."""

import numpy as np
import pytest

from sennet_engine.errors import ConfigError
from sennet_engine.pipeline.canvas import Canvas, accumulator, sum_at_threshold

WHOLE = (slice(None), slice(None))


def test_threshold_is_at_or_above_in_exact_arithmetic():
    """For every threshold in thousandths and every grey level, the mask is level * 1000 >= thousandths * 255."""
    levels = np.arange(256, dtype=np.uint8)[None]
    canvas = Canvas((1, 1, 256))
    canvas.add(0, WHOLE, levels)
    for milli in range(1, 1000):
        assert (canvas.mask(milli)[0] == (levels.astype(int) * 1000 >= milli * 255)).all()


def test_order_of_additions_does_not_matter():
    """Weighted sums are the same whichever pass comes first, and the mean is the weighted mean, rounded."""
    draw = np.random.default_rng(0)
    passes = [(draw.integers(0, 256, (8, 9), dtype=np.uint8), weight) for weight in (1, 3, 300, 7)]
    canvases = [Canvas((1, 8, 9), total_weight=311) for _ in range(2)]
    for canvas, order in zip(canvases, (passes, passes[::-1]), strict=True):
        for probability, weight in order:
            canvas.add(0, WHOLE, probability, weight=weight)
    mean = sum(probability.astype(int) * weight for probability, weight in passes) / 311
    assert (canvases[0].probability() == canvases[1].probability()).all()
    assert (canvases[0].probability()[0] == np.floor(mean + 0.5)).all()
    assert (canvases[0].mask(400)[0] == (mean * 1000 >= 400 * 255)).all()


def test_full_probability_never_wraps_around():
    """255 at the largest weight of each accumulator still fits."""
    for weight in (1, 2, 257, 258, 16_843_009):
        canvas = Canvas((1, 1, 1), total_weight=weight)
        canvas.add(0, WHOLE, np.full((1, 1), 255, np.uint8), weight=weight)
        assert canvas.probability().item() == 255
        assert canvas.mask(1000).all()
        assert sum_at_threshold(1000, total_weight=weight) == 255 * weight


@pytest.mark.parametrize("weight", [0, 16_843_010])
def test_weights_that_do_not_fit_are_refused(weight):
    """A total weight of nothing, or one that could overflow, is an error."""
    with pytest.raises(ConfigError, match="weights"):
        Canvas((1, 1, 1), total_weight=weight)


@pytest.mark.parametrize(
    ("weight", "dtype"),
    [(1, np.uint8), (2, np.uint16), (257, np.uint16), (258, np.uint32), (16_843_009, np.uint32)],
)
def test_sums_are_as_narrow_as_the_weights_allow(weight, dtype):
    """One pass of weight 1 takes a byte a voxel; a larger total takes what 255 times it needs."""
    assert accumulator(weight) == dtype
    assert Canvas((1, 2, 3), total_weight=weight).sums.dtype == dtype
    assert 255 * weight <= np.iinfo(dtype).max


def test_a_canvas_over_sums_shares_them():
    """What is added to it is in the array that it was made over, and sums of another type are refused."""
    sums = np.zeros((2, 3, 4), np.uint16)
    canvas = Canvas.over(sums, total_weight=5)
    canvas.add(1, WHOLE, np.full((3, 4), 200, np.uint8), weight=5)
    assert (sums[1] == 1000).all()
    assert not sums[0].any()
    assert (canvas.probability()[1] == 200).all()
    with pytest.raises(ConfigError, match="uint16 for a total weight of 1, expected uint8"):
        Canvas.over(sums, total_weight=1)


def test_the_probability_is_a_copy():
    """It stays what it was when the sums are used again."""
    canvas = Canvas((1, 1, 1))
    canvas.add(0, WHOLE, np.full((1, 1), 7, np.uint8))
    probability = canvas.probability()
    canvas.sums.fill(0)
    assert probability.item() == 7
