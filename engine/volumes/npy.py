"""A `.npy` file as a volume, read plane by plane (format: numpy.lib.format)."""

import math
from collections.abc import Callable
from pathlib import Path
from tokenize import TokenError
from typing import BinaryIO, NamedTuple

import numpy as np
import numpy.typing as npt

from sennet_engine.errors import VolumeError
from sennet_engine.volumes.name import volume_name
from sennet_engine.volumes.raw import read_raw_plane
from sennet_engine.volumes.volume import ArrayVolume, Planes, Volume

Header = tuple[tuple[int, ...], bool, np.dtype[np.generic]]

# Version 3 differs from 2 in the names of a structure's fields alone, and a structure is no voxel.
HEADER_READERS: dict[tuple[int, int], Callable[[BinaryIO], Header]] = {
    (1, 0): np.lib.format.read_array_header_1_0,
    (2, 0): np.lib.format.read_array_header_2_0,
}


class NpyLayout(NamedTuple):
    """What the header says, and at which byte the voxels start."""

    shape: tuple[int, ...]
    fortran_order: bool
    dtype: np.dtype[np.generic]
    offset: int


def open_npy(path: Path) -> Volume:
    """Open a [Z, Y, X] or [Y, X] array.

    Raises:
        VolumeError: not an array file, truncated, of another number of axes, or an unsupported voxel type.
    """
    layout = _layout(path)
    if len(layout.shape) not in (2, 3):
        raise VolumeError(f"{path}: got an array of shape {layout.shape}, expected (Z, Y, X) or (Y, X)")
    if layout.fortran_order:
        # A plane is scattered over the whole file: the operating system's cache serves that best.
        array = np.memmap(path, layout.dtype, "r", layout.offset, layout.shape, order="F")
        return ArrayVolume(array, name=volume_name(path), path=path)
    return NpyVolume(path, layout)


class NpyVolume(Volume):
    """An array in C order: its planes lie one after another."""

    def __init__(self, path: Path, layout: NpyLayout) -> None:
        rows, columns = layout.shape[-2:]
        depth = layout.shape[0] if len(layout.shape) == 3 else 1
        super().__init__(
            path, name=volume_name(path), shape_zyx=(depth, rows, columns), dtype=layout.dtype, voxel_size_um=None
        )
        self._offset = layout.offset
        self._stored_dtype: npt.DTypeLike = layout.dtype

    def _read_plane(self, z: int) -> Planes:
        shape_yx = self.shape_zyx[1:]
        offset = self._offset + z * math.prod(shape_yx) * self.dtype.itemsize
        return read_raw_plane(self.path, offset=offset, shape_yx=shape_yx, dtype=self._stored_dtype)


def _layout(path: Path) -> NpyLayout:
    try:
        with path.open("rb") as stream:
            version = np.lib.format.read_magic(stream)
            if version not in HEADER_READERS:
                raise ValueError(f"got format version {version}, expected one of {', '.join(map(str, HEADER_READERS))}")
            layout = NpyLayout(*HEADER_READERS[version](stream), stream.tell())
    except (ValueError, TypeError, SyntaxError, TokenError, EOFError, OSError) as error:
        raise VolumeError(f"{path}: is not a readable .npy array: {error}") from error
    if layout.dtype.hasobject:
        raise VolumeError(f"{path}: got an array of Python objects, expected uint8, uint16 or float32")
    size, expected = path.stat().st_size, layout.offset + math.prod(layout.shape) * layout.dtype.itemsize
    if size < expected:
        raise VolumeError(f"{path}: got {size} bytes, expected {expected}: the file is truncated; copy it again")
    return layout
