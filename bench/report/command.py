"""`sennet-bench report`: measurements that were kept, as one page and as tables."""

from pathlib import Path
from typing import Annotated

import typer


def report(
    files: Annotated[list[Path], typer.Argument(help="JSON files of measurements.")],
    out: Annotated[Path, typer.Option(help="The page.")] = Path("report.html"),
    markdown: Annotated[Path | None, typer.Option(help="Also write all tables to this Markdown file.")] = None,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace files that are there.")] = False,
) -> None:
    """Write one HTML page of tables, charts and samples, which needs no other file and no network."""
    from sennet_bench.measurements import read_measurement
    from sennet_bench.report.written import refuse_existing, write_text

    written = [path for path in (out, markdown) if path]
    refuse_existing(written, overwrite=overwrite)
    measured = [(path, read_measurement(path)) for path in files]

    from sennet_bench.report.page import markdown_from_measurements, page_from_measurements

    write_text(out, page_from_measurements(measured))
    if markdown:
        write_text(markdown, markdown_from_measurements(measured))
    for path in written:
        typer.echo(f"report   {path}")
