"""A labelled volume, windowed to uint8 once and kept on disk, from which planes are cut along any axis."""

from dataclasses import dataclass, fields
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from sennet_engine.errors import VolumeError
from sennet_engine.volumes.folder import GENERIC_NAMES
from sennet_engine.volumes.name import volume_name
from sennet_trainer.volume_cache import IMAGES, LABELLED, LABELS, Cached, cached_images, cached_labels
from sennet_trainer.volume_pair import opened_pair
from sennet_trainer.volume_settings import VolumeSettings

UInt8 = npt.NDArray[np.uint8]

AXES = {"z": 0, "y": 1, "x": 2}


@dataclass(frozen=True)
class LabelledVolume:
    """A cached volume. Its arrays are mapped when they are first asked for, in each process that it travels to.

    Attributes:
        name: the volume's name, for reports.
        settings: what it is used for.
        planes: the used planes, as the images' file counts them; plane 0 here is `planes.start` there.
        voxel_size_um: micrometres a pixel, as the settings say or else the images' file; None where neither does.
        images_cache: where the images lie.
        labels_cache: where the labels lie.
    """

    name: str
    settings: VolumeSettings
    planes: range
    voxel_size_um: float | None
    images_cache: Cached
    labels_cache: Cached

    @cached_property
    def images(self) -> UInt8:
        """Memory-mapped uint8 [Z, Y, X]."""
        return _mapped(self.images_cache.folder / IMAGES)

    @cached_property
    def labels(self) -> UInt8:
        """Memory-mapped 0/1 uint8 [Z, Y, X]; real and pseudo-labels alike are 1."""
        return _mapped(self.labels_cache.folder / LABELS)

    @cached_property
    def labelled(self) -> npt.NDArray[np.int64]:
        """Memory-mapped flat indices into [Z, Y, X] of the labelled voxels, ascending."""
        return _mapped(self.labels_cache.folder / LABELLED)

    @property
    def images_sha256(self) -> str:
        """Of the cached images: their values and shape, not their file."""
        return self.images_cache.sha256

    @property
    def labels_sha256(self) -> str:
        """Of the cached labels: their values and shape, not their file."""
        return self.labels_cache.sha256

    @property
    def folders(self) -> tuple[Path, ...]:
        """The folders in the cache that this volume needs; other volumes may need them too."""
        return self.images_cache.folder, self.labels_cache.folder

    def __getstate__(self) -> dict[str, Any]:
        """Without the mapped arrays, which would travel as copies."""
        return {field.name: getattr(self, field.name) for field in fields(self)}

    def along(self, axis: str) -> tuple[UInt8, UInt8]:
        """Images and labels with `axis` first: iterating over them gives the planes cut along it."""
        return np.moveaxis(self.images, AXES[axis], 0), np.moveaxis(self.labels, AXES[axis], 0)


def cached_volume(settings: VolumeSettings, cache: Path) -> LabelledVolume:
    """Window the volume of `settings` to uint8 under the folder `cache`, or find it there from an earlier run.

    A cache belongs to its inputs: it is made again when one of their paths, sizes or times of change differs, and it
    appears under its name only when whole. Several runs may share one at the same time.

    Raises:
        VolumeError: images or labels cannot be read, do not belong together, the labels have other values than
            `cached_labels` takes, or no voxel is labelled and `allow_empty` is not set.
        OSError: the cache cannot be written; what there is of it is deleted.
    """
    with opened_pair(settings) as pair:
        labels = cached_labels(pair, cache)  # first: they fail sooner, and for more reasons
        if not settings.allow_empty and _mapped(labels.folder / LABELLED).size == 0:
            first, last = pair.planes[0], pair.planes[-1]
            raise VolumeError(
                f"{settings.labels}: no voxel is labelled in planes {first} to {last}; give the right labels, or set "
                f"allow_empty = true where the volume is a hard negative"
            )
        return LabelledVolume(
            name=settings.name or _name_of(settings.images),
            settings=settings,
            planes=pair.planes,
            voxel_size_um=pair.voxel_size_um,
            images_cache=cached_images(pair, cache),
            labels_cache=labels,
        )


def _name_of(path: Path) -> str:
    """`phantom/image` for phantom/image.tif, `kidney_1` for kidney_1/images and for a folder of slices kidney_1."""
    folder = path.absolute()
    if folder.is_dir():
        return volume_name(folder.parent if folder.name in GENERIC_NAMES else folder)
    return f"{folder.parent.name}/{volume_name(folder)}"


def _mapped(path: Path) -> npt.NDArray[Any]:
    # An empty array cannot be memory-mapped.
    array: npt.NDArray[Any] = np.load(path, mmap_mode="r" if path.stat().st_size > 128 else None, allow_pickle=False)
    return array
