"""The settings of a recipe: volumes, networks, and the stages that turn them into trained models."""

import difflib
from collections.abc import Collection
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import BeforeValidator, Field, model_validator

from sennet_engine.config import Config
from sennet_trainer.augmentation_settings import AugmentationSettings
from sennet_trainer.network_settings import NetworkSettings
from sennet_trainer.settings import CropSettings, Thresholds, TrainingSettings, ValidationSettings
from sennet_trainer.volume_settings import Axes

Name = Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]*$")]
"""Names a volume, a network or a stage; a stage's folder too."""


class RecipeVolume(Config):
    """A labelled volume of the recipe."""

    images: Path
    """Anything that the engine opens: a TIFF, a .npy file, a folder of slices."""
    labels: Path | None = None
    """0/1 or 0/255; a folder of slices may cover a part of the images' slices, and then only that part is used. May be
    absent with `allow_empty`."""
    allow_empty: bool = False
    """A volume without a labelled voxel is meant: a hard negative to train on."""
    pseudo_labels: bool = False
    """The labels hold pseudo-labels, as 2, from earlier work. Such a volume is trained on, not predicted or scored."""
    voxel_size_um: float | None = Field(None, gt=0)
    """Micrometres a pixel; absent: as the file tells, else as the recipe says."""
    label_fraction: float = Field(1.0, gt=0, le=1)
    """Which share of the true vessel voxels is labelled: 1 for dense labels."""
    axes: Axes = "zyx"
    """Planes are cut along each of these axes."""
    slices: tuple[int, int] | None = None
    """Use the planes from the first (inclusive) to the second (exclusive) along z only."""
    invert: bool = False
    """Invert the grey levels after windowing, for modalities with bright vessels."""


class VolumeUse(Config):
    """A volume as a stage uses it. In a recipe, its name alone is enough."""

    volume: Name
    """A volume, or a pseudo-label stage: its volume with the labels that it added to."""
    threshold: float | None = Field(None, ge=0.001, le=0.999)
    """Of a pseudo-label stage with several thresholds: which; absent: the one nearest to the stated fraction."""
    weight: float = Field(1.0, gt=0)
    """How often crops are drawn from it, relative to the other volumes."""


def _as_use(value: Any) -> Any:
    return {"volume": value} if isinstance(value, str) else value


Use = Annotated[VolumeUse, BeforeValidator(_as_use)]


class FitStage(Config):
    """Train a network, from its encoder's weights or from those of an earlier stage."""

    kind: Literal["fit"]
    name: Name
    network: Name
    volumes: list[Use] = Field(min_length=1)
    """What it is trained on."""
    validation_volumes: list[Use] = []
    """What chooses the epoch that is kept; none: the last epoch is."""
    start_from: Name | None = None
    """An earlier fit stage of the same network, whose weights it goes on with."""
    crops: dict[str, Any] = {}
    augmentation: dict[str, Any] = {}
    training: dict[str, Any] = {}
    validation: dict[str, Any] = {}
    """Keys that differ from the recipe's table of that name."""


class PredictionStage(Config):
    """What stages have in common that predict a volume."""

    name: Name
    volume: Name
    networks: list[Name] = Field(min_length=1)
    """Earlier fit stages, whose mean probability is taken."""
    axes: Axes | None = None
    """Predict along these axes; absent: the volume's."""


class PseudoLabelStage(PredictionStage):
    """Predict a volume, and add what is found above a threshold to its labels."""

    kind: Literal["pseudo_label"]
    thresholds: Thresholds | None = None
    """Given thresholds, one label file each; absent: the one that meets the volume's `label_fraction` best."""


class EvaluateStage(PredictionStage):
    """Predict a labelled volume, and score the mean probability at many thresholds."""

    kind: Literal["evaluate"]
    thresholds: Thresholds | None = None
    """Thresholds of the sweep; absent: a grid from 0.02 to 0.95."""
    threshold: Annotated[float, Field(ge=0.001, le=0.999)] | Name | None = None
    """The threshold of the mask that is scored in full: a number, or an earlier evaluate stage, whose best one it is.
    Absent: the network's own where one network is given, else the best of the sweep."""
    cldice: bool = False
    """Score the centrelines too, which takes longer."""


