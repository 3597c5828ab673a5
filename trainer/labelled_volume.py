"""A labelled volume, windowed to uint8 once and kept on disk, from which planes are cut along any axis."""

import hashlib
import json
import logging
import shutil
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from sennet_engine.errors import VolumeError
from sennet_engine.volumes.open import open_volume
from sennet_engine.volumes.volume import Volume
from sennet_engine.window import surveyed_window
from sennet_trainer.settings import VolumeSettings

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
    """
    for path in (settings.images, settings.labels):
        if path is not None and not path.exists():
            raise VolumeError(f"{path}: no such file or folder; give a TIFF, a .npy file or a folder of slices")
    folder = cache / _fingerprint(settings)
    if not folder.exists():
        partial = folder.with_suffix(".partial")
        if partial.exists():
            shutil.rmtree(partial)
        partial.mkdir(parents=True)
        _write_cache(settings, partial)
        partial.rename(folder)
    return LabelledVolume(name=settings.images.stem, folder=folder, settings=settings)


def _write_cache(settings: VolumeSettings, folder: Path) -> None:
    with ExitStack() as stack:
        images = stack.enter_context(open_volume(settings.images))
        labels = stack.enter_context(open_volume(settings.labels)) if settings.labels else None
        if labels is not None and labels.shape_zyx != images.shape_zyx:
            raise VolumeError(
                f"{settings.labels}: got labels of shape {labels.shape_zyx} (Z, Y, X), expected {images.shape_zyx} as "
                f"in {settings.images}; give the labels of these images"
            )
        slices = _slices_within(settings, images.shape_zyx[0])
        shape_zyx = (len(slices), *images.shape_zyx[1:])
        _write_images(images, _created(folder / "images.npy", shape_zyx), slices, invert=settings.invert)
        labelled = _write_labels(labels, _created(folder / "labels.npy", shape_zyx), slices)
    if labelled.size == 0 and not settings.allow_empty:
        raise VolumeError(
            f"{settings.labels}: no voxel is labelled in planes {slices.start} to {slices.stop - 1}; give the right "
            f"labels, or set allow_empty = true where the volume is a hard negative"
        )
    np.save(folder / "labelled.npy", labelled)
    logger.info("%s: %d planes cached, %d labelled voxels", settings.images, shape_zyx[0], labelled.size)


def _write_images(volume: Volume, cached: UInt8, slices: range, *, invert: bool) -> None:
    """The window is that of the whole volume, as the engine takes it, whatever slices are used."""
    window = surveyed_window(volume)
    for index, z in enumerate(slices):
        plane = window.to_uint8(volume.read_planes(z, z + 1)[0])
        cached[index] = 255 - plane if invert else plane


def _write_labels(volume: Volume | None, cached: UInt8, slices: range) -> npt.NDArray[np.int64]:
    """Write 0/1 labels; returns the flat indices of the labelled voxels. The file is made of zeros already."""
    labelled: list[npt.NDArray[np.int64]] = []
    level = None
    for index, z in enumerate(slices if volume is not None else ()):
        assert volume is not None
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
        cached[index] = plane != 0
        labelled.append(positives + index * plane.size)
    return np.concatenate(labelled) if labelled else np.empty(0, np.int64)


def _slices_within(settings: VolumeSettings, depth: int) -> range:
    first, end = settings.slices or (0, depth)
    if end > depth:
        raise VolumeError(f"{settings.images}: got slices = [{first}, {end}], expected at most [0, {depth}]")
    return range(first, end)


def _fingerprint(settings: VolumeSettings) -> str:
    facts: list[Any] = [CACHE_VERSION, settings.slices, settings.invert, settings.allow_empty]
    for path in (settings.images, settings.labels):
        facts.append(None if path is None else [str(path.resolve()), *map(_file_facts, _files_of(path))])
    return hashlib.sha256(json.dumps(facts).encode()).hexdigest()[:16]


def _files_of(path: Path) -> list[Path]:
    return sorted(path.iterdir()) if path.is_dir() else [path]


def _file_facts(path: Path) -> list[Any]:
    facts = path.stat()
    return [path.name, facts.st_size, facts.st_mtime_ns]


def _created(path: Path, shape: tuple[int, ...]) -> UInt8:
    array: UInt8 = np.lib.format.open_memmap(path, mode="w+", dtype=np.uint8, shape=shape)
    return array


def _mapped(path: Path) -> npt.NDArray[Any]:
    # An empty array cannot be memory-mapped.
    array: npt.NDArray[Any] = np.load(path, mmap_mode="r" if path.stat().st_size > 128 else None, allow_pickle=False)
    return array
