"""Where the organ may be: what is left out must be background, whatever the scan looks like."""

from functools import lru_cache

import numpy as np
import numpy.typing as npt
import pytest
from scipy import ndimage

from sennet_engine.planning.cells import CELL, Occupancy
from sennet_engine.survey.occupancy import surveyed_occupancy
from sennet_engine.survey.separation import separation
from sennet_engine.volumes.volume import ArrayVolume, Planes
from sennet_engine.window import Window, surveyed_window
from sennet_trainer.phantom.phantom import Phantom, PhantomSettings, make_phantom

Mask = npt.NDArray[np.bool_]


@lru_cache(maxsize=8)
def phantom(kidney: int, seed: int = 1) -> Phantom:
    return make_phantom(PhantomSettings((20, 400, 320), kidney=kidney, seed=seed))  # type: ignore[arg-type]


def occupancy_of(image: Planes, voxel_size_um: float | None = 50.0) -> Occupancy:
    size = None if voxel_size_um is None else (voxel_size_um,) * 3
    volume = ArrayVolume(image, voxel_size_um=size)
    return surveyed_occupancy(volume, surveyed_window(volume))


def left_out(occupancy: Occupancy) -> Mask:
    """[Z, Y, X] voxels."""
    return np.stack([~occupancy.voxels_of_plane("z", z) for z in range(occupancy.shape_zyx[0])])


def scene(
    shape: tuple[int, int, int],
    organ: tuple[slice, slice, slice],
    *,
    gel: float = 60,
    tissue: float = 120,
    noise: float = 3,
) -> Planes:
    """Noisy gel around a block of noisy tissue, uint8."""
    image = np.full(shape, gel, np.float32)
    image[organ] = tissue
    image += np.random.default_rng(0).normal(0, noise, shape).astype(np.float32)
    return np.clip(image, 0, 255).astype(np.uint8)


def inside_of(image: Planes) -> tuple[int, int, int]:
    """Row and column of the organ's deepest point in plane 0, and how far it is from there to two thirds of the rim."""
    bright = ndimage.uniform_filter(image[0].astype(np.float32), 9)
    depth = ndimage.distance_transform_cdt(ndimage.binary_fill_holes(bright > (bright.min() + bright.max()) / 2))
    row, column = np.unravel_index(int(depth.argmax()), depth.shape)
    return int(row), int(column), int(depth.max()) * 2 // 3


@pytest.mark.parametrize("kidney", [1, 2, 3])
def test_no_vessel_of_a_kidney_is_left_out_but_much_of_the_gel_is(kidney: int) -> None:
    """Arteries, veins and cavities of all three looks lie within the cells, which are far from being all."""
    found = occupancy_of(phantom(kidney).image)
    out = left_out(found)
    assert not (out & (phantom(kidney).labels > 0)).any()
    assert not (out & (phantom(kidney).veins > 0)).any()
    assert found.share < 0.75
    assert found.reason == ""


@pytest.mark.parametrize("change", ["ramp", "noise", "dim", "bar"])
def test_bad_light_costs_no_vessel(change: str) -> None:
    """Uneven light, noise, little contrast or a thing brighter than tissue may cost time, but never a vessel."""
    image, labels = phantom(3).image.astype(np.float32), phantom(3).labels > 0
    draw = np.random.default_rng(0)
    changed = {
        "ramp": image + image.std() * np.linspace(-0.5, 0.5, image.shape[1], dtype=np.float32)[:, None],
        "noise": image + image.std() * draw.standard_normal(image.shape, np.float32),
        "dim": image.mean() + np.float32(0.02) * (image - image.mean()),
        "bar": np.where(np.arange(image.shape[1])[:, None] < 48, image + 40 * image.std(), image),
    }[change]
    assert not (left_out(occupancy_of(changed.astype(np.float32))) & labels).any()


@pytest.mark.parametrize("organ", [np.s_[:, 160:400, 160:400], np.s_[:, 40:470, 130:470]])
def test_something_very_bright_does_not_make_tissue_background(organ: tuple[slice, slice, slice]) -> None:
    """Beside a holder ten times as bright as tissue, gel alone is left out, however much tissue there is."""
    image = scene((1, 640, 640), organ, gel=12, tissue=26, noise=1)
    image[:, 40:600, 30:100] = 250
    found = occupancy_of(image)
    assert not left_out(found)[organ].any()
    assert found.share < 0.8


