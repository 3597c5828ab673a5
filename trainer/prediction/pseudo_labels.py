"""Pseudo-labels: what trained networks find in a sparsely labelled volume, added to its real labels.

Third-place write-up, section 3.8. Everything of it lies in one folder; called again it goes on where it was.
"""

import logging
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch

from sennet_trainer.folder_lock import alone_in
from sennet_trainer.labelled_volume import LabelledVolume
from sennet_trainer.prediction.label_merge import PATTERN, LabelFile, merge_labels
from sennet_trainer.prediction.mean_probability import MeanProbability, mean_probability
from sennet_trainer.prediction.passes import Observer
from sennet_trainer.prediction.pictures import write_label_picture, write_share_curve
from sennet_trainer.prediction.result_file import NetworkName, Result, current_result, key_of, refuse_file, write_result
from sennet_trainer.prediction.task import PredictionTask, checked_thresholds
from sennet_trainer.prediction.threshold_table import ThresholdRow, threshold_table

RESULT, PROBABILITY = "pseudo_labels.json", "probability"
LABEL_PICTURE, CURVE = "labels.png", "thresholds.png"
FORMAT = 1
# A labelled share this near to the stated fraction meets it.
MET_WITHIN = 0.01
TABLE_MILLI = range(20, 1000, 20)

logger = logging.getLogger(__name__)


class PseudoLabels(Result):
    """What was added to a volume's labels.

    Attributes:
        volume: its name.
        slices: its used planes, first and end; voxels are counted in these.
        label_fraction: the share of its vessels that is said to be labelled.
        chosen_threshold: of all thousandths the one whose labelled share is nearest to the fraction.
        labelled_share: at the chosen threshold; see `ThresholdRow`.
        met: whether that is within 0.01 of the fraction.
        warning: what to do where it is not, else None.
        axes: the networks predicted along these.
        teachers: the networks.
        labelled_voxels: with a real label.
        rows: the table of thresholds, ascending.
        files: a label file by its threshold, such as "0.150".
    """

    volume: str
    slices: tuple[int, int]
    label_fraction: float
    chosen_threshold: float
    labelled_share: float
    met: bool
    warning: str | None = None
    axes: str
    teachers: list[NetworkName]
    labelled_voxels: int
    rows: list[ThresholdRow]
    files: dict[str, LabelFile]


def pseudo_label(
    task: PredictionTask, out: Path, *, thresholds: Sequence[float] | None, device: torch.device, observer: Observer
) -> PseudoLabels:
    """Predict the volume of `task`, and add what is found above a threshold to its labels.

    Args:
        out: holds the probability, the label files, the pictures and pseudo_labels.json, which is written last. Where
            it is current, nothing is done; where only thresholds differ, nothing is predicted.
        thresholds: one label file for each; None: the one threshold that `label_fraction` chooses.

    Raises:
        ConfigError: thresholds that cannot be used.
        ModelError: a teacher cannot be loaded.
        OutputError: `out` is a file, cannot be written, or another process is at work there.
        OSError: a file cannot be written.
    """
    refuse_file(out)
    given_milli = None if thresholds is None else checked_thresholds(thresholds)
    with alone_in(out):
        return _pseudo_labelled(task, out, given_milli, device=device, observer=observer)


def _pseudo_labelled(
    task: PredictionTask, out: Path, given_milli: list[int] | None, *, device: torch.device, observer: Observer
) -> PseudoLabels:
    labelled = task.volume
    volume = labelled.settings
    key = key_of(
        format=FORMAT,
        probability=task.key,
        labels=labelled.labels_sha256,
        slices=[labelled.planes.start, labelled.planes.stop],
        label_fraction=volume.label_fraction,
        thresholds=given_milli,
    )
    found = current_result(out / RESULT, PseudoLabels, key=key)
    if found is not None and all((out / file.name).exists() for file in found.files.values()):
        return found
    _clear(out)
    mean = mean_probability(task, out / PROBABILITY, device=device, observer=observer)
    table = threshold_table(mean, labelled.labels, observer=observer)
    chosen = table.nearest(volume.label_fraction)
    chosen_milli = round(1000 * chosen.threshold)
    merged = merge_labels(labelled, mean, given_milli or [chosen_milli], out, observer=observer)
    warning = _warning(chosen, volume.label_fraction)
    if warning and given_milli is None:
        logger.warning("%s: %s", labelled.name, warning)
    result = PseudoLabels(
        key=key,
        volume=labelled.name,
        slices=(labelled.planes.start, labelled.planes.stop),
        label_fraction=volume.label_fraction,
        chosen_threshold=chosen.threshold,
        labelled_share=chosen.labelled_share,
        met=warning is None,
        warning=warning,
        axes=task.axes,
        teachers=task.network_names,
        labelled_voxels=table.labelled_voxels,
        rows=table.rows([*TABLE_MILLI, chosen_milli, *(given_milli or [])]),
        files={f"{file.threshold:.3f}": file for file in merged.files},
    )
    _write_pictures(out, labelled, mean, result, plane=merged.fullest_plane)
    write_result(out / RESULT, result)
    return result


def _warning(chosen: ThresholdRow, label_fraction: float) -> str | None:
    if abs(chosen.labelled_share - label_fraction) <= MET_WITHIN:
        return None
    return (
        f"no threshold meets the stated share of labelled vessels, {label_fraction:g}: the nearest is "
        f"{chosen.threshold:.3f} with a share of {chosen.labelled_share:.3f}; give several for diversity, so that "
        f"networks trained on them differ: thresholds = [0.1, 0.15, 0.2] in a recipe, --threshold as an option"
    )


def _clear(out: Path) -> None:
    """Delete what an earlier call found, but for the probability."""
    for path in (out / RESULT, out / LABEL_PICTURE, out / CURVE, *out.glob(PATTERN)):
        path.unlink(missing_ok=True)


def _write_pictures(
    out: Path, volume: LabelledVolume, mean: MeanProbability, result: PseudoLabels, *, plane: int
) -> None:
    threshold = next(iter(result.files.values())).threshold
    sums, real = np.array(mean.sums[plane]), np.array(volume.labels[plane]) > 0
    write_label_picture(
        out / LABEL_PICTURE,
        volume.images[plane],
        real=real,
        added=(sums >= mean.level(round(1000 * threshold))) & ~real,
        probability=sums / (255 * mean.passes),
        caption=f"{volume.name}, plane {volume.planes.start + plane}, threshold {threshold:.3f}",
    )
    write_share_curve(out / CURVE, result.rows, label_fraction=result.label_fraction, chosen=result.chosen_threshold)
