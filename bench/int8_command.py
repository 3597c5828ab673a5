"""`sennet-bench int8`: int8 beside fp32 on the CPU runtimes."""

from pathlib import Path
from typing import Annotated

import typer


def int8(
    models: Annotated[
        list[Path],
        typer.Argument(help="A bundle with fp32 and int8; or two ONNX files, fp32 first.", metavar="MODEL..."),
    ],
    side: Annotated[int | None, typer.Option(help="Of the tiles; by default the bundle's, 384 for files.")] = None,
    threads: Annotated[int, typer.Option(help="Of either runtime.")] = 1,
    repeats: Annotated[int, typer.Option(help="Of either file, in turns.")] = 7,
    volume: Annotated[Path | None, typer.Option(help="Where the tiles are from; by default phantoms.")] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON instead of a Markdown table.")] = False,
) -> None:
    """Time int8 and fp32 in turns, and compare their answers."""
    import json
    from dataclasses import asdict

    from sennet_bench.int8 import compare_int8, markdown_report

    comparison = compare_int8(models, side=side, threads=threads, repeats=repeats, volume=volume)
    typer.echo(json.dumps(asdict(comparison), indent=2) if as_json else markdown_report(comparison))
