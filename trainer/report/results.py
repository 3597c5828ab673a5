"""What the three kinds of stage found, read from the files in their folders. Nothing of torch is needed for that."""

import csv
import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from safetensors import SafetensorError, safe_open

from sennet_engine.errors import ModelError
from sennet_trainer.history import EpochRow

RUN, METRICS, NETWORK = "run.json", "metrics.csv", "network.safetensors"
PSEUDO_LABELS, EVALUATION = "pseudo_labels.json", "evaluation.json"


@dataclass(frozen=True)
class FitResult:
    """The course of a training.

    Attributes:
        rows: the finished epochs.
        kept_epoch: whose weights are kept, counted from 1; None as long as there are none.
        threshold, low, high: of the kept network, with its stable range where it was validated.
        scores: {"surface_dice", "dice"} of the kept network by validation volume and axis.
        versions: of python and of the packages that decide the result.
    """

    rows: tuple[EpochRow, ...]
    kept_epoch: int | None
    threshold: float | None
    low: float | None
    high: float | None
    scores: dict[str, dict[str, float]]
    versions: dict[str, str]

    @property
    def best_surface_dice(self) -> float | None:
        """The best of the validations, at tolerance 0; None where there was none."""
        return max((row.surface_dice for row in self.rows if row.surface_dice is not None), default=None)


@dataclass(frozen=True)
class ThresholdCounts:
    """Voxels found at a threshold: labelled ones, others, and labelled ones that are not found; and the share of the
    merged labels that is real."""

    threshold: float
    true_positives: int
    false_positives: int
    false_negatives: int
    labelled_share: float


@dataclass(frozen=True)
class PseudoLabelResult:
    """What was added to the labels of `volume`; `files` are (name, threshold, added voxels)."""

    volume: str
    axes: str
    label_fraction: float
    chosen_threshold: float
    labelled_share: float
    met: bool
    labelled_voxels: int
    teachers: dict[str, str]
    rows: tuple[ThresholdCounts, ...]
    files: tuple[tuple[str, float, int], ...]


@dataclass(frozen=True)
class EvaluationResult:
    """Scores of the mean of `networks` on `volume`; `rows` are (threshold, surface Dice, Dice); `at` is in full."""

    volume: str
    axes: str
    networks: dict[str, str]
    best_threshold: float
    stable_low: float | None
    stable_high: float | None
    rows: tuple[tuple[float, float | None, float | None], ...]
    threshold_from: str | None
    at: dict[str, float | None]


Result = FitResult | PseudoLabelResult | EvaluationResult


def read_result(kind: str, folder: Path) -> Result | None:
    """What the stage of that kind in `folder` found so far; None where it has found nothing yet.

    Raises:
        ModelError: a file is damaged, or the kind is unknown.
    """
    if kind not in _READERS:
        raise ModelError(f"{folder}: is a stage of kind {kind!r}, expected one of {', '.join(_READERS)}")
    name, read = _READERS[kind]
    if not (folder / name).exists():
        return None
    try:
        return read(folder)
    except OSError as error:
        raise ModelError(f"{name} cannot be read ({error.strerror})") from error
    except (ValueError, KeyError, TypeError, AttributeError, SafetensorError) as error:
        raise ModelError(f"{name} is damaged ({type(error).__name__}: {error})") from error


def read_json(path: Path) -> dict[str, Any]:
    """The table in the JSON file `path`. Raises OSError or ValueError."""
    facts = json.loads(path.read_text(encoding="utf-8"))
    if not isinstance(facts, dict):
        raise ValueError(f"got {type(facts).__name__}, expected a table")
    return facts


