"""`sennet-train import`: published weights as a run."""

from pathlib import Path
from typing import Annotated

import typer


def import_weights(
    weights: Annotated[
        Path, typer.Argument(metavar="WEIGHTS", help="A state dict of torch.save (.pt, .pth), or .safetensors.")
    ],
    encoder: Annotated[str, typer.Option(help="Any encoder of smp, or `tu-` and any model of timm.")],
    tile: Annotated[int, typer.Option(help="Side of the crops that it was trained with.")],
    voxel_size: Annotated[float, typer.Option(help="Micrometres a pixel that it is made for.")],
    volume: Annotated[
        Path, typer.Option(help="A volume that it was trained on: sennet-export measures the network on it.")
    ],
    out: Annotated[Path, typer.Option(help="Folder of the run.")],
    decoder: Annotated[str, typer.Option(help="The class name of any decoder of smp.")] = "Unet",
    encoder_depth: Annotated[int, typer.Option(help="Stages of the encoder.")] = 5,
    decoder_channels: Annotated[str | None, typer.Option(help="As 256,128,64,32,16; by default those of smp.")] = None,
    normalisation: Annotated[
        str,
        typer.Option(
            help="`tile`: each tile by its own mean and deviation, as the third place does; or MEAN,STD of 0..1."
        ),
    ] = "tile",
    magnification: Annotated[
        str | None, typer.Option(help="Smallest and largest of its training crops, as 0.55,1.05; by default none.")
    ] = None,
    threshold: Annotated[float, typer.Option(help="Probability from which a voxel is vessel.")] = 0.5,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace a run that exists.")] = False,
) -> None:
    """Make a run of weights that others have trained: sennet-export takes it, and trainings can start from it.

    Nothing in the file is executed: a pickle that needs code to be loaded is refused.
    """
    from sennet_engine.config import validated
    from sennet_trainer.published import import_network
    from sennet_trainer.settings import FitSettings

    channels = [int(number) for number in _numbers("--decoder-channels", decoder_channels)] if decoder_channels else []
    mean, std = (0.0, 1.0) if normalisation == "tile" else _pair("--normalisation", normalisation)
    fixed = {"kind": "fixed", "mean": mean, "std": std}
    scale = {"scale": _pair("--magnification", magnification)} if magnification else {"shift_scale_rotate": 0.0}
    table = {
        "name": out.resolve().name,
        "voxel_size_um": voxel_size,
        "network": {
            "decoder": decoder,
            "encoder": encoder,
            "encoder_depth": encoder_depth,
            "decoder_options": {"decoder_channels": channels} if channels else {},
            "normalisation": {"kind": "tile"} if normalisation == "tile" else fixed,
        },
        # Its labels are not known, and nothing is trained here.
        "volumes": [{"images": volume.resolve(), "allow_empty": True, "voxel_size_um": voxel_size}],
        "crops": {"side": tile},
        "augmentation": scale,
        "validation": {"tile": tile, "threshold_without": threshold},
    }
    settings = validated(table, FitSettings, source="the options")
    imported = import_network(weights, settings, out, overwrite=overwrite)
    prefix = f", whose names began with {imported.prefix!r}" if imported.prefix else ""
    typer.echo(f"weights  {imported.parameters:,} of {weights.name}{prefix}, sha256 {imported.sha256[:12]}...")
    typer.echo(f"network  {out}   (sennet-export takes this folder)")


def _pair(option: str, text: str) -> tuple[float, float]:
    numbers = _numbers(option, text)
    if len(numbers) != 2:
        raise _wrong(option, text, "two numbers")
    return numbers[0], numbers[1]


def _numbers(option: str, text: str) -> list[float]:
    try:
        return [float(part) for part in text.split(",")]
    except ValueError as error:
        raise _wrong(option, text, "numbers") from error


def _wrong(option: str, text: str, expected: str) -> Exception:
    from sennet_engine.errors import ConfigError

    return ConfigError(f"{option}: got {text!r}, expected {expected} with commas between")
