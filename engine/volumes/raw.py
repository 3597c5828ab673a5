"""Read one plane of voxels that lie in a file as they are.

Not memory-mapped: what has been read through a map counts as memory of this process.
"""

from pathlib import Path

import numpy as np
import numpy.typing as npt

from sennet_engine.errors import VolumeError
from sennet_engine.volumes.volume import Planes


def read_raw_plane(path: Path, *, offset: int, shape_yx: tuple[int, int], dtype: npt.DTypeLike) -> Planes:
    """[Y, X] voxels of `dtype`, in its byte order, from byte `offset` on. Raises VolumeError where they are not."""
    rows, columns = shape_yx
    try:
        voxels: Planes = np.fromfile(path, dtype, rows * columns, offset=offset)
    except OSError as error:
        raise VolumeError(f"{path}: cannot be read at byte {offset}: {error}") from error
    if voxels.size != rows * columns:
        raise VolumeError(
            f"{path}: got {voxels.size} of {rows * columns} voxels at byte {offset}: the file was cut short since it "
            f"was opened; copy it again"
        )
    return voxels.reshape(shape_yx)
