"""`sennet-bench latency`: how long networks take for a call."""

from pathlib import Path
from typing import Annotated

import typer

from sennet_bench.options import Json, Repeats, show, told


def latency(
    models: Annotated[
        list[Path] | None, typer.Argument(help="Bundles; by default the built-in one.", metavar="MODEL")
    ] = None,
    precision: Annotated[
        list[str] | None,
        typer.Option(help="fp32, fp16 or int8; can be given again; by default fp32, on a GPU fp16."),
    ] = None,
    tile: Annotated[
        list[int] | None, typer.Option(help="Side in pixels; can be given again; by default the model's own.")
    ] = None,
    batch: Annotated[list[int] | None, typer.Option(help="Tiles in a call; can be given again; by default 1.")] = None,
    runtime: Annotated[
        list[str] | None,
        typer.Option(
            help="onnxruntime, openvino; on a GPU tensorrt, tensorrt-rtx, onnxruntime-cuda, onnxruntime-tensorrt; can "
            "be given again."
        ),
    ] = None,
    device: Annotated[str, typer.Option(help="cpu, or a GPU: cuda, cuda:1.")] = "cpu",
    threads: Annotated[
        int | None, typer.Option(help="Of a call on processors; by default all, divided among the contexts.")
    ] = None,
    contexts: Annotated[int, typer.Option(help="More than 1: also measure so many calls at the same time.")] = 1,
    cuda_graphs: Annotated[
        str, typer.Option(help="Replay recorded launches on a GPU: on, off, or auto where it pays.")
    ] = "auto",
    calls: Annotated[int, typer.Option(help="That are counted, of each combination in each round.")] = 30,
    repeats: Repeats = 5,
    json: Json = None,
) -> None:
    """Time single calls of networks as sennet-infer makes them: loading, the first call, and warm ones in turns."""
    from sennet_bench.latency.measurement import LatencyRequest, measure_latency
    from sennet_bench.latency.place import PlaceRequest
    from sennet_engine.settings import cuda_graphs_from_text

    place = PlaceRequest(
        device=device, runtimes=runtime or (), threads=threads, contexts=contexts,
        cuda_graphs=cuda_graphs_from_text(cuda_graphs), engine_cache=Path(typer.get_app_dir("sennet")) / "engines",
    )  # fmt: skip
    request = LatencyRequest(
        models or (), precision or (), tile or (), batch or (1,), calls=calls, repeats=repeats, place=place
    )
    show(measure_latency(request, told=told), json)
