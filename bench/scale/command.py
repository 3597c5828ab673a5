"""`sennet-bench scale`: what a run costs, one thing varied at a time."""

from pathlib import Path
from typing import Annotated

import typer

from sennet_bench.options import Json, Repeats, Threads, show, told


def scale(
    model: Annotated[Path | None, typer.Option(help="Bundle; by default the built-in one.")] = None,
    along: Annotated[
        list[str] | None,
        typer.Option(
            help="planes, side, models, threads or overlap, or with values: planes=4,8,16. Can be given again; by "
            "default all of them.",
        ),
    ] = None,
    planes: Annotated[int, typer.Option(help="Of the base.")] = 8,
    side: Annotated[int, typer.Option(help="Of the base's planes, in pixels.")] = 512,
    quick: Annotated[bool, typer.Option("--quick", help="Two or three values each, and smaller ones.")] = False,
    repeats: Repeats = 3,
    threads: Threads = None,
    runtime: Annotated[
        str, typer.Option(help="One for all points, onnxruntime or openvino; auto may take another for small ones.")
    ] = "onnxruntime",
    json: Json = None,
) -> None:
    """Fit how seconds and memory grow with planes, their side, models, threads and the overlap of tiles."""
    from sennet_bench.scale.measurement import ScaleRequest, measure_scale
    from sennet_bench.scale.points import axis_from_text

    request = ScaleRequest(
        dict(map(axis_from_text, along or [])), model, planes, side, repeats=repeats, threads=threads,
        runtime=runtime, quick=quick,
    )  # fmt: skip
    show(measure_scale(request, told=told), json)
