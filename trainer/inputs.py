"""What a training is about to read is looked at before anything is written: a slip costs no time and no result."""

import logging

from sennet_engine.errors import VolumeError
from sennet_trainer.labelled_volume import AXES
from sennet_trainer.settings import FitSettings
from sennet_trainer.volume_cache import fingerprint_of
from sennet_trainer.volume_pair import VolumePair, opened_pair
from sennet_trainer.volume_settings import VolumeSettings

VOXEL_SIZE_TOLERANCE = 0.1

ShapeYX = tuple[int, int]

logger = logging.getLogger(__name__)


def check_inputs(settings: FitSettings) -> set[ShapeYX]:
    """Open every volume with its labels. Returns the sizes of the planes that will be validated.

    Raises:
        VolumeError: a volume or its labels cannot be opened or do not belong together, or it is too thin to be cut
            along one of its axes.
        ConfigError: the magnification that follows from a volume's voxel size cannot be used.
    """
    validated: set[ShapeYX] = set()
    for volume in settings.volumes:
        with opened_pair(volume) as pair:
            for axis in volume.axes:
                _check_extent(volume, pair.shape_zyx, axis, side=settings.crops.side)
                if volume.role == "validation":
                    validated.add(_plane_of(pair.shape_zyx, axis))
            if volume.role == "train":
                settings.augmentation.scale_for(pair.voxel_size_um or settings.voxel_size_um)
            if volume.role == "validation" or settings.augmentation.target_voxel_size_um is None:
                _warn_of_voxel_size(pair, trained_um=settings.voxel_size_um)
    return validated


def input_fingerprints(settings: FitSettings) -> dict[str, str]:
    """What tells whether an input has changed, by `images PATH` and `labels PATH`; of missing ones nothing."""
    found = {}
    for volume in settings.volumes:
        for kind, path in (("images", volume.images), ("labels", volume.labels)):
            if path is not None and path.exists():
                found[f"{kind} {path}"] = fingerprint_of(path)
    return found


def _plane_of(shape_zyx: tuple[int, ...], axis: str) -> ShapeYX:
    height, width = (extent for a, extent in enumerate(shape_zyx) if a != AXES[axis])
    return height, width


def _check_extent(volume: VolumeSettings, shape_zyx: tuple[int, ...], axis: str, *, side: int) -> None:
    """A crop may be mirrored where a plane ends, but not made of mirrors."""
    least = side // 2
    if axis == "z":
        # Validation planes are predicted whole, whatever the side of a crop.
        if volume.role == "train" and min(shape_zyx[1:]) < least:
            raise VolumeError(
                f"{volume.images}: got planes of {shape_zyx[1]} × {shape_zyx[2]} pixels, expected at least {least} "
                f"along each side for crops.side = {side}; try crops.side = {max(32, min(shape_zyx[1:]) // 32 * 32)}"
            )
    elif min(_plane_of(shape_zyx, axis)) < least:
        thin = min((a for a in AXES if a != axis), key=lambda a: shape_zyx[AXES[a]])
        raise VolumeError(
            f"{volume.images}: got {shape_zyx[AXES[thin]]} planes along {thin}, expected at least {least} to cut along "
            f'{axis} with crops.side = {side}; set axes = "{thin}" for this volume'
        )


def _warn_of_voxel_size(pair: VolumePair, *, trained_um: float) -> None:
    """Where the magnification does not follow from the voxel size, another one than the settings' is likely a slip."""
    volume, sizes_um = pair.settings, _pixel_sizes_um(pair)
    if any(abs(size / trained_um - 1) > VOXEL_SIZE_TOLERANCE for size in sizes_um):
        logger.warning(
            "%s: the pixels are %s µm and the settings say voxel_size_um = %g: vessels will look larger or smaller "
            "than there; rescale the volume, or correct the settings",
            volume.images, " × ".join(f"{size:g}" for size in sizes_um), trained_um,
        )  # fmt: skip


def _pixel_sizes_um(pair: VolumePair) -> list[float]:
    """Along the axes that lie in a plane which is cut; none where nobody tells."""
    if pair.settings.voxel_size_um is not None:
        return [pair.settings.voxel_size_um]
    if pair.images.voxel_size_um is None:
        return []
    in_plane = {a for axis in pair.settings.axes for a in range(3) if a != AXES[axis]}
    return [pair.images.voxel_size_um[a] for a in sorted(in_plane)]
