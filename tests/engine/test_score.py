"""Scores of a mask against the truth: in Python, and from the command line."""

import json
import math
import subprocess
import sys
import warnings
from dataclasses import asdict, replace
from pathlib import Path

import numpy as np
import pytest
import skimage.morphology
import surface_distance
from scipy import ndimage

from sennet_engine.errors import ConfigError, MissingExtraError, VolumeError
from sennet_engine.metrics.score import score_masks
from sennet_engine.volumes.volume import ArrayVolume

SCORES = ["surface_dice_0", "surface_dice_1", "dice", "precision", "recall"]


def masks(seed=0):
    """A truth, and a prediction that misses some of it and adds some."""
    rng = np.random.default_rng(seed)
    truth = np.zeros((7, 20, 22), np.uint8)
    truth[1:5, 4:9, 3:18] = truth[3:, 12:15, 10:] = 1
    return truth ^ (rng.random(truth.shape) < 0.02), truth


def score(prediction, truth, **options):
    return score_masks(ArrayVolume(prediction, name="prediction"), ArrayVolume(truth, name="truth"), **options)


def package_dice(prediction, truth, tolerance):
    """Surface Dice by the package `surface-distance`."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        distances = surface_distance.compute_surface_distances(truth == 1, prediction == 1, (1, 1, 1))
    return surface_distance.compute_surface_dice_at_tolerance(distances, tolerance)


def sennet_score(*arguments):
    command = Path(sys.executable).with_name("sennet-score")
    return subprocess.run([command, *map(str, arguments)], capture_output=True, text=True, check=False)


def test_scores_agree_with_their_definitions():
    """Overlap scores as counted here, surface Dice as the package `surface-distance` has it."""
    prediction, truth = masks()
    scores = score(prediction, truth)
    overlap = np.sum(prediction & truth)
    assert scores.precision == overlap / prediction.sum()
    assert scores.recall == overlap / truth.sum()
    assert scores.dice == 2 * overlap / (prediction.sum() + truth.sum())
    assert (scores.overlap_voxels, scores.voxels) == (overlap, truth.size)
    assert (scores.predicted_voxels, scores.true_voxels) == (prediction.sum(), truth.sum())
    for value, tolerance in [(scores.surface_dice_0, 0), (scores.surface_dice_1, 1)]:
        assert value == pytest.approx(package_dice(prediction, truth, tolerance), abs=1e-6)
    assert scores.surface_dice_0 < scores.surface_dice_1 < 1


@pytest.mark.parametrize("tolerance", [0.0, 0.5, 2.0, 2.5])
def test_surface_dice_at_a_further_tolerance(tolerance):
    """As the package has it; the other scores stay as they are, and without a tolerance there is none."""
    prediction, truth = masks()
    scores = score(prediction, truth, tolerance=tolerance)
    assert scores.tolerance == tolerance
    assert scores.surface_dice_at_tolerance == pytest.approx(package_dice(prediction, truth, tolerance), abs=1e-6)
    assert replace(scores, tolerance=None, surface_dice_at_tolerance=None) == score(prediction, truth)


@pytest.mark.parametrize("tolerance", [-1.0, 10.5, math.nan, math.inf])
def test_a_tolerance_out_of_range_is_refused(tolerance):
    """The message names the range."""
    with pytest.raises(ConfigError, match="expected 0 to 10"):
        score(*masks(), tolerance=tolerance)


def test_components_are_those_of_either_mask():
    """Their number, and the size of the largest."""
    prediction, truth = masks()
    scores = score(prediction, truth)
    labels, count = ndimage.label(prediction, np.ones((3, 3, 3)))
    assert count > 2
    assert (scores.predicted_components, scores.true_components) == (count, 2)
    assert scores.predicted_largest_voxels == np.bincount(labels.ravel())[1:].max()
    assert scores.true_largest_voxels == max(truth[1:5, 4:9, 3:18].sum(), truth[3:, 12:15, 10:].sum())


def test_cldice_is_measured_where_it_is_asked_for():
    """By its definition, on the centrelines of scikit-image; the other scores stay as they are."""
    prediction, truth = masks()
    scores = score(prediction, truth, cldice=True)
    of_prediction, of_truth = (skimage.morphology.skeletonize(mask == 1) for mask in (prediction, truth))
    precision = truth[of_prediction].mean()
    sensitivity = prediction[of_truth].mean()
    assert 0 < precision < 1
    assert (scores.topology_precision, scores.topology_sensitivity) == pytest.approx((precision, sensitivity))
    assert scores.cldice == pytest.approx(2 * precision * sensitivity / (precision + sensitivity))
    assert score(prediction, truth).cldice is None
    assert replace(scores, cldice=None, topology_precision=None, topology_sensitivity=None) == score(prediction, truth)


def test_only_cldice_needs_scikit_image(monkeypatch):
    """Without it the other scores are the same, and clDice is an error that names the extra."""
    prediction, truth = masks()
    expected = score(prediction, truth)
    monkeypatch.setitem(sys.modules, "skimage.morphology", None)
    assert score(prediction, truth) == expected
    with pytest.raises(MissingExtraError, match=r"sennet\[metrics\]"):
        score(prediction, truth, cldice=True)


def test_the_volumes_voxel_size_does_not_matter():
    """The competition's metric has voxels of side 1, whatever the file says."""
    prediction, truth = masks()
    sized = ArrayVolume(truth, voxel_size_um=(100.0, 20.0, 50.0))
    assert score_masks(ArrayVolume(prediction), sized) == score(prediction, truth)


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16, np.float32])
def test_masks_of_0_and_255_score_as_masks_of_0_and_1(dtype):
    """In every type of voxel, and with a different level in either mask."""
    prediction, truth = masks()
    assert score(prediction.astype(dtype) * dtype(255), truth) == score(prediction, truth)