def test_of_three_kinds_the_darkest_alone_is_dark() -> None:
    """Gel and tissue, taken together, are not what a holder stands out from."""
    draw = np.random.default_rng(0)
    levels = [draw.normal(mean, 0.5, 400) for mean in (12, 26, 250)]
    kinds = separation(np.concatenate(levels).astype(np.float32), np.full(1200, 0.5, np.float32))
    assert kinds is not None
    assert kinds.dark == pytest.approx(12, abs=0.2)
    assert kinds.contrast == pytest.approx(14, abs=0.3)


def test_slow_changes_of_light_are_no_organ() -> None:
    """A field that is brightest in its middle and fades smoothly has no background."""
    away = np.hypot(*(axis - 320 for axis in np.ogrid[:640, :640]))
    image = scene((1, 640, 640), np.s_[:], tissue=0, noise=1) + (200 - away / 2.5).clip(0, 255).astype(np.uint8)
    found = occupancy_of(image)
    assert found.cells.all()
    assert "cannot be told apart" in found.reason


@pytest.mark.parametrize("kidney", [1, 2, 3])
def test_the_inside_of_an_organ_is_computed_everywhere(kidney: int) -> None:
    """A crop that holds tissue alone, with all its vessels, leaves nothing out and says why."""
    image = phantom(kidney).image
    row, column, reach = inside_of(image)
    found = occupancy_of(image[:, row - reach : row + reach, column - reach : column + reach])
    assert found.cells.all()
    assert found.reason


def test_a_bright_body_amid_tissue_does_not_make_tissue_background() -> None:
    """In a crop from inside of an organ the lumens tell that what is less bright is tissue all the same."""
    image = scene((1, 400, 400), np.s_[:], tissue=60)
    image[0, 150:250, 150:250] = 250
    for row, column in np.random.default_rng(2).integers(0, 380, (20, 2)):
        image[0, row : row + 9, column : column + 9] = 20
    found = occupancy_of(image)
    assert found.cells.all()
    assert "dark spots" in found.reason


@pytest.mark.parametrize("kidney", [1, 3])
def test_gel_alone_is_computed_everywhere(kidney: int) -> None:
    """Without an organ there is nothing to tell gel from."""
    settings = PhantomSettings((17, 256, 256), kidney=kidney, seed=2, content="gel")  # type: ignore[arg-type]
    found = occupancy_of(make_phantom(settings).image)
    assert found.cells.all()
    assert "cannot be told apart" in found.reason


def test_an_organ_darker_than_its_surroundings_is_computed() -> None:
    """The dark part is left out only where it surrounds the bright one."""
    image = scene((17, 320, 320), np.s_[:, 64:256, 64:256], gel=150, tissue=60)
    assert occupancy_of(image).cells.all()
    at_the_edge = scene((17, 320, 320), np.s_[:, 64:256, 160:], gel=150, tissue=60)
    found = occupancy_of(at_the_edge)
    assert found.cells.all()
    assert "edges" in found.reason


def test_a_constant_volume_is_computed_everywhere() -> None:
    """A window without width tells nothing."""
    found = occupancy_of(np.full((3, 100, 100), 7, np.uint16))
    assert found.cells.all()
    assert "grey level 7" in found.reason


def test_all_that_touches_an_organ_is_kept() -> None:
    """Tissue, even a corner of a cell of it, the cells around, a wide hollow within and a narrow gap at the edge."""
    image = scene((1, 640, 640), np.s_[:, 203:421, 203:421])
    image[:, 230:370, 230:370] = scene((1, 140, 140), np.s_[:, :0])  # a hollow of 140, closed
    image[:, 290:350, 390:421] = scene((1, 60, 31), np.s_[:, :0])  # a bay of 60, open to the gel
    out = left_out(occupancy_of(image))[0]
    assert not out[203:421, 203 - CELL : 421].any()
    assert not out[203 - CELL : 421 + CELL, 203:421].any()
    assert out[:128].all()
    assert out.mean() > 0.75


def test_a_thin_artery_in_the_gel_is_kept() -> None:
    """A bright wall of two pixels around a lumen as dark as gel, well away from any tissue."""
    image = scene((1, 640, 640), np.s_[:, 300:600, 300:600])
    away = np.hypot(*(axis - 120 for axis in np.ogrid[:640, :640]))
    image[0][(away > 12) & (away < 15)] = 135
    assert not left_out(occupancy_of(image))[0][away < 15].any()


