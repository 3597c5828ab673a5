"""The picture of a finished run."""

import tracemalloc

import numpy as np
import pytest
from PIL import Image
from scipy import ndimage

from sennet_engine.results.preview import LONG_SIDE_PX, OUTLINE, Preview, middle_lines


def volume(shape_zyx, *, seed=0):
    """A grey volume, and a mask with one box in it whose plane z = depth // 4 is the largest."""
    image = np.random.default_rng(seed).integers(90, 110, shape_zyx, np.uint8)
    depth, height, width = shape_zyx
    mask = np.zeros(shape_zyx, bool)
    mask[: depth // 2 + 1, height // 4 : height // 2, width // 4 : width // 2] = True
    mask[depth // 4, height // 4 : height // 2 + 1, width // 4 : width // 2] = True
    return image, mask


def picture(tmp_path, image, mask, *, order=None, **options):
    preview = Preview(image.shape, **options)
    for z in range(len(image)) if order is None else order:
        preview.add(z, mask[z], middle_lines(image[z]))
    preview.save(tmp_path / "preview.png", grey_of_plane=lambda z: image[z])
    return np.asarray(Image.open(tmp_path / "preview.png"))


def outlined(pixels):
    return (pixels == OUTLINE).all(axis=-1)


@pytest.mark.parametrize(
    "shape_zyx", [(1, 1, 1), (1, 300, 200), (3, 40, 50), (8, 700, 20), (40, 48, 56), (600, 30, 20), (2, 1700, 1500)]
)
def test_fits_the_page_for_any_shape(tmp_path, shape_zyx):
    """Thin, tall, tiny and large volumes; at most 1600 pixels on the long side, and never a postage stamp."""
    height, width, channels = picture(tmp_path, *volume(shape_zyx)).shape
    assert channels == 3
    assert 240 < max(height, width) <= LONG_SIDE_PX


@pytest.mark.parametrize("shape_zyx", [(11, 40, 50), (3000, 30, 20), (6, 1700, 1500)])
def test_the_order_of_planes_does_not_show(tmp_path, shape_zyx):
    """The same picture from the first plane to the last, in reverse and shuffled, also where planes are averaged."""
    image, mask = volume(shape_zyx)
    expected = picture(tmp_path, image, mask)
    assert np.array_equal(picture(tmp_path, image, mask, order=range(shape_zyx[0])[::-1]), expected)
    shuffled = np.random.default_rng(1).permutation(shape_zyx[0])
    assert np.array_equal(picture(tmp_path, image, mask, order=map(int, shuffled)), expected)


@pytest.mark.parametrize("rows", [(0, 1), (1, 3), (800, 802), (1519, 1520)])
@pytest.mark.parametrize("columns", [(0, 2), (3, 5), (1515, 1520)])
def test_a_vessel_is_drawn_where_it_is(tmp_path, rows, columns):
    """Of a plane that is averaged down by two, those pixels are white and outlined in which any voxel is vessel."""
    image, mask = np.full((1, 1520, 1520), 100, np.uint8), np.zeros((1, 1520, 1520), bool)
    mask[0, slice(*rows), slice(*columns)] = True
    pixels = picture(tmp_path, image, mask)
    slice_panel, projection = pixels[34:794, 12:772], pixels[34:794, 784:1544]
    vessel = mask[0].reshape(760, 2, 760, 2).any(axis=(1, 3))
    assert np.array_equal((projection == 255).all(axis=-1), vessel)
    assert np.array_equal(outlined(slice_panel), ndimage.binary_dilation(vessel, np.ones((3, 3))) & ~vessel)


@pytest.mark.parametrize("order", [(0, 1, 2, 3), (3, 2, 1, 0), (2, 0, 3, 1)])
def test_the_lowest_of_the_planes_with_most_vessel_is_shown_alone(tmp_path, order):
    """What other planes hold is not outlined in it, wherever it lies and whichever plane comes first."""
    image, mask = np.full((4, 40, 40), 100, np.uint8), np.zeros((4, 40, 40), bool)
    mask[0, 2:8, 2:8] = mask[1, 10:20, 20:30] = mask[2, 25:35, 5:15] = mask[3, 35:37, 30:33] = True
    alone = mask.copy()
    alone[[0, 2, 3]] = False
    shown, expected = [picture(tmp_path, image, one, order=order)[34:354, 12:332] for one in (mask, alone)]
    assert np.array_equal(shown, expected)


def test_grey_levels_are_read_for_the_plane_that_is_shown_alone(tmp_path):
    """Nothing but the middle lines and that one plane is needed."""
    image, mask = volume((20, 30, 30))
    asked = []
    preview = Preview(image.shape)
    for z in range(20):
        preview.add(z, mask[z], middle_lines(image[z]))
    preview.save(tmp_path / "preview.png", grey_of_plane=lambda z: asked.append(z) or image[z])
    assert asked == [5]


def test_the_mask_is_outlined_and_not_covered(tmp_path):
    """A line runs around the box in the first panel, and its inside keeps the grey of the image."""
    image, mask = volume((1, 40, 40))
    image[:] = 100
    pixels = picture(tmp_path, image, mask)
    rows, columns = np.nonzero(outlined(pixels))
    # 8 pixels a voxel, a box of 11 by 10 voxels, and a line of 2 pixels outside it.
    assert (np.ptp(rows) + 1, np.ptp(columns) + 1) == (11 * 8 + 4, 10 * 8 + 4)
    inside = pixels[rows.min() + 2 : rows.max() - 1, columns.min() + 2 : columns.max() - 1]
    assert (inside == 100).all()


def test_the_plane_with_most_vessel_is_shown(tmp_path):
    """The grey of plane 5 is on the page although it is not the middle one."""
    image, mask = volume((20, 30, 30))
    image[:] = 100
    image[5] = 200
    pixels = picture(tmp_path, image, mask)
    assert (pixels == 200).all(axis=-1).sum() > 20_000


def test_without_vessel_the_middle_plane_is_shown(tmp_path):
    """Nothing is outlined, and the projection is black."""
    image, mask = volume((20, 30, 30))
    image[:] = 100
    image[10] = 200
    pixels = picture(tmp_path, image, mask & False)
    assert (pixels == 200).all(axis=-1).sum() > 20_000
    assert not outlined(pixels).any()
    assert (pixels == 0).all(axis=-1).sum() == 240 * 240


def test_the_projection_is_brighter_where_more_vessel_lies_along_z(tmp_path):
    """One voxel is already well visible, and the longest column is white."""
    image, mask = np.full((9, 30, 30), 100, np.uint8), np.zeros((9, 30, 30), bool)
    mask[:, 3, 3] = mask[8, 20, 20] = True
    pixels = picture(tmp_path, image, mask)
    panel = pixels[34 : 34 + 240, 12 + 240 + 12 :][:, :240, 0].reshape(30, 8, 30, 8)[:, 4, :, 4]
    assert panel[3, 3] == 255
    assert 100 < panel[20, 20] < 200
    assert np.count_nonzero(panel) == 2


def test_a_thin_vessel_survives_a_big_plane(tmp_path):
    """One voxel in 3000 × 3000 is still outlined, and still in the projection."""
    image, mask = np.full((1, 3000, 3000), 100, np.uint8), np.zeros((1, 3000, 3000), bool)
    mask[0, 1234, 2345] = True
    pixels = picture(tmp_path, image, mask)
    assert outlined(pixels[:, :780]).any()
    assert (pixels[34:, 792:1540] == 255).all(axis=-1).any()


def test_voxels_keep_their_proportions(tmp_path):
    """A z step of three times the pixel makes the side views three times as high."""
    image, mask = volume((20, 40, 40))
    cubes = picture(tmp_path, image, mask)
    sticks = picture(tmp_path, image, mask, voxel_size_um=(150.0, 50.0, 50.0))
    assert sticks.shape[0] - cubes.shape[0] == 2 * 20 * 8


def test_a_single_plane_has_no_side_views(tmp_path):
    """Two panels side by side: a plane along y or x of one plane would be a line."""
    height, width, _ = picture(tmp_path, *volume((1, 40, 40))).shape
    assert width > 2 * 320
    assert height < 400


def test_memory_does_not_grow_with_the_volume():
    """A teravoxel volume is prepared for in a few megabytes."""
    tracemalloc.start()
    preview = Preview((100_000, 10_000, 10_000))
    kept, _ = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert preview
    assert kept < 20e6
