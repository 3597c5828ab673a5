"""`sennet-train evaluate`: how good networks are on a labelled volume."""

from typing import TYPE_CHECKING, Annotated

import typer

from sennet_trainer.commands.prediction_options import (
    AxesOption,
    DeviceOption,
    ImagesOption,
    InvertOption,
    LabelsOption,
    NetworksArgument,
    OutOption,
    QuietOption,
    SlicesOption,
    says_how_to_go_on,
    volume_of,
)

if TYPE_CHECKING:
    from sennet_trainer.prediction.evaluation import Evaluation

WHOSE = {"given": "as given", "network": "the network's own", "sweep": "the best of the sweep"}


def evaluate(
    networks: NetworksArgument,
    images: ImagesOption,
    labels: LabelsOption,
    out: OutOption,
    threshold: Annotated[
        float | None,
        typer.Option(
            help="Of the mask that is scored in full; by default a single network's own, else the best of the sweep."
        ),
    ] = None,
    axes: AxesOption = "z",
    slices: SlicesOption = None,
    invert: InvertOption = False,
    cldice: Annotated[bool, typer.Option("--cldice", help="Score the centrelines too; needs scikit-image.")] = False,
    device: DeviceOption = "auto",
    quiet: QuietOption = False,
) -> None:
    """Predict a labelled volume and score it, at many thresholds and in full at one."""
    from sennet_trainer.device import device_from_name
    from sennet_trainer.prediction.evaluation import CURVE, RESULT, SLICES, Scoring
    from sennet_trainer.prediction.evaluation import evaluate as score
    from sennet_trainer.prediction.progress import prediction_progress
    from sennet_trainer.prediction.task import prediction_task

    volume = volume_of(images, labels, slices=slices, invert=invert)
    with says_how_to_go_on(), prediction_progress(quiet=quiet) as observer:
        task = prediction_task(volume, networks, axes=axes, cache=out / "cache")
        scoring = Scoring(threshold=threshold, cldice=cldice)
        found = score(task, out, scoring, device=device_from_name(device), observer=observer)
    typer.echo(sweep_table(found))
    typer.echo(f"at the threshold {found.at['threshold']:.3f}, {WHOSE[found.threshold_from]}:")
    for name, value in found.at.items():
        if name != "threshold":
            typer.echo(f"  {name.replace('_', ' '):<16}{'undefined' if value is None else f'{value:.4f}'}")
    typer.echo(f"result   {out / RESULT}")
    typer.echo(f"picture  {out / SLICES}")
    typer.echo(f"curve    {out / CURVE}")


def sweep_table(found: "Evaluation") -> str:
    """Scores by threshold, and the best of them."""
    lines = ["threshold  surface Dice    Dice"]
    lines += [f"{row.threshold:9.3f}  {row.surface_dice:12.4f}  {row.dice:6.4f}" for row in found.rows]
    lines.append(
        f"best     {found.best_threshold:.3f}; surface Dice stays within 0.01 of it from {found.stable_low:.3f} to "
        f"{found.stable_high:.3f}"
    )
    return "\n".join(lines)
