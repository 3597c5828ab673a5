"""`sennet-bench metrics`: surface Dice beside the package that scores the competition."""

from typing import Annotated

import typer


def metrics(
    shape: Annotated[str, typer.Option(help="Planes, rows and columns of the masks.", metavar="Z,Y,X")] = "128,512,512",
    repeats: Annotated[int, typer.Option(help="Of either implementation, in turns.")] = 5,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON instead of a Markdown table.")] = False,
) -> None:
    """Time surface Dice at tolerance 0 on tube masks, beside the package `surface-distance`."""
    import json
    from dataclasses import asdict

    from sennet_bench.metrics import compare_metrics, markdown_report
    from sennet_bench.shape_option import shape_from_text

    comparison = compare_metrics(shape_from_text(shape), repeats=repeats)
    typer.echo(json.dumps(asdict(comparison), indent=2) if as_json else markdown_report(comparison))
