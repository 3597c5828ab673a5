"""Volumes: every layout reads the same, and what cannot be read is refused before any work."""

import struct

import imagecodecs
import numpy as np
import pytest
import tifffile

from sennet_engine.errors import ConfigError, VolumeError
from sennet_engine.volumes.open import open_volume, voxel_size_from_text

DRAW = np.random.default_rng(0)
STACK = DRAW.integers(0, 60000, (11, 20, 30), dtype=np.uint16)


def read(path):
    """The whole volume at `path`."""
    with open_volume(path) as volume:
        return volume.read_planes(0, volume.shape_zyx[0])


LAYOUTS = {
    "plain": {},
    "compressed": {"compression": "zlib"},
    "lzw": {"compression": "lzw", "predictor": True},
    "bigtiff": {"bigtiff": True, "compression": "zlib"},
    "big_endian": {"byteorder": ">"},
    "tiled": {"tile": (16, 16), "compression": "zlib"},
    "ome": {"ome": True, "metadata": {"axes": "ZYX"}},
    "ome_zct": {"ome": True, "metadata": {"axes": "ZCYX"}},
    "imagej": {"imagej": True},
}


def write(path, layout):
    """STACK in one of the layouts."""
    stack = STACK[:, None] if layout == "ome_zct" else STACK
    tifffile.imwrite(path, stack, photometric="minisblack", **LAYOUTS[layout])


@pytest.mark.parametrize("layout", LAYOUTS)
def test_every_tiff_layout_reads_the_same(tmp_path, layout):
    """Compression, byte order, tiling and metadata flavour do not change the voxels."""
    write(tmp_path / "a.tif", layout)
    assert (read(tmp_path / "a.tif") == STACK).all()


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16, np.float32])
def test_npy_tiff_and_folders_keep_voxels_and_type(tmp_path, dtype):
    """The same array comes back from each container, in its own type."""
    stack = STACK.astype(dtype)
    np.save(tmp_path / "a.npy", stack)
    tifffile.imwrite(tmp_path / "a.tif", stack, photometric="minisblack")
    (tmp_path / "slices").mkdir()
    for z, plane in enumerate(stack):
        tifffile.imwrite(tmp_path / "slices" / f"s_{z}.tif", plane, photometric="minisblack")
    for name in ("a.npy", "a.tif", "slices"):
        planes = read(tmp_path / name)
        assert planes.dtype == dtype
        assert (planes == stack).all()


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
def test_png_slices_come_in_the_order_of_their_numbers(tmp_path, dtype):
    """Slice 10 follows slice 9, and ids are the file names."""
    stack = STACK.astype(dtype)
    for z, plane in enumerate(stack):
        (tmp_path / f"slice_{z}.png").write_bytes(imagecodecs.png_encode(plane))
    (tmp_path / "notes.txt").write_text("not a slice")
    with open_volume(tmp_path) as volume:
        assert (volume.read_planes(0, 11) == stack).all()
        assert volume.plane_ids == [f"slice_{z}" for z in range(11)]


def test_a_competition_folder_is_named_after_its_kidney(tmp_path):
    """kidney_6/images/0500.tif is plane 0500 of kidney_6, whatever number it starts at."""
    folder = tmp_path / "kidney_6" / "images"
    folder.mkdir(parents=True)
    for z in (500, 501):
        tifffile.imwrite(folder / f"{z:04d}.tif", STACK[0])
    with open_volume(folder) as volume:
        assert (volume.name, volume.plane_ids) == ("kidney_6", ["0500", "0501"])


VOXEL_SIZES = {
    "ome": ({"ome": True, "metadata": {"axes": "ZYX", "PhysicalSizeX": 50.0, "PhysicalSizeXUnit": "µm",
             "PhysicalSizeY": 0.051, "PhysicalSizeYUnit": "mm", "PhysicalSizeZ": 63.08}}, (63.08, 51.0, 50.0)),
    "imagej": ({"imagej": True, "resolution": (1 / 50, 1 / 50), "metadata": {"spacing": 63.08, "unit": "um"}},
               (63.08, 50.0, 50.0)),
    "centimetres": ({"resolution": (200, 200), "resolutionunit": "CENTIMETER"}, (50.0, 50.0, 50.0)),
    "printer_dots": ({"resolution": (72, 72), "resolutionunit": "INCH"}, None),
    "nothing": ({}, None),
}  # fmt: skip


