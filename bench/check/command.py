"""`sennet-bench check`: whether a measurement is worse than an earlier one of the same."""

from pathlib import Path
from typing import Annotated

import typer


def check(
    old: Annotated[Path, typer.Argument(help="A file that --json wrote, or a folder of such files.")],
    new: Annotated[Path, typer.Argument(help="A later one of the same; of folders, files of equal names.")],
    tolerance: Annotated[str, typer.Option(help="By so much a figure may be worse.", metavar="PERCENT")] = "5%",
    json: Annotated[Path | None, typer.Option("--json", help="Also write all figures to this file.")] = None,
) -> None:
    """Compare two measurements; exits with 1 on a regression beyond the tolerance and the noise of both.

    Seconds, ratios and bytes are worse where the medians are and where a rank test says that it is not chance; scores
    and counts where they are worse at all. On another machine only scores and counts are compared. Exits with 2 where
    the files cannot be compared, or where nothing can be concluded.
    """
    from sennet_bench.check.files import check_files
    from sennet_bench.check.view import notes_of_check, table_of_check, verdict_of_check
    from sennet_bench.check.writing import write_check

    checked = check_files(old, new, tolerance=_share(tolerance))
    if json:
        write_check(json, checked)
    table = table_of_check(checked)
    typer.echo("\n".join([*([table.markdown(), ""] if table.rows else []), *notes_of_check(checked)]))
    typer.echo(verdict_of_check(checked))
    if checked.exit_code:
        raise typer.Exit(checked.exit_code)


def _share(text: str) -> float:
    from sennet_engine.errors import ConfigError

    try:
        share = float(text.removesuffix("%")) / (100 if text.endswith("%") else 1)
    except ValueError:
        share = -1.0
    if not 0 <= share < 1:
        raise ConfigError(f"--tolerance: got {text}, expected a share such as 5% or 0.05, less than 1")
    return share
