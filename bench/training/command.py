"""`sennet-bench train`: the trainer beside a plain loop."""

from pathlib import Path
from typing import Annotated

import typer

from sennet_bench.options import Json, Repeats, Threads, show, told


def train(
    config: Annotated[
        Path | None,
        typer.Argument(metavar="[CONFIG.toml]", help="As for sennet-train fit; by default the built-in model's."),
    ] = None,
    crops: Annotated[int, typer.Option(help="Of each pass of the data path.")] = 400,
    steps: Annotated[int, typer.Option(help="Of each training.")] = 20,
    workers: Annotated[
        list[int] | None,
        typer.Option(help="Processes that prepare crops; can be given again; by default 0, then the settings'."),
    ] = None,
    repeats: Repeats = 3,
    threads: Threads = None,
    json: Json = None,
) -> None:
    """Time the data path and the training loop beside a plain loop of smp, albumentations and torch, in turns."""
    from sennet_bench.training.measurement import TrainingRequest, measure_training

    request = TrainingRequest(config, crops, steps, workers or (), repeats=repeats, threads=threads)
    show(measure_training(request, told=told), json)
