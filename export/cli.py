"""`sennet-export`: model bundles from trained runs, in the precisions and for the runtimes asked for."""

from pathlib import Path
from typing import Annotated

import typer

from sennet_engine.cli.run import run

app = typer.Typer(add_completion=False)


@app.command()
def export(
    sources: Annotated[
        list[Path], typer.Argument(metavar="RUN_OR_BUNDLE...", help="Folders of `sennet-train fit`, or bundles.")
    ],
    out: Annotated[
        Path | None,
        typer.Option(help="Bundle to write, NAME.model; by default beside the run, and a bundle itself."),
    ] = None,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace a bundle that exists.")] = False,
    fp16: Annotated[bool, typer.Option("--fp16", help="Also in half precision, with an engine for GPUs.")] = False,
    int8: Annotated[bool, typer.Option("--int8", help="Also in integers, calibrated on real tiles.")] = False,
    target: Annotated[
        list[str] | None,
        typer.Option(
            help="onnx, openvino, rtx (engines of TensorRT for RTX, no GPU needed), tensorrt (on the GPU that is "
            "there); several times. By default onnx, and with --fp16 the engines that can be built here."
        ),
    ] = None,
    tile: Annotated[
        list[int] | None, typer.Option(help="Tile side; several times. By default the useful ones.")
    ] = None,
    batch: Annotated[
        str | None, typer.Option(help="MIN,OPT,MAX: tiles in one call of an engine; by default 1,4,8.")
    ] = None,
    gpu: Annotated[
        list[str] | None, typer.Option(help="Compute capability to build engines for, 8.6; several times.")
    ] = None,
    gate: Annotated[
        float | None, typer.Option(help="Surface Dice that fp16 and int8 may lose against fp32; 0.01 and 0.03.")
    ] = None,
    calibration: Annotated[
        Path | None,
        typer.Option(help="Volume to measure on; by default one that the run was given, and phantoms for a bundle."),
    ] = None,
    halo_tolerance: Annotated[
        int | None, typer.Option(help="Grey levels by which a tile may differ from the whole plane; by default 1.")
    ] = None,
    workspace: Annotated[int | None, typer.Option(help="MB that a builder may plan for on the GPU.")] = None,
    builder_level: Annotated[int | None, typer.Option(help="How long a builder searches, 0 to 5.")] = None,
    timing_cache: Annotated[
        Path | None, typer.Option(help="File of kernel timings that TensorRT reads and adds to; RTX has none.")
    ] = None,
    description: Annotated[str, typer.Option(help="One sentence for the model card.")] = "",
    quiet: Annotated[bool, typer.Option("--quiet", help="No progress bar.")] = False,
) -> None:
    """Write models as ONNX and as TensorRT engines, uint8 in and uint8 out, each proven equal to the network."""
    from sennet_engine.card import Precision
    from sennet_engine.errors import ConfigError, SennetError
    from sennet_export.exporter import export_model
    from sennet_export.progress import ExportProgress
    from sennet_export.settings import ExportSettings, batch_from_text, targets_from_text, usual_targets
    from sennet_export.table import markdown_table

    if out is not None and len(sources) > 1:
        raise ConfigError(f"--out: names one bundle, got {len(sources)} models; leave it out, or give one model")
    wanted: dict[Precision, bool] = {"fp16": fp16, "int8": int8}
    settings = ExportSettings(
        out=out,
        overwrite=overwrite,
        calibration=calibration,
        halo_tolerance=halo_tolerance,
        description=description,
        precisions=tuple(precision for precision, asked in wanted.items() if asked),
        targets=targets_from_text(target) if target else usual_targets(fp16=fp16),
        tiles=tuple(sorted(set(tile or ()))),
        batch=batch_from_text(batch) if batch is not None else None,
        compute_capabilities=tuple(gpu or ()),
        allowed_loss=gate,
        workspace_mb=workspace,
        builder_level=builder_level,
        timing_cache=timing_cache,
    )
    codes = []
    for source in sources:
        try:
            with ExportProgress(quiet=quiet) as progress:
                exported = export_model(source, settings, on_step=progress.step, on_phase=progress.phase)
        except SennetError as error:
            # The others may take the night, and do not depend on this one.
            typer.echo(f"error: {source}: {error}" if len(sources) > 1 else f"error: {error}", err=True)
            codes.append(error.exit_code)
            continue
        tiling = exported.card.tiling
        kind = "exact" if tiling.exact else "never exact on tiles"
        typer.echo(markdown_table(exported.rows))
        for line in exported.remarks:
            typer.echo(line)
        typer.echo(f"tiles of {', '.join(map(str, tiling.sides))}; halo {tiling.halo} ({kind}); stride {tiling.stride}")
        typer.echo(f"bundle   {exported.path}")
    if codes:
        raise typer.Exit(max(codes))


def main() -> None:
    """Entry point."""
    run(app)
