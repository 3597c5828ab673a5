"""`sennet-train threshold`: the best threshold of networks, and the range in which it is stable."""

from typing import Annotated

import typer

from sennet_trainer.commands.evaluate import sweep_table
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


def threshold(
    networks: NetworksArgument,
    images: ImagesOption,
    labels: LabelsOption,
    out: OutOption,
    write: Annotated[
        bool, typer.Option("--write", help="Make it the network's own: in its run, or on its bundle's card.")
    ] = False,
    axes: AxesOption = "z",
    slices: SlicesOption = None,
    invert: InvertOption = False,
    device: DeviceOption = "auto",
    quiet: QuietOption = False,
) -> None:
    """Find the threshold with the best surface Dice on a labelled volume that the networks have not seen."""
    from sennet_engine.card import Threshold
    from sennet_engine.errors import ConfigError
    from sennet_trainer.device import device_from_name
    from sennet_trainer.prediction.evaluation import CURVE, evaluate
    from sennet_trainer.prediction.progress import prediction_progress
    from sennet_trainer.prediction.task import prediction_task
    from sennet_trainer.prediction.teacher import keep_threshold

    if write and len(networks) > 1:
        raise ConfigError(
            f"--write: got {len(networks)} networks, expected one: their common threshold is none of their own; give "
            f"it to sennet-infer or to a recipe"
        )
    volume = volume_of(images, labels, slices=slices, invert=invert)
    with says_how_to_go_on(), prediction_progress(quiet=quiet) as observer:
        task = prediction_task(volume, networks, axes=axes, cache=out / "cache")
        found = evaluate(task, out, device=device_from_name(device), observer=observer)
    typer.echo(sweep_table(found))
    if write:
        best = Threshold(value=found.best_threshold, low=found.stable_low, high=found.stable_high)
        typer.echo(f"written  {keep_threshold(networks[0], best, volume=found.volume)}")
    typer.echo(f"curve    {out / CURVE}")
