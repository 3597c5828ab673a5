"""Validation volumes are predicted plane by plane and scored at several thresholds in one pass."""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import chain, count

import numpy as np
import numpy.typing as npt
import torch

from sennet_engine.card import Threshold
from sennet_trainer.labelled_volume import LabelledVolume
from sennet_trainer.network import Segmenter
from sennet_trainer.prediction.sweep import Sweep, SweepRow, stable_threshold
from sennet_trainer.prediction.torch_predictor import uint8_probability
from sennet_trainer.settings import ValidationSettings

UInt8 = npt.NDArray[np.uint8]


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
    table: dict[str, list[SweepRow]] = {}
    for name, volume in zip(_distinct([volume.name for volume in volumes]), volumes, strict=True):
        for axis in volume.settings.axes:
            images, labels = volume.along(axis)
            sweep = Sweep(thresholds, shape_yx=images.shape[1:])
            for grey, truth in zip(images, labels, strict=True):
                sweep.add_plane(predicted_plane(segmenter, grey, tile=settings.tile, device=device), truth)
            table[f"{name} along {axis}"] = sweep.rows()
    surface_dice = [float(np.mean([row.surface_dice for row in rows])) for rows in zip(*table.values(), strict=True)]
    dice = [float(np.mean([row.dice for row in rows])) for rows in zip(*table.values(), strict=True)]
    threshold = stable_threshold(thresholds, surface_dice)
    best = thresholds.index(threshold.value)
    return ValidationScore(
        threshold=threshold,
        surface_dice=surface_dice[best],
        dice=dice[best],
        volumes={
            name: {"surface_dice": rows[best].surface_dice, "dice": rows[best].dice} for name, rows in table.items()
        },
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
        grey = tiles[row, column][None, None].copy()
        probability[row, column] = uint8_probability(segmenter, grey, device=device)[0, 0]
    stitched = probability.swapaxes(1, 2).reshape(padded.shape)
    return np.ascontiguousarray(stitched[: plane.shape[0], : plane.shape[1]])


def _distinct(names: Sequence[str]) -> list[str]:
    """`names`, of which a repeated one gets a number."""
    taken: list[str] = []
    for name in names:
        taken.append(next(new for new in chain([name], (f"{name} {n}" for n in count(2))) if new not in taken))
    return taken