def test_an_equal_mask_scores_1_and_an_empty_one_0():
    """Precision of nothing predicted is not a number, and neither is any score of two empty masks."""
    _, truth = masks()
    assert all(getattr(score(truth, truth), name) == 1 for name in SCORES)
    nothing = score(truth * 0, truth)
    assert (nothing.surface_dice_0, nothing.surface_dice_1, nothing.dice, nothing.recall) == (0, 0, 0, 0)
    assert math.isnan(nothing.precision)
    assert all(math.isnan(getattr(score(truth * 0, truth * 0), name)) for name in SCORES)


@pytest.mark.parametrize(
    ("values", "named"),
    [
        ([0, 1, 2, 7], "0, 1, 2, 7"),
        ([0, 7, 7, 7], "0, 7"),
        ([0, 1, 255, 0], "0, 1, 255"),
        ([0, 0.25, 1, 0], "0, 0.25, 1"),
        ([0, -1, 0, 0], "-1, 0"),
    ],
)
def test_a_volume_that_is_no_mask_is_refused_by_its_values(values, named):
    """Labels, probabilities and mixed levels are not guessed at."""
    _, truth = masks()
    labels = np.zeros(truth.shape, np.float32)
    labels[6, 0, :4] = values
    with pytest.raises(VolumeError, match=f"prediction: is not a mask: got the values {named} by plane 6"):
        score(labels, truth)


def test_levels_must_not_change_between_planes():
    """One plane of 0/1 and another of 0/255 are a mistake, even if each looks like a mask."""
    prediction, truth = masks()
    prediction[4] *= 255
    with pytest.raises(VolumeError, match="got the values 0, 1, 255 by plane 4"):
        score(prediction, truth)


def test_shapes_must_be_equal():
    """The message names both shapes."""
    _, truth = masks()
    with pytest.raises(VolumeError, match=r"\(6, 20, 22\).*\(7, 20, 22\)"):
        score(truth[1:], truth)


def test_the_command_prints_a_table_and_json(tmp_path):
    """JSON holds the five scores under their names, and null where a score is 0 / 0."""
    prediction, truth = masks()
    np.save(tmp_path / "prediction.npy", prediction)
    np.save(tmp_path / "truth.npy", truth)
    np.save(tmp_path / "empty.npy", truth * 0)
    expected = score(prediction, truth)

    table = sennet_score(tmp_path / "prediction.npy", tmp_path / "truth.npy")
    assert table.returncode == 0
    assert f"surface Dice, 0 voxels  {expected.surface_dice_0:.4f}" in table.stdout

    printed = json.loads(sennet_score(tmp_path / "prediction.npy", tmp_path / "truth.npy", "--json").stdout)
    assert list(printed)[:5] == SCORES
    assert [printed[name] for name in SCORES] == [getattr(expected, name) for name in SCORES]

    printed = json.loads(sennet_score(tmp_path / "empty.npy", tmp_path / "truth.npy", "--json").stdout)
    assert (printed["precision"], printed["recall"]) == (None, 0)


def test_the_command_prints_what_was_asked_for(tmp_path):
    """Components always; a further tolerance and clDice by their options, in the table and in JSON alike."""
    prediction, truth = masks()
    np.save(tmp_path / "prediction.npy", prediction)
    np.save(tmp_path / "truth.npy", truth)
    files = [tmp_path / "prediction.npy", tmp_path / "truth.npy"]
    expected = score(prediction, truth, cldice=True, tolerance=2.5)

    plain = sennet_score(*files).stdout
    assert f"components              {expected.predicted_components:,} predicted and 2 true" in plain
    assert "clDice" not in plain
    assert "None" not in plain
    assert "surface_dice_at_tolerance" not in json.loads(sennet_score(*files, "--json").stdout)

    table = sennet_score(*files, "--cldice", "--tolerance", "2.5").stdout
    rows = dict(line.rsplit(maxsplit=1) for line in table.splitlines()[:9])
    assert rows["surface Dice, 0 voxels"] == f"{expected.surface_dice_0:.4f}"
    assert rows["surface Dice, 2.5 voxels"] == f"{expected.surface_dice_at_tolerance:.4f}"
    assert rows["clDice"] == f"{expected.cldice:.4f}"

    printed = json.loads(sennet_score(*files, "--cldice", "--tolerance", "2.5", "--json").stdout)
    assert printed == asdict(expected)


def test_the_command_says_what_is_wrong_and_exits_with_2(tmp_path):
    """One line on stderr, nothing on stdout, no traceback."""
    prediction, truth = masks()
    np.save(tmp_path / "prediction.npy", prediction * np.uint8(7))
    np.save(tmp_path / "truth.npy", truth)
    refused = sennet_score(tmp_path / "prediction.npy", tmp_path / "truth.npy")
    assert (refused.returncode, refused.stdout) == (2, "")
    assert refused.stderr.startswith("error: ")
    assert refused.stderr.count("\n") == 1
