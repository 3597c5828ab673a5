"""Connected components, plane by plane: as many as a look at the whole array finds."""

import numpy as np
import pytest
from scipy import ndimage

from sennet_engine.metrics import components
from sennet_engine.metrics.components import ComponentCounts, Components


def tubes(shape_zyx, seed):
    """Winding tubes, where two smooth noises are both near 0; some leave the volume through its faces."""
    noises = np.random.default_rng(seed).normal(size=(2, *shape_zyx))
    return np.hypot(*[ndimage.gaussian_filter(noise, 3) for noise in noises]) < 0.01


def counted(mask):
    pieces = Components(mask.shape[1:])
    for plane in mask:
        pieces.add_plane(plane)
    return pieces.counts()


def counted_whole(mask):
    """By scipy, which labels the whole array."""
    labels, count = ndimage.label(mask, np.ones((3, 3, 3)))
    return ComponentCounts(count, int(np.bincount(labels.ravel())[1:].max(initial=0)))


@pytest.fixture(params=[1, 100, components.RUNS_A_BATCH])
def batch(request, monkeypatch):
    """Planes are linked one by one, a few at a time, and all at once."""
    monkeypatch.setattr(components, "RUNS_A_BATCH", request.param)


@pytest.mark.parametrize("share", [0.01, 0.03, 0.05, 0.1, 0.3, 0.9])
@pytest.mark.parametrize("shape_zyx", [(20, 30, 25), (1, 30, 25), (20, 1, 25), (20, 30, 1), (40, 3, 2)])
def test_random_masks_have_as_many_as_scipy_finds(shape_zyx, share, batch):
    """From single voxels, over shares where pieces begin to join, to one piece that fills nearly all."""
    mask = np.random.default_rng(1).random(shape_zyx) < share
    assert counted(mask) == counted_whole(mask)


@pytest.mark.parametrize("seed", range(3))
def test_tubes_have_as_many_as_scipy_finds(seed, batch):
    """Tubes end, and join others many planes after they began."""
    mask = tubes((48, 40, 37), seed)
    expected = counted_whole(mask)
    assert expected.components > 3
    assert counted(mask) == expected


def test_an_empty_mask_has_none_and_a_full_one_has_one():
    """The largest piece of an empty mask has no voxels."""
    mask = np.zeros((3, 4, 5), bool)
    assert counted(mask) == ComponentCounts(0, 0)
    assert counted(~mask) == ComponentCounts(1, 60)


@pytest.mark.parametrize("other", [(1, 1, 1), (1, 0, 2), (1, 2, 0), (1, 1, 0), (0, 1, 2), (0, 2, 2)])
def test_voxels_that_share_a_corner_are_one_piece(other):
    """Two voxels in diagonal neighbourhood are 26-connected, across planes and within."""
    mask = np.zeros((2, 3, 3), bool)
    mask[0, 1, 1] = mask[other] = True
    assert counted(mask) == ComponentCounts(1, 2)


def test_the_end_of_a_row_does_not_touch_the_start_of_the_next():
    """Nor the end of a plane the start of the next one."""
    mask = np.zeros((3, 3, 4), bool)
    mask[0, 0, -1] = mask[0, 1, 0] = mask[1, -1, -1] = mask[2, 0, 0] = True
    assert counted(mask) == ComponentCounts(4, 1)


def test_an_empty_plane_parts_what_lies_above_and_below(batch):
    """Two full planes with an empty one between are two pieces, two with nothing between are one."""
    full, empty = np.ones((4, 5), bool), np.zeros((4, 5), bool)
    assert counted(np.stack([full, empty, full])) == ComponentCounts(2, 20)
    assert counted(np.stack([empty, full, full, empty, empty])) == ComponentCounts(1, 40)


def test_pieces_that_join_late_are_one():
    """A fork's prongs are two pieces until the plane where they meet, and a count in between does not change that."""
    mask = np.zeros((5, 3, 7), bool)
    mask[:, 1, 0] = mask[:, 1, 6] = mask[4, 1, :] = True
    pieces = Components(mask.shape[1:])
    for plane in mask[:4]:
        pieces.add_plane(plane)
    assert pieces.counts() == ComponentCounts(2, 4)
    pieces.add_plane(mask[4])
    assert pieces.counts() == ComponentCounts(1, 15)


def test_a_plane_of_another_shape_is_refused():
    """The message names both shapes."""
    with pytest.raises(ValueError, match=r"\(3, 5\).*\(3, 4\)"):
        Components((3, 4)).add_plane(np.zeros((3, 5), bool))
