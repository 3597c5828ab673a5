"""Where the planes of a TIFF lie. All pages are looked at once, at opening, so that damage is found before the work."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import tifffile

from sennet_engine.errors import VolumeError
from sennet_engine.volumes.tiff_axes import Stated, stated_planes
from sennet_engine.volumes.tiff_pages import PageFiles, PagePlace, chain_is_whole, refuse_other_than_grey
from sennet_engine.volumes.tiff_voxel_size import voxel_size_um_from_tiff
from sennet_engine.volumes.volume import VoxelSize

# Z, and letters for planes that nobody named.
PLANE_AXES = "ZIQ"


@dataclass(frozen=True)
class TiffLayout:
    """A single-channel stack.

    Attributes:
        stored_dtype: with the byte order of the file.
        plain_offset: the byte at which the voxels start if they all lie one after another as they are, else None.
        places: one a page, in order of z; a single one if only the first plane has a page of its own.
    """

    shape_zyx: tuple[int, int, int]
    stored_dtype: np.dtype[Any]
    voxel_size_um: VoxelSize | None
    plain_offset: int | None
    places: list[PagePlace]


def tiff_layout(path: Path, tiff: tifffile.TiffFile) -> TiffLayout:
    """The layout of the one image in `tiff`, which was opened from `path`.

    Raises:
        VolumeError: truncated, pages that are not alike, colour, several channels or time points, or 0 standing for
            white.
    """
    if not len(tiff.pages):
        raise VolumeError(f"{path}: holds no image, expected a stack of planes")
    if not chain_is_whole(tiff):
        raise VolumeError(f"{path}: breaks off after {len(tiff.pages)} pages: it is truncated; copy it again")
    first = tiff.pages.first
    refuse_other_than_grey(path, first)
    stated = stated_planes(path, tiff)
    _refuse_other_axes(path, stated, first)
    places = stated.places or _full_pages(path, tiff)
    depth = _depth(path, stated, places)
    plane_bytes = first.imagelength * first.imagewidth * first.dtype.itemsize
    plain_offset = _plain_offset(path, places, first, plane_bytes)
    if depth > len(places) and plain_offset is None:
        raise VolumeError(f"{path}: got {len(places)} pages, expected {depth}; the file is damaged, copy it again")
    if plain_offset is not None:
        _refuse_short(path, tiff.filehandle.size, plain_offset + depth * plane_bytes)
    return TiffLayout(
        shape_zyx=(depth, first.imagelength, first.imagewidth),
        stored_dtype=np.dtype(first.dtype).newbyteorder(tiff.byteorder),
        voxel_size_um=voxel_size_um_from_tiff(tiff),
        plain_offset=plain_offset,
        places=places,
    )


def _refuse_other_axes(path: Path, stated: Stated, first: tifffile.TiffPage) -> None:
    axes = {axis: size for axis, size in stated.axes.items() if size > 1}
    if len(axes) > 1 or not set(axes) <= set(PLANE_AXES):
        axes |= {"Y": first.imagelength, "X": first.imagewidth}
        found = ", ".join(f"{axis}={size}" for axis, size in axes.items())
        raise VolumeError(
            f"{path}: got axes {found}, expected planes, rows and columns of one channel; split it first, or name the "
            f"axis Z if these are planes (ImageJ: Image > Properties; tifffile: metadata={{'axes': 'ZYX'}})"
        )


def _full_pages(path: Path, tiff: tifffile.TiffFile) -> list[PagePlace]:
    """The pages as they come, without the reduced images of a pyramid or a thumbnail."""
    return [
        PagePlace(path, number) for number in range(len(tiff.pages)) if number == 0 or not tiff.pages[number].is_reduced
    ]


def _depth(path: Path, stated: Stated, places: list[PagePlace]) -> int:
    """The number of planes: that of the pages, or what is stated if one page stands for all."""
    depth = max(stated.axes.values(), default=1)
    if depth > 1 and len(places) not in (1, depth):
        raise VolumeError(f"{path}: got {len(places)} pages, expected {depth}; the file is damaged, copy it again")
    return max(depth, len(places))


def _plain_offset(path: Path, places: list[PagePlace], first: tifffile.TiffPage, plane_bytes: int) -> int | None:
    """Where the voxels start if they lie one after another as they are. Refuses pages that are damaged or differ."""
    plain = True
    with PageFiles() as files:
        for z, place in enumerate(places):
            page = files.page(place)
            refuse_other_than_grey(place.file, page)
            _refuse_unlike(place.file, z, page, first)
            ends = [offset + count for offset, count in zip(page.dataoffsets, page.databytecounts, strict=True)]
            if not any(ends):
                raise VolumeError(f"{place.file}: plane {z} has no voxels; the file is damaged, copy it again")
            _refuse_short(place.file, files.size(place.file), max(ends))
            expected = first.dataoffsets[0] + z * plane_bytes
            plain = plain and place.file == path and page.is_final and page.dataoffsets[0] == expected
    return int(first.dataoffsets[0]) if plain else None


def _refuse_unlike(file: Path, z: int, page: tifffile.TiffPage, first: tifffile.TiffPage) -> None:
    got, expected = ((one.imagelength, one.imagewidth, one.dtype) for one in (page, first))
    if got != expected:
        raise VolumeError(
            f"{file}: got pages of different shape or type (plane {z}: {got[0]} rows, {got[1]} columns, {got[2]}; the "
            f"first: {expected[0]}, {expected[1]}, {expected[2]}), expected planes that are all alike"
        )


def _refuse_short(file: Path, size: int, end: int) -> None:
    if end > size:
        raise VolumeError(f"{file}: got {size} bytes, expected at least {end}: the file is truncated; copy it again")
