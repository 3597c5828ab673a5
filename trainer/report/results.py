"""What the three kinds of stage found, read from the files in their folders. Nothing of torch is needed for that."""

import csv
import json
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from safetensors import SafetensorError, safe_open

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

    rows: tuple[EpochRow, ...] = ()
    kept_epoch: int | None = None
    threshold: float | None = None
    low: float | None = None
    high: float | None = None
    scores: dict[str, dict[str, float | None]] = field(default_factory=dict)
    versions: dict[str, str] = field(default_factory=dict)

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


def read_result(kind: str, folder: Path) -> tuple[Result | None, list[str]]:
    """What the stage of that kind in `folder` found so far, or None; and which of its files are damaged."""
    if kind not in _READERS:
        return None, [f"The kind of stage {kind!r} is not known; expected one of {', '.join(_READERS)}."]
    problems: list[str] = []
    return _READERS[kind](folder, problems), problems


def read_json(path: Path) -> dict[str, Any]:
    """The table in the JSON file `path`. Raises OSError or ValueError."""
    facts = json.loads(path.read_text(encoding="utf-8"))
    if not isinstance(facts, dict):
        raise ValueError(f"got {type(facts).__name__}, expected a table")
    return facts


def _part(path: Path, read: Callable[[Path], Any], problems: list[str]) -> Any:
    """What `read` makes of the file `path`; None where it is not there, or is damaged, which joins the `problems`."""
    if not path.exists():
        return None
    try:
        return read(path)
    except OSError as error:
        problems.append(f"{path.name} cannot be read ({error.strerror}).")
    except (ValueError, KeyError, TypeError, AttributeError, SafetensorError) as error:
        problems.append(f"{path.name} is damaged ({type(error).__name__}: {error}).")
    return None


def _fit_result(folder: Path, problems: list[str]) -> FitResult | None:
    if not (folder / RUN).exists():
        return None
    return FitResult(
        rows=_part(folder / METRICS, _metrics, problems) or (),
        versions=_part(folder / RUN, _versions, problems) or {},
        **(_part(folder / NETWORK, _kept, problems) or {}),
    )


def _pseudo_label_result(folder: Path, problems: list[str]) -> PseudoLabelResult | None:
    result: PseudoLabelResult | None = _part(folder / PSEUDO_LABELS, _pseudo_labels, problems)
    return result


def _evaluation_result(folder: Path, problems: list[str]) -> EvaluationResult | None:
    result: EvaluationResult | None = _part(folder / EVALUATION, _evaluation, problems)
    return result


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


def _kept(path: Path) -> dict[str, Any]:
    """What `FitResult` says of the kept network, from the file's metadata; the weights are not read."""
    with safe_open(path, framework="numpy") as file:
        metadata = {key: json.loads(text) for key, text in (file.metadata() or {}).items()}
    facts = metadata.get("facts", metadata)  # files of earlier versions have a key for each fact
    threshold = facts["threshold"]
    return {
        "kept_epoch": int(facts["epoch"]),
        "threshold": float(threshold["value"]),
        "low": _score(threshold.get("low")),
        "high": _score(threshold.get("high")),
        "scores": {
            str(planes): {str(name): _score(score) for name, score in scores.items()}
            for planes, scores in facts["scores"].items()
        },
    }


def _versions(path: Path) -> dict[str, str]:
    return {str(name): str(version) for name, version in read_json(path)["versions"].items()}


def _pseudo_labels(path: Path) -> PseudoLabelResult:
    facts = read_json(path)
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


def _evaluation(path: Path) -> EvaluationResult:
    facts = read_json(path)
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


_READERS: dict[str, Callable[[Path, list[str]], Result | None]] = {
    "fit": _fit_result,
    "pseudo_label": _pseudo_label_result,
    "evaluate": _evaluation_result,
}
