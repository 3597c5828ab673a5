"""`sennet-train run`: a whole recipe, from sparse labels to trained networks."""

from pathlib import Path
from typing import Annotated

import typer

INTERRUPTED = 130


def run(
    recipe: Annotated[Path, typer.Argument(metavar="RECIPE.toml", help="The stages and their settings.")],
    data: Annotated[Path | None, typer.Option(help="The folder that the recipe's paths are relative to.")] = None,
    out: Annotated[Path | None, typer.Option(help="Folder of the run; by default runs/NAME.")] = None,
    seed: Annotated[int | None, typer.Option(min=0, help="In place of the recipe's seed.")] = None,
    device: Annotated[str, typer.Option(help="auto, cpu or cuda.")] = "auto",
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Open the volumes, try the networks, list the stages; run none.")
    ] = False,
    quiet: Annotated[bool, typer.Option("--quiet", help="No progress.")] = False,
) -> None:
    """Run the stages of a recipe. The same command goes on where it was interrupted; what is done is not done twice.

    On several GPUs: accelerate launch --multi_gpu --no_python sennet-train run RECIPE.toml
    """
    from sennet_trainer.allocator import keep_freed_memory
    from sennet_trainer.device import device_from_name
    from sennet_trainer.processes import is_main, join_processes, leave_processes, only_main
    from sennet_trainer.recipe.checks import check_encoder_weights, check_recipe
    from sennet_trainer.recipe.dry_run import outlook
    from sennet_trainer.recipe.folders import Folders
    from sennet_trainer.recipe.load import load_recipe
    from sennet_trainer.recipe.progress import RecipeProgress
    from sennet_trainer.recipe.runner import run_recipe

    settings = load_recipe(recipe, data=data, seed=seed)
    folder = out or Path("runs") / settings.name
    where = join_processes(device_from_name(device))
    parameters = only_main(lambda: check_recipe(settings))
    if dry_run:
        for line in outlook(settings, Folders(folder), parameters=parameters):
            typer.echo(f"{line.state:9} {line.kind:13} {line.name:24} {line.what}")
        return
    only_main(lambda: check_encoder_weights(settings, Folders(folder)))
    keep_freed_memory()
    with RecipeProgress(quiet=quiet or not is_main()) as observer:
        try:
            records = run_recipe(settings, folder, device=where, observer=observer)
        except KeyboardInterrupt:
            if is_main():
                typer.echo("the same command goes on from here", err=True)
            raise typer.Exit(INTERRUPTED) from None
    speaks = is_main()
    leave_processes()
    if not speaks:
        return
    networks = [record.name for record in records if record.kind == "fit"]
    typer.echo(f"stages   {folder / 'stages'}: {len(records)}, all complete")
    typer.echo(f"network  {folder / 'stages' / networks[-1]}   (sennet-export takes this folder)")
    typer.echo(f"report   sennet-train report {folder}")
