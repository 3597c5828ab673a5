"""`sennet-train report`: what a recipe or a single run brought, as one page."""

from pathlib import Path
from typing import Annotated

import typer


def report(
    run: Annotated[Path, typer.Argument(metavar="RUN", help="The folder of `sennet-train run`, or of a single stage.")],
    out: Annotated[Path | None, typer.Option(help="The page; by default RUN/report.html.")] = None,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace the page that is there.")] = False,
) -> None:
    """Write one HTML page of curves, scores and pictures, which needs no other file and no network."""
    from sennet_trainer.report.page import write_report

    path = write_report(run, out, overwrite=overwrite)
    typer.echo(f"report   {path}")
