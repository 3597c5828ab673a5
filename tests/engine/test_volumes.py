"""Volumes: every layout reads the same, and what cannot be read is refused before any work."""

import io
import logging
import struct
from pathlib import Path

import imagecodecs
import numpy as np
import pytest
import tifffile
from PIL import Image

from sennet_engine.errors import ConfigError, VolumeError
from sennet_engine.volumes.name import volume_name
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
    "imagej": {"imagej": True, "metadata": {"axes": "ZYX"}},
    "imagej_without_slices": {"metadata": None, "description": "ImageJ=1.53\nimages=11\n"},
    "no_description": {"metadata": None, "compression": "zlib"},
    "one_page_for_all": {"truncate": True},
    "one_imagej_page_for_all": {"imagej": True, "truncate": True, "metadata": {"axes": "ZYX"}},
    "many_strips": {"compression": "zlib", "rowsperstrip": 1},
}
PAGE_BY_PAGE = {
    "pages_described": {"contiguous": False},
    "pages_described_and_compressed": {"contiguous": False, "compression": "zlib"},
    "pages_plain": {"contiguous": False, "metadata": None},
    "pages_without_gaps": {"contiguous": True},
}


def write(path, layout):
    """STACK in one of the layouts."""
    if layout in PAGE_BY_PAGE:
        with tifffile.TiffWriter(path) as writer:
            for plane in STACK:
                writer.write(plane, photometric="minisblack", **PAGE_BY_PAGE[layout])
        return
    stack = STACK[:, None] if layout == "ome_zct" else STACK
    tifffile.imwrite(path, stack, photometric="minisblack", **LAYOUTS[layout])


def refuses(path, match):
    """Opening or reading the volume at `path` ends in an error that says what is wrong."""
    with pytest.raises(VolumeError, match=match):
        read(path)


@pytest.mark.parametrize("layout", [*LAYOUTS, *PAGE_BY_PAGE])
def test_every_tiff_layout_reads_the_same(tmp_path, layout):
    """Compression, byte order, tiling and metadata flavour do not change the voxels."""
    write(tmp_path / "a.tif", layout)
    assert (read(tmp_path / "a.tif") == STACK).all()


def test_a_thumbnail_is_no_plane(tmp_path):
    """A page that calls itself the reduced version of another is passed over."""
    tifffile.imwrite(tmp_path / "a.tif", STACK, photometric="minisblack")
    tifffile.imwrite(tmp_path / "a.tif", STACK[0, ::2, ::2], append=True, subfiletype=1)
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
    "imagej": ({"imagej": True, "resolution": (1 / 50, 1 / 50), "metadata": {"axes": "ZYX", "spacing": 63.08,
                "unit": "um"}}, (63.08, 50.0, 50.0)),
    "fiji": ({"resolution": (1 / 50, 1 / 50), "metadata": None,
              "description": "ImageJ=1.54f\nimages=11\nslices=11\nunit=\\u00B5m\nspacing=63.08\n"},
             (63.08, 50.0, 50.0)),
    "fiji_in_megametres": ({"resolution": (1 / 50, 1 / 50), "metadata": None,
                            "description": "ImageJ=1.54f\nimages=11\nslices=11\nunit=Mm\n"}, None),
    "comma_in_ome": ({"ome": True, "metadata": {"axes": "ZYX", "PhysicalSizeX": "50,0", "PhysicalSizeY": "50,0"}},
                     None),
    "comma_in_imagej": ({"resolution": (1 / 50, 1 / 50), "metadata": None,
                         "description": "ImageJ=1.54f\nimages=11\nslices=11\nunit=um\nspacing=63,08\n"}, None),
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


@pytest.mark.parametrize("layout", sorted(LAYOUTS.keys() - {"no_description"}))
def test_a_tiff_with_a_hole_is_never_read_as_a_smaller_volume(tmp_path, layout):
    """Wherever bytes were lost from a file that states its number of planes, it keeps its shape or is refused."""
    write(tmp_path / "a.tif", layout)
    whole = (tmp_path / "a.tif").read_bytes()
    for start in np.linspace(16, len(whole) - 200, 40).astype(int):
        (tmp_path / "hole.tif").write_bytes(whole[:start] + bytes(200) + whole[start + 200 :])
        try:
            planes = read(tmp_path / "hole.tif")
        except VolumeError:
            continue
        assert planes.shape == STACK.shape


def test_what_is_no_grey_volume_is_refused_with_what_it_is(tmp_path):
    """Colour, several channels, mixed slices, odd types and empty folders: each error says what was found."""
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
    tifffile.imwrite(tmp_path / "mixed.tif", STACK[0])
    tifffile.imwrite(tmp_path / "mixed.tif", STACK[0, :10], append=True)
    refuses(tmp_path / "mixed.tif", "pages of different shape")


