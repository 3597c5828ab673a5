"""Multi-page TIFF, BigTIFF and OME-TIFF as volumes, decoded page by page."""

import logging
import struct
from pathlib import Path

import numpy as np
import tifffile

from sennet_engine.errors import VolumeError
from sennet_engine.volumes.tiff_voxel_size import voxel_size_um_from_tiff
from sennet_engine.volumes.volume import Planes, Volume

# What a truncated or damaged file makes tifffile and the codecs raise.
DECODE_ERRORS = (tifffile.TiffFileError, ValueError, RuntimeError, KeyError, IndexError, OSError, struct.error)


def open_tiff(path: Path) -> Volume:
    """Open the one image series in `path`.

    Raises:
        VolumeError: damaged or truncated, colour, several channels or time points, or an unsupported voxel type.
    """
    try:
        tiff = tifffile.TiffFile(path)
    except DECODE_ERRORS as error:
        raise VolumeError(f"{path}: is not a readable TIFF: {error}") from error
    try:
        return TiffVolume(path, tiff)
    except DECODE_ERRORS as error:
        tiff.close()
        raise VolumeError(f"{path}: is a damaged TIFF: {error}; copy it again from its source") from error
    except VolumeError:
        tiff.close()
        raise


def single_channel_shape(path: Path, series: tifffile.TiffPageSeries) -> tuple[int, int, int]:
    """(Z, Y, X) of a TIFF series. Raises VolumeError where it is colour or has more axes than three."""
    page = series.keyframe
    if page.samplesperpixel > 1 or "S" in series.axes or page.photometric == tifffile.PHOTOMETRIC.PALETTE:
        raise VolumeError(
            f"{path}: got a colour image ({page.photometric.name}, {page.samplesperpixel} samples a pixel), expected "
            f"one grey channel; convert it first"
        )
    axes = [(axis, size) for axis, size in zip(series.axes, series.shape, strict=True) if size > 1 or axis in "YX"]
    if [axis for axis, _ in axes[-2:]] != ["Y", "X"] or len(axes) > 3:
        found = ", ".join(f"{axis}={size}" for axis, size in axes)
        raise VolumeError(f"{path}: got axes {found}, expected planes, rows and columns of one channel; split it first")
    sizes = [size for _, size in axes]
    return (sizes[0] if len(sizes) == 3 else 1, sizes[-2], sizes[-1])


class TiffVolume(Volume):
    """The first series of a TIFF file. Its planes are decoded when they are read."""

    def __init__(self, path: Path, tiff: tifffile.TiffFile) -> None:
        if not tiff.series:
            raise VolumeError(f"{path}: holds no image, expected a stack of planes")
        if len(tiff.series) > 1:
            _refuse_mixed(path, tiff.series)
        self._tiff = tiff
        self._series = tiff.series[0]
        shape_zyx = single_channel_shape(path, self._series)
        super().__init__(
            path, name=path.name.split(".")[0], shape_zyx=shape_zyx, dtype=self._series.dtype,
            voxel_size_um=voxel_size_um_from_tiff(tiff),
        )  # fmt: skip
        self._refuse_truncated()
        uncompressed = self._series.keyframe.compression == tifffile.COMPRESSION.NONE
        self._plain_offset = self._series.dataoffset if uncompressed else None

    def _refuse_truncated(self) -> None:
        if not _page_chain_is_whole(self._tiff):
            raise VolumeError(
                f"{self.path}: breaks off after {len(self._tiff.pages)} pages: it is truncated; copy it again"
            )
        pages = self._series.pages
        if self._series.dataoffset is None and len(pages) != self.shape_zyx[0]:
            raise VolumeError(f"{self.path}: got {len(pages)} pages, expected {self.shape_zyx[0]}; the file is damaged")
        size = self.path.stat().st_size
        end = self._series.dataoffset + self._series.nbytes if self._series.dataoffset else 0
        for page in pages:
            if page is None:
                raise VolumeError(f"{self.path}: lacks a page; the file is damaged, copy it again from its source")
            if self._series.dataoffset is None:
                ends = (offset + count for offset, count in zip(page.dataoffsets, page.databytecounts, strict=True))
                end = max(end, *ends, 0)
        if end > size:
            raise VolumeError(
                f"{self.path}: got {size} bytes, expected at least {end}: the file is truncated; copy it again"
            )

    def _read_plane(self, z: int) -> Planes:
        plane: Planes
        try:
            if self._plain_offset is None:
                plane = self._series.pages[z].asarray()
            else:
                # Not memory-mapped: what has been read would count as memory of this process.
                rows, columns = self.shape_zyx[1:]
                dtype = np.dtype(self._series.dtype).newbyteorder(self._tiff.byteorder)
                offset = self._plain_offset + z * rows * columns * dtype.itemsize
                plane = self._tiff.filehandle.read_array(dtype, rows * columns, offset)
        except DECODE_ERRORS as error:
            raise VolumeError(f"{self.path}: plane {z} cannot be decoded: {error}; copy the file again") from error
        return plane.reshape(self.shape_zyx[1:])

    def close(self) -> None:
        self._tiff.close()


def _page_chain_is_whole(tiff: tifffile.TiffFile) -> bool:
    """Whether the last page found says that it is the last: tifffile stops in silence at an offset past the end."""
    form, stream = tiff.tiff, tiff.filehandle
    last = tiff.pages[-1].offset
    stream.seek(last)
    (tag_count,) = struct.unpack(form.tagnoformat, stream.read(form.tagnosize))
    stream.seek(last + form.tagnosize + tag_count * form.tagsize)
    (next_offset,) = struct.unpack(form.offsetformat, stream.read(form.offsetsize))
    return bool(next_offset == 0)


def _refuse_mixed(path: Path, series: list[tifffile.TiffPageSeries]) -> None:
    """Several series are fine where the further ones are a pyramid's or a thumbnail's reduced images."""
    full = series[0].keyframe
    others = [one for one in series[1:] if not one.keyframe.is_reduced]
    if others:
        shapes = ", ".join(str(one.shape) for one in [series[0], *others][:4])
        raise VolumeError(
            f"{path}: got {len(others) + 1} images of different shape or type ({shapes}, first of type {full.dtype}), "
            f"expected planes that are all alike"
        )


# A damaged file is reported once, by our own error; tifffile would log every step of its search as well.
logging.getLogger("tifffile").setLevel(logging.CRITICAL)
