"""`sennet-score`: how well a mask agrees with the truth."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from sennet_engine.cli.run import run

if TYPE_CHECKING:
    from sennet_engine.metrics.score import Scores

app = typer.Typer(add_completion=False)


@app.command()
def score(
    prediction: Annotated[Path, typer.Argument(help="The mask: TIFF, .npy or a folder of slices; 0/1 or 0/255.")],
    truth: Annotated[Path, typer.Argument(help="The true mask, of the same shape.")],
    cldice: Annotated[bool, typer.Option("--cldice", help="Score the centrelines too; needs scikit-image.")] = False,
    tolerance: Annotated[
        float | None, typer.Option(help="A further tolerance for surface Dice, 0 to 10 voxels.", metavar="VOXELS")
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON; a score that is 0 / 0 is null.")] = False,
) -> None:
    """Score the mask PREDICTION against TRUTH.

    Surface Dice at tolerances of 0 and 1 voxel, Dice, precision, recall, and the number of connected components.
    """
    from sennet_engine.metrics.score import score_masks
    from sennet_engine.volumes.open import open_volume

    with open_volume(prediction) as predicted, open_volume(truth) as true:
        scores = score_masks(predicted, true, cldice=cldice, tolerance=tolerance)
    typer.echo(_json(scores) if as_json else _table(scores))


def main() -> None:
    """Entry point."""
    run(app)


def _json(scores: "Scores") -> str:
    """The scores by name, without those that were not asked for."""
    import json
    import math
    from dataclasses import asdict

    asked = {name: value for name, value in asdict(scores).items() if value is not None}
    return json.dumps({name: None if math.isnan(value) else value for name, value in asked.items()}, indent=2)


def _table(scores: "Scores") -> str:
    rows: dict[str, float | None] = {
        "surface Dice, 0 voxels": scores.surface_dice_0,
        "surface Dice, 1 voxel": scores.surface_dice_1,
        f"surface Dice, {scores.tolerance} voxels": scores.surface_dice_at_tolerance,
        "Dice": scores.dice,
        "precision": scores.precision,
        "recall": scores.recall,
        "clDice": scores.cldice,
        "topology precision": scores.topology_precision,
        "topology sensitivity": scores.topology_sensitivity,
    }
    texts = {name: f"{value:.4f}" for name, value in rows.items() if value is not None}
    texts["voxels agreed"] = (
        f"{scores.overlap_voxels:,} of {scores.predicted_voxels:,} predicted and {scores.true_voxels:,} true"
    )
    texts["components"] = f"{scores.predicted_components:,} predicted and {scores.true_components:,} true"
    texts["largest component"] = (
        f"{scores.predicted_largest_voxels:,} voxels predicted and {scores.true_largest_voxels:,} true"
    )
    width = max(24, *(len(name) + 2 for name in texts))
    return "\n".join(f"{name:<{width}}{text}" for name, text in texts.items())