@pytest.mark.parametrize("axis", "CT")
@pytest.mark.parametrize("flavour", [{"imagej": True}, {"ome": True}, {}])
def test_channels_and_time_points_are_not_planes(tmp_path, axis, flavour):
    """A third axis that the file calls channels or time is refused, however it says so."""
    tifffile.imwrite(tmp_path / "a.tif", STACK, photometric="minisblack", metadata={"axes": f"{axis}YX"}, **flavour)
    refuses(tmp_path / "a.tif", f"got axes {axis}=11, Y=20, X=30, expected planes")


def test_grey_levels_that_are_not_plain_are_refused(tmp_path):
    """White as 0, one bit a pixel and palettes are not read as if they were grey levels."""
    tifffile.imwrite(tmp_path / "white.tif", STACK, photometric="miniswhite")
    refuses(tmp_path / "white.tif", "0 is white")
    tifffile.imwrite(tmp_path / "bits.tif", STACK > 9)
    refuses(tmp_path / "bits.tif", "1 bit")
    tifffile.imwrite(tmp_path / "palette.tif", STACK.astype(np.uint8), colormap=np.zeros((3, 256), np.uint16))
    refuses(tmp_path / "palette.tif", "PALETTE")
    for mode, match in (("1", "1-bit PNG"), ("P", "palette"), ("LA", "alpha"), ("RGB", "colour")):
        folder = tmp_path / mode
        folder.mkdir()
        encoded = io.BytesIO()
        Image.new("L", (30, 20)).convert(mode).save(encoded, "PNG")
        (folder / "0.png").write_bytes(encoded.getvalue())
        refuses(folder, match)
    (tmp_path / "P" / "0.png").write_bytes(encoded.getvalue()[:20])
    refuses(tmp_path / "P", "not a readable PNG")


def test_an_npy_file_is_read_in_either_order_and_only_if_it_is_whole(tmp_path):
    """Fortran order gives the same voxels; archives, objects and truncated files are refused."""
    np.save(tmp_path / "a.npy", np.asfortranarray(STACK))
    assert (read(tmp_path / "a.npy") == STACK).all()
    np.save(tmp_path / "big_endian.npy", STACK.astype(">u2"))
    assert (read(tmp_path / "big_endian.npy") == STACK).all()
    np.save(tmp_path / "plane.npy", STACK[0])
    assert (read(tmp_path / "plane.npy") == STACK[:1]).all()
    np.savez(tmp_path / "a.npz", STACK)
    refuses((tmp_path / "a.npz").rename(tmp_path / "zip.npy"), "not a readable .npy")
    np.save(tmp_path / "objects.npy", np.full((2, 3, 4), None))
    refuses(tmp_path / "objects.npy", "Python objects")
    whole = (tmp_path / "big_endian.npy").read_bytes()
    (tmp_path / "cut.npy").write_bytes(whole[:-1])
    refuses(tmp_path / "cut.npy", "truncated")
    (tmp_path / "bad_header.npy").write_bytes(whole.replace(b"(11, 20, 30)", b"{11, 20, 30)"))
    refuses(tmp_path / "bad_header.npy", "not a readable .npy")


def write_ome_set(folder):
    """STACK as one OME-TIFF file a plane; the first differs in size from the others. Each names the whole set."""
    names = [f"s_{z:02d}.ome.tif" for z in range(len(STACK))]
    planes = "".join(
        f'<TiffData IFD="0" FirstZ="{z}" PlaneCount="1"><UUID FileName="{name}">urn:uuid:{z}</UUID></TiffData>'
        for z, name in enumerate(names)
    )
    for z, name in enumerate(names):
        description = (
            f'<?xml version="1.0"?><OME xmlns="http://www.openmicroscopy.org/Schemas/OME/2016-06" UUID="urn:uuid:{z}">'
            f'<Image ID="Image:0"><Pixels ID="Pixels:0" DimensionOrder="XYZCT" Type="uint16" SizeX="30" SizeY="20" '
            f'SizeZ="{len(STACK)}" SizeC="1" SizeT="1" PhysicalSizeX="50">{planes}</Pixels></Image></OME>'
        )
        compression = None if z == 7 else "zlib"
        tifffile.imwrite(folder / name, STACK[z], metadata=None, description=description, compression=compression)
    return folder / names[0]


def test_an_ome_tiff_may_lie_in_several_files(tmp_path):
    """One file of the set opens the whole set, the folder reads as slices, and a missing file is named."""
    first = write_ome_set(tmp_path)
    assert (read(first) == STACK).all()
    with open_volume(tmp_path) as volume:
        assert (volume.read_planes(0, 11) == STACK).all()
        assert volume.voxel_size_um == (50, 50, 50)
    plain = tmp_path / "s_07.ome.tif"
    plain.write_bytes(plain.read_bytes()[:-1])
    refuses(first, "s_07.ome.tif: got .* truncated")
    plain.unlink()
    refuses(first, "names s_07.ome.tif")


