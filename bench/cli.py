"""The command `sennet-bench`: what makes test subjects, and what measures them."""

import typer

from sennet_bench.branches_command import drop_branches
from sennet_bench.check.command import check
from sennet_bench.compare.command import compare
from sennet_bench.experiment.command import experiment
from sennet_bench.gpu_check.command import gpu_check
from sennet_bench.int8_command import int8
from sennet_bench.latency.command import latency
from sennet_bench.metrics_command import metrics
from sennet_bench.outside.commands import memory, throughput
from sennet_bench.phantom_command import phantom
from sennet_bench.promises.commands import cascade, dry_run, identical, skipping
from sennet_bench.quality_command import quality
from sennet_bench.report.command import report
from sennet_bench.report.table_command import table
from sennet_bench.scale.command import scale
from sennet_bench.seed_networks_command import seed_networks
from sennet_bench.training.command import train
from sennet_bench.volume.command import volume
from sennet_engine.cli.run import run

app = typer.Typer(no_args_is_help=True, add_completion=False)
app.command("phantom")(phantom)
app.command("quality")(quality)
app.command("metrics")(metrics)
app.command("int8")(int8)
app.command("seed-networks")(seed_networks)
app.command("drop-branches")(drop_branches)
app.command("experiment")(experiment)
app.command("compare")(compare)
app.command("volume")(volume)
app.command("throughput")(throughput)
app.command("memory")(memory)
app.command("dry-run")(dry_run)
app.command("skipping")(skipping)
app.command("cascade")(cascade)
app.command("identical")(identical)
app.command("latency")(latency)
app.command("scale")(scale)
app.command("train")(train)
app.command("gpu-check")(gpu_check)
app.command("table")(table)
app.command("report")(report)
app.command("check")(check)


@app.callback()
def commands() -> None:
    """Make phantoms, and measure how good and how fast the toolchain is."""


def main() -> None:
    """Run the command line; exits with 2 on an error that a person can mend."""
    run(app)
