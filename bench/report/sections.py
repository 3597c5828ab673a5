"""What a page shows of a measurement: its table, its charts, its notes and its samples, ready to be laid out."""

import re
import statistics
from collections.abc import Sequence
from dataclasses import dataclass, fields, is_dataclass
from pathlib import Path
from typing import Any

from sennet_bench.circumstances import Circumstances
from sennet_bench.measurements import KINDS, Measurement
from sennet_bench.report.drawing import Drawn, drawn_from_chart
from sennet_bench.report.figure import Figure
from sennet_bench.report.table import Table
from sennet_bench.report.words import number

# A cell that begins with a number, be it followed by its range or its unit; a sha256 is none.
NUMBER = re.compile(r"[-+−–]?\s?\d[\d.,\u202f]*(?![\w.])|–$")
# How notes begin that are warnings.
WARNINGS = ("Warning", "Too uncertain to conclude from")


@dataclass(frozen=True)
class Column:
    """A head, and whether what stands below are numbers."""

    head: str
    numeric: bool


@dataclass(frozen=True)
class Section:
    """Of one file.

    Attributes:
        key: its id in the page.
        title: of the kind of measurement.
        file: its name.
        subject: what was measured: name and value.
        samples: name, median and all samples of each figure.
    """

    key: str
    title: str
    file: str
    subject: tuple[tuple[str, str], ...]
    columns: tuple[Column, ...]
    rows: tuple[tuple[str, ...], ...]
    charts: tuple[Drawn, ...]
    notes: tuple[str, ...]
    warnings: tuple[str, ...]
    samples: tuple[tuple[str, str, str], ...]
    circumstances: Circumstances


def section_from_measurement(path: Path, measured: Measurement, *, index: int) -> Section:
    """The section of the file `path`, the `index`-th of the page."""
    kind, circumstances = KINDS[measured.kind], measured.circumstances
    table, key = kind.table(measured), f"{index}-{re.sub(r'[^a-z0-9]+', '-', path.stem.lower())}"
    notes = [note for note in table.notes if note != str(circumstances)]
    return Section(
        key=key,
        title=kind.title,
        file=path.name,
        subject=tuple(
            (name.replace("_", " "), _told(value))
            for name in kind.subject
            if (value := getattr(measured, name)) is not None
        ),
        columns=columns_of(table),
        rows=tuple(row + ("",) * (len(table.heads) - len(row)) for row in table.rows),
        charts=tuple(
            drawn_from_chart(chart, key=f"{key}-{number}") for number, chart in enumerate(kind.charts(measured))
        ),
        notes=tuple(note for note in notes if not note.startswith(WARNINGS)),
        warnings=tuple(note for note in notes if note.startswith(WARNINGS)),
        samples=tuple(_samples(figure) for figure in kind.figures(measured)),
        circumstances=circumstances,
    )


def columns_of(table: Table) -> tuple[Column, ...]:
    """The columns; one is of numbers where most of its cells begin with one. The first names the rows."""
    result = []
    for index, head in enumerate(table.heads):
        cells = [row[index] for row in table.rows if len(row) > index and row[index]]
        numbers = [cell for cell in cells if NUMBER.match(cell)]
        result.append(Column(head, index > 0 and len(numbers) * 2 > len(cells)))
    return tuple(result)


def _samples(figure: Figure) -> tuple[str, str, str]:
    median = number(statistics.median(figure.samples)) if figure.samples else "–"
    return figure.name, f"{median} {figure.unit}".strip(), ", ".join(f"{sample:.6g}" for sample in figure.samples)


def _told(value: Any) -> str:
    """A fact for people: shapes with crosses, what has parts by its parts."""
    if is_dataclass(value):
        return ", ".join(f"{one.name.replace('_', ' ')} {_told(getattr(value, one.name))}" for one in fields(value))
    if isinstance(value, dict):
        return ", ".join(f"{name} {_told(one)}" for name, one in value.items())
    if isinstance(value, str) or not isinstance(value, Sequence):
        return f"{value:g}" if isinstance(value, float) else "–" if value is None else str(value)
    whole = all(isinstance(one, int) for one in value) and isinstance(value, tuple)
    return (" × " if whole else ", ").join(_told(one) for one in value)
