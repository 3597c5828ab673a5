"""Look at all that a recipe needs before its first stage: a slip in the last one shall not cost a night."""

from pathlib import Path

import torch

from sennet_engine.errors import ConfigError
from sennet_trainer.encoder_weights import load_encoder_weights
from sennet_trainer.inputs import check_inputs
from sennet_trainer.network import FULL_DEPTH, build_segmenter
from sennet_trainer.network_settings import is_file_of_weights
from sennet_trainer.recipe.folders import Folders
from sennet_trainer.recipe.jobs import fit_settings, volume_settings
from sennet_trainer.recipe.record import read_stage
from sennet_trainer.recipe.settings import FitStage, PseudoLabelStage, RecipeSettings
from sennet_trainer.settings import FitSettings
from sennet_trainer.trial import check_plane, check_sides


def check_recipe(recipe: RecipeSettings) -> dict[str, int]:
    """Open every volume with its labels, and show every network its tiles without computing them.

    Voxel values are not read: what is wrong with them is found when the volumes are cached, before the first stage.

    Returns the parameters of each fit stage's network.

    Raises:
        ConfigError: settings that do not fit together, or a network that does not take its tiles.
        VolumeError: a volume or its labels cannot be opened, do not belong together, or are too thin.
    """
    return {stage.name: _check_fit(recipe, stage) for stage in recipe.stages if isinstance(stage, FitStage)}


def check_encoder_weights(recipe: RecipeSettings, folders: Folders) -> None:
    """Load what the encoders of the stages that have not begun start from, so that what is missing is missed now.

    Raises:
        ConfigError, ModelError, MissingExtraError: as `load_encoder_weights`.
    """
    needed = {
        stage.network
        for stage in recipe.stages
        if isinstance(stage, FitStage) and stage.start_from is None and read_stage(folders.stage(stage.name)) is None
    }
    for name in sorted(needed):
        network = recipe.networks[name]
        if network.encoder_weights is not None:
            load_encoder_weights(build_segmenter(network), network)


def _check_fit(recipe: RecipeSettings, stage: FitStage) -> int:
    settings = _with_real_labels(recipe, fit_settings(recipe, stage, None))
    weights = settings.network.encoder_weights
    if weights is not None and is_file_of_weights(weights) and not Path(weights).exists():
        raise ConfigError(f"networks.{stage.network}.encoder_weights: there is no file {weights}; give its path")
    try:
        for volume in settings.volumes:
            settings.augmentation.scale_for(volume.voxel_size_um or settings.voxel_size_um)
        # Shapes alone, so that a network of 200 million weights answers within a second. In shorter encoders the stages
        # that nothing reads are found by their gradients, which shapes do not have.
        with torch.device("meta" if settings.network.encoder_depth == FULL_DEPTH else "cpu"):
            segmenter = build_segmenter(settings.network)
            check_sides(segmenter, settings)
            for shape_yx in check_inputs(settings):
                check_plane(segmenter, shape_yx, settings)
    except ConfigError as error:
        raise ConfigError(f"stage {stage.name}: {error}") from error
    return sum(parameter.numel() for parameter in segmenter.parameters())


def _with_real_labels(recipe: RecipeSettings, settings: FitSettings) -> FitSettings:
    """The labels of a pseudo-label stage are not there yet; those that it adds to are."""
    volumes = []
    for volume in settings.volumes:
        if volume.pseudo_labels and volume.name is not None:
            stage = recipe.stage(volume.name)
            assert isinstance(stage, PseudoLabelStage)
            real = volume_settings(recipe, stage.volume)
            volume = volume.model_copy(update={"labels": real.labels, "pseudo_labels": False})
        volumes.append(volume)
    return settings.model_copy(update={"volumes": volumes})
