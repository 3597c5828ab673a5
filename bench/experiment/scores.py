"""Collect what the experiment found, and show it as tables."""

import json
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TypeVar

import numpy as np

from sennet_bench.experiment.recipe import ARMS, LABELS, TESTS, score_stage
from sennet_bench.experiment.run import Job
from sennet_bench.stack_files import read_mask, read_stack
from sennet_engine.errors import ModelError
from sennet_trainer.prediction.evaluation import RESULT as EVALUATION
from sennet_trainer.prediction.evaluation import Evaluation
from sennet_trainer.prediction.pseudo_labels import RESULT as PSEUDO_LABELS
from sennet_trainer.prediction.pseudo_labels import PseudoLabels
from sennet_trainer.prediction.result_file import Result
from sennet_trainer.volume_cache import PSEUDO_LABEL

REAL_LABEL = 1

Kind = TypeVar("Kind", bound=Result)


@dataclass(frozen=True)
class ArmScore:
    """How good an arm is on a test volume, at the threshold that is best on the validation volume; 0 to 1.

    Attributes:
        part, seed, arm, volume: which.
        best_surface_dice: at the threshold that is best on the test volume itself. No fair score: the distance to
            `surface_dice` is what the choice of the threshold cost.

    A score is None where it is 0 / 0.
    """

    part: str
    seed: int
    arm: str
    volume: str
    threshold: float | None
    surface_dice: float | None
    dice: float | None
    precision: float | None
    recall: float | None
    best_surface_dice: float | None


@dataclass(frozen=True)
class AddedLabels:
    """What a pseudo-label stage added, held against the dense labels that it did not know.

    Attributes:
        part, seed, stage: where it was added.
        threshold: that was chosen.
        labelled_share: real labels over real and added ones; what chose the threshold.
        right: share of the added voxels that are vessel; None where nothing was added.
        found: share of the vessel voxels without a real label that were added; None where all have one.
    """

    part: str
    seed: int
    stage: str
    threshold: float
    labelled_share: float
    right: float | None
    found: float | None


def arm_scores(jobs: Sequence[Job]) -> list[ArmScore]:
    """The scores of every arm on every test volume.

    Raises:
        ModelError: a job is not done, or a file of it is damaged.
    """
    return [_arm_score(job, arm, volume) for job in jobs for arm in ARMS for volume in TESTS]


def added_labels(jobs: Sequence[Job]) -> list[AddedLabels]:
    """What every pseudo-label stage added.

    Raises:
        ModelError: a job is not done, or a file of it is damaged.
        VolumeError: a label file cannot be read.
    """
    return [_added_labels(job, stage) for job in jobs for stage in LABELS]


def score_table(scores: Sequence[ArmScore], value: Callable[[ArmScore], float | None]) -> str:
    """`value` by arm (row) and test volume (column) of one part: the mean, and each seed; Markdown."""

    def cell(arm: str, volume: str) -> str:
        return _mean_and_each([value(score) for score in scores if (score.arm, score.volume) == (arm, volume)])

    rows = [[name, *(cell(arm, volume) for volume in TESTS)] for arm, name in ARMS.items()]
    return _table(["trained on", *TESTS.values()], rows)


def label_table(labels: Sequence[AddedLabels]) -> str:
    """What was added by each pseudo-label stage of one part: means, and each seed; Markdown."""

    def cell(stage: str, value: Callable[[AddedLabels], float | None]) -> str:
        return _mean_and_each([value(added) for added in labels if added.stage == stage])

    columns: dict[str, Callable[[AddedLabels], float | None]] = {
        "threshold": lambda added: added.threshold,
        "labelled share": lambda added: added.labelled_share,
        "of the added, vessel": lambda added: added.right,
        "of the missing, found": lambda added: added.found,
    }
    rows = [
        [LABELS[stage].volume_shown, LABELS[stage].teacher_shown, *(cell(stage, value) for value in columns.values())]
        for stage in LABELS
    ]
    return _table(["volume", "teacher trained on", *columns], rows)


def experiment_json(scores: Sequence[ArmScore], labels: Sequence[AddedLabels]) -> str:
    """All figures as JSON."""
    return json.dumps({"scores": [asdict(s) for s in scores], "labels": [asdict(a) for a in labels]}, indent=2)


def _arm_score(job: Job, arm: str, volume: str) -> ArmScore:
    path = job.stage(score_stage(arm, volume)) / EVALUATION
    found = _read(path, Evaluation)
    names = ("threshold", "surface_dice", "dice", "precision", "recall")
    best = max((row.surface_dice for row in found.rows), default=None)
    return ArmScore(job.part, job.seed, arm, volume, **{name: found.at[name] for name in names}, best_surface_dice=best)


def _added_labels(job: Job, stage: str) -> AddedLabels:
    folder = job.stage(stage)
    found = _read(folder / PSEUDO_LABELS, PseudoLabels)
    planes = slice(*found.slices)
    merged = read_stack(folder / next(iter(found.files.values())).name)[planes]
    truth = read_mask(job.data / LABELS[stage].volume / "labels.tif")[planes]
    added, missing = merged == PSEUDO_LABEL, truth & (merged != REAL_LABEL)
    right = np.count_nonzero(added & truth)
    return AddedLabels(
        part=job.part,
        seed=job.seed,
        stage=stage,
        threshold=found.chosen_threshold,
        labelled_share=found.labelled_share,
        right=right / np.count_nonzero(added) if added.any() else None,
        found=right / np.count_nonzero(missing) if missing.any() else None,
    )


def _read(path: Path, kind: type[Kind]) -> Kind:
    try:
        return kind.model_validate_json(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise ModelError(f"{path}: is missing or damaged ({error}); run the experiment again to make it") from error


def _mean_and_each(values: Sequence[float | None]) -> str:
    """`0.712 (0.702 0.715 0.719)`; a missing value is a dash and not part of the mean."""
    known = [value for value in values if value is not None]
    mean = f"{np.mean(known):.3f}" if known else "–"
    return f"{mean} ({' '.join('–' if value is None else f'{value:.3f}' for value in values)})"


def _table(heads: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    lines = [" | ".join(heads), " | ".join("---" for _ in heads), *(" | ".join(row) for row in rows)]
    return "\n".join(f"| {line} |" for line in lines)
