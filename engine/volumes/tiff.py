"""Multi-page TIFF, BigTIFF and OME-TIFF as volumes, decoded page by page."""

import math
from pathlib import Path

import tifffile

from sennet_engine.errors import VolumeError
from sennet_engine.volumes.name import volume_name
from sennet_engine.volumes.raw import read_raw_plane
from sennet_engine.volumes.tiff_layout import TiffLayout, tiff_layout
from sennet_engine.volumes.tiff_pages import DECODE_ERRORS, PageFiles
from sennet_engine.volumes.volume import Planes, Volume


def open_tiff(path: Path) -> Volume:
    """Open the one image in `path`, and in the files that its OME-XML names.

    Raises:
        VolumeError: damaged or truncated, colour, several channels or time points, 0 standing for white, or an
            unsupported voxel type.
    """
    return TiffVolume(path, _layout(path))


def open_tiff_plane(path: Path) -> Volume:
    """Open a file that holds one plane, even if its OME-XML tells of the whole series that it belongs to.

    Raises:
        VolumeError: as open_tiff, or the file holds several planes.
    """
    layout = _layout(path, is_ome=False)
    if layout.shape_zyx[0] != 1:
        raise VolumeError(f"{path}: got a stack of {layout.shape_zyx[0]} planes, expected one plane a file")
    return TiffVolume(path, layout)


class TiffVolume(Volume):
    """The planes of a TIFF. They are decoded when they are read."""

    def __init__(self, path: Path, layout: TiffLayout) -> None:
        super().__init__(
            path, name=volume_name(path), shape_zyx=layout.shape_zyx, dtype=layout.stored_dtype,
            voxel_size_um=layout.voxel_size_um,
        )  # fmt: skip
        self._layout = layout
        self._files = PageFiles()

    def _read_plane(self, z: int) -> Planes:
        layout, shape_yx = self._layout, self.shape_zyx[1:]
        if layout.plain_offset is not None:
            offset = layout.plain_offset + z * math.prod(shape_yx) * self.dtype.itemsize
            return read_raw_plane(self.path, offset=offset, shape_yx=shape_yx, dtype=layout.stored_dtype)
        try:
            plane: Planes = self._files.page(layout.places[z]).asarray()
            return plane.reshape(shape_yx)
        except DECODE_ERRORS as error:
            raise VolumeError(f"{self.path}: plane {z} cannot be decoded: {error}; copy the file again") from error

    def close(self) -> None:
        self._files.close()


def _layout(path: Path, **flags: bool) -> TiffLayout:
    try:
        tiff = tifffile.TiffFile(path, **flags)
    except DECODE_ERRORS as error:
        raise VolumeError(f"{path}: is not a readable TIFF: {error}") from error
    with tiff:
        try:
            return tiff_layout(path, tiff)
        except DECODE_ERRORS as error:
            raise VolumeError(f"{path}: is a damaged TIFF: {error}; copy it again from its source") from error
