"""Surface Dice: what it says, and that it says the same as the package that scores the competition."""

import math
import warnings

import numpy as np
import pytest
import surface_distance
from scipy import ndimage

from sennet_engine.metrics.surface_area import surface_area_of_code
from sennet_engine.metrics.surface_dice import SurfaceDice, surface_dice

SPACINGS_ZYX = [(1.0, 1.0, 1.0), (2.0, 1.0, 0.5), (1.3, 2.1, 0.7)]


@pytest.fixture
def package_dice(monkeypatch):
    """A function of (prediction, truth, tolerance, spacing) that asks the package `surface-distance`."""
    # The package was written for numpy 1.
    monkeypatch.setattr(np, "Inf", np.inf, raising=False)

    def dice(prediction, truth, tolerance, spacing_zyx):
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            distances = surface_distance.compute_surface_distances(truth, prediction, spacing_zyx)
            return surface_distance.compute_surface_dice_at_tolerance(distances, tolerance)

    return dice


def random_mask(shape_zyx, share, seed):
    return np.random.default_rng(seed).random(shape_zyx) < share


def tubes(shape_zyx, seed):
    """Winding tubes, where two smooth noises are both near 0; some leave the volume through its faces."""
    noises = np.random.default_rng(seed).normal(size=(2, *shape_zyx))
    smooth = [ndimage.gaussian_filter(noise, 3) for noise in noises]
    return np.hypot(*smooth) < 0.01


def pairs():
    shape_zyx = (9, 14, 11)
    some, other = random_mask(shape_zyx, 0.4, 0), random_mask(shape_zyx, 0.4, 1)
    sparse, nearby = random_mask(shape_zyx, 0.01, 2), random_mask(shape_zyx, 0.02, 3)
    empty, full = np.zeros(shape_zyx, bool), np.ones(shape_zyx, bool)
    tube = tubes((24, 40, 37), 4)
    moved = np.roll(tube, (1, 1), (0, 2))
    return {
        "random": (some, other),
        "equal": (some, some),
        "sparse": (sparse, nearby),
        "empty-prediction": (empty, some),
        "empty-truth": (some, empty),
        "full-prediction": (full, some),
        "both-full": (full, full),
        "single-slice": (some[:1], other[:1]),
        "single-voxel": (full[:1, :1, :1], full[:1, :1, :1]),
        "single-column": (some[:, :1, :1], other[:, :1, :1]),
        "tubes": (tube, moved),
        "tubes-random": (tube, random_mask(tube.shape, 0.02, 5)),
    }


@pytest.mark.parametrize("spacing_zyx", SPACINGS_ZYX)
def test_areas_are_those_of_the_package_for_any_spacing(spacing_zyx):
    """All 256 areas equal the package's, and a code's bits may be read from either end."""
    theirs = surface_distance.lookup_tables.create_table_neighbour_code_to_surface_area(spacing_zyx)
    assert surface_area_of_code(spacing_zyx) == pytest.approx(theirs, abs=1e-12)
    assert surface_area_of_code(spacing_zyx) == pytest.approx(theirs[::-1], abs=1e-12)


def test_a_face_has_the_area_of_a_voxel_face():
    """Four voxels above four empty ones are cut by one whole face, with sides as the spacing says."""
    assert surface_area_of_code((2.0, 3.0, 5.0))[0b00001111] == pytest.approx(15)


@pytest.mark.parametrize("tolerance", [0.0, 1.0, 1.5, 2.0])
@pytest.mark.parametrize("name", pairs())
def test_score_equals_the_package_at_unit_spacing(name, tolerance, package_dice):
    """Equal within 1e-6 at tolerance 0 and above, where the package needs a distance transform of the whole volume."""
    prediction, truth = pairs()[name]
    expected = package_dice(prediction, truth, tolerance, (1, 1, 1))
    assert surface_dice(prediction, truth, tolerance=tolerance) == pytest.approx(expected, abs=1e-6)


@pytest.mark.parametrize("tolerance", [0.0, 1.0, 2.2])
@pytest.mark.parametrize("spacing_zyx", SPACINGS_ZYX[1:])
def test_score_equals_the_package_at_other_spacings(spacing_zyx, tolerance, package_dice):
    """Areas and distances both follow the spacing."""
    prediction, truth = pairs()["tubes-random"]
    expected = package_dice(prediction, truth, tolerance, spacing_zyx)
    score = surface_dice(prediction, truth, tolerance=tolerance, spacing_zyx=spacing_zyx)
    assert score == pytest.approx(expected, abs=1e-6)


def test_score_by_hand():
    """A voxel has 8 corner elements; of two neighbouring voxels it shares 4, which are corners there and edges here."""
    one, two = np.zeros((3, 3, 4), bool), np.zeros((3, 3, 4), bool)
    one[1, 1, 1] = two[1, 1, 1:3] = True
    corner, edge = math.sqrt(3) / 8, math.sqrt(2) / 2
    # One voxel: 8 corners. Two voxels: 8 corners and 4 edges. Both are surface at 4 corners of each and at the edges.
    area = 16 * corner + 4 * edge
    shared = (8 * corner) + (4 * corner + 4 * edge)
    assert surface_dice(one, two) == pytest.approx(shared / area)


def test_two_empty_masks_have_no_score():
    """There is no surface to agree on: NaN, as in the package."""
    empty = np.zeros((2, 3, 4), bool)
    assert math.isnan(surface_dice(empty, empty))


def test_any_positive_value_counts():
    """0/1, 0/255, bool and float masks score alike."""
    prediction, truth = pairs()["random"]
    expected = surface_dice(prediction, truth)
    assert surface_dice(prediction.astype(np.uint8) * 255, truth.astype(np.float32)) == expected


def test_planes_may_follow_a_score():
    """A score halfway is that of the planes so far, and does not change what follows."""
    prediction, truth = pairs()["tubes"]
    dice = SurfaceDice(truth.shape[1:], largest_tolerance=1.0)
    for z, planes in enumerate(zip(prediction, truth, strict=True), start=1):
        dice.add_plane(*planes)
        if z == 10:
            assert dice.score(1.0) == surface_dice(prediction[:10], truth[:10], tolerance=1.0)
    assert dice.score(1.0) == surface_dice(prediction, truth, tolerance=1.0)
    assert dice.score(0.0) == surface_dice(prediction, truth)


def test_wrong_use_is_refused():
    """Planes of another shape, masks of different shapes, and a tolerance beyond the largest are errors."""
    dice = SurfaceDice((3, 4))
    with pytest.raises(ValueError, match="shapes"):
        dice.add_plane(np.zeros((3, 4)), np.zeros((3, 5)))
    with pytest.raises(ValueError, match="tolerance 1"):
        dice.score(1.0)
    with pytest.raises(ValueError, match="shapes"):
        surface_dice(np.zeros((2, 3, 4)), np.zeros((1, 3, 4)))
    with pytest.raises(ValueError, match="largest_tolerance"):
        SurfaceDice((3, 4), largest_tolerance=-1)