@pytest.mark.parametrize("source", VOXEL_SIZES)
def test_voxel_size_is_what_the_file_states(tmp_path, source):
    """OME, ImageJ and centimetre tags are believed; printer resolutions are not; --voxel-size overrides."""
    options, expected = VOXEL_SIZES[source]
    tifffile.imwrite(tmp_path / "a.tif", STACK, photometric="minisblack", **options)
    with open_volume(tmp_path / "a.tif") as volume:
        assert volume.voxel_size_um == (expected and pytest.approx(expected))
    with open_volume(tmp_path / "a.tif", voxel_size_um=(1, 2, 3)) as volume:
        assert volume.voxel_size_um == (1, 2, 3)


@pytest.mark.parametrize("text", ["", "0", "-50", "50,50", "a", "nan", "inf"])
def test_voxel_sizes_that_are_none_are_refused(text):
    """Only one or three positive numbers are a voxel size."""
    with pytest.raises(ConfigError, match="voxel size"):
        voxel_size_from_text(text)
    assert voxel_size_from_text("50,25,20") == (50, 25, 20)


@pytest.mark.parametrize("layout", LAYOUTS)
def test_a_tiff_cut_short_anywhere_is_never_read_as_a_smaller_volume(tmp_path, layout):
    """Wherever the file ends too early, either an error comes or nothing that matters was lost."""
    write(tmp_path / "a.tif", layout)
    whole = (tmp_path / "a.tif").read_bytes()
    refused = 0
    for length in np.linspace(0, len(whole) - 1, 60).astype(int):
        (tmp_path / "cut.tif").write_bytes(whole[:length])
        try:
            planes = read(tmp_path / "cut.tif")
        except VolumeError:
            refused += 1
        else:
            assert planes.shape == STACK.shape
            assert (planes == STACK).all()
    assert refused > 50


def test_what_is_no_grey_volume_is_refused_with_what_it_is(tmp_path):
    """Colour, several channels, mixed slices, odd types and empty folders: each error says what was found."""

    def refuses(path, match):
        with pytest.raises(VolumeError, match=match):
            read(path)

    refuses(tmp_path / "nothing.tif", "no such file")
    refuses(tmp_path, "holds no slices")
    (tmp_path / "text.tif").write_text("not an image")
    refuses(tmp_path / "text.tif", "not a readable TIFF")
    (tmp_path / "volume.xyz").write_text("")
    refuses(tmp_path / "volume.xyz", "'.xyz'")
    tifffile.imwrite(tmp_path / "rgb.tif", np.zeros((20, 30, 3), np.uint8), photometric="rgb")
    refuses(tmp_path / "rgb.tif", "colour")
    tifffile.imwrite(tmp_path / "c.tif", np.zeros((4, 2, 20, 30), np.uint8), ome=True, metadata={"axes": "ZCYX"})
    refuses(tmp_path / "c.tif", "C=2")
    tifffile.imwrite(tmp_path / "f64.tif", np.zeros((4, 20, 30)), photometric="minisblack")
    refuses(tmp_path / "f64.tif", "float64")
    np.save(tmp_path / "flat.npy", np.zeros(9, np.uint8))
    refuses(tmp_path / "flat.npy", r"\(9,\)")
    (tmp_path / "bad.npy").write_bytes(b"\x93NUMPY" + struct.pack("<I", 7))
    refuses(tmp_path / "bad.npy", "not a readable")
    mixed = tmp_path / "mixed"
    mixed.mkdir()
    tifffile.imwrite(mixed / "0.tif", STACK[0])
    tifffile.imwrite(mixed / "1.tif", STACK[0, :10])
    refuses(mixed, r"1.tif: got a slice of \(10, 30\)")


def test_nan_is_reported_with_its_plane(tmp_path):
    """A float volume with NaN is an error that names the plane and how many voxels."""
    stack = STACK.astype(np.float32)
    stack[4, 2, 3:5] = np.nan
    np.save(tmp_path / "a.npy", stack)
    with pytest.raises(VolumeError, match="plane 4 holds 2 voxels"):
        read(tmp_path / "a.npy")
