"""`sennet-bench dry-run`, `skipping`, `cascade` and `identical`: whether the engine keeps what it promises."""

from pathlib import Path
from typing import Annotated

import typer

from sennet_bench.options import Json, Repeats, Runtime, Threads, Volume, show, told


def dry_run(
    volumes: Annotated[list[Path], typer.Argument(help="Anything that sennet-infer opens.")],
    model: Annotated[
        list[Path] | None, typer.Option(help="Bundle or ensemble; can be given again; by default the built-in.")
    ] = None,
    repeats: Repeats = 3,
    threads: Threads = None,
    runtime: Runtime = "auto",
    json: Json = None,
) -> None:
    """Compare what --dry-run tells with what then happens: tiles, seconds and peak memory."""
    from sennet_bench.promises.dry_run import measure_estimates

    measured = measure_estimates(
        volumes, model or [None], repeats=repeats, threads=threads, runtime=runtime, told=told
    )  # fmt: skip
    show(measured, json)


def skipping(
    volume: Volume,
    truth: Annotated[Path | None, typer.Option(help="Its vessels, for surface Dice.")] = None,
    model: Annotated[Path | None, typer.Option(help="Bundle; by default the built-in one.")] = None,
    never_exact: Annotated[
        list[int] | None,
        typer.Option(help="Also take the network as one that is never exact, with blended tiles of this side."),
    ] = None,
    repeats: Repeats = 3,
    threads: Threads = None,
    runtime: Runtime = "auto",
    json: Json = None,
) -> None:
    """Time runs with and without background, in turns, and compare their masks."""
    from sennet_bench.promises.skipping import SkippingRequest, measure_skipping

    request = SkippingRequest(
        volume, truth, model, never_exact or (), repeats=repeats, threads=threads, runtime=runtime
    )  # fmt: skip
    measured = measure_skipping(request, told=told)
    show(measured, json)


def cascade(
    volume: Volume,
    ensemble: Annotated[Path, typer.Argument(help="TOML file of two passes or more.")],
    truth: Annotated[Path, typer.Option(help="The volume's vessels, for surface Dice.")],
    models: Annotated[Path | None, typer.Option(help="Where its bundles lie; by default beside it.")] = None,
    low_bound: Annotated[
        list[float] | None, typer.Option(help="Of a cascade; can be given again; by default the file's.")
    ] = None,
    repeats: Repeats = 3,
    threads: Threads = None,
    runtime: Runtime = "auto",
    json: Json = None,
) -> None:
    """Run an ensemble with and without a cascade, in turns: its gain in time, its loss in surface Dice."""
    from sennet_bench.promises.cascade import CascadeRequest, measure_cascade

    request = CascadeRequest(
        volume, truth, ensemble, models, low_bound or (), repeats=repeats, threads=threads, runtime=runtime
    )  # fmt: skip
    measured = measure_cascade(request, told=told)
    show(measured, json)


def identical(
    volume: Volume,
    model: Annotated[Path | None, typer.Option(help="Bundle or ensemble; by default the built-in one.")] = None,
    kills: Annotated[int, typer.Option(help="Kill the command so often, at random moments, and go on.")] = 20,
    runtime: Annotated[str, typer.Option(help="onnxruntime or openvino.")] = "onnxruntime",
    json: Json = None,
) -> None:
    """Compute a mask in batches, slabs, threads, orders and interruptions of all kinds, and compare.

    Exits with 1 where one differs on onnxruntime, whose answers are the same bits.
    """
    from sennet_bench.promises.identical import measure_identity
    from sennet_engine.runtimes import DEFAULT_RUNTIME

    measured = measure_identity(volume, model, kills=kills, runtime=runtime, told=told)
    show(measured, json)
    if runtime == DEFAULT_RUNTIME and not measured.all_identical:
        raise typer.Exit(1)
