"""`sennet-infer`: a mask of a volume."""

from pathlib import Path
from typing import Annotated

import typer

from sennet_engine.cli.run import run

app = typer.Typer(add_completion=False)


@app.command()
def infer(
    volume: Annotated[Path, typer.Argument(help="TIFF, BigTIFF, OME-TIFF, .npy, or a folder of TIFF or PNG slices.")],
    model: Annotated[Path | None, typer.Option(help="Model bundle NAME.model; by default the built-in one.")] = None,
    out: Annotated[Path | None, typer.Option(help="Output folder; by default NAME.sennet beside the volume.")] = None,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace an output folder that exists.")] = False,
    voxel_size: Annotated[
        str | None, typer.Option(help="Micrometres, as 50 or as z,y,x; by default what the file says.")
    ] = None,
    window: Annotated[
        str | None,
        typer.Option(help="Grey levels LOW,HIGH that become black and white; by default 0.1 and 99.9 %."),
    ] = None,
    threshold: Annotated[
        float | None, typer.Option(help="Probability from which a voxel is vessel; by default the model's.")
    ] = None,
    probability: Annotated[bool, typer.Option("--probability", help="Also write probability.tif, 0..255.")] = False,
    rle: Annotated[bool, typer.Option("--rle", help="Also write submission.csv, run lengths as Kaggle wants.")] = False,
    tile: Annotated[int | None, typer.Option(help="Tile side in pixels; by default the cheapest.")] = None,
    batch: Annotated[int, typer.Option(help="Tiles in one call of the model.")] = 1,
    slab: Annotated[int, typer.Option(help="Planes held in memory at a time.")] = 16,
    runtime: Annotated[str, typer.Option(help="What computes: onnxruntime or openvino.")] = "onnxruntime",
    precision: Annotated[str, typer.Option(help="Which of the model's ONNX files: fp32, fp16 or int8.")] = "fp32",
    threads: Annotated[int | None, typer.Option(help="Threads of the runtime; by default all processors.")] = None,
    quiet: Annotated[bool, typer.Option("--quiet", help="No progress bar.")] = False,
) -> None:
    """Segment the blood vessels of VOLUME: mask.tif, preview.png and summary.json in one folder."""
    from sennet_engine.bundle import BUILTIN
    from sennet_engine.cli.progress import planes_progress
    from sennet_engine.infer import InferSettings
    from sennet_engine.infer import infer as infer_volume
    from sennet_engine.plan import PlanRequest
    from sennet_engine.volumes.open import voxel_size_from_text
    from sennet_engine.window import window_from_text

    settings = InferSettings(
        model=model or BUILTIN,
        out=out,
        overwrite=overwrite,
        voxel_size_um=voxel_size_from_text(voxel_size) if voxel_size is not None else None,
        window=window_from_text(window) if window is not None else None,
        runtime=runtime,
        precision=precision,
        threads=threads,
        probability=probability,
        submission=rle,
        plan=PlanRequest(tile=tile, threshold=threshold, batch=batch, slab_planes=slab),
    )
    with planes_progress(volume.name, quiet=quiet) as on_planes:
        summary = infer_volume(volume, settings, on_planes=on_planes)
    share = summary.vessel_voxels / summary.voxels
    rate = summary.voxels / summary.seconds / 1e6
    typer.echo(f"mask     {Path(summary.output) / 'mask.tif'}")
    typer.echo(f"preview  {Path(summary.output) / 'preview.png'}")
    typer.echo(f"summary  {Path(summary.output) / 'summary.json'}")
    typer.echo(f"vessels  {share:.3%} of {summary.voxels:,} voxels, in {summary.seconds:.1f} s ({rate:.1f} Mvoxel/s)")


def main() -> None:
    """Entry point."""
    run(app)
