"""A volume: a lazily read (Z, Y, X) array with its voxel size and where it came from."""

from abc import ABC, abstractmethod
from collections.abc import Sequence
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import numpy as np
import numpy.typing as npt

from sennet_engine.errors import VolumeError

DTYPES = (np.dtype(np.uint8), np.dtype(np.uint16), np.dtype(np.float32))

# Any of DTYPES; numpy has no type for "one of these".
Planes = npt.NDArray[Any]
VoxelSize = tuple[float, float, float]


class Volume(ABC):
    """A single-channel volume, read plane by plane and never whole. A context manager: it may hold files open.

    Attributes:
        path: the file or folder that it was opened from.
        name: a short name for reports and submission ids.
        shape_zyx: planes, rows, columns; each at least 1.
        dtype: uint8, uint16 or float32.
        voxel_size_um: micrometres along (z, y, x), or None where the file does not tell.
        plane_ids: one id a plane: the file stems of a folder of slices, else 0000, 0001, ...
    """

    def __init__(
        self,
        path: Path,
        *,
        name: str,
        shape_zyx: tuple[int, int, int],
        dtype: npt.DTypeLike,
        voxel_size_um: VoxelSize | None,
        plane_ids: Sequence[str] | None = None,
    ) -> None:
        self.path = path
        self.name = name
        self.shape_zyx = shape_zyx
        self.dtype = np.dtype(dtype).newbyteorder("=")
        self.voxel_size_um = voxel_size_um
        self.plane_ids = list(plane_ids) if plane_ids else [f"{z:04d}" for z in range(shape_zyx[0])]
        if self.dtype not in DTYPES:
            raise VolumeError(
                f"{path}: got voxels of type {self.dtype}, expected uint8, uint16 or float32; convert the volume first"
            )
        if min(shape_zyx) < 1:
            raise VolumeError(f"{path}: got shape {shape_zyx} (Z, Y, X), expected at least one voxel along each axis")

    def read_planes(self, start: int, stop: int) -> Planes:
        """Planes `start` to `stop` (exclusive) as one [stop - start, Y, X] array in native byte order.

        Raises:
            VolumeError: a plane cannot be decoded, or holds NaN or infinity.
        """
        planes = np.empty((stop - start, *self.shape_zyx[1:]), self.dtype)
        for index, z in enumerate(range(start, stop)):
            planes[index] = self._read_plane(z)
            if self.dtype.kind == "f" and not np.isfinite(planes[index]).all():
                count = int(np.count_nonzero(~np.isfinite(planes[index])))
                raise VolumeError(
                    f"{self.path}: plane {z} holds {count} voxels that are NaN or infinite, expected finite values; "
                    f"replace them (by the background's mean, say) and run again"
                )
        return planes

    @abstractmethod
    def _read_plane(self, z: int) -> Planes:
        """Plane `z` as [Y, X]."""

    def close(self) -> None:
        """Let go of what is held open."""
        return

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


class ArrayVolume(Volume):
    """A volume that is in memory already, or memory-mapped: [Z, Y, X], uint8, uint16 or float32."""

    def __init__(
        self, array: Planes, *, name: str = "array", voxel_size_um: VoxelSize | None = None,
        path: Path | None = None,
    ) -> None:  # fmt: skip
        if array.ndim == 2:
            array = array[None]
        path = path or Path(name)
        if array.ndim != 3:
            raise VolumeError(f"{path}: got an array of shape {array.shape}, expected (Z, Y, X) or (Y, X)")
        super().__init__(path, name=name, shape_zyx=array.shape, dtype=array.dtype, voxel_size_um=voxel_size_um)
        self._array = array

    def _read_plane(self, z: int) -> Planes:
        plane: Planes = self._array[z]
        return plane
