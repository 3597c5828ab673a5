"""`sennet-bench quality`: a model beside a tuned baseline on labelled volumes."""

from pathlib import Path
from typing import Annotated

import typer


def quality(
    folders: Annotated[list[Path], typer.Argument(help="Folders with image.tif, labels.tif and, if known, veins.tif.")],
    model: Annotated[Path | None, typer.Option(help="Model bundle; by default the built-in one.")] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON instead of a Markdown table.")] = False,
) -> None:
    """Score a model on labelled volumes, beside a dark-blob baseline that is tuned on the truth itself."""
    import json
    from dataclasses import asdict

    from sennet_bench.quality import markdown_table, quality_rows
    from sennet_engine.bundle import BUILTIN

    rows = [row for folder in folders for row in quality_rows(folder, model or BUILTIN)]
    typer.echo(json.dumps([asdict(row) for row in rows], indent=2) if as_json else markdown_table(rows))
