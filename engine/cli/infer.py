"""`sennet-infer`: a mask of a volume."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from sennet_engine.cli.run import run

if TYPE_CHECKING:
    from sennet_engine.settings import InferSettings
    from sennet_engine.summary import Summary

app = typer.Typer(add_completion=False)

MODEL, LOOK, SPEED, OUTPUT = "What finds the vessels", "How the volume is looked at", "How it is computed", "Output"


@app.command()
def infer(
    volume: Annotated[Path, typer.Argument(help="TIFF, BigTIFF, OME-TIFF, .npy, or a folder of TIFF or PNG slices.")],
    model: Annotated[
        Path | None,
        typer.Option(
            help="Model bundle NAME.model or ensemble NAME.toml; by default the built-in.", rich_help_panel=MODEL
        ),
    ] = None,
    models: Annotated[
        Path | None,
        typer.Option(help="Where an ensemble's bundles lie; by default beside its file.", rich_help_panel=MODEL),
    ] = None,
    threshold: Annotated[
        float | None,
        typer.Option(help="Probability from which a voxel is vessel; by default the model's.", rich_help_panel=MODEL),
    ] = None,
    min_voxels: Annotated[
        int | None, typer.Option(help="Remove components of fewer voxels, across slabs.", rich_help_panel=MODEL)
    ] = None,
    voxel_size: Annotated[
        str | None,
        typer.Option(help="Micrometres, as 50 or as z,y,x; by default what the file says.", rich_help_panel=LOOK),
    ] = None,
    scale: Annotated[
        float | None,
        typer.Option(help="Magnify planes so; by default voxel size over the model's.", rich_help_panel=LOOK),
    ] = None,
    window: Annotated[
        str | None,
        typer.Option(
            help="Grey levels LOW,HIGH that become black and white; by default 0.1 and 99.9 %.", rich_help_panel=LOOK
        ),
    ] = None,
    no_skip: Annotated[
        bool, typer.Option("--no-skip", help="Compute the background too.", rich_help_panel=LOOK)
    ] = False,
    out: Annotated[
        Path | None,
        typer.Option(help="Output folder; by default NAME.sennet beside the volume.", rich_help_panel=OUTPUT),
    ] = None,
    overwrite: Annotated[
        bool,
        typer.Option(
            "--overwrite", help="Replace an earlier result; forget an interrupted run.", rich_help_panel=OUTPUT
        ),
    ] = False,
    resume: Annotated[
        bool, typer.Option("--resume", help="Go on with an interrupted run, if there is one.", rich_help_panel=OUTPUT)
    ] = False,
    dry_run: Annotated[
        bool,
        typer.Option("--dry-run", help="Tell the plan, time and memory; write nothing.", rich_help_panel=OUTPUT),
    ] = False,
    probability: Annotated[
        bool, typer.Option("--probability", help="Also write probability.tif, 0..255.", rich_help_panel=OUTPUT)
    ] = False,
    rle: Annotated[
        bool,
        typer.Option("--rle", help="Also write submission.csv, run lengths as Kaggle wants.", rich_help_panel=OUTPUT),
    ] = False,
    quiet: Annotated[bool, typer.Option("--quiet", help="No progress bar.", rich_help_panel=OUTPUT)] = False,
    memory: Annotated[
        str | None, typer.Option(help="Stay below that, as 8GB; by default no limit.", rich_help_panel=SPEED)
    ] = None,
    device: Annotated[
        str,
        typer.Option(
            help="auto: the first GPU if it can be used; cpu, cuda, or several: cuda:0,cuda:1.", rich_help_panel=SPEED
        ),
    ] = "auto",
    runtime: Annotated[
        str,
        typer.Option(
            help="onnxruntime, openvino; on GPUs tensorrt, tensorrt-rtx, onnxruntime-cuda, onnxruntime-tensorrt; "
            "auto: the fastest.",
            rich_help_panel=SPEED,
        ),
    ] = "auto",
    precision: Annotated[
        str,
        typer.Option(
            help="Which of the model's files: fp32, fp16 or int8; auto: fp16 on GPUs, else fp32.", rich_help_panel=SPEED
        ),
    ] = "auto",
    cuda_graphs: Annotated[
        str,
        typer.Option(help="Replay recorded launches on a GPU: on, off, or auto where it pays.", rich_help_panel=SPEED),
    ] = "auto",
    on_overflow: Annotated[
        str,
        typer.Option(
            help="What a tile with NaN or infinity in its answer does: stop, or fp32: compute it again.",
            rich_help_panel=MODEL,
        ),
    ] = "stop",
    threads: Annotated[
        int | None, typer.Option(help="Threads of the networks in all; by default all.", rich_help_panel=SPEED)
    ] = None,
    tile: Annotated[
        int | None, typer.Option(help="Tile side in pixels; by default the cheapest.", rich_help_panel=SPEED)
    ] = None,
    batch: Annotated[
        int | None,
        typer.Option(help="Tiles in one call of the model; by default 1, on a GPU the fastest.", rich_help_panel=SPEED),
    ] = None,
    slab: Annotated[
        int | None, typer.Option(help="Planes held in memory at a time; by default 16.", rich_help_panel=SPEED)
    ] = None,
) -> None:
    """Segment the blood vessels of VOLUME: mask.tif, preview.png and summary.json in one folder."""
    from sennet_engine.planning.memory import bytes_from_text
    from sennet_engine.settings import InferSettings, cuda_graphs_from_text, on_overflow_from_text
    from sennet_engine.trial_memory import TrialMemory
    from sennet_engine.volumes.open import voxel_size_from_text
    from sennet_engine.window import window_from_text

    own = Path(typer.get_app_dir("sennet"))
    settings = InferSettings(
        model=model,
        models=models,
        out=out,
        overwrite=overwrite,
        resume=resume,
        voxel_size_um=voxel_size_from_text(voxel_size) if voxel_size is not None else None,
        scale=scale,
        window=window_from_text(window) if window is not None else None,
        threshold=threshold,
        min_voxels=min_voxels,
        skip=not no_skip,
        tile=tile,
        batch=batch,
        slab_planes=slab,
        memory_bytes=bytes_from_text(memory) if memory is not None else None,
        device=device,
        runtime=runtime,
        precision=precision,
        threads=threads,
        cuda_graphs=cuda_graphs_from_text(cuda_graphs),
        on_overflow=on_overflow_from_text(on_overflow),
        trials=TrialMemory(own / "trials.json"),
        engine_cache=own / "engines",
        probability=probability,
        submission=rle,
    )
    if dry_run:
        _tell_estimate(volume, settings)
    else:
        _run(volume, settings, quiet=quiet)


def _run(volume: Path, settings: "InferSettings", *, quiet: bool) -> None:
    from sennet_engine.cli.progress import planes_progress
    from sennet_engine.infer import infer as infer_volume

    with planes_progress(volume.name, quiet=quiet) as on_planes:
        summary = infer_volume(volume, settings, on_planes=on_planes)
    _tell_summary(summary)


def _tell_summary(summary: "Summary") -> None:
    share = summary.vessel_voxels / summary.voxels
    rate = summary.voxels / summary.seconds / 1e6
    typer.echo(f"mask     {Path(summary.output) / 'mask.tif'}")
    typer.echo(f"preview  {Path(summary.output) / 'preview.png'}")
    typer.echo(f"summary  {Path(summary.output) / 'summary.json'}")
    typer.echo(f"device   {summary.device}")
    for reason in summary.plan:
        typer.echo(f"plan     {reason}")
    if summary.audit:
        typer.echo(f"audit    {summary.audit.sentence}")
    typer.echo(f"vessels  {share:.3%} of {summary.voxels:,} voxels, in {summary.seconds:.1f} s ({rate:.1f} Mvoxel/s)")


def _tell_estimate(volume: Path, settings: "InferSettings") -> None:
    from sennet_engine.infer import dry_run

    estimate, ready = dry_run(volume, settings)
    for reason in (ready.device, *ready.plan.reasons):
        typer.echo(reason)
    width = max(len(name) for name, _ in estimate.table())
    for name, value in estimate.table():
        typer.echo(f"{name:<{width}}  {value}")


def main() -> None:
    """Entry point."""
    run(app)
