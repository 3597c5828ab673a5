"""`sennet-train fit`: one training run."""

from pathlib import Path
from typing import Annotated

import typer

INTERRUPTED = 130

ConfigArgument = Annotated[Path, typer.Argument(metavar="CONFIG.toml", help="The settings of the training.")]


def fit(
    config: ConfigArgument,
    out: Annotated[Path | None, typer.Option(help="Folder of the run; by default runs/NAME.")] = None,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Start anew where a run is.")] = False,
    device: Annotated[str, typer.Option(help="auto, cpu or cuda.")] = "auto",
    quiet: Annotated[bool, typer.Option("--quiet", help="No progress.")] = False,
) -> None:
    """Train as CONFIG.toml says. The same command goes on with a training that was interrupted.

    On several GPUs: accelerate launch --multi_gpu --no_python sennet-train fit CONFIG.toml
    """
    from sennet_trainer.allocator import keep_freed_memory
    from sennet_trainer.device import device_from_name
    from sennet_trainer.fit import fit as train
    from sennet_trainer.fit_progress import FitProgress
    from sennet_trainer.processes import is_main, leave_processes
    from sennet_trainer.settings import load_fit_settings

    settings = load_fit_settings(config)
    folder = out or Path("runs") / settings.name
    keep_freed_memory()
    with FitProgress(settings.name, quiet=quiet) as observer:
        try:
            progress = train(settings, folder, device=device_from_name(device), observer=observer, overwrite=overwrite)
        except KeyboardInterrupt:
            if is_main():
                way_on = _way_on(folder, settings.training.epochs, begun=observer.trained, overwrite=overwrite)
                typer.echo(way_on, err=True)
            raise typer.Exit(INTERRUPTED) from None
    speaks = is_main()
    leave_processes()
    if not speaks:
        return
    if not observer.trained:
        typer.echo(f"{folder} is complete already: {progress.epochs} epochs; --overwrite starts anew")
    if progress.best_surface_dice is not None:
        typer.echo(f"best     surface Dice {progress.best_surface_dice:.4f} on the validation volumes")
    typer.echo(f"network  {folder / 'network.safetensors'}")
    typer.echo(f"metrics  {folder / 'metrics.csv'}")
    typer.echo(f"curve    {folder / 'curve.png'}")


def _way_on(folder: Path, epochs: int, *, begun: bool, overwrite: bool) -> str:
    """What a person does after an interruption. The checkpoint knows what is done, not what was shown last."""
    from sennet_trainer.checkpoint import read_progress
    from sennet_trainer.run_folder import CHECKPOINT

    if not begun:
        return "nothing was trained yet; the same command starts again"
    done = read_progress(folder / CHECKPOINT).epochs if (folder / CHECKPOINT).exists() else 0
    command = "the same command without --overwrite" if overwrite else "the same command"
    return f"{command} goes on from epoch {min(done + 1, epochs)} of {epochs}"