@pytest.mark.parametrize(
    ("names", "match"),
    [
        (["s_1.tif", "s_2.tif", "s_2.tiff"], "s_2.tiff: has the same number as s_2.tif"),
        (["s_1.tif", "s_2.tif", "s_02.tif"], "s_2.tif: has the same number as s_02.tif"),
        (["s_1.tif", "s_2.tif", "overview.tif"], "overview.tif: is not named like"),
        (["5²3.tif", "5²4.tif", "6.tif"], "6.tif: is not named like"),
    ],
)
def test_slices_are_told_apart_by_their_numbers_alone(tmp_path, names, match):
    """Two slices of one number, or a file that is named otherwise, are refused."""
    for name in names:
        tifffile.imwrite(tmp_path / name, STACK[0])
    refuses(tmp_path, match)


def test_a_gap_in_the_numbers_is_logged(tmp_path, caplog):
    """Planes that are missing in the middle are told of; starting above 0, and other numbers in the name, are fine."""
    for z in (500, 501, 502):
        tifffile.imwrite(tmp_path / f"kidney_6_{z}_uint16.tif", STACK[0])
    with caplog.at_level(logging.WARNING):
        read(tmp_path)
        assert not caplog.messages
        (tmp_path / "kidney_6_501_uint16.tif").unlink()
        read(tmp_path)
    assert "from 500 to 502" in caplog.text


def test_a_stack_among_slices_is_found_at_opening(tmp_path):
    """Any slice that is a stack of several pages is refused before a plane is read."""
    tifffile.imwrite(tmp_path / "0.tif", STACK[0])
    tifffile.imwrite(tmp_path / "1.tif", STACK[:5], photometric="minisblack")
    with pytest.raises(VolumeError, match=r"1.tif: got a stack of 5 planes"):
        open_volume(tmp_path)


def test_paths_that_cannot_be_are_refused(tmp_path):
    """A name that is too long for the system, and one with a null byte, are errors of the volume."""
    refuses(tmp_path / f"{'n' * 300}.tif", "cannot be opened")
    refuses(tmp_path / "a\0.tif", "cannot be opened")
    refuses(Path("/dev/null"), "neither a file nor a folder")


@pytest.mark.parametrize(
    ("file", "name"),
    [
        ("kidney_5.2um_voi.tif", "kidney_5.2um_voi"),
        ("kidney_5.2um_voi.OME.TIFF", "kidney_5.2um_voi"),
        ("a.ome.tif", "a"),
        ("a.tiff", "a"),
        ("a.b.Npy", "a.b"),
        ("a.b", "a.b"),
    ],
)
def test_a_volumes_name_loses_nothing_but_the_suffix(tmp_path, file, name):
    """Dots in a file's name are kept, and a folder's name is kept whole."""
    assert volume_name(tmp_path / file) == name
    (tmp_path / file).mkdir()
    assert volume_name(tmp_path / file) == file


def test_readers_name_volumes_alike(tmp_path):
    """TIFF, array and folder use the same rule."""
    tifffile.imwrite(tmp_path / "k_5.2um.tif", STACK, photometric="minisblack")
    np.save(tmp_path / "k_5.2um.npy", STACK)
    (tmp_path / "k_5.2um").mkdir()
    tifffile.imwrite(tmp_path / "k_5.2um" / "0.tif", STACK[0])
    for path in ("k_5.2um.tif", "k_5.2um.npy", "k_5.2um"):
        with open_volume(tmp_path / path) as volume:
            assert volume.name == "k_5.2um"


def test_reading_changes_nobodys_logging():
    """The level of tifffile's logger belongs to the program, not to this library."""
    assert logging.getLogger("tifffile").level == logging.NOTSET


def test_nan_is_reported_with_its_plane(tmp_path):
    """A float volume with NaN is an error that names the plane and how many voxels."""
    stack = STACK.astype(np.float32)
    stack[4, 2, 3:5] = np.nan
    np.save(tmp_path / "a.npy", stack)
    with pytest.raises(VolumeError, match="plane 4 holds 2 voxels"):
        read(tmp_path / "a.npy")


def test_a_stack_with_two_unnamed_axes_is_refused(tmp_path):
    """Five planes at two times are not ten planes, even where the file does not say which axis is which."""
    tifffile.imwrite(tmp_path / "a.tif", np.zeros((2, 5, 20, 30), np.uint16), photometric="minisblack")
    with pytest.raises(VolumeError, match="expected planes, rows and columns"):
        read(tmp_path / "a.tif")
    tifffile.imwrite(tmp_path / "b.tif", np.zeros((1, 5, 20, 30), np.uint16), photometric="minisblack")
    assert read(tmp_path / "b.tif").shape == (5, 20, 30)
