"""What the commands that measure have in common: their options, and how they tell what they found."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from sennet_bench.measurements import Measurement

Volume = Annotated[Path, typer.Argument(help="Anything that sennet-infer opens.")]
Json = Annotated[Path | None, typer.Option("--json", help="Also write every sample to this file.")]
Repeats = Annotated[int, typer.Option(help="Rounds; in each all run one after another.")]
Threads = Annotated[int | None, typer.Option(help="By default all processors.")]
Runtime = Annotated[str, typer.Option(help="onnxruntime, openvino, or auto: the faster one.")]


def told(line: str) -> None:
    """Tell what is being done, beside what a program reads."""
    typer.echo(line, err=True)


def show(measured: "Measurement", json: Path | None) -> None:
    """Write the measurement to `json`, where there is one, and print its table. Raises OutputError."""
    from sennet_bench.measurements import KINDS, write_measurement

    if json:
        write_measurement(json, measured)
    typer.echo(KINDS[measured.kind].table(measured).markdown())
