"""What the commands that predict have in common: their options, and the volume that these describe."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

if TYPE_CHECKING:
    from sennet_trainer.volume_settings import VolumeSettings

INTERRUPTED = 130

NetworksArgument = Annotated[
    list[Path], typer.Argument(metavar="NETWORK...", help="Run folders or model bundles; their mean is taken.")
]
ImagesOption = Annotated[Path, typer.Option(help="TIFF, BigTIFF, OME-TIFF, .npy, or a folder of slices.")]
LabelsOption = Annotated[Path, typer.Option(help="Its labels, 0/1 or 0/255.")]
OutOption = Annotated[Path, typer.Option(help="Folder of the result; the same command goes on with what is there.")]
AxesOption = Annotated[str, typer.Option(help="Predict along these axes, and take the mean.")]
SlicesOption = Annotated[
    str | None, typer.Option(metavar="FIRST:END", help="Use these planes along z only; END is not among them.")
]
InvertOption = Annotated[bool, typer.Option("--invert", help="Invert the grey levels: for bright vessels.")]
DeviceOption = Annotated[str, typer.Option(help="auto, cpu or cuda.")]
QuietOption = Annotated[bool, typer.Option("--quiet", help="No progress.")]


def volume_of(images: Path, labels: Path, *, slices: str | None, **facts: Any) -> "VolumeSettings":
    """The volume that the options describe; `facts` are further keys of its settings.

    Raises:
        ConfigError: one of them cannot be used.
    """
    from sennet_engine.config import validated
    from sennet_trainer.volume_settings import VolumeSettings

    table = {"images": images, "labels": labels, "slices": _planes_from_text(slices), **facts}
    return validated(table, VolumeSettings, source="the options")


@contextmanager
def says_how_to_go_on() -> Iterator[None]:
    """An interruption ends the command with the advice to give it again."""
    try:
        yield
    except KeyboardInterrupt:
        typer.echo("the same command goes on from here", err=True)
        raise typer.Exit(INTERRUPTED) from None


def _planes_from_text(text: str | None) -> tuple[int, int] | None:
    from sennet_engine.errors import ConfigError

    if text is None:
        return None
    try:
        first, end = (int(part) for part in text.split(":"))
    except ValueError as error:
        raise ConfigError(f"--slices: got {text!r}, expected two numbers of planes FIRST:END (900:2217)") from error
    return first, end
