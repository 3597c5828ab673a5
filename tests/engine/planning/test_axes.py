"""A volume is looked at along z, y and x."""

import numpy as np
import pytest

from sennet_engine.planning.axes import AXES, axis_first, seen_along, seen_from_z

VOLUME = np.arange(3 * 4 * 5).reshape(3, 4, 5)


def test_the_axis_comes_first_and_the_others_keep_their_order():
    """Along y, rows are z and columns are x; along x, rows are z and columns are y."""
    assert [axis_first(("z", "y", "x"), axis) for axis in AXES] == [("z", "y", "x"), ("y", "z", "x"), ("x", "z", "y")]


@pytest.mark.parametrize("axis", AXES)
def test_planes_of_a_view_have_the_shape_that_is_told(axis):
    """For each axis alike, so that plans and arrays agree."""
    assert seen_along(VOLUME, axis).shape == axis_first(VOLUME.shape, axis)


def test_a_plane_along_an_axis_is_what_slicing_there_gives():
    """Voxel [z, y, x] is pixel (z, x) of plane y along y, and pixel (z, y) of plane x along x."""
    assert (seen_along(VOLUME, "z")[2] == VOLUME[2]).all()
    assert (seen_along(VOLUME, "y")[2] == VOLUME[:, 2, :]).all()
    assert (seen_along(VOLUME, "x")[2] == VOLUME[:, :, 2]).all()


@pytest.mark.parametrize("axis", AXES)
def test_what_is_written_to_a_view_is_in_the_volume_and_looking_back_undoes_it(axis):
    """Nothing is copied either way."""
    volume = VOLUME.copy()
    seen = seen_along(volume, axis)
    seen[1] = -1
    back = seen_from_z(seen, axis)
    assert back.shape == volume.shape
    assert (back == volume).all()
    assert np.shares_memory(back, volume)
    assert np.count_nonzero(volume == -1) == seen[1].size
