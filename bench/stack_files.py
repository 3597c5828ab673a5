"""Small stacks, read and written whole."""

from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from sennet_engine.errors import OutputError, VolumeError
from sennet_engine.results.stack_writer import StackWriter
from sennet_engine.volumes.open import open_volume
from sennet_engine.volumes.volume import VoxelSize


def read_stack(path: Path) -> npt.NDArray[Any]:
    """All of the volume `path`, [Z, Y, X] in its own dtype.

    Raises:
        VolumeError: it cannot be read.
    """
    with open_volume(path) as volume:
        return volume.read_planes(0, volume.shape_zyx[0])


def read_mask(path: Path) -> npt.NDArray[np.bool_]:
    """The voxels of the mask `path`, 0/1 or 0/255, that are not 0, bool [Z, Y, X].

    Raises:
        VolumeError: it cannot be read, or holds other values.
    """
    stack = read_stack(path)
    values = set(np.unique(stack).tolist())
    if not values <= {0, 1} and not values <= {0, 255}:
        found = ", ".join(f"{value:g}" for value in sorted(values)[:6])
        raise VolumeError(f"{path}: got the values {found}, expected a mask of 0/1 or 0/255; make it one first")
    mask: npt.NDArray[np.bool_] = stack != 0
    return mask


def write_stack(path: Path, stack: npt.NDArray[np.uint8], voxel_size_um: VoxelSize | None = None) -> None:
    """Write uint8 [Z, Y, X] as an OME-TIFF, which appears under its name when it is whole.

    Raises:
        OutputError: it cannot be written.
    """
    partial = path.with_name(f"{path.name}.partial")
    try:
        with StackWriter(partial, shape_zyx=stack.shape, voxel_size_um=voxel_size_um) as writer:
            writer.append(stack)
        partial.replace(path)
    except OSError as error:
        partial.unlink(missing_ok=True)
        raise OutputError(f"{path}: cannot be written ({error.strerror}); choose another place") from error


def refuse_stack_file(path: Path, *, overwrite: bool) -> None:
    """Raise OutputError where `path` is no TIFF, is a folder, or exists and must not be replaced."""
    if path.suffix.lower() not in (".tif", ".tiff"):
        raise OutputError(f"{path}: got the suffix {path.suffix!r}, expected .tif")
    if path.is_dir() or (path.exists() and not overwrite):
        raise OutputError(f"{path}: exists already; choose another name, or replace a file with --overwrite")
