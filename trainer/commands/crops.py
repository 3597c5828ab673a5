"""`sennet-train crops`: a sheet of augmented crops."""

from pathlib import Path
from typing import Annotated

import typer

from sennet_trainer.commands.fit import ConfigArgument


def crops(
    config: ConfigArgument,
    out: Annotated[Path, typer.Option(help="The picture, a PNG file.")] = Path("crops.png"),
    count: Annotated[int, typer.Option(min=1, help="Crops on the sheet.")] = 18,
    epoch: Annotated[int, typer.Option(min=0, help="The epoch whose first crops are shown, counted from 0.")] = 0,
    cache: Annotated[
        Path | None, typer.Option(help="Keep the volumes, windowed to 8 bit, in this folder for the next sheet.")
    ] = None,
) -> None:
    """Draw the first crops of an epoch as the network will see them, with the outlines of their labels."""
    import contextlib
    import tempfile

    from sennet_trainer.crop_sheet import write_crop_sheet
    from sennet_trainer.crops import EpochCrops
    from sennet_trainer.inputs import check_inputs
    from sennet_trainer.labelled_volume import cached_volume
    from sennet_trainer.settings import load_fit_settings

    settings = load_fit_settings(config)
    shown = settings.model_copy(
        update={
            "crops": settings.crops.model_copy(update={"per_epoch": count}),
            "volumes": [volume for volume in settings.volumes if volume.role == "train"],
        }
    )
    check_inputs(shown)
    with contextlib.nullcontext(cache) if cache else tempfile.TemporaryDirectory() as folder:
        volumes = [cached_volume(volume, Path(folder)) for volume in shown.volumes]
        write_crop_sheet(EpochCrops(volumes, shown, epoch=epoch), out)
    typer.echo(f"crops    {out}")
