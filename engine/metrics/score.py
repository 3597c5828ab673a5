"""The scores of a mask against the truth, both read plane by plane."""

import math
from dataclasses import asdict, dataclass, replace

import numpy as np
import numpy.typing as npt

from sennet_engine.errors import ConfigError, VolumeError
from sennet_engine.metrics.cldice import ClDice
from sennet_engine.metrics.components import Components
from sennet_engine.metrics.surface_dice import SurfaceDice
from sennet_engine.volumes.volume import Planes, Volume

POSITIVE_LEVELS = (1, 255)
# Work grows with its cube: 4169 neighbours are asked at 10, which is half a millimetre of the competition's volumes.
LARGEST_TOLERANCE = 10.0


@dataclass(frozen=True)
class Scores:
    """Scores in [0, 1], NaN where they are 0 / 0, and the counts of voxels behind them.

    Attributes:
        surface_dice_0: surface Dice at tolerance 0, the metric of the SenNet + HOA competition; NaN if both masks are
            empty, as in the package `surface-distance`, since there is then no surface to agree on.
        surface_dice_1: surface Dice at a tolerance of one voxel.
        dice: 2 × overlap / (predicted + true); NaN if both masks are empty.
        precision: overlap / predicted; NaN if nothing is predicted.
        recall: overlap / true; NaN if the truth is empty.
        overlap_voxels, predicted_voxels, true_voxels: voxels positive in both, in the prediction, in the truth.
        voxels: all voxels.
        predicted_components, true_components: 26-connected pieces of each mask.
        predicted_largest_voxels, true_largest_voxels: voxels of the largest piece of each.
        cldice, topology_precision, topology_sensitivity: see `CentrelineScores`; None unless asked for.
        tolerance, surface_dice_at_tolerance: surface Dice at a further tolerance, in voxels; None unless asked for.
    """

    surface_dice_0: float
    surface_dice_1: float
    dice: float
    precision: float
    recall: float
    overlap_voxels: int
    predicted_voxels: int
    true_voxels: int
    voxels: int
    predicted_components: int
    true_components: int
    predicted_largest_voxels: int
    true_largest_voxels: int
    cldice: float | None = None
    topology_precision: float | None = None
    topology_sensitivity: float | None = None
    tolerance: float | None = None
    surface_dice_at_tolerance: float | None = None


def score_masks(prediction: Volume, truth: Volume, *, cldice: bool = False, tolerance: float | None = None) -> Scores:
    """Score the mask `prediction` against the mask `truth`; each plane is read once, and a few are in memory at a time.

    Masks hold 0 and 1 or 0 and 255, in any type of voxel. Surface Dice is taken with voxels of side 1, whatever size
    the volumes tell, as the competition does: its tolerance is in voxels.

    Args:
        cldice: score the centrelines too; takes longer, and keeps a slab of planes in memory (see `ClDice`).
        tolerance: a further tolerance for surface Dice, 0 to 10 voxels.

    Raises:
        VolumeError: the shapes differ, a volume holds other values, or cannot be read.
        ConfigError: a tolerance out of range.
        MissingExtraError: clDice is asked for and scikit-image is not installed.
    """
    if prediction.shape_zyx != truth.shape_zyx:
        raise VolumeError(
            f"got {prediction.path} of shape {prediction.shape_zyx} and {truth.path} of shape {truth.shape_zyx} "
            f"(Z, Y, X), expected equal shapes; score a mask against the truth of the same volume"
        )
    if tolerance is not None and not 0 <= tolerance <= LARGEST_TOLERANCE:
        raise ConfigError(f"tolerance: got {tolerance:g}, expected 0 to {LARGEST_TOLERANCE:g}, in voxels")
    shape_yx = truth.shape_zyx[1:]
    predicted_planes, true_planes = _MaskReader(prediction), _MaskReader(truth)
    surface = SurfaceDice(shape_yx, largest_tolerance=max(1.0, tolerance or 0.0))
    predicted_pieces, true_pieces = Components(shape_yx), Components(shape_yx)
    centrelines = ClDice(shape_yx) if cldice else None
    overlap = predicted = true = 0
    for z in range(truth.shape_zyx[0]):
        predicted_yx, true_yx = predicted_planes.read(z), true_planes.read(z)
        surface.add_plane(predicted_yx, true_yx)
        predicted_pieces.add_plane(predicted_yx)
        true_pieces.add_plane(true_yx)
        if centrelines:
            centrelines.add_plane(predicted_yx, true_yx)
        overlap += int(np.count_nonzero(predicted_yx & true_yx))
        predicted += int(np.count_nonzero(predicted_yx))
        true += int(np.count_nonzero(true_yx))
    predicted_counts, true_counts = predicted_pieces.counts(), true_pieces.counts()
    scores = Scores(
        surface_dice_0=surface.score(0.0),
        surface_dice_1=surface.score(1.0),
        dice=_ratio(2 * overlap, predicted + true),
        precision=_ratio(overlap, predicted),
        recall=_ratio(overlap, true),
        overlap_voxels=overlap,
        predicted_voxels=predicted,
        true_voxels=true,
        voxels=math.prod(truth.shape_zyx),
        predicted_components=predicted_counts.components,
        true_components=true_counts.components,
        predicted_largest_voxels=predicted_counts.largest_voxels,
        true_largest_voxels=true_counts.largest_voxels,
        tolerance=tolerance,
        surface_dice_at_tolerance=None if tolerance is None else surface.score(tolerance),
    )
    return replace(scores, **asdict(centrelines.scores())) if centrelines else scores


class _MaskReader:
    """Reads a volume's planes as bool, and refuses one that is not a mask: 0 and one other level, 1 or 255."""

    def __init__(self, volume: Volume) -> None:
        self._volume = volume
        self._positive_level = 0

    def read(self, z: int) -> npt.NDArray[np.bool_]:
        """Plane `z`, [Y, X]."""
        plane = self._volume.read_planes(z, z + 1)[0]
        positive: npt.NDArray[np.bool_] = np.not_equal(plane, 0)
        if not positive.any():
            return positive
        level = self._positive_level or plane.max()
        if level not in POSITIVE_LEVELS or np.count_nonzero(plane == level) != np.count_nonzero(positive):
            raise VolumeError(self._complaint(plane, z))
        self._positive_level = int(level)
        return positive

    def _complaint(self, plane: Planes, z: int) -> str:
        values = np.unique(np.append(plane, plane.dtype.type(self._positive_level)))
        shown = ", ".join(f"{value:g}" for value in values[:6]) + (", ..." if values.size > 6 else "")
        return (
            f"{self._volume.path}: is not a mask: got the values {shown} by plane {z}, expected 0 and 1 or 0 and 255 "
            f"throughout; make it a mask first (at a threshold, or of one label)"
        )


def _ratio(part: int, whole: int) -> float:
    return part / whole if whole else math.nan
