"""A folder of TIFF or PNG slices as a volume, in the natural order of the numbers in their names."""

import logging
import re
from collections import Counter
from itertools import pairwise
from pathlib import Path

import numpy as np
import numpy.typing as npt

from sennet_engine.errors import VolumeError
from sennet_engine.volumes.name import volume_name
from sennet_engine.volumes.slices import SLICE_FORMATS
from sennet_engine.volumes.volume import Planes, Volume

logger = logging.getLogger(__name__)

# Folders of slices are named after what lies in them in the competition's layout: kidney_1_dense/images/0000.tif.
GENERIC_NAMES = ("images", "labels")


def open_folder(path: Path) -> Volume:
    """Open all slices in `path`; files of other types and hidden files are passed over.

    A gap in the numbers is logged: the planes on both sides of it are taken as neighbours.

    Raises:
        VolumeError: there are no slices, they are of two types, not named alike, two have the same number, or one
            is not a grey plane like the first.
    """
    files = _slice_files(path)
    if not files:
        raise VolumeError(f"{path}: holds no slices, expected files of type {', '.join(SLICE_FORMATS)}")
    if len({SLICE_FORMATS[file.suffix.lower()].name for file in files}) > 1:
        suffixes = ", ".join(sorted({file.suffix.lower() for file in files}))
        raise VolumeError(f"{path}: holds several types of slices ({suffixes}), expected one; move the others")
    files.sort(key=lambda file: (natural_key(file.stem), file.name))
    _refuse_odd_name(files)
    _refuse_same_number(files)
    _warn_of_gaps(path, files)
    return FolderVolume(path, files)


def natural_key(stem: str) -> list[tuple[int, int | str]]:
    """Sorts `slice_2` before `slice_10`: runs of digits compare as numbers, and before letters."""
    return [(0, int(part)) if part.isdecimal() else (1, part) for part in re.split(r"(\d+)", stem) if part]


class FolderVolume(Volume):
    """One file a plane. The first file gives shape and voxel type, and all others are held against it at once."""

    def __init__(self, path: Path, files: list[Path]) -> None:
        first = SLICE_FORMATS[files[0].suffix.lower()].header(files[0])
        self._files = files
        folder = path.absolute()
        super().__init__(
            path, name=volume_name(folder.parent if folder.name in GENERIC_NAMES else path),
            shape_zyx=(len(files), *first.shape_yx), dtype=first.dtype, voxel_size_um=first.voxel_size_um,
            plane_ids=[file.stem for file in files],
        )  # fmt: skip
        # Headers are cheap to look at, so a slice that does not fit is found before hours of work, not after.
        for file in files[1:]:
            header = SLICE_FORMATS[file.suffix.lower()].header(file)
            self._refuse_unlike(file, header.shape_yx, header.dtype)

    def _refuse_unlike(self, file: Path, shape: tuple[int, ...], dtype: npt.DTypeLike) -> None:
        if shape != self.shape_zyx[1:] or np.dtype(dtype).newbyteorder("=") != self.dtype:
            raise VolumeError(
                f"{file}: got a slice of {shape} {np.dtype(dtype)}, expected {self.shape_zyx[1:]} {self.dtype} like "
                f"{self._files[0].name}; move it out of the folder"
            )

    def _read_plane(self, z: int) -> Planes:
        file = self._files[z]
        plane = SLICE_FORMATS[file.suffix.lower()].read(file)
        self._refuse_unlike(file, plane.shape, plane.dtype)
        return plane


def _slice_files(path: Path) -> list[Path]:
    try:
        return [file for file in path.iterdir() if file.suffix.lower() in SLICE_FORMATS and file.name[0] != "."]
    except OSError as error:
        raise VolumeError(f"{path}: cannot be listed: {error.strerror}; check its permissions") from error


def _refuse_odd_name(files: list[Path]) -> None:
    """Slices are told apart by numbers alone, so a file of another name is no slice of this volume."""
    patterns = [re.sub(r"\d+", "#", file.stem) for file in files]
    (usual, _), *others = Counter(patterns).most_common()
    if others:
        odd = next(file for file, pattern in zip(files, patterns, strict=True) if pattern != usual)
        raise VolumeError(
            f"{odd}: is not named like the other slices, expected {usual}{odd.suffix} with a number for each #; "
            f"move it out of the folder or rename it"
        )


def _refuse_same_number(files: list[Path]) -> None:
    for one, other in pairwise(files):
        if natural_key(one.stem) == natural_key(other.stem):
            raise VolumeError(
                f"{other}: has the same number as {one.name}, expected one file a plane; move one of them"
            )


def _warn_of_gaps(path: Path, files: list[Path]) -> None:
    """Where several of the numbers in the names change, which one counts the planes is not known: nothing is said."""
    columns = zip(*(map(int, re.findall(r"\d+", file.stem)) for file in files), strict=True)
    changing = [numbers for numbers in columns if len(set(numbers)) > 1]
    if len(changing) != 1:
        return
    (numbers,) = changing
    gaps = [(low, high) for low, high in pairwise(numbers) if high != low + 1]
    if gaps:
        low, high = gaps[0]
        logger.warning(
            f"{path}: the numbers of the slices leap {len(gaps)} times, first from {low} to {high}: planes may be "
            f"missing; the slices are taken as neighbours"
        )
