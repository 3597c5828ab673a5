"""`sennet-train`: train networks, alone or by a recipe."""

import typer

from sennet_engine.cli.run import run
from sennet_trainer.commands.crops import crops
from sennet_trainer.commands.fit import fit

app = typer.Typer(add_completion=False, no_args_is_help=True, help="Train vessel segmentation networks.")
app.command()(fit)
app.command()(crops)


def main() -> None:
    """Entry point."""
    run(app)