Stage = Annotated[FitStage | PseudoLabelStage | EvaluateStage, Field(discriminator="kind")]


class RecipeSettings(Config):
    """All of a recipe. The tables crops, augmentation, training and validation hold for every fit stage."""

    name: Name
    seed: int = Field(0, ge=0, le=2**63 - 1)
    voxel_size_um: float = Field(gt=0)
    """The magnification that the networks are trained for, micrometres a pixel."""
    data: Path = Path()
    """The folder that paths are relative to, itself relative to the recipe's file. `--data` replaces it."""
    volumes: dict[Name, RecipeVolume] = Field(min_length=1)
    networks: dict[Name, NetworkSettings] = Field(min_length=1)
    crops: CropSettings = CropSettings()
    augmentation: AugmentationSettings = AugmentationSettings()
    training: TrainingSettings = TrainingSettings()
    validation: ValidationSettings = ValidationSettings()
    stages: list[Stage] = Field(min_length=1)

    @model_validator(mode="after")
    def _names_are_known(self) -> "RecipeSettings":
        earlier: dict[str, Stage] = {}
        for stage in self.stages:
            if stage.name in earlier or stage.name in self.volumes:
                raise ValueError(f"stages: the name {stage.name!r} is given twice; names of stages and volumes differ")
            for key, name, known in self._references(stage, earlier):
                if name not in known:
                    raise ValueError(f"stages.{stage.name}.{key}: got {name!r}; {_hint(name, known)}")
            for use in [*stage.volumes, *stage.validation_volumes] if stage.kind == "fit" else []:
                _check_threshold(stage.name, use, earlier)
            earlier[stage.name] = stage
        return self

    def stage(self, name: str) -> Stage:
        """The stage of that name, which there is."""
        return next(stage for stage in self.stages if stage.name == name)

    def resolved_from(self, folder: Path) -> "RecipeSettings":
        """The same recipe with every relative path taken from `folder`."""
        volumes = {
            name: volume.model_copy(
                update={"images": folder / volume.images, "labels": volume.labels and folder / volume.labels}
            )
            for name, volume in self.volumes.items()
        }
        networks = {name: network.resolved_from(folder) for name, network in self.networks.items()}
        return self.model_copy(update={"data": folder, "volumes": volumes, "networks": networks})

    def _references(self, stage: Stage, earlier: dict[str, Stage]) -> list[tuple[str, str, Collection[str]]]:
        """What `stage` names, as (its key, the name, the names that may stand there)."""
        fits = [name for name, one in earlier.items() if one.kind == "fit"]
        labelled = [*self.volumes, *(name for name, one in earlier.items() if one.kind == "pseudo_label")]
        if stage.kind != "fit":
            found: list[tuple[str, str, Collection[str]]] = [("volume", stage.volume, self.volumes)]
            found += [("networks", name, fits) for name in stage.networks]
            if stage.kind == "evaluate" and isinstance(stage.threshold, str):
                evaluations = [name for name, one in earlier.items() if one.kind == "evaluate"]
                found.append(("threshold", stage.threshold, evaluations))
            return found
        found = [("network", stage.network, self.networks)]
        found += [("volumes", use.volume, labelled) for use in stage.volumes]
        found += [("validation_volumes", use.volume, labelled) for use in stage.validation_volumes]
        if stage.start_from is not None:
            same = [name for name in fits if getattr(earlier[name], "network", None) == stage.network]
            found.append(("start_from", stage.start_from, same))
        return found


def _check_threshold(stage: str, use: VolumeUse, earlier: dict[str, Stage]) -> None:
    source = earlier.get(use.volume)
    given = source.thresholds if source is not None and source.kind == "pseudo_label" else None
    if use.threshold is not None and use.threshold not in (given or []):
        known = f"expected one of {given}" if given else "expected none, since that gives no thresholds"
        raise ValueError(f"stages.{stage}: got the threshold {use.threshold} for {use.volume!r}, {known}")


def _hint(name: str, known: Collection[str]) -> str:
    near = difflib.get_close_matches(name, known, n=1, cutoff=0.5)
    return f"did you mean {near[0]!r}?" if near else f"known here: {', '.join(known) or 'none yet'}"
