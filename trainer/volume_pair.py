"""Images and labels that belong together, and the planes of both that are used."""

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass

from sennet_engine.errors import VolumeError
from sennet_engine.volumes.open import open_volume
from sennet_engine.volumes.volume import Volume
from sennet_trainer.volume_settings import VolumeSettings


@dataclass(frozen=True)
class VolumePair:
    """An opened volume and its labels.

    Attributes:
        settings: what it was opened from.
        images: any voxel type.
        labels: of the same planes; None where all is background.
        planes: the planes that are used, as the images count them.
        label_planes: the same planes, as the labels count them.
    """

    settings: VolumeSettings
    images: Volume
    labels: Volume | None
    planes: range
    label_planes: range

    @property
    def shape_zyx(self) -> tuple[int, int, int]:
        """Of what is used."""
        _, height, width = self.images.shape_zyx
        return len(self.planes), height, width

    @property
    def voxel_size_um(self) -> float | None:
        """Micrometres a pixel: as the settings say, else the mean along y and x of what the file says."""
        if self.settings.voxel_size_um is not None or self.images.voxel_size_um is None:
            return self.settings.voxel_size_um
        _, y_um, x_um = self.images.voxel_size_um
        return (y_um + x_um) / 2


@contextmanager
def opened_pair(settings: VolumeSettings) -> Iterator[VolumePair]:
    """Open the images of `settings` with their labels.

    Folders of slices are matched by the slices' names, so that labels may cover some of the images only: a run of
    slices, of which those within `settings.slices` are used. A file of labels has as many planes as the images, or as
    many as `settings.slices`.

    Raises:
        VolumeError: one cannot be opened, their shapes or the names of their slices differ, or the planes are missing.
    """
    with ExitStack() as stack:
        images = stack.enter_context(open_volume(settings.images))
        labels = stack.enter_context(open_volume(settings.labels)) if settings.labels else None
        wanted = _wanted_planes(images, settings)
        labelled = range(images.shape_zyx[0]) if labels is None else _labelled_planes(images, labels, wanted)
        planes = range(max(wanted.start, labelled.start), min(wanted.stop, labelled.stop))
        if not planes:
            raise VolumeError(
                f"{settings.labels}: got labels of the planes {_named(labelled)}, expected some of the planes "
                f"{_named(wanted)} that slices = {list(settings.slices or ())} asks for; give other slices or labels"
            )
        label_planes = range(planes.start - labelled.start, planes.stop - labelled.start)
        yield VolumePair(settings, images, labels, planes, label_planes)


def _wanted_planes(images: Volume, settings: VolumeSettings) -> range:
    depth = images.shape_zyx[0]
    first, end = settings.slices or (0, depth)
    if end > depth:
        raise VolumeError(f"{settings.images}: got slices = [{first}, {end}], expected at most [0, {depth}]")
    return range(first, end)


def _labelled_planes(images: Volume, labels: Volume, wanted: range) -> range:
    """The planes of the images that the labels cover."""
    if labels.shape_zyx[1:] == images.shape_zyx[1:]:
        if images.path.is_dir() and labels.path.is_dir():
            return _planes_by_name(images, labels)
        if labels.shape_zyx[0] == images.shape_zyx[0]:
            return range(images.shape_zyx[0])
        if labels.shape_zyx[0] == len(wanted):
            return wanted
    raise VolumeError(
        f"{labels.path}: got labels of shape {labels.shape_zyx} (Z, Y, X), expected {images.shape_zyx} as in "
        f"{images.path}; give the labels of these images"
    )


def _planes_by_name(images: Volume, labels: Volume) -> range:
    position = {name: z for z, name in enumerate(images.plane_ids)}
    for name in labels.plane_ids:
        if name not in position:
            raise VolumeError(
                f"{labels.path}: got labels of the slice {name!r}, which {images.path} does not hold, expected names "
                f"from {images.plane_ids[0]!r} to {images.plane_ids[-1]!r}; give the labels of these images"
            )
    first = position[labels.plane_ids[0]]
    for z, name in enumerate(labels.plane_ids, start=first):
        if position[name] != z:
            missing = images.plane_ids[z] if position[name] > z else name
            raise VolumeError(
                f"{labels.path}: got no labels of the slice {missing!r} but of slices on both sides of it, expected a "
                f"run of slices without a gap; give each run as a volume of its own"
            )
    return range(first, first + len(labels.plane_ids))


def _named(planes: range) -> str:
    return f"{planes.start} to {planes.stop - 1}"
