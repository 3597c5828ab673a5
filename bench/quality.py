"""How good a model is on labelled volumes, beside a tuned baseline, and how often it takes a vein for an artery."""

import math
from dataclasses import asdict, dataclass
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
import numpy.typing as npt

from sennet_bench.dark_blobs import tuned_dark_blobs
from sennet_engine.errors import VolumeError
from sennet_engine.infer import infer
from sennet_engine.metrics.score import score_masks
from sennet_engine.results.assembly import MASK
from sennet_engine.settings import InferSettings
from sennet_engine.volumes.open import open_volume
from sennet_engine.volumes.volume import ArrayVolume
from sennet_engine.window import Window

Mask = npt.NDArray[np.bool_]


@dataclass(frozen=True)
class QualityRow:
    """Scores of one method on one volume, 0 to 1.

    Attributes:
        vein_precision: of the predicted voxels that are artery or vein, the share that is artery.

    A score is None where it is 0 / 0: a precision where nothing was found, or `vein_precision` without known veins.
    """

    volume: str
    method: str
    surface_dice_0: float | None
    dice: float | None
    precision: float | None
    recall: float | None
    vein_precision: float | None


def quality_rows(folder: Path, model: Path) -> list[QualityRow]:
    """Score the bundle `model` and the tuned dark-blob baseline on a folder that `sennet-bench phantom` writes.

    Args:
        folder: holds image.tif and labels.tif, and veins.tif where unlabelled veins are known. Is read whole.

    Raises:
        VolumeError: a file is missing or cannot be read, or the shapes differ.
    """
    truth = _mask(folder / "labels.tif")
    veins = _mask(folder / "veins.tif") if (folder / "veins.tif").exists() else None
    with open_volume(folder / "image.tif") as volume:
        if truth.shape != volume.shape_zyx:
            raise VolumeError(f"{folder}: got labels of shape {truth.shape}, expected {volume.shape_zyx} as the image")
        with TemporaryDirectory() as scratch:
            out = Path(scratch) / "result"
            # One runtime: the others may differ by a grey level.
            settings = InferSettings(model=model, out=out, runtime="onnxruntime")
            summary = infer(folder / "image.tif", settings, on_planes=lambda *_: None)
            mask = _mask(out / MASK)
        grey = Window(*summary.window).to_uint8(volume.read_planes(0, volume.shape_zyx[0]))
    found = {summary.model: mask, "dark blobs": tuned_dark_blobs(grey, truth)}
    return [_row(folder.name, method, mask, truth, veins) for method, mask in found.items()]


def markdown_table(rows: list[QualityRow]) -> str:
    """The rows as a Markdown table."""
    heads = list(asdict(rows[0]))
    lines = [" | ".join(heads), " | ".join("---" for _ in heads)]
    lines += [" | ".join(_cell(value) for value in asdict(row).values()) for row in rows]
    return "\n".join(f"| {line} |" for line in lines)


def _row(volume: str, method: str, mask: Mask, truth: Mask, veins: Mask | None) -> QualityRow:
    scores = score_masks(ArrayVolume(mask.astype(np.uint8)), ArrayVolume(truth.astype(np.uint8)))
    veins_found = 0 if veins is None else int(np.count_nonzero(mask & veins))
    found = scores.overlap_voxels + veins_found
    return QualityRow(
        volume=volume,
        method=method,
        surface_dice_0=_defined(scores.surface_dice_0),
        dice=_defined(scores.dice),
        precision=_defined(scores.precision),
        recall=_defined(scores.recall),
        vein_precision=scores.overlap_voxels / found if veins is not None and found else None,
    )


def _defined(score: float) -> float | None:
    return None if math.isnan(score) else score


def _mask(path: Path) -> Mask:
    with open_volume(path) as volume:
        mask: Mask = volume.read_planes(0, volume.shape_zyx[0]) != 0
        return mask


def _cell(value: object) -> str:
    if value is None:
        return "–"
    return f"{value:.3f}" if isinstance(value, float) else str(value)
