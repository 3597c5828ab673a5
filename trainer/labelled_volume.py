"""A labelled volume, windowed to uint8 once and kept on disk, from which planes are cut along any axis."""

import hashlib
import json
import logging
import shutil
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import numpy as np
import numpy.typing as npt

from sennet_engine.errors import VolumeError
from sennet_engine.volumes.folder import GENERIC_NAMES
from sennet_engine.volumes.name import volume_name
from sennet_engine.volumes.open import open_volume
from sennet_engine.volumes.volume import Volume
from sennet_engine.window import surveyed_window
from sennet_trainer.volume_settings import VolumeSettings
from sennet_trainer.whole_file import writing_to

UInt8 = npt.NDArray[np.uint8]

# Part of the fingerprint: raise it when what is cached changes its meaning.
CACHE_VERSION = 1
AXES = {"z": 0, "y": 1, "x": 2}

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class LabelledVolume:
    """A cached volume. Holds paths and opens them anew, so that it travels to worker processes at no cost.

    Attributes:
        name: the volume's name, for reports.
        folder: holds images.npy (uint8 [Z, Y, X]), labels.npy (uint8 0/1) and labelled.npy (int64, flat indices of
            the labelled voxels).
        settings: what it is used for.
    """

    name: str
    folder: Path
    settings: VolumeSettings

    @property
    def images(self) -> UInt8:
        """Memory-mapped uint8 [Z, Y, X]."""
        return _mapped(self.folder / "images.npy")

    @property
    def labels(self) -> UInt8:
        """Memory-mapped 0/1 uint8 [Z, Y, X]."""
        return _mapped(self.folder / "labels.npy")

    @property
    def labelled(self) -> npt.NDArray[np.int64]:
        """Memory-mapped flat indices into [Z, Y, X] of the labelled voxels, ascending."""
        return _mapped(self.folder / "labelled.npy")

    def along(self, axis: str) -> tuple[UInt8, UInt8]:
        """Images and labels with `axis` first: iterating over them gives the planes cut along it."""
        return np.moveaxis(self.images, AXES[axis], 0), np.moveaxis(self.labels, AXES[axis], 0)


def cached_volume(settings: VolumeSettings, cache: Path) -> LabelledVolume:
    """Window the volume of `settings` to uint8 under the folder `cache`, or find it there from an earlier run.

    A cache belongs to its inputs: it is made again when one of their paths, sizes or times of change differs, and it
    appears under its name only when whole.

    Raises:
        VolumeError: images or labels cannot be read, have different shapes, the labels are not 0/1 or 0/255, or no
            voxel is labelled and `allow_empty` is not set.
        OSError: the cache cannot be written; what there is of it is deleted.
    """
    folder = cache / _cache_name(settings)
    if not folder.exists():
        partial = folder.with_suffix(".partial")
        if partial.exists():
            shutil.rmtree(partial)
        try:
            partial.mkdir(parents=True)
            _write_cache(settings, partial)
            partial.rename(folder)
        except BaseException:
            shutil.rmtree(partial, ignore_errors=True)
            raise
    return LabelledVolume(name=settings.name or _name_of(settings.images), folder=folder, settings=settings)


@contextmanager
def opened(settings: VolumeSettings) -> Iterator[tuple[Volume, Volume | None, range]]:
    """Images, labels (None where all is background) and the planes of both that are used; they belong together.

    Raises:
        VolumeError: one cannot be opened, their shapes or the names of their slices differ, or the planes are missing.
    """
    with ExitStack() as stack:
        images = stack.enter_context(open_volume(settings.images))
        labels = stack.enter_context(open_volume(settings.labels)) if settings.labels else None
        if labels is not None:
            _check_pair(images, labels)
        yield images, labels, _slices_within(settings, images.shape_zyx[0])


def fingerprint_of(path: Path) -> str:
    """Changes when the file `path`, or one of a folder `path`, gets another name, size or time of change.

    Raises:
        VolumeError: there is nothing at `path`.
    """
    try:
        files = sorted(path.iterdir()) if path.is_dir() else [path]
        facts = [str(path.resolve()), *([file.name, *_size_and_time(file)] for file in files)]
    except FileNotFoundError as error:
        raise VolumeError(f"{path}: no such file or folder; give a TIFF, a .npy file or a folder of slices") from error
    return _hashed(facts)


