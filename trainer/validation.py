"""Validation volumes are predicted plane by plane and scored at several thresholds in one pass."""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import chain, count

import numpy as np
import numpy.typing as npt
import torch

from sennet_engine.canvas import sum_at_threshold
from sennet_engine.card import Threshold
from sennet_engine.metrics.surface_dice import SurfaceDice
from sennet_trainer.device import mixed_precision
from sennet_trainer.labelled_volume import LabelledVolume
from sennet_trainer.network import Segmenter
from sennet_trainer.settings import ValidationSettings

UInt8 = npt.NDArray[np.uint8]

# Thresholds whose score is within this of the best are the stable range.
STABLE_WITHIN = 0.01


@dataclass(frozen=True)
class ValidationScore:
    """Scores at the threshold with the best surface Dice.

    Attributes:
        threshold: the best one, with the range around it in which the score stays within 0.01 of the best.
        surface_dice: at tolerance 0, the mean over volumes and axes, 0 to 1.
        dice: likewise.
        volumes: {"surface_dice", "dice"} of each volume along each axis, at this threshold.
    """

    threshold: Threshold
    surface_dice: float
    dice: float
    volumes: dict[str, dict[str, float]]


def validation_score(
    segmenter: Segmenter, volumes: Sequence[LabelledVolume], settings: ValidationSettings, *, device: torch.device
) -> ValidationScore:
    """Score `segmenter` on every plane of `volumes` along each of their axes.

    Planes along an axis, in their order, are a volume of their own: each axis is scored by itself.
    """
    thresholds = sorted(settings.thresholds)
    segmenter.eval()
    table: dict[str, list[dict[str, float]]] = {}
    for name, volume in zip(_distinct([volume.name for volume in volumes]), volumes, strict=True):
        for axis in volume.settings.axes:
            images, labels = volume.along(axis)
            scorers = [_Scorer(threshold, shape_yx=images.shape[1:]) for threshold in thresholds]
            for grey, truth in zip(images, labels, strict=True):
                probability = predicted_plane(segmenter, grey, tile=settings.tile, device=device)
                for scorer in scorers:
                    scorer.add_plane(probability, truth)
            table[f"{name} along {axis}"] = [scorer.scores() for scorer in scorers]
    surface_dice = np.mean([[scores["surface_dice"] for scores in row] for row in table.values()], axis=0)
    dice = np.mean([[scores["dice"] for scores in row] for row in table.values()], axis=0)
    best = int(surface_dice.argmax())
    return ValidationScore(
        threshold=_stable_threshold(thresholds, surface_dice, best),
        surface_dice=float(surface_dice[best]),
        dice=float(dice[best]),
        volumes={name: row[best] for name, row in table.items()},
    )


def predicted_plane(segmenter: Segmenter, plane: UInt8, *, tile: int | None, device: torch.device) -> UInt8:
    """Probability 0..255, uint8 [Y, X], of a uint8 plane; rounded as in deployment.

    The plane is mirrored at its lower and right edges, as the engine does it, up to a multiple of the network's stride,
    or of `tile`: a strided network answers otherwise when it is shifted by a part of its stride.
    """
    unit = tile or segmenter.stride
    gaps = [-extent % unit for extent in plane.shape]
    padded = np.pad(plane, [(0, gap) for gap in gaps], mode="symmetric")
    height, width = (tile, tile) if tile else padded.shape
    tiles = padded.reshape(padded.shape[0] // height, height, padded.shape[1] // width, width).swapaxes(1, 2)
    probability = np.empty_like(tiles)
    for row, column in np.ndindex(tiles.shape[:2]):
        # One at a time: the memory is that of one tile, and a CPU gains nothing from a batch.
        grey = torch.from_numpy(tiles[row, column].copy()).to(device)[None, None].float()
        with torch.inference_mode(), mixed_precision(device):
            logits = segmenter(grey)
        probability[row, column] = torch.round(torch.sigmoid(logits.float()) * 255).to(torch.uint8).cpu()[0, 0]
    stitched = probability.swapaxes(1, 2).reshape(padded.shape)
    return np.ascontiguousarray(stitched[: plane.shape[0], : plane.shape[1]])


class _Scorer:
    """Dice and surface Dice of one threshold."""

    def __init__(self, threshold: float, *, shape_yx: tuple[int, ...]) -> None:
        self._level = sum_at_threshold(round(threshold * 1000), total_weight=1)
        self._surface = SurfaceDice(shape_yx)
        self._common = self._both = 0

    def add_plane(self, probability: UInt8, labels: UInt8) -> None:
        prediction, truth = probability >= self._level, labels > 0
        self._common += int(np.count_nonzero(prediction & truth))
        self._both += int(np.count_nonzero(prediction)) + int(np.count_nonzero(truth))
        self._surface.add_plane(prediction, truth)

    def scores(self) -> dict[str, float]:
        return {"surface_dice": float(self._surface.score()), "dice": 2 * self._common / self._both}


def _stable_threshold(thresholds: list[float], scores: npt.NDArray[np.float64], best: int) -> Threshold:
    stable = scores >= scores[best] - STABLE_WITHIN
    low = high = best
    while low > 0 and stable[low - 1]:
        low -= 1
    while high + 1 < len(thresholds) and stable[high + 1]:
        high += 1
    return Threshold(value=thresholds[best], low=thresholds[low], high=thresholds[high])


def _distinct(names: Sequence[str]) -> list[str]:
    """`names`, of which a repeated one gets a number."""
    taken: list[str] = []
    for name in names:
        taken.append(next(new for new in chain([name], (f"{name} {n}" for n in count(2))) if new not in taken))
    return taken
