"""The command `sennet-bench`: what makes test subjects, and what measures them."""

import typer

from sennet_bench.branches_command import drop_branches
from sennet_bench.experiment_command import experiment
from sennet_bench.int8_command import int8
from sennet_bench.metrics_command import metrics
from sennet_bench.phantom_command import phantom
from sennet_bench.quality_command import quality
from sennet_bench.seed_networks_command import seed_networks
from sennet_engine.cli.run import run

app = typer.Typer(no_args_is_help=True, add_completion=False)
app.command("phantom")(phantom)
app.command("quality")(quality)
app.command("metrics")(metrics)
app.command("int8")(int8)
app.command("seed-networks")(seed_networks)
app.command("drop-branches")(drop_branches)
app.command("experiment")(experiment)


@app.callback()
def commands() -> None:
    """Make phantoms, and measure how good and how fast the toolchain is."""


def main() -> None:
    """Run the command line; exits with 2 on an error that a person can mend."""
    run(app)
