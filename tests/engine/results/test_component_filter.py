"""Small components are removed however the volume is cut."""

import itertools
import tracemalloc

import numpy as np
import pytest
from scipy import ndimage

from sennet_engine.results.component_filter import without_small_components


def filtered(mask, min_voxels, planes):
    """The mask without its small components, and how many components and voxels were removed: in chunks of `planes`."""
    chunks = [mask[z : z + planes] for z in range(0, len(mask), planes)]
    parts = list(without_small_components(chunks.__getitem__, len(chunks), min_voxels=min_voxels))
    assert [part.mask.shape for part in parts] == [chunk.shape for chunk in chunks]
    return (
        np.concatenate([part.mask for part in parts]),
        sum(part.removed_components for part in parts),
        sum(part.removed_voxels for part in parts),
    )


def filtered_whole(mask, min_voxels):
    """By scipy, which labels the whole array."""
    labels, count = ndimage.label(mask, np.ones((3, 3, 3)))
    voxels = np.bincount(labels.ravel(), minlength=count + 1)
    is_large = voxels >= min_voxels
    is_large[0] = False
    small = voxels[1:][~is_large[1:]]
    return is_large[labels], small.size, int(small.sum())


def assert_filtered(mask, min_voxels, planes):
    expected, got = filtered_whole(mask, min_voxels), filtered(mask, min_voxels, planes)
    assert np.array_equal(got[0], expected[0])
    assert got[1:] == expected[1:]


@pytest.mark.parametrize("planes", [1, 2, 7, 40])
@pytest.mark.parametrize("share", [0, 0.01, 0.03, 0.06, 0.1, 0.3, 0.9, 1])
@pytest.mark.parametrize("shape_zyx", [(40, 20, 25), (40, 1, 25), (40, 20, 1), (1, 20, 25), (40, 1, 1)])
def test_noise_is_filtered_as_by_scipy(shape_zyx, share, planes):
    """From an empty mask over shares where pieces begin to join to a full one, in chunks of any thickness."""
    mask = np.random.default_rng(3).random(shape_zyx) < share
    for min_voxels in (1, 2, 4, 30, 5000):
        assert_filtered(mask, min_voxels, planes)


@pytest.mark.parametrize("planes", [1, 3, 16])
@pytest.mark.parametrize("seed", range(2))
def test_tubes_are_filtered_as_by_scipy(seed, planes):
    """Tubes that wind through many chunks, end, and join others long after they began."""
    noises = np.random.default_rng(seed).normal(size=(2, 48, 40, 37))
    mask = np.hypot(*[ndimage.gaussian_filter(noise, 3) for noise in noises]) < 0.01
    sizes = np.bincount(ndimage.label(mask, np.ones((3, 3, 3)))[0].ravel())[1:]
    assert sizes.size > 3
    for min_voxels in sizes:
        assert_filtered(mask, int(min_voxels), planes)


@pytest.mark.parametrize("rows_columns", [*itertools.product((0, 1, 2), repeat=2)])
def test_neighbours_in_all_directions_hold_together_across_a_face(rows_columns):
    """Two voxels that share a face, an edge or a corner across the cut are one component of two."""
    mask = np.zeros((2, 3, 3), bool)
    mask[0, 1, 1] = mask[(1, *rows_columns)] = True
    assert np.array_equal(filtered(mask, 2, 1)[0], mask)
    assert not filtered(mask, 3, 1)[0].any()


@pytest.mark.parametrize("step", [(1, 1), (1, -1), (-1, 1), (0, 1), (1, 0), (0, 0)])
def test_a_thread_of_single_voxels_is_followed_from_plane_to_plane(step):
    """One voxel a plane, each beside the last: a component of as many voxels as planes, and not one fewer."""
    mask = np.zeros((12, 12, 12), bool)
    for z in range(12):
        mask[z, step[0] * z - (step[0] < 0), step[1] * z - (step[1] < 0)] = True
    for planes in (1, 2, 5, 12):
        assert np.array_equal(filtered(mask, 12, planes)[0], mask)
        assert filtered(mask, 13, planes)[1:] == (1, 12)


