"""`sennet-train`: train networks, alone or by a recipe."""

import typer

from sennet_engine.cli.run import run
from sennet_trainer.commands.crops import crops
from sennet_trainer.commands.evaluate import evaluate
from sennet_trainer.commands.fit import fit
from sennet_trainer.commands.import_ import import_weights
from sennet_trainer.commands.pseudo_label import pseudo_label
from sennet_trainer.commands.report import report
from sennet_trainer.commands.run import run as run_recipe
from sennet_trainer.commands.threshold import threshold

app = typer.Typer(add_completion=False, no_args_is_help=True, help="Train vessel segmentation networks.")
app.command()(fit)
app.command()(crops)
app.command("run")(run_recipe)
app.command("pseudo-label")(pseudo_label)
app.command()(threshold)
app.command()(evaluate)
app.command()(report)
app.command("import")(import_weights)


def main() -> None:
    """Entry point."""
    run(app)
