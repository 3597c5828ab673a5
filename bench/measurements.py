"""Measurements as JSON files, and their tables: printed, or within a document that names the files."""

import json
import re
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from pydantic import TypeAdapter, ValidationError

from sennet_bench.cascade import CascadeMeasurement, cascade_table
from sennet_bench.compare import Comparison
from sennet_bench.compare_table import compare_table
from sennet_bench.dry_run import EstimateMeasurement, estimate_table
from sennet_bench.identical import IdenticalMeasurement, identity_table
from sennet_bench.memory import MemoryMeasurement, memory_table
from sennet_bench.report.chart import Chart
from sennet_bench.report.figure import Figure
from sennet_bench.report.table import Table
from sennet_bench.skipping import SkippingMeasurement, skipping_table
from sennet_bench.stages import StageMeasurement, stage_table
from sennet_bench.throughput import Throughput, throughput_table
from sennet_engine.errors import ConfigError, OutputError


def _none(_measured: Any) -> list[Any]:
    return []


@dataclass(frozen=True)
class Kind:
    """One kind of measurement, and what can be made of it.

    Attributes:
        title: of its section in a report.
        measured: the dataclass that a file holds.
        subject: the attributes that say what was measured: two files of which these differ are not compared.
        short: a table of few columns, for a README; where there is none, the whole.
    """

    title: str
    measured: type[Any]
    table: Callable[[Any], Table]
    subject: tuple[str, ...]
    figures: Callable[[Any], list[Figure]] = _none
    charts: Callable[[Any], list[Chart]] = _none
    short: Callable[[Any], Table] | None = None


KINDS: dict[str, Kind] = {
    "cascade": Kind(
        "What a cascade gains", CascadeMeasurement, cascade_table,
        subject=("volume", "shape_zyx", "ensemble", "threads"),
    ),
    "compare": Kind(
        "Beside other tools", Comparison, compare_table,
        subject=("volume", "shape_zyx", "dtype", "model", "threshold", "threads"),
    ),
    "dry-run": Kind("What the dry run tells", EstimateMeasurement, estimate_table, subject=("threads", "runtime")),
    "identical": Kind(
        "The same bits, however it is computed", IdenticalMeasurement, identity_table,
        subject=("volume", "shape_zyx", "model", "runtime"),
    ),
    "memory": Kind("Memory against planes", MemoryMeasurement, memory_table, subject=("side", "planes", "threads")),
    "skipping": Kind(
        "What leaving out the background saves", SkippingMeasurement, skipping_table,
        subject=("volume", "shape_zyx", "threads"),
    ),
    "stages": Kind(
        "Where the time goes", StageMeasurement, stage_table,
        subject=("volume", "shape_zyx", "model", "precision", "threads"),
    ),
    "throughput": Kind("An identity network", Throughput, throughput_table, subject=("shape_zyx", "threads")),
}  # fmt: skip
# A document names the file, relative to itself, and what stands between the two lines is made from it.
MARKED = re.compile(r"(<!-- table (\S+) -->\n).*?(<!-- /table -->)", re.DOTALL)

Measurement = (
    CascadeMeasurement | Comparison | EstimateMeasurement | IdenticalMeasurement | MemoryMeasurement
    | SkippingMeasurement | StageMeasurement | Throughput
)  # fmt: skip


def write_measurement(path: Path, measurement: Measurement) -> None:
    """Write the measurement with every sample. Raises OutputError where that cannot be."""
    text = json.dumps(asdict(measurement), indent=2, ensure_ascii=False)
    try:
        path.write_text(text + "\n", encoding="utf-8")
    except OSError as error:
        raise OutputError(f"{path}: cannot be written ({error.strerror}); choose another place") from error


def table_from_file(path: Path) -> str:
    """The Markdown table of a file that `write_measurement` wrote. Raises ConfigError where it is none."""
    measured = read_measurement(path)
    return KINDS[measured.kind].table(measured).markdown()


def read_measurement(path: Path) -> Measurement:
    """What `write_measurement` wrote. Raises ConfigError where it did not."""
    try:
        text = path.read_text(encoding="utf-8")
        kind = KINDS[json.loads(text)["kind"]].measured
        measured: Measurement = TypeAdapter(kind).validate_json(text)
    except (OSError, ValueError, KeyError, TypeError, ValidationError) as error:
        raise ConfigError(
            f"{path}: is no measurement of sennet-bench ({type(error).__name__}); give a file that its --json wrote"
        ) from error
    return measured


def document_with_tables(document: Path) -> str:
    """The text of a Markdown document with its marked tables made anew from the files that they name.

    A table stands between the lines `<!-- table NAME.json -->` and `<!-- /table -->`.

    Raises:
        ConfigError: the document or one of the files cannot be read.
    """
    try:
        text = document.read_text(encoding="utf-8")
    except OSError as error:
        raise ConfigError(f"{document}: cannot be read ({error.strerror})") from error
    return MARKED.sub(lambda found: f"{found[1]}\n{table_from_file(document.parent / found[2])}\n\n{found[3]}", text)
