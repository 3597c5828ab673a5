"""A folder of TIFF or PNG slices as a volume, in the natural order of the numbers in their names."""

import re
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import imagecodecs
import numpy as np
import numpy.typing as npt
import tifffile

from sennet_engine.errors import VolumeError
from sennet_engine.volumes.tiff import DECODE_ERRORS, open_tiff
from sennet_engine.volumes.volume import Planes, Volume, VoxelSize

# Folders of slices are named after what lies in them in the competition's layout: kidney_1_dense/images/0000.tif.
GENERIC_NAMES = ("images", "labels")


class Slice(NamedTuple):
    """What one file of the folder holds."""

    plane: Planes
    voxel_size_um: VoxelSize | None


def open_folder(path: Path) -> Volume:
    """Open all slices in `path`; files of other types and hidden files are passed over.

    Raises:
        VolumeError: there are no slices, they are of two types, or the first cannot be read as one grey plane.
    """
    files = [file for file in path.iterdir() if file.suffix.lower() in READERS and not file.name.startswith(".")]
    if not files:
        raise VolumeError(f"{path}: holds no slices, expected files of type {', '.join(READERS)}")
    suffixes = sorted({file.suffix.lower() for file in files})
    if len({READERS[suffix] for suffix in suffixes}) > 1:
        raise VolumeError(
            f"{path}: holds several types of slices ({', '.join(suffixes)}), expected one; move the others"
        )
    return FolderVolume(path, sorted(files, key=natural_key))


def natural_key(file: Path) -> tuple[list[tuple[int, int | str]], str]:
    """Sorts `slice_2` before `slice_10`: runs of digits compare as numbers, and before letters."""
    parts = re.split(r"(\d+)", file.stem)
    return [(0, int(part)) if part.isdigit() else (1, part) for part in parts if part], file.name


class FolderVolume(Volume):
    """One file a plane. The first file gives shape and voxel type; another that differs is an error when it is read."""

    def __init__(self, path: Path, files: list[Path]) -> None:
        first = _read(files[0])
        self._files = files
        folder = path.resolve()
        super().__init__(
            path, name=folder.parent.name if folder.name in GENERIC_NAMES else folder.name,
            shape_zyx=(len(files), *first.plane.shape[:2]), dtype=first.plane.dtype,
            voxel_size_um=first.voxel_size_um, plane_ids=[file.stem for file in files],
        )  # fmt: skip
        self._refuse_other_shapes()

    def _refuse_other_shapes(self) -> None:
        """TIFF headers are cheap to look at, so a slice that does not fit is found before hours of work, not after."""
        for file in self._files[1:]:
            shape, dtype = SHAPES[file.suffix.lower()](file)
            self._refuse_unlike(file, shape, dtype)

    def _refuse_unlike(self, file: Path, shape: tuple[int, ...], dtype: npt.DTypeLike) -> None:
        if shape != self.shape_zyx[1:] or np.dtype(dtype).newbyteorder("=") != self.dtype:
            raise VolumeError(
                f"{file}: got a slice of {shape} {np.dtype(dtype)}, expected {self.shape_zyx[1:]} {self.dtype} like "
                f"{self._files[0].name}; move it out of the folder"
            )

    def _read_plane(self, z: int) -> Planes:
        plane = _read(self._files[z]).plane
        self._refuse_unlike(self._files[z], plane.shape, plane.dtype)
        return plane


def _read(file: Path) -> Slice:
    return READERS[file.suffix.lower()](file)


def _read_tiff(file: Path) -> Slice:
    with open_tiff(file) as volume:
        if volume.shape_zyx[0] != 1:
            raise VolumeError(f"{file}: got a stack of {volume.shape_zyx[0]} planes, expected one plane a file")
        # Not through read_planes: NaN is reported with the plane's number by the folder's own read.
        return Slice(np.array(volume._read_plane(0)), volume.voxel_size_um)


def _read_png(file: Path) -> Slice:
    try:
        plane: Planes = imagecodecs.png_decode(file.read_bytes())
    except (imagecodecs.PngError, ValueError, OSError) as error:
        raise VolumeError(f"{file}: is not a readable PNG: {error}; copy it again from its source") from error
    if plane.ndim != 2:
        raise VolumeError(f"{file}: got a colour image {plane.shape}, expected one grey channel; convert it first")
    return Slice(plane, None)


def _tiff_shape(file: Path) -> tuple[tuple[int, ...], npt.DTypeLike]:
    try:
        with tifffile.TiffFile(file) as tiff:
            page = tiff.pages.first
            return page.shape, page.dtype
    except DECODE_ERRORS as error:
        raise VolumeError(f"{file}: is not a readable TIFF: {error}; copy it again from its source") from error


def _png_shape(file: Path) -> tuple[tuple[int, ...], npt.DTypeLike]:
    """Columns, rows, bit depth and colour type stand at fixed places in a PNG's header (ISO/IEC 15948, 11.2.2)."""
    with file.open("rb") as stream:
        header = stream.read(26)
    columns, rows = int.from_bytes(header[16:20]), int.from_bytes(header[20:24])
    colour = () if header[25:26] in (b"\0", b"\3") else (3,)
    return (rows, columns, *colour), np.uint16 if header[24:25] == b"\x10" else np.uint8


READERS: dict[str, Callable[[Path], Slice]] = {".tif": _read_tiff, ".tiff": _read_tiff, ".png": _read_png}
SHAPES: dict[str, Callable[[Path], tuple[tuple[int, ...], npt.DTypeLike]]] = {
    ".tif": _tiff_shape, ".tiff": _tiff_shape, ".png": _png_shape,
}  # fmt: skip
