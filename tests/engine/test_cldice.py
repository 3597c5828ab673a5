"""clDice: what it says, and that cutting the volume into blocks hardly changes it."""

import math
import sys

import numpy as np
import pytest
import skimage.morphology
from scipy import ndimage

from sennet_engine.errors import MissingExtraError
from sennet_engine.metrics.cldice import ClDice


def pair(shape_zyx, seed=0, radius=0.3):
    """A prediction and a truth: winding tubes, the prediction's now thicker, now thinner, and some of them missing."""
    draw = np.random.default_rng(seed)
    one, other, ragged = (ndimage.gaussian_filter(draw.normal(size=shape_zyx), width) for width in (6, 6, 2))
    from_axis = np.hypot(one / one.std(), other / other.std())
    prediction = from_axis < radius * (1 + 0.4 * ragged / ragged.std())
    prediction[:, : shape_zyx[1] // 5] = False
    return prediction, from_axis < radius


def scored(prediction, truth, **blocks):
    centrelines = ClDice(truth.shape[1:], **blocks)
    for planes in zip(prediction, truth, strict=True):
        centrelines.add_plane(*planes)
    return centrelines.scores()


def by_definition(prediction, truth):
    """Precision, sensitivity and clDice of the whole volume, as Shit et al. 2021 define them."""
    of_prediction, of_truth = (skimage.morphology.skeletonize(mask) for mask in (prediction, truth))
    precision = (of_prediction & truth).sum() / of_prediction.sum()
    sensitivity = (of_truth & prediction).sum() / of_truth.sum()
    return 2 * precision * sensitivity / (precision + sensitivity), precision, sensitivity


@pytest.mark.parametrize("shape_zyx", [(40, 56, 61), (40, 56, 64), (1, 40, 43), (200, 20, 9)])
def test_scores_agree_with_their_definition(shape_zyx):
    """Also where a row is no multiple of eight voxels, for a single plane, and for more planes than a block has."""
    prediction, truth = pair(shape_zyx, radius=0.5)
    scores = scored(prediction, truth)
    expected = by_definition(prediction, truth)
    assert (scores.cldice, scores.topology_precision, scores.topology_sensitivity) == pytest.approx(expected, abs=1e-12)
    assert 0 < scores.topology_sensitivity < 1


def test_blocks_with_a_halo_give_the_score_of_the_whole_volume():
    """In 45 blocks with a halo of 16 the score is the same; without a halo, cut vessels are thinned otherwise."""
    prediction, truth = pair((72, 88, 90))
    whole, _, _ = by_definition(prediction, truth)
    assert scored(prediction, truth, block=24, halo=16).cldice == pytest.approx(whole, abs=1e-12)
    assert abs(scored(prediction, truth, block=24, halo=0).cldice - whole) > 1e-3


def test_a_vessel_that_is_wider_than_the_halo_changes_the_score_little():
    """Radii of up to 10 voxels in blocks of 32 with a halo of 8."""
    prediction, truth = pair((64, 96, 96), seed=1, radius=0.9)
    assert ndimage.distance_transform_edt(truth).max() > 8
    whole, _, _ = by_definition(prediction, truth)
    assert scored(prediction, truth, block=32, halo=8).cldice == pytest.approx(whole, abs=0.02)


def test_a_missing_half_halves_the_sensitivity():
    """A bar of which the first half is found: all of that is right, and half of the bar's centreline is in it."""
    truth = np.zeros((9, 9, 60), bool)
    truth[3:6, 3:6, 4:56] = True
    prediction = truth.copy()
    prediction[:, :, 30:] = False
    scores = scored(prediction, truth)
    assert scores.topology_precision == 1
    assert scores.topology_sensitivity == pytest.approx(0.5, abs=0.02)
    assert scores.cldice == pytest.approx(2 / 3, abs=0.02)


def test_thickness_does_not_matter():
    """A bar of twice the width has the same clDice of 1, and Dice of far less."""
    truth, prediction = np.zeros((2, 15, 15, 60), bool)
    truth[6:9, 6:9, 4:56] = prediction[5:10, 5:10, 4:56] = True
    assert scored(prediction, truth).cldice == 1


def test_empty_masks_score_as_with_dice():
    """0 where one mask alone is empty, not a number where both are."""
    _, truth = pair((16, 40, 40), radius=0.5)
    nothing = np.zeros_like(truth)
    assert truth.any()
    assert scored(nothing, truth).cldice == scored(truth, nothing).cldice == 0
    assert math.isnan(scored(nothing, truth).topology_precision)
    assert scored(nothing, truth).topology_sensitivity == 0
    assert math.isnan(scored(nothing, nothing).cldice)


def test_masks_that_never_meet_score_0():
    """Both have a centreline, and neither lies in the other."""
    truth = np.zeros((9, 9, 40), bool)
    truth[1:4, 1:4] = True
    assert scored(truth[::-1, ::-1], truth).cldice == 0


def test_planes_may_follow_a_score():
    """A score halfway is that of the planes so far, and does not change what follows."""
    prediction, truth = pair((60, 40, 40), radius=0.5)
    centrelines = ClDice(truth.shape[1:], block=16, halo=16)
    for z, planes in enumerate(zip(prediction, truth, strict=True), start=1):
        centrelines.add_plane(*planes)
        if z == 37:
            assert centrelines.scores() == scored(prediction[:37], truth[:37], block=16, halo=16)
    assert centrelines.scores() == scored(prediction, truth, block=16, halo=16)


def test_blocks_without_a_vessel_are_not_thinned(monkeypatch):
    """Of 64 blocks two hold voxels of the one mask: two calls, of no more than what is positive there."""
    shapes = []
    thin = skimage.morphology.skeletonize
    monkeypatch.setattr(skimage.morphology, "skeletonize", lambda mask: shapes.append(mask.shape) or thin(mask))
    truth = np.zeros((64, 64, 64), bool)
    truth[4, 5, 6:9] = truth[60, 60, 50:55] = True
    scored(truth & False, truth, block=16, halo=0)
    assert shapes == [(1, 1, 3), (1, 1, 5)]


def test_without_scikit_image_the_error_names_the_extra(monkeypatch):
    """It comes before any plane is read."""
    monkeypatch.setitem(sys.modules, "skimage.morphology", None)
    with pytest.raises(MissingExtraError, match=r"pip install 'sennet\[metrics\]'"):
        ClDice((4, 4))


@pytest.mark.parametrize("blocks", [{"block": 20}, {"block": 0}, {"halo": 4}, {"halo": -8}])
def test_sides_that_are_no_multiple_of_8_are_refused(blocks):
    """Eight voxels share a byte."""
    with pytest.raises(ValueError, match="multiples of 8"):
        ClDice((4, 4), **blocks)


def test_planes_of_another_shape_are_refused():
    """The message names the shapes."""
    with pytest.raises(ValueError, match=r"\(3, 5\).*\(3, 4\)"):
        ClDice((3, 4)).add_plane(np.zeros((3, 4), bool), np.zeros((3, 5), bool))
