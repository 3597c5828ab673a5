"""`sennet-export`: a model bundle from a trained run."""

from pathlib import Path
from typing import Annotated

import typer

from sennet_engine.cli.run import run

app = typer.Typer(add_completion=False)


@app.command()
def export(
    run_folder: Annotated[Path, typer.Argument(metavar="RUN", help="Folder that `sennet-train fit` wrote.")],
    out: Annotated[Path, typer.Option(help="Bundle to write, NAME.model.")],
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace a bundle that exists.")] = False,
    calibration: Annotated[
        Path | None, typer.Option(help="Volume to measure the model on; by default one that the run was given.")
    ] = None,
    halo_tolerance: Annotated[
        int, typer.Option(help="Grey levels by which a tile may differ from the whole plane.")
    ] = 1,
    description: Annotated[str, typer.Option(help="One sentence for the model card.")] = "",
) -> None:
    """Write RUN's network as ONNX, uint8 in and uint8 out, proven equal to the network, with its model card."""
    from rich.console import Console

    from sennet_export.exporter import ExportSettings, export_run

    settings = ExportSettings(
        out=out, overwrite=overwrite, calibration=calibration, halo_tolerance=halo_tolerance, description=description
    )
    console = Console(stderr=True)
    with console.status("") as status:
        card = export_run(run_folder, settings, on_step=status.update)
    for name, file in card.files.items():
        proof = "kept for retraining"
        if file.parity:
            proof = (
                f"equal within {file.parity.largest_difference} grey level(s) (mean "
                f"{file.parity.mean_difference:.4f}), {file.parity.flipped_share:.1e} of the pixels flipped, on "
                f"{file.parity.tile_count} tiles of {file.parity.tiles}"
            )
        typer.echo(f"{name:20} {file.bytes / 1e6:7.2f} MB  {file.precision}  {proof}")
    tiling = card.tiling
    kind = "exact" if tiling.exact else "never exact on tiles"
    typer.echo(f"tiles of {', '.join(map(str, tiling.sides))}; halo {tiling.halo} ({kind}); stride {tiling.stride}")
    typer.echo(f"bundle   {out}")


def main() -> None:
    """Entry point."""
    run(app)