def test_voxels_at_opposite_edges_do_not_touch():
    """The end of a row is no neighbour of the start of the next, nor of the other side of the next plane."""
    mask = np.zeros((2, 4, 5), bool)
    mask[0, 0, 4] = mask[1, 1, 0] = mask[0, 3, 2] = mask[1, 0, 2] = True
    assert filtered(mask, 2, 1)[1:] == (4, 4)


@pytest.mark.parametrize("meets", [0, 6, 11])
@pytest.mark.parametrize("planes", [1, 4, 12])
def test_arms_that_meet_in_one_plane_are_one(meets, planes):
    """Two arms through all planes, 12 voxels each, and a bridge of 3 in the first, a middle or the last plane."""
    mask = np.zeros((12, 3, 7), bool)
    mask[:, 1, 1] = mask[:, 1, 5] = True
    assert filtered(mask, 13, planes)[1:] == (2, 24)
    mask[meets, 1, 2:5] = True
    assert np.array_equal(filtered(mask, 27, planes)[0], mask)
    assert filtered(mask, 28, planes)[1:] == (1, 27)


def test_what_is_small_at_first_grows_large_in_a_later_chunk():
    """A voxel that is the tip of a thread survives, one beside it that is not goes."""
    mask = np.zeros((30, 9, 9), bool)
    mask[:, 2, 2] = True
    mask[29] |= np.ones((9, 9), bool)
    mask[0, 6, 6] = True
    expected = mask.copy()
    expected[0, 6, 6] = False
    assert np.array_equal(filtered(mask, 100, 1)[0], expected)


@pytest.mark.parametrize("shape_zyx", [*itertools.product((1, 3, 8), repeat=3)])
def test_a_grid_of_single_voxels_is_labelled_in_arrays_of_any_shape(shape_zyx):
    """As many components as there can be: thin arrays are the hardest to reserve labels for."""
    mask = np.zeros(shape_zyx, bool)
    mask[::2, ::2, ::2] = True
    for planes in (1, 3, 8):
        assert filtered(mask, 2, planes)[1:] == (mask.sum(), mask.sum())


def test_the_given_mask_is_not_written_to():
    """Chunks may be read-only views of something that is still needed."""
    mask = np.random.default_rng(0).random((8, 20, 20)) < 0.05
    mask.flags.writeable = False
    assert filtered(mask, 3, 3)[1] > 0


def test_chunks_come_as_soon_as_they_are_decided():
    """A thread of 5 planes is known to be small soon after its end, not when all chunks are read."""
    mask = np.zeros((1000, 4, 4), bool)
    mask[10:15, 2, 2] = True
    read = []

    def plane(z):
        read.append(z)
        return mask[z : z + 1]

    for z, _ in enumerate(without_small_components(plane, 1000, min_voxels=20)):
        assert max(read) <= z + 15


def test_memory_does_not_grow_with_the_planes():
    """Eight times the planes of noise, with 60,000 components more, take at most 5 % more at the peak."""
    noise = np.random.default_rng(0).random((64, 64, 64)) < 0.03
    peaks = []
    for chunks in (16, 128):
        tracemalloc.start()
        removed = 0
        parts = without_small_components(
            lambda chunk: np.roll(noise, chunk, axis=1)[chunk % 8 * 8 :][:8], chunks, min_voxels=12
        )
        for part in parts:
            removed += part.removed_components
        peaks.append(tracemalloc.get_traced_memory()[1])
        tracemalloc.stop()
    assert removed > 60_000
    assert peaks[1] < 1.05 * peaks[0]


def test_what_is_not_decided_yet_takes_no_planes():
    """A thread that is too short up to its last voxel holds 400 planes back, in less memory than 30 of them."""
    mask = np.zeros((400, 100, 100), bool)
    mask[:, 50, 50] = True
    tracemalloc.start()
    parts = without_small_components(lambda z: mask[z : z + 1], 400, min_voxels=401)
    assert not any(part.mask.any() for part in parts)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 30 * 102 * 102 * 4