def test_a_small_bright_body_in_the_gel_is_kept() -> None:
    """Four pixels of tissue are a sixteenth of a cell, and the end of a vessel."""
    image = scene((1, 640, 640), np.s_[:, 300:600, 300:600], noise=6)
    image[0, 104:108, 104:108] = 125
    assert not left_out(occupancy_of(image))[0, 96:112, 96:112].any()


def test_specks_of_gel_are_left_out_but_strands_are_kept() -> None:
    """Cells that are rough without being bright are organ where there are several of them side by side."""
    image = scene((1, 640, 640), np.s_[:, 300:600, 300:600])
    image[0, 100:102, 100:102] = 90
    image[0, 500, 40:200] = 85
    out = left_out(occupancy_of(image))[0]
    assert out[:256, :256].all()
    assert not out[500, 40:200].any()


@pytest.mark.parametrize("planes", [np.s_[0:3], np.s_[61:64], np.s_[16:17], np.s_[20:40]])
def test_thin_parts_along_z_are_kept(planes: slice) -> None:
    """An organ that fills a few planes alone, at either end too, is found where a surveyed plane meets it."""
    image = scene((64, 256, 256), np.s_[:, 96:176, 96:176])
    shown = np.zeros(64, bool)
    shown[planes] = True
    image[~shown] = scene((64, 256, 256), np.s_[:0])[~shown]
    out = left_out(occupancy_of(image))
    assert not out[planes, 96:176, 96:176].any()
    assert out[:, :64].all()


def test_a_layer_takes_what_both_of_its_ends_show() -> None:
    """A vessel that is at one place in plane 0 and at another in plane 16 is kept at both in all planes between."""
    image = scene((33, 480, 480), np.s_[:, 170:310, 170:310])
    image[0, 20:50, 20:50] = 120
    image[16, 400:430, 20:50] = 120
    out = left_out(occupancy_of(image))
    assert not out[:16, 20:50, 20:50].any()
    assert not out[:32, 400:430, 20:50].any()
    assert out[16:, 20:50, 20:50].all()


def test_only_surveyed_planes_are_read() -> None:
    """Planes 0, 16, 32, ... and the last one, each once."""
    read = []

    class Watched(ArrayVolume):
        def _read_plane(self, z: int) -> Planes:
            read.append(z)
            return super()._read_plane(z)

    surveyed_occupancy(Watched(scene((60, 160, 160), np.s_[:, 60:100, 60:100])), Window(40, 140))
    assert read == [0, 8, 16, 24, 32, 40, 48, 56, 59]


def test_all_voxel_types_give_the_same_cells() -> None:
    """A scan in uint8, uint16 and float32 has one organ, and a second look finds the same."""
    image = scene((17, 400, 330), np.s_[:, 100:300, 90:250])
    expected = occupancy_of(image).cells
    assert 0.2 < expected.mean() < 0.5
    np.testing.assert_array_equal(occupancy_of(image).cells, expected)
    np.testing.assert_array_equal(occupancy_of(image.astype(np.uint16) * 256).cells, expected)
    np.testing.assert_array_equal(occupancy_of(image.astype(np.float32) / 255 - 3).cells, expected)


def test_padding_is_left_out_even_around_an_organ_that_fills_the_rest() -> None:
    """A masked volume: nothing but tissue, and zeros around it."""
    image = np.zeros((17, 480, 480), np.uint16)
    image[:, 160:320, 160:320] = scene((17, 160, 160), np.s_[:]).astype(np.uint16) * 100
    found = occupancy_of(image)
    assert not left_out(found)[:, 160:320, 160:320].any()
    assert found.share < 0.25


def test_small_voxels_widen_what_counts_as_a_gap() -> None:
    """A bay of 200 voxels is a vessel's width at 20 µm, and background at 50 µm."""
    image = scene((1, 960, 960), np.s_[:, 200:760, 200:760])
    image[:, 380:580, 500:760] = scene((1, 200, 260), np.s_[:, :0])
    at_50, at_20 = (left_out(occupancy_of(image, size))[0] for size in (50.0, 20.0))
    assert at_50[480, 700]
    assert not at_20[480, 700]
    assert at_20[:100].all()


@pytest.mark.parametrize("shape", [(1, 1, 1), (2, 5, 300), (40, 17, 33)])
def test_volumes_smaller_than_a_few_cells_are_computed_everywhere(shape: tuple[int, int, int]) -> None:
    """There is no room for background in them."""
    image = np.random.default_rng(1).integers(0, 255, shape).astype(np.uint8)
    assert occupancy_of(image).cells.all()
