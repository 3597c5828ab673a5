"""What a stage means once the stages before it are done: the settings of a fit, the volume of a prediction."""

import hashlib
import json
from pathlib import Path
from typing import Any

from sennet_engine.config import validated
from sennet_engine.errors import ModelError
from sennet_trainer.recipe.settings import FitStage, PseudoLabelStage, RecipeSettings, VolumeUse
from sennet_trainer.settings import FitSettings
from sennet_trainer.volume_settings import VolumeSettings

TABLES = ("crops", "augmentation", "training", "validation")
EVALUATION, PSEUDO_LABELS = "evaluation.json", "pseudo_labels.json"


def fit_settings(recipe: RecipeSettings, stage: FitStage, stages: Path | None) -> FitSettings:
    """The settings of the fit `stage`; `stages` holds the folders of the stages.

    Without `stages` nothing is read, and what earlier stages will have made is named after them.

    Raises:
        ConfigError: a key of the stage's tables is unknown, a value is out of its range, or they do not fit together.
        ModelError: a pseudo-label stage that it needs is done but its result is damaged, or lacks the threshold.
    """
    tables = {name: getattr(recipe, name).model_dump() | getattr(stage, name) for name in TABLES}
    volumes = [_used_volume(recipe, use, stages, "train") for use in stage.volumes]
    volumes += [_used_volume(recipe, use, stages, "validation") for use in stage.validation_volumes]
    table = {
        "name": stage.name,
        "seed": _own_seed(recipe.seed, stage.name),
        "voxel_size_um": recipe.voxel_size_um,
        "network": recipe.networks[stage.network].model_dump(),
        "start_from": (stages or Path()) / stage.start_from if stage.start_from else None,
        "volumes": [volume.model_dump() for volume in volumes],
        **tables,
    }
    return validated(table, FitSettings, source=f"recipe {recipe.name}, stage {stage.name}")


def volume_settings(recipe: RecipeSettings, name: str) -> VolumeSettings:
    """The volume `name` of the recipe with its real labels."""
    return VolumeSettings(name=name, **recipe.volumes[name].model_dump())


def best_threshold(folder: Path) -> float:
    """The best threshold that the evaluate stage in `folder` found. Raises ModelError where its file is damaged."""
    path = folder / EVALUATION
    try:
        return float(json.loads(path.read_text(encoding="utf-8"))["best_threshold"])
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise ModelError(f"{path}: is damaged ({error}); delete {folder} and run the recipe again") from error


def _used_volume(recipe: RecipeSettings, use: VolumeUse, stages: Path | None, role: str) -> VolumeSettings:
    changes: dict[str, Any] = {"role": role, "weight": use.weight}
    if use.volume in recipe.volumes:
        return volume_settings(recipe, use.volume).model_copy(update=changes)
    stage = recipe.stage(use.volume)
    assert isinstance(stage, PseudoLabelStage)
    volume = volume_settings(recipe, stage.volume)
    labels, slices = (Path(stage.name), None) if stages is None else _label_file(stages / stage.name, use.threshold)
    changes |= {"labels": labels, "pseudo_labels": True, "name": use.volume, "slices": slices or volume.slices}
    return volume.model_copy(update=changes)


def has_label_files(folder: Path) -> bool:
    """Whether the folder of a pseudo-label stage has all the label files that it should."""
    try:
        files = json.loads((folder / PSEUDO_LABELS).read_text(encoding="utf-8"))["files"].values()
        return all((folder / file["name"]).exists() for file in files)
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        return False


def _label_file(folder: Path, threshold: float | None) -> tuple[Path, tuple[int, int]]:
    """The label file of a pseudo-label stage, and its planes."""
    path = folder / PSEUDO_LABELS
    try:
        facts = json.loads(path.read_text(encoding="utf-8"))
        files = {float(key): str(file["name"]) for key, file in facts["files"].items()}
        first, end = facts["slices"]
        wanted = facts["chosen_threshold"] if threshold is None else threshold
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise ModelError(f"{path}: is damaged ({error}); delete {folder} and run the recipe again") from error
    # Where thresholds were given, the nearest of them to the chosen one stands for it.
    nearest: float = min(files, key=lambda value: abs(value - wanted))
    if threshold is not None and abs(nearest - threshold) > 5e-4:
        raise ModelError(
            f"{folder}: has no labels of threshold {threshold}, only of {', '.join(map(str, files))}; name it among "
            f"the thresholds of that stage"
        )
    return folder / files[nearest], (first, end)


def _own_seed(seed: int, stage: str) -> int:
    """Stages of one recipe draw differently; equal stages of equal recipes draw alike."""
    return int.from_bytes(hashlib.sha256(f"{seed} {stage}".encode()).digest()[:6], "big")
