"""`sennet-bench compare`: the engine beside other people's tools."""

from pathlib import Path
from typing import Annotated

import typer

from sennet_bench.options import Json, show, told


def compare(
    volume: Annotated[Path, typer.Argument(help="Anything that sennet-infer opens.")],
    truth: Annotated[Path | None, typer.Option(help="Its vessels, for surface Dice and Dice.")] = None,
    model: Annotated[Path | None, typer.Option(help="Bundle with its weights; by default the built-in one.")] = None,
    repeats: Annotated[int, typer.Option(help="Rounds; in each all run one after another.")] = 3,
    threads: Annotated[int | None, typer.Option(help="Of every contestant; by default all processors.")] = None,
    planes: Annotated[int, typer.Option(help="So many from the middle of the volume.")] = 8,
    peer: Annotated[list[str] | None, typer.Option(help="Only the engine and this one; can be given again.")] = None,
    json: Json = None,
) -> None:
    """Run the engine and other tools in turns on the same planes with the same network: torch as a loop and compiled,
    MONAI, nnU-Net, onnxruntime and openvino bare, each also with the settings that favour it.
    """
    from sennet_bench.compare.measurement import CompareSettings
    from sennet_bench.compare.measurement import compare as compare_contestants
    from sennet_bench.peers.table import chosen_contestants
    from sennet_engine.bundle import BUILTIN

    settings = CompareSettings(volume, model or BUILTIN, truth, repeats=repeats, planes=planes, threads=threads)
    found = compare_contestants(settings, chosen_contestants(peer or []), told=told)
    show(found, json)
