"""Open a volume, whatever it is stored as. Past this door every volume is (Z, Y, X) with one channel."""

import stat
from collections.abc import Callable
from pathlib import Path

from sennet_engine.errors import ConfigError, VolumeError
from sennet_engine.volumes.folder import open_folder
from sennet_engine.volumes.npy import open_npy
from sennet_engine.volumes.tiff import open_tiff
from sennet_engine.volumes.volume import Volume, VoxelSize


def open_volume(path: Path, *, voxel_size_um: VoxelSize | None = None) -> Volume:
    """Open a multi-page TIFF, BigTIFF or OME-TIFF, a folder of TIFF or PNG slices, or a `.npy` file.

    Args:
        path: the file or folder. The suffix of a file decides how it is read.
        voxel_size_um: micrometres along (z, y, x); overrides what the file says.

    Raises:
        VolumeError: there is nothing at `path`, it is damaged, or it is not a single-channel volume of
            uint8, uint16 or float32.
    """
    if _is_folder(path):
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


def _is_folder(path: Path) -> bool:
    """Whether there is a folder at `path`, or else a file. Raises VolumeError where there is neither."""
    try:
        mode = path.stat().st_mode
    except (FileNotFoundError, NotADirectoryError) as error:
        raise VolumeError(f"{path}: no such file or folder; give a TIFF, a .npy file or a folder of slices") from error
    except (OSError, ValueError) as error:
        raise VolumeError(f"{path}: cannot be opened: {getattr(error, 'strerror', error)}; check the path") from error
    if not stat.S_ISDIR(mode) and not stat.S_ISREG(mode):
        raise VolumeError(f"{path}: is neither a file nor a folder; give a TIFF, a .npy file or a folder of slices")
    return stat.S_ISDIR(mode)


OPENERS: dict[str, Callable[[Path], Volume]] = {".tif": open_tiff, ".tiff": open_tiff, ".npy": open_npy}
