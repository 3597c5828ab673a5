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
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON; a score that is 0 / 0 is null.")] = False,
) -> None:
    """Score the mask PREDICTION against TRUTH.

    Surface Dice at tolerances of 0 and 1 voxel, Dice, precision and recall.
    """
    from sennet_engine.metrics.score import score_masks
    from sennet_engine.volumes.open import open_volume

    with open_volume(prediction) as predicted, open_volume(truth) as true:
        scores = score_masks(predicted, true)
    typer.echo(_json(scores) if as_json else _table(scores))


def main() -> None:
    """Entry point."""
    run(app)


def _json(scores: "Scores") -> str:
    import json
    import math
    from dataclasses import asdict

    facts = {key: None if math.isnan(value) else value for key, value in asdict(scores).items()}
    return json.dumps(facts, indent=2)


def _table(scores: "Scores") -> str:
    voxels = f"{scores.overlap_voxels:,} of {scores.predicted_voxels:,} predicted and {scores.true_voxels:,} true"
    rows = {
        "surface Dice, 0 voxels": f"{scores.surface_dice_0:.4f}",
        "surface Dice, 1 voxel": f"{scores.surface_dice_1:.4f}",
        "Dice": f"{scores.dice:.4f}",
        "precision": f"{scores.precision:.4f}",
        "recall": f"{scores.recall:.4f}",
        "voxels agreed": voxels,
    }
    return "\n".join(f"{name:<24}{value}" for name, value in rows.items())
