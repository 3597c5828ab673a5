"""The command `sennet-bench gpu-check`: whether the engine does on this machine's GPU what it promises."""

from pathlib import Path
from typing import Annotated

import typer


def gpu_check(
    out: Annotated[Path, typer.Option(help="The folder for gpu-check.json and gpu-check.html.")] = Path("gpu-check"),
    volume: Annotated[
        str, typer.Option(help="Planes, rows and columns of the phantom.", metavar="Z,Y,X")
    ] = "64,1024,1024",
    model: Annotated[Path | None, typer.Option(help="Model bundle; by default the built-in one.")] = None,
    minutes: Annotated[float, typer.Option(help="What has not begun by then is not run.")] = 10.0,
) -> None:
    """Run the gpu tests, compare and time masks of all runtimes, and write one page to send back.

    Exits with 1 where a step failed, or where there is no GPU.
    """
    from sennet_bench.gpu_check.check import CheckRequest, run_check
    from sennet_bench.gpu_check.page import page_from_check, verdict_of
    from sennet_bench.gpu_check.written import PAGE, checked_folder, write_check
    from sennet_bench.shape_option import shape_from_text
    from sennet_engine.bundle import BUILTIN
    from sennet_engine.errors import ConfigError

    if not minutes > 0:
        raise ConfigError(f"--minutes: got {minutes:g}, expected more than 0")
    request = CheckRequest(model or BUILTIN, shape_from_text(volume, option="--volume"), minutes)
    checked_folder(out)  # before the work, not after it
    check = run_check(request, told=lambda line: typer.echo(line, err=True))
    write_check(check, page_from_check(check), out)
    for step in check.steps:
        typer.echo(f"{step.outcome:<8} {step.title}: {step.reason}")
    typer.echo(verdict_of(check))
    typer.echo(f"page     {out / PAGE}")
    if not check.passed:
        raise typer.Exit(1)