def _write_cache(settings: VolumeSettings, folder: Path) -> None:
    with opened(settings) as (images, labels, slices):
        # The window is that of the whole volume, as the engine takes it, whatever slices are used.
        window = surveyed_window(images)
        shape_zyx = (len(slices), *images.shape_zyx[1:])
        with _NpyFile(folder / "images.npy", np.uint8, shape_zyx) as cached:
            for z in slices:
                plane = window.to_uint8(images.read_planes(z, z + 1)[0])
                cached.append(255 - plane if settings.invert else plane)
        with _NpyFile(folder / "labels.npy", np.uint8, shape_zyx) as cached:
            labelled = _write_labels(labels, cached, slices, size_yx=shape_zyx[1:])
    if labelled.size == 0 and not settings.allow_empty:
        raise VolumeError(
            f"{settings.labels}: no voxel is labelled in planes {slices.start} to {slices.stop - 1}; give the right "
            f"labels, or set allow_empty = true where the volume is a hard negative"
        )
    with _NpyFile(folder / "labelled.npy", np.int64, labelled.shape) as cached:
        cached.append(labelled)
    logger.info("%s: %d planes cached, %d labelled voxels", settings.images, shape_zyx[0], labelled.size)


class _NpyFile:
    """An array file that grows. Written as any file, since a full disk ends a process that writes a mapped one."""

    def __init__(self, path: Path, dtype: npt.DTypeLike, shape: tuple[int, ...]) -> None:
        self._path = path
        header = {"descr": np.lib.format.dtype_to_descr(np.dtype(dtype)), "fortran_order": False, "shape": shape}
        with writing_to(path):
            self._file = path.open("wb")
            np.lib.format.write_array_header_1_0(self._file, header)

    def append(self, values: npt.NDArray[Any]) -> None:
        with writing_to(self._path):
            self._file.write(np.ascontiguousarray(values).data)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        with writing_to(self._path):
            self._file.close()


def _write_labels(
    volume: Volume | None, cached: _NpyFile, slices: range, *, size_yx: tuple[int, ...]
) -> npt.NDArray[np.int64]:
    """Write 0/1 labels; returns the flat indices of the labelled voxels."""
    labelled: list[npt.NDArray[np.int64]] = []
    level = None
    for index, z in enumerate(slices):
        if volume is None:
            cached.append(np.zeros(size_yx, np.uint8))
            continue
        plane = volume.read_planes(z, z + 1)[0]
        positives = np.flatnonzero(plane)
        values = plane.ravel()[positives]
        if level is None and values.size:
            level = values[0]
        if values.size and (level not in (1, 255) or (values != level).any()):
            found = ", ".join(str(value) for value in np.unique(values)[:8])
            raise VolumeError(
                f"{volume.path}: got labels with the values 0, {found} in plane {z}, expected 0/1 or 0/255 throughout; "
                f"convert the labels first"
            )
        cached.append((plane != 0).astype(np.uint8))
        labelled.append(positives + index * plane.size)
    return np.concatenate(labelled) if labelled else np.empty(0, np.int64)


def _check_pair(images: Volume, labels: Volume) -> None:
    if labels.shape_zyx != images.shape_zyx:
        raise VolumeError(
            f"{labels.path}: got labels of shape {labels.shape_zyx} (Z, Y, X), expected {images.shape_zyx} as "
            f"in {images.path}; give the labels of these images"
        )
    if not (images.path.is_dir() and labels.path.is_dir()):
        return  # the planes of a single file have no names
    for one, other in zip(images.plane_ids, labels.plane_ids, strict=True):
        if one != other:
            raise VolumeError(
                f"{labels.path}: got labels of the slice {other!r} where {images.path} has {one!r}, expected slices of "
                f"equal names; give the labels of these images"
            )


def _slices_within(settings: VolumeSettings, depth: int) -> range:
    first, end = settings.slices or (0, depth)
    if end > depth:
        raise VolumeError(f"{settings.images}: got slices = [{first}, {end}], expected at most [0, {depth}]")
    return range(first, end)


def _name_of(path: Path) -> str:
    """`phantom/image` for phantom/image.tif, `kidney_1` for kidney_1/images and for a folder of slices kidney_1."""
    folder = path.absolute()
    if folder.is_dir():
        return volume_name(folder.parent if folder.name in GENERIC_NAMES else folder)
    return f"{folder.parent.name}/{volume_name(folder)}"


def _cache_name(settings: VolumeSettings) -> str:
    inputs = [path and fingerprint_of(path) for path in (settings.images, settings.labels)]
    return _hashed([CACHE_VERSION, settings.slices, settings.invert, settings.allow_empty, *inputs])


def _hashed(facts: list[Any]) -> str:
    return hashlib.sha256(json.dumps(facts).encode()).hexdigest()[:16]


def _size_and_time(path: Path) -> tuple[int, int]:
    facts = path.stat()
    return facts.st_size, facts.st_mtime_ns


def _mapped(path: Path) -> npt.NDArray[Any]:
    # An empty array cannot be memory-mapped.
    array: npt.NDArray[Any] = np.load(path, mmap_mode="r" if path.stat().st_size > 128 else None, allow_pickle=False)
    return array
