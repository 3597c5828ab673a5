"""Read a recipe from its file, and see that every stage of it can be."""

from pathlib import Path

from sennet_engine.config import load_config
from sennet_trainer.recipe.jobs import fit_settings
from sennet_trainer.recipe.settings import FitStage, RecipeSettings


def load_recipe(path: Path, *, data: Path | None = None, seed: int | None = None) -> RecipeSettings:
    """Read the TOML file `path`; paths in it are relative to `data`, by default to the folder that it names.

    `seed` takes the place of the recipe's.

    Raises:
        ConfigError: the file is missing or is no TOML, a key is unknown, a value is out of its range, a stage names
            a volume, a network or an earlier stage that is not there, or the settings of a stage do not fit together.
    """
    recipe = load_config(path, RecipeSettings)
    folder = (data or path.resolve().parent / recipe.data).resolve()
    if seed is not None:
        recipe = recipe.model_copy(update={"seed": seed})
    recipe = recipe.resolved_from(folder)
    for stage in recipe.stages:
        if isinstance(stage, FitStage):
            fit_settings(recipe, stage, None)
    return recipe
