"""What a recipe would do, stage by stage, without doing it."""

from dataclasses import dataclass

from sennet_trainer.recipe.folders import Folders
from sennet_trainer.recipe.jobs import fit_settings
from sennet_trainer.recipe.record import read_stage
from sennet_trainer.recipe.settings import FitStage, RecipeSettings, Stage


@dataclass(frozen=True)
class StageOutlook:
    """A stage that may run.

    Attributes:
        state: `complete`, `begun` or `to run`. Whether a complete stage has changed is seen when the recipe runs.
        what: in a few words, what it does.
    """

    name: str
    kind: str
    state: str
    what: str


def outlook(recipe: RecipeSettings, folders: Folders, *, parameters: dict[str, int]) -> list[StageOutlook]:
    """All stages in order. `parameters` are those of each fit stage's network."""
    return [
        StageOutlook(stage.name, stage.kind, _state(stage, folders), _what(stage, recipe, parameters))
        for stage in recipe.stages
    ]


def _state(stage: Stage, folders: Folders) -> str:
    record = read_stage(folders.stage(stage.name))
    if record is None:
        return "to run"
    return "complete" if record.complete else "begun"


def _what(stage: Stage, recipe: RecipeSettings, parameters: dict[str, int]) -> str:
    if not isinstance(stage, FitStage):
        axes = stage.axes or recipe.volumes[stage.volume].axes
        return f"{', '.join(stage.networks)} on {stage.volume} along {', '.join(axes)}"
    settings = fit_settings(recipe, stage, None)
    network, training, crops = settings.network, settings.training, settings.crops
    steps = training.epochs * -(-crops.per_epoch // training.batch)
    volumes = ", ".join(use.volume for use in stage.volumes)
    return (
        f"{network.decoder} {network.encoder} ({parameters[stage.name] / 1e6:.1f} M), {crops.side} px, "
        f"{training.epochs} epochs = {steps} steps of {training.batch}, rate {training.learning_rate:g}, on {volumes}"
        + (f", from {stage.start_from}" if stage.start_from else "")
    )
