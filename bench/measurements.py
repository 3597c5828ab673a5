"""Measurements as JSON files, and their tables: printed, or within a document that names the files."""

import json
import re
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from typing import Any

from pydantic import TypeAdapter, ValidationError

from sennet_bench.cascade import CascadeMeasurement, cascade_table
from sennet_bench.compare import Comparison
from sennet_bench.compare_table import compare_table
from sennet_bench.dry_run import EstimateMeasurement, estimate_table
from sennet_bench.identical import IdenticalMeasurement, identity_table
from sennet_bench.memory import MemoryMeasurement, memory_table
from sennet_bench.skipping import SkippingMeasurement, skipping_table
from sennet_bench.stages import StageMeasurement, stage_table
from sennet_bench.throughput import Throughput, throughput_table
from sennet_engine.errors import ConfigError, OutputError

KINDS: dict[str, tuple[type[Any], Callable[[Any], str]]] = {
    "cascade": (CascadeMeasurement, cascade_table),
    "compare": (Comparison, compare_table),
    "dry-run": (EstimateMeasurement, estimate_table),
    "identical": (IdenticalMeasurement, identity_table),
    "memory": (MemoryMeasurement, memory_table),
    "skipping": (SkippingMeasurement, skipping_table),
    "stages": (StageMeasurement, stage_table),
    "throughput": (Throughput, throughput_table),
}
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
    try:
        text = path.read_text(encoding="utf-8")
        measured, table = KINDS[json.loads(text)["kind"]]
        return table(TypeAdapter(measured).validate_json(text))
    except (OSError, ValueError, KeyError, TypeError, ValidationError) as error:
        raise ConfigError(
            f"{path}: is no measurement of sennet-bench ({type(error).__name__}); give a file that its --json wrote"
        ) from error


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
