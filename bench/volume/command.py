"""`sennet-bench volume`: a volume from end to end."""

from pathlib import Path
from typing import Annotated

import typer

from sennet_bench.options import Json, Repeats, Runtime, Threads, Volume, show, told


def volume(
    volume: Volume,
    model: Annotated[
        list[Path] | None, typer.Option(help="Bundle or ensemble; can be given again; by default the built-in.")
    ] = None,
    truth: Annotated[Path | None, typer.Option(help="Its vessels, for surface Dice and Dice.")] = None,
    precision: Annotated[str, typer.Option(help="fp32, fp16, int8, or auto: as sennet-infer chooses.")] = "auto",
    runtime: Runtime = "auto",
    device: Annotated[str, typer.Option(help="auto, cpu, cuda, or several GPUs: cuda:0,cuda:1.")] = "auto",
    threads: Threads = None,
    memory: Annotated[str | None, typer.Option(help="Let each run stay below that, as 8GB.")] = None,
    repeats: Repeats = 3,
    json: Json = None,
) -> None:
    """Run sennet-infer end to end, models in turns: speed, stages and what they wait for, memory, energy, quality."""
    from sennet_bench.volume.measurement import VolumeRequest, measure_volume
    from sennet_engine.planning.memory import bytes_from_text

    request = VolumeRequest(
        volume, model or (None,), truth, precision=precision, runtime=runtime, device=device, threads=threads,
        memory_bytes=bytes_from_text(memory) if memory is not None else None, repeats=repeats,
    )  # fmt: skip
    show(measure_volume(request, told=told), json)
