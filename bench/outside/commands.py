"""`sennet-bench throughput` and `memory`: what the engine costs beside its networks."""

from typing import Annotated

import typer

from sennet_bench.options import Json, Threads, show


def throughput(
    shape: Annotated[str, typer.Option(help="Planes, rows and columns.", metavar="Z,Y,X")] = "64,1024,1024",
    repeats: Annotated[int, typer.Option(help="Runs, each in a process of its own.")] = 3,
    threads: Threads = None,
    json: Json = None,
) -> None:
    """Time the engine with an identity network, which costs nothing, over a uint8 volume made for it."""
    from sennet_bench.outside.throughput import measure_throughput
    from sennet_bench.shape_option import shape_from_text

    measured = measure_throughput(shape_from_text(shape), repeats=repeats, threads=threads)
    show(measured, json)


def memory(
    planes: Annotated[list[int] | None, typer.Option(help="Of a run; by default 100, 400 and 1600.")] = None,
    side: Annotated[int, typer.Option(help="Of the planes, in pixels.")] = 512,
    threads: Threads = None,
    json: Json = None,
) -> None:
    """Measure the peak memory of the engine with a small network over volumes of more and more planes."""
    from sennet_bench.outside.memory import measure_memory

    measured = measure_memory(planes or [100, 400, 1600], side=side, threads=threads)
    show(measured, json)
