"""`sennet-bench table`: the tables of measurements that were kept."""

from pathlib import Path
from typing import Annotated

import typer


def table(
    files: Annotated[list[Path], typer.Argument(help="JSON files of measurements, or Markdown documents.")],
) -> None:
    """Print the tables of JSON files; of a document (.md), make the tables anew that it marks.

    A marked table stands between the lines <!-- table NAME.json --> and <!-- /table -->. With
    <!-- table NAME.json short --> it is one of few columns.
    """
    from sennet_bench.measurements import table_from_file
    from sennet_bench.report.marked_tables import document_with_tables

    for path in files:
        if path.suffix == ".md":
            path.write_text(document_with_tables(path), encoding="utf-8")
            typer.echo(path)
        else:
            typer.echo(table_from_file(path) + "\n")
