"""One plane in a file of its own: TIFF or PNG."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import imagecodecs
import numpy as np
import numpy.typing as npt

from sennet_engine.errors import VolumeError
from sennet_engine.volumes.tiff import open_tiff_plane
from sennet_engine.volumes.volume import Planes, VoxelSize

PNG_SIGNATURE = b"\x89PNG\r\n\x1a\n"
PNG_COLOUR_TYPES = {2: "colour", 3: "palette", 4: "grey and alpha", 6: "colour and alpha"}
PNG_DTYPES = {8: np.uint8, 16: np.uint16}


@dataclass(frozen=True)
class SliceHeader:
    """What a file says of its plane without decoding it."""

    shape_yx: tuple[int, int]
    dtype: npt.DTypeLike
    voxel_size_um: VoxelSize | None


@dataclass(frozen=True)
class SliceFormat:
    """How to look at a file and how to decode it. Both raise VolumeError where it is not one grey plane."""

    name: str
    header: Callable[[Path], SliceHeader]
    read: Callable[[Path], Planes]


def _tiff_header(file: Path) -> SliceHeader:
    with open_tiff_plane(file) as volume:
        return SliceHeader(volume.shape_zyx[1:], volume.dtype, volume.voxel_size_um)


def _read_tiff(file: Path) -> Planes:
    with open_tiff_plane(file) as volume:
        plane: Planes = volume.read_planes(0, 1)[0]
        return plane


def _png_header(file: Path) -> SliceHeader:
    """Columns, rows, bit depth and colour type stand at fixed places in a PNG's header (ISO/IEC 15948, 11.2.2)."""
    try:
        with file.open("rb") as stream:
            header = stream.read(26)
    except OSError as error:
        raise VolumeError(f"{file}: is not a readable PNG: {error}") from error
    if len(header) < 26 or not header.startswith(PNG_SIGNATURE):
        raise VolumeError(f"{file}: is not a readable PNG: it does not start like one; copy it again from its source")
    bits, colour_type = header[24], header[25]
    if colour_type:
        kind = PNG_COLOUR_TYPES.get(colour_type, f"colour type {colour_type}")
        raise VolumeError(f"{file}: got a colour image ({kind}), expected one grey channel; convert it first")
    if bits not in PNG_DTYPES:
        raise VolumeError(f"{file}: got a {bits}-bit PNG, expected 8 or 16 bits; convert it first")
    columns, rows = int.from_bytes(header[16:20]), int.from_bytes(header[20:24])
    return SliceHeader((rows, columns), PNG_DTYPES[bits], None)


def _read_png(file: Path) -> Planes:
    try:
        plane: Planes = imagecodecs.png_decode(file.read_bytes())
    except (imagecodecs.PngError, ValueError, OSError) as error:
        raise VolumeError(f"{file}: is not a readable PNG: {error}; copy it again from its source") from error
    return plane


TIFF = SliceFormat("TIFF", _tiff_header, _read_tiff)
PNG = SliceFormat("PNG", _png_header, _read_png)
SLICE_FORMATS = {".tif": TIFF, ".tiff": TIFF, ".png": PNG}