def _fit_result(folder: Path) -> FitResult:
    rows = _metrics(folder / METRICS) if (folder / METRICS).exists() else ()
    kept = _facts_of_network(folder / NETWORK) if (folder / NETWORK).exists() else {}
    threshold = kept.get("threshold") or {}
    return FitResult(
        rows=rows,
        kept_epoch=kept.get("epoch"),
        threshold=threshold.get("value"),
        low=threshold.get("low"),
        high=threshold.get("high"),
        scores={str(name): dict(scores) for name, scores in (kept.get("scores") or {}).items()},
        versions=dict(read_json(folder / RUN).get("versions") or {}),
    )


def _metrics(path: Path) -> tuple[EpochRow, ...]:
    with path.open(newline="", encoding="utf-8") as file:
        table = [{key: float(cell) if cell else None for key, cell in row.items()} for row in csv.DictReader(file)]
    return tuple(
        EpochRow(
            epoch=int(_given(row["epoch"])),
            learning_rate=_given(row["learning_rate"]),
            loss=_given(row["loss"]),
            seconds=_given(row["seconds"]),
            **{key: row.get(key) for key in ("surface_dice", "dice", "threshold", "low", "high")},
        )
        for row in table
    )


def _given(value: float | None) -> float:
    if value is None:
        raise ValueError("a cell is empty")
    return value


def _facts_of_network(path: Path) -> dict[str, Any]:
    """The facts in the file's metadata; the weights are not read."""
    with safe_open(path, framework="numpy") as file:
        metadata = {key: json.loads(text) for key, text in (file.metadata() or {}).items()}
    facts: dict[str, Any] = metadata.get("facts", metadata)  # files of earlier versions have a key for each fact
    return facts


def _pseudo_label_result(folder: Path) -> PseudoLabelResult:
    facts = read_json(folder / PSEUDO_LABELS)
    return PseudoLabelResult(
        volume=str(facts["volume"]),
        axes=str(facts["axes"]),
        label_fraction=float(facts["label_fraction"]),
        chosen_threshold=float(facts["chosen_threshold"]),
        labelled_share=float(facts["labelled_share"]),
        met=bool(facts["met"]),
        labelled_voxels=int(facts["labelled_voxels"]),
        teachers=_networks(facts["teachers"]),
        rows=tuple(
            ThresholdCounts(
                threshold=float(row["threshold"]),
                true_positives=int(row["true_positives"]),
                false_positives=int(row["false_positives"]),
                false_negatives=int(row["false_negatives"]),
                labelled_share=float(row["labelled_share"]),
            )
            for row in facts["rows"]
        ),
        files=tuple(
            (str(file["name"]), float(threshold), int(file["added_voxels"]))
            for threshold, file in sorted(facts["files"].items())
        ),
    )


def _evaluation_result(folder: Path) -> EvaluationResult:
    facts = read_json(folder / EVALUATION)
    return EvaluationResult(
        volume=str(facts["volume"]),
        axes=str(facts["axes"]),
        networks=_networks(facts["networks"]),
        best_threshold=float(facts["best_threshold"]),
        stable_low=_score(facts.get("stable_low")),
        stable_high=_score(facts.get("stable_high")),
        rows=tuple(
            (float(row["threshold"]), _score(row["surface_dice"]), _score(row["dice"])) for row in facts["rows"]
        ),
        threshold_from=facts.get("threshold_from"),
        at={str(name): _score(value) for name, value in facts["at"].items()},
    )


def _networks(listed: list[Any]) -> dict[str, str]:
    """sha256 by name."""
    return {str(one["name"]): str(one["sha256"]) for one in listed}


def _score(value: Any) -> float | None:
    """A number, or None where it is absent or NaN, which stands for 0 / 0."""
    if value is None or float(value) != float(value):
        return None
    return float(value)


# The file that a stage of a kind cannot be without, and how its folder is read.
_READERS: dict[str, tuple[str, Callable[[Path], Result]]] = {
    "fit": (RUN, _fit_result),
    "pseudo_label": (PSEUDO_LABELS, _pseudo_label_result),
    "evaluate": (EVALUATION, _evaluation_result),
}
