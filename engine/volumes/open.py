"""Open a volume, whatever it is stored as. Past this door every volume is (Z, Y, X) with one channel."""

from collections.abc import Callable
from pathlib import Path

import numpy as np

from sennet_engine.errors import ConfigError, VolumeError
from sennet_engine.volumes.folder import open_folder
from sennet_engine.volumes.tiff import open_tiff
from sennet_engine.volumes.volume import ArrayVolume, Volume, VoxelSize


def open_volume(path: Path, *, voxel_size_um: VoxelSize | None = None) -> Volume:
    """Open a multi-page TIFF, BigTIFF or OME-TIFF, a folder of TIFF or PNG slices, or a `.npy` file.

    Args:
        path: the file or folder. The suffix of a file decides how it is read.
        voxel_size_um: micrometres along (z, y, x); overrides what the file says.

    Raises:
        VolumeError: there is nothing at `path`, it is damaged, or it is not a single-channel volume of
            uint8, uint16 or float32.
    """
    if not path.exists():
        raise VolumeError(f"{path}: no such file or folder; give a TIFF, a .npy file or a folder of slices")
    if path.is_dir():
        volume = open_folder(path)
    elif opener := OPENERS.get(path.suffix.lower()):
        volume = opener(path)
    else:
        known = ", ".join(OPENERS)
        raise VolumeError(f"{path}: got a file of type {path.suffix!r}, expected one of {known} or a folder of slices")
    if voxel_size_um is not None:
        volume.voxel_size_um = voxel_size_um
    return volume


def voxel_size_from_text(text: str) -> VoxelSize:
    """`50` or `50,50,50` (z, y, x) as micrometres.

    Raises:
        ConfigError: not one or three positive numbers.
    """
    try:
        values = [float(part) for part in text.split(",")]
    except ValueError:
        values = []
    if len(values) not in (1, 3) or not all(0 < value < float("inf") for value in values):
        raise ConfigError(f"voxel size: got {text!r}, expected micrometres as one number (50) or as z,y,x (50,25,25)")
    z, y, x = values if len(values) == 3 else values * 3
    return z, y, x


def _open_npy(path: Path) -> Volume:
    try:
        array = np.load(path, mmap_mode="r", allow_pickle=False)
    except (ValueError, EOFError, OSError) as error:
        raise VolumeError(f"{path}: is not a readable .npy array: {error}") from error
    return ArrayVolume(array, name=path.stem, path=path)


OPENERS: dict[str, Callable[[Path], Volume]] = {".tif": open_tiff, ".tiff": open_tiff, ".npy": _open_npy}
