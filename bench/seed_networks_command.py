"""The command `sennet-bench seed-networks`: the four networks of the third-place solution, to export and to time."""

from pathlib import Path
from typing import Annotated

import typer


def seed_networks(
    out: Annotated[Path, typer.Argument(help="Folder of the run folders, and of the phantoms that they name.")],
    small: Annotated[
        bool, typer.Option("--small", help="Small members of the same families, trained on phantoms.")
    ] = False,
    only: Annotated[list[str] | None, typer.Option(help="One of them, by name; can be given several times.")] = None,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace runs that exist.")] = False,
) -> None:
    """Write runs of the four networks at their real size with random weights, or of small ones that are trained.

    The random ones answer as smoothly as trained ones, and nothing that they find means anything. The small ones take
    about 12 minutes on one core; the same command goes on where it was stopped.
    """
    from sennet_bench.seed_networks import SEED_NETWORKS, chosen_names
    from sennet_bench.small_networks import SMALL_NETWORKS

    names = chosen_names(list(SMALL_NETWORKS if small else SEED_NETWORKS), only or [])
    for name in names:
        typer.echo(_trained(name, out, overwrite=overwrite) if small else _random(name, out, overwrite=overwrite))


def _random(name: str, out: Path, *, overwrite: bool) -> str:
    from sennet_bench.seed_networks import write_seed_run

    run = write_seed_run(name, out, overwrite=overwrite)
    calm = run.calmness
    return (
        f"{run.folder}  {run.parameters / 1e6:.1f} M parameters, random; logits with a standard deviation of "
        f"{calm.logit_deviation:.1f}, {calm.positive_share:.1%} of the pixels positive; a change of the input comes "
        f"out {calm.amplification:.2g} times as large"
    )


def _trained(name: str, out: Path, *, overwrite: bool) -> str:
    from sennet_bench.small_networks import train_small_network
    from sennet_trainer.fit_progress import FitProgress

    with FitProgress(name, quiet=False) as observer:
        progress = train_small_network(name, out, observer=observer, overwrite=overwrite)
    return f"{out / name}  trained; surface Dice {progress.best_surface_dice:.3f} on a phantom that it has not seen"
