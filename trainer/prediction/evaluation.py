"""How good the mean probability of networks is on a labelled volume, at every threshold and in full at one."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
import torch

from sennet_engine.metrics.score import score_masks
from sennet_engine.volumes.volume import ArrayVolume, Volume
from sennet_trainer.folder_lock import alone_in
from sennet_trainer.labelled_volume import LabelledVolume
from sennet_trainer.prediction.mean_probability import MeanProbability, mean_probability
from sennet_trainer.prediction.passes import Observer
from sennet_trainer.prediction.pictures import write_mask_picture, write_sweep_curve
from sennet_trainer.prediction.result_file import NetworkName, Result, current_result, key_of, refuse_file, write_result
from sennet_trainer.prediction.sweep import Sweep, SweepRow, stable_threshold
from sennet_trainer.prediction.task import PredictionTask, checked_thresholds
from sennet_trainer.prediction.teacher import Teacher

RESULT, PROBABILITY = "evaluation.json", "probability"
CURVE, SLICES = "thresholds.png", "slices.png"
FORMAT = 1
DEFAULT_THRESHOLDS = (0.02, *(milli / 1000 for milli in range(50, 1000, 50)))


class Evaluation(Result):
    """Scores of networks on a volume.

    Attributes:
        volume: its name.
        networks: whose mean probability was scored.
        axes: the networks predicted along these.
        best_threshold: of the sweep, by surface Dice at tolerance 0.
        stable_low, stable_high: the range around it in which surface Dice stays within 0.01 of the best.
        rows: the sweep, by ascending threshold.
        threshold_from: where the threshold in `at` comes from: `given`, `network` (its own) or `sweep` (the best).
        at: "threshold", and there "surface_dice" at tolerance 0, "surface_dice_1" at tolerance 1, "dice", "precision"
            and "recall", and "cldice" if asked for, 0 to 1; None where a score is 0 / 0.
    """

    volume: str
    networks: list[NetworkName]
    axes: str
    best_threshold: float
    stable_low: float
    stable_high: float
    rows: list[SweepRow]
    threshold_from: str
    at: dict[str, float | None]


@dataclass(frozen=True)
class Scoring:
    """What is scored of a mean probability.

    Attributes:
        thresholds: of the sweep.
        threshold: scored in full; None: a single network's own, else the best of the sweep.
        cldice: score the centrelines too, which takes longer.
    """

    thresholds: Sequence[float] = DEFAULT_THRESHOLDS
    threshold: float | None = None
    cldice: bool = False


def evaluate(
    task: PredictionTask, out: Path, scoring: Scoring = Scoring(), *, device: torch.device, observer: Observer
) -> Evaluation:
    """Predict the volume of `task`, and score the mean probability against its labels.

    Args:
        out: holds the probability, the pictures and evaluation.json, which is written last. Where it is current,
            nothing is done; where only thresholds differ, nothing is predicted.

    Raises:
        ConfigError: thresholds that cannot be used.
        ModelError: a network cannot be loaded.
        OutputError: `out` is a file, cannot be written, or another process is at work there.
        MissingExtraError: clDice is asked for and scikit-image is not installed.
        OSError: a file cannot be written.
    """
    refuse_file(out)
    with alone_in(out):
        return _evaluated(task, out, scoring, device=device, observer=observer)


def _evaluated(
    task: PredictionTask, out: Path, scoring: Scoring, *, device: torch.device, observer: Observer
) -> Evaluation:
    swept_milli = checked_thresholds(scoring.thresholds)
    asked_milli = None if scoring.threshold is None else checked_thresholds([scoring.threshold])[0]
    labelled = task.volume
    key = key_of(
        format=FORMAT,
        probability=task.key,
        labels=labelled.labels_sha256,
        thresholds=swept_milli,
        threshold=asked_milli,
        cldice=scoring.cldice,
        own=[teacher.threshold.value for teacher in task.teachers],
    )
    found = current_result(out / RESULT, Evaluation, key=key)
    if found is not None:
        return found
    (out / RESULT).unlink(missing_ok=True)
    mean = mean_probability(task, out / PROBABILITY, device=device, observer=observer)
    rows = _swept(mean, labelled, [milli / 1000 for milli in swept_milli], observer)
    stable = stable_threshold([row.threshold for row in rows], [row.surface_dice for row in rows])
    threshold, threshold_from = _threshold(asked_milli, task.teachers, best=stable.value)
    result = Evaluation(
        key=key,
        volume=labelled.name,
        networks=task.network_names,
        axes=task.axes,
        best_threshold=stable.value,
        stable_low=stable.low,
        stable_high=stable.high,
        rows=rows,
        threshold_from=threshold_from,
        at=_scores_at(threshold, mean, labelled, cldice=scoring.cldice),
    )
    _write_pictures(out, labelled, mean, result, threshold)
    write_result(out / RESULT, result)
    return result


def _threshold(asked_milli: int | None, teachers: Sequence[Teacher], *, best: float) -> tuple[float, str]:
    if asked_milli is not None:
        return asked_milli / 1000, "given"
    if len(teachers) == 1:
        return teachers[0].threshold.value, "network"
    return best, "sweep"


def _swept(
    mean: MeanProbability, volume: LabelledVolume, thresholds: Sequence[float], observer: Observer
) -> list[SweepRow]:
    sums, labels = mean.sums, volume.labels
    sweep = Sweep(thresholds, shape_yx=sums.shape[1:], passes=mean.passes)
    for done, (sums_yx, truth_yx) in enumerate(zip(sums, labels, strict=True), start=1):
        sweep.add_plane(sums_yx, truth_yx)
        observer("scoring", done, len(sums))
    return sweep.rows()


def _scores_at(
    threshold: float, mean: MeanProbability, volume: LabelledVolume, *, cldice: bool
) -> dict[str, float | None]:
    scores = score_masks(_Thresholded(mean, threshold), ArrayVolume(volume.labels, name="labels"), cldice=cldice)
    found = {
        "threshold": threshold,
        "surface_dice": scores.surface_dice_0,
        "surface_dice_1": scores.surface_dice_1,
        "dice": scores.dice,
        "precision": scores.precision,
        "recall": scores.recall,
    }
    if scores.cldice is not None:
        found["cldice"] = scores.cldice
    return {name: None if math.isnan(score) else score for name, score in found.items()}


class _Thresholded(Volume):
    """The mask of a mean probability, 0/1 uint8, made plane by plane."""

    def __init__(self, mean: MeanProbability, threshold: float) -> None:
        self._sums, self._level = mean.sums, mean.level(round(1000 * threshold))
        super().__init__(
            mean.path, name="mask", shape_zyx=self._sums.shape, dtype=np.uint8, voxel_size_um=None
        )  # fmt: skip

    def _read_plane(self, z: int) -> npt.NDArray[np.uint8]:
        mask: npt.NDArray[np.uint8] = (self._sums[z] >= self._level).astype(np.uint8)
        return mask


def _write_pictures(
    out: Path, volume: LabelledVolume, mean: MeanProbability, result: Evaluation, threshold: float
) -> None:
    write_sweep_curve(out / CURVE, result.rows, best=result.best_threshold, low=result.stable_low,
                      high=result.stable_high)  # fmt: skip
    depth, rows, columns = volume.images.shape
    plane_starts = np.searchsorted(volume.labelled, np.arange(depth + 1) * rows * columns)
    plane = int(np.argmax(np.diff(plane_starts)))
    write_mask_picture(
        out / SLICES,
        volume.images[plane],
        truth=np.array(volume.labels[plane]) > 0,
        prediction=mean.sums[plane] >= mean.level(round(1000 * threshold)),
        caption=f"{volume.name}, plane {volume.planes.start + plane}, threshold {threshold:.3f}",
    )
