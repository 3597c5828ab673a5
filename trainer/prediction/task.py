"""What is to be predicted: a labelled volume, networks and axes, checked before any work."""

import logging
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from sennet_engine.errors import ConfigError, VolumeError
from sennet_trainer.labelled_volume import LabelledVolume, cached_volume
from sennet_trainer.prediction.result_file import NetworkName, key_of
from sennet_trainer.prediction.teacher import Teacher, teacher_from_path
from sennet_trainer.volume_settings import VolumeSettings

# Raise it when the same task gives another probability, or is cut into other slabs.
FORMAT = 2
# Sums over passes are uint16, and a pass adds up to 255.
LARGEST_PASSES = 257
# Beyond this a network sees structures of another size than it was trained on.
VOXEL_SIZE_TOLERANCE = 0.1

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class PredictionTask:
    """A volume and those who predict it.

    Attributes:
        volume: with real labels alone, at least one voxel of them.
        teachers: the networks whose mean is taken.
        axes: of z, y and x; every network predicts along each.
    """

    volume: LabelledVolume
    teachers: tuple[Teacher, ...]
    axes: str

    @property
    def key(self) -> str:
        """The hash of all that decides the mean probability."""
        return key_of(
            format=FORMAT,
            images=self.volume.images_sha256,
            teachers=[[teacher.sha256, teacher.side, teacher.halo, teacher.stride] for teacher in self.teachers],
            axes=self.axes,
        )

    @property
    def network_names(self) -> list[NetworkName]:
        """The teachers, for reports."""
        return [NetworkName(name=teacher.name, sha256=teacher.sha256) for teacher in self.teachers]


def prediction_task(
    settings: VolumeSettings, networks: Sequence[Path], *, axes: str | None, cache: Path
) -> PredictionTask:
    """The task of predicting the volume of `settings`, which is cached in the folder `cache`.

    Args:
        networks: run folders or model bundles.
        axes: of z, y and x; None: those of the volume.

    Raises:
        ConfigError: axes that cannot be used, no network, or too many.
        VolumeError: the volume cannot be read, has no label, or has pseudo-labels.
        ModelError: a network cannot be loaded.
    """
    if settings.pseudo_labels:
        raise VolumeError(
            f"{settings.labels}: holds pseudo-labels (pseudo_labels = true), expected real labels alone: networks are "
            f"neither scored against nor added to what networks found; give the volume with its real labels"
        )
    axes = settings.axes if axes is None else axes
    if not axes or len(set(axes)) != len(axes) or set(axes) - set("zyx"):
        raise ConfigError(f"axes: got {axes!r}, expected one or more of the letters z, y and x, each at most once")
    if not 1 <= len(networks) * len(axes) <= LARGEST_PASSES:
        raise ConfigError(
            f"networks: got {len(networks)} along {len(axes)} axes, expected 1 to {LARGEST_PASSES} passes in all; give "
            f"run folders or model bundles"
        )
    # Networks first: a mistyped path is found before a large volume is cached.
    teachers = tuple(teacher_from_path(path) for path in networks)
    volume = cached_volume(settings, cache)
    if not volume.labelled.size:
        raise VolumeError(f"{settings.images}: no voxel is labelled, so there is nothing to compare with; give labels")
    _warn_of_magnification(volume, teachers)
    return PredictionTask(volume, teachers, axes)


def checked_thresholds(thresholds: Sequence[float]) -> list[int]:
    """`thresholds` in thousandths, ascending. Raises ConfigError where one is outside [0.001, 0.999] or given twice."""
    milli = sorted(round(1000 * threshold) for threshold in thresholds)
    if not milli or milli[0] < 1 or milli[-1] > 999 or len(set(milli)) != len(milli):
        raise ConfigError(
            f"thresholds: got {list(thresholds)}, expected one or more from 0.001 to 0.999 that differ by 0.001 or more"
        )
    return milli


def _warn_of_magnification(volume: LabelledVolume, teachers: Sequence[Teacher]) -> None:
    size = volume.voxel_size_um
    for teacher in teachers:
        if size is not None and abs(size / teacher.voxel_size_um - 1) > VOXEL_SIZE_TOLERANCE:
            logger.warning(
                "%s: its voxels are %g µm and %s was trained for %g µm: vessels look larger or smaller to it",
                volume.name, size, teacher.name, teacher.voxel_size_um,
            )  # fmt: skip
