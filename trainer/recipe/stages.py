"""The three kinds of stage: what goes into each, and how it is run."""

import hashlib
from collections.abc import Callable
from contextlib import AbstractContextManager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Protocol

import torch

from sennet_engine.errors import ModelError, OutputError
from sennet_trainer.beginning import SharedInputs
from sennet_trainer.fit import Observer as FitObserver
from sennet_trainer.fit import fit
from sennet_trainer.labelled_volume import LabelledVolume, cached_volume
from sennet_trainer.network_settings import is_file_of_weights
from sennet_trainer.prediction.evaluation import DEFAULT_THRESHOLDS, Scoring, evaluate
from sennet_trainer.prediction.pseudo_labels import pseudo_label
from sennet_trainer.prediction.task import prediction_task
from sennet_trainer.processes import only_main
from sennet_trainer.recipe.folders import Folders
from sennet_trainer.recipe.jobs import EVALUATION, best_threshold, fit_settings, has_label_files, volume_settings
from sennet_trainer.recipe.record import StageRecord
from sennet_trainer.recipe.settings import EvaluateStage, FitStage, PseudoLabelStage, RecipeSettings, Stage
from sennet_trainer.run_folder import NETWORK
from sennet_trainer.volume_settings import VolumeSettings

# What a volume's settings say of where it lies; its content stands among the inputs instead.
PLACES = ("images", "labels", "name")
# Settings of a training that do not change its result.
FREE = ("workers", "tensorboard")


class Observer(Protocol):
    """Is told how a stage goes."""

    def fits(self, name: str) -> AbstractContextManager[FitObserver]:
        """A training begins; what is entered is told of its steps."""

    def planes(self, what: str, done: int, total: int) -> None:
        """A prediction has done `done` of `total` planes."""


@dataclass(frozen=True)
class Prepared:
    """A stage that could run.

    Attributes:
        record: what decides its result.
        run: runs it in its folder and returns its figures; where files of a done one are missing, makes them anew.
        is_whole: whether the folder of a done one has the files that `run` makes anew. A lost network is said to be
            lost where it is needed: to train it again may take days.
    """

    record: StageRecord
    run: Callable[[Path, torch.device, Observer], dict[str, Any]]
    is_whole: Callable[[Path], bool] = lambda _folder: True


def prepared(stage: Stage, recipe: RecipeSettings, folders: Folders) -> Prepared:
    """Make the stage ready; the stages that it builds on are done.

    Raises:
        ConfigError, VolumeError, ModelError: its settings, a volume or a network cannot be used.
    """
    return _PREPARE[stage.kind](stage, recipe, folders)


def _prepared_fit(stage: FitStage, recipe: RecipeSettings, folders: Folders) -> Prepared:
    settings = fit_settings(recipe, stage, folders.stages)
    facts = settings.model_dump(mode="json", exclude={"start_from", "name"})
    facts["training"] = {key: value for key, value in facts["training"].items() if key not in FREE}
    inputs: dict[str, str] = {}
    for volume, table in zip(settings.volumes, facts["volumes"], strict=True):
        cached = cached_volume(volume, folders.cache)
        table |= dict.fromkeys(PLACES) | {"voxel_size_um": cached.voxel_size_um}
        inputs |= _content(cached, role=volume.role)
    if stage.start_from:
        inputs |= _networks([stage.start_from], folders)
    weights = settings.network.encoder_weights
    if weights is not None and is_file_of_weights(weights):
        facts["network"]["encoder_weights"] = None
        inputs["encoder weights"] = _sha256(Path(weights))

    shared = SharedInputs(folders.cache, inputs)

    def run(folder: Path, device: torch.device, observer: Observer) -> dict[str, Any]:
        with observer.fits(stage.name) as told:
            try:
                progress = fit(settings, folder, device=device, observer=told, shared=shared)
            except OutputError as error:
                raise OutputError(f"{error}\n  in a recipe: delete {folder} to train this stage anew") from error
        last = asdict(progress.rows[-1])
        return {"epochs": progress.epochs, "loss": last["loss"], "best_surface_dice": progress.best_surface_dice}

    return Prepared(StageRecord(stage.name, stage.kind, facts, inputs), run)


def _prepared_pseudo_label(stage: PseudoLabelStage, recipe: RecipeSettings, folders: Folders) -> Prepared:
    volume = volume_settings(recipe, stage.volume)
    axes = stage.axes or volume.axes
    facts = {
        "volume": volume.model_dump(mode="json", exclude=set(PLACES)),
        "axes": axes,
        "thresholds": stage.thresholds,
    }
    inputs = _content(cached_volume(volume, folders.cache)) | _networks(stage.networks, folders)
    paths = [folders.stage(name) for name in stage.networks]

    def run(folder: Path, device: torch.device, observer: Observer) -> dict[str, Any]:
        found = only_main(
            lambda: pseudo_label(
                prediction_task(volume, paths, axes=axes, cache=folders.cache), folder, thresholds=stage.thresholds,
                device=device, observer=observer.planes,
            )
        )  # fmt: skip
        return {
            "chosen_threshold": found.chosen_threshold,
            "labelled_share": found.labelled_share,
            "label_fraction": volume.label_fraction,
            "met": found.met,
        }

    return Prepared(StageRecord(stage.name, stage.kind, facts, inputs), run, has_label_files)


def _prepared_evaluate(stage: EvaluateStage, recipe: RecipeSettings, folders: Folders) -> Prepared:
    volume = volume_settings(recipe, stage.volume)
    axes = stage.axes or volume.axes
    threshold = best_threshold(folders.stage(stage.threshold)) if isinstance(stage.threshold, str) else stage.threshold
    scoring = Scoring(thresholds=stage.thresholds or DEFAULT_THRESHOLDS, threshold=threshold, cldice=stage.cldice)
    facts = {"volume": _use_of(volume), "axes": axes, "scoring": asdict(scoring)}
    inputs = _content(cached_volume(volume, folders.cache)) | _networks(stage.networks, folders)
    paths = [folders.stage(name) for name in stage.networks]

    def run(folder: Path, device: torch.device, observer: Observer) -> dict[str, Any]:
        found = only_main(
            lambda: evaluate(
                prediction_task(volume, paths, axes=axes, cache=folders.cache), folder, scoring, device=device,
                observer=observer.planes,
            )
        )  # fmt: skip
        return {"best_threshold": found.best_threshold, **found.at}

    return Prepared(StageRecord(stage.name, stage.kind, facts, inputs), run, _has_scores)


_PREPARE: dict[str, Callable[[Any, RecipeSettings, Folders], Prepared]] = {
    "fit": _prepared_fit,
    "pseudo_label": _prepared_pseudo_label,
    "evaluate": _prepared_evaluate,
}


def _has_scores(folder: Path) -> bool:
    return (folder / EVALUATION).exists()


def _use_of(volume: VolumeSettings) -> dict[str, Any]:
    return volume.model_dump(mode="json", exclude=set(PLACES))


def _content(volume: LabelledVolume, *, role: str = "") -> dict[str, str]:
    name = f"{volume.name} {role}".strip()
    return {f"images {name}": volume.images_sha256, f"labels {name}": volume.labels_sha256}


def _networks(names: list[str], folders: Folders) -> dict[str, str]:
    return {f"network {name}": _sha256(folders.stage(name) / NETWORK) for name in names}


def _sha256(path: Path) -> str:
    try:
        with path.open("rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()
    except OSError as error:
        raise ModelError(f"{path}: cannot be read ({error.strerror}); delete its folder to train it again") from error
