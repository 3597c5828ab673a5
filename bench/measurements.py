"""Kinds of measurements, and measurements as JSON files."""

import json
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from pydantic import TypeAdapter, ValidationError

from sennet_bench.compare.better import where_others_win
from sennet_bench.compare.measurement import Comparison
from sennet_bench.compare.table import compare_table, short_table
from sennet_bench.compare.view import compare_charts, compare_figures
from sennet_bench.latency.measurement import LatencyMeasurement
from sennet_bench.latency.view import latency_charts, latency_figures, latency_short, latency_table
from sennet_bench.outside.memory import MemoryMeasurement, memory_charts, memory_figures, memory_table
from sennet_bench.outside.throughput import Throughput, throughput_charts, throughput_figures, throughput_table
from sennet_bench.promises.cascade import CascadeMeasurement
from sennet_bench.promises.cascade_view import cascade_charts, cascade_figures, cascade_table
from sennet_bench.promises.dry_run import EstimateMeasurement, estimate_charts, estimate_figures, estimate_table
from sennet_bench.promises.identical import IdenticalMeasurement
from sennet_bench.promises.identical_view import identity_figures, identity_table
from sennet_bench.promises.skipping import SkippingMeasurement
from sennet_bench.promises.skipping_view import skipping_charts, skipping_figures, skipping_table
from sennet_bench.report.chart import Chart
from sennet_bench.report.figure import Figure
from sennet_bench.report.table import Table
from sennet_bench.scale.measurement import ScaleMeasurement
from sennet_bench.scale.view import scale_charts, scale_figures, scale_table
from sennet_bench.training.measurement import TrainingMeasurement
from sennet_bench.training.view import training_charts, training_figures, training_table, where_loops_win
from sennet_bench.volume.measurement import VolumeMeasurement
from sennet_bench.volume.view import volume_charts, volume_figures, volume_short, volume_table
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
        losses: sentences on where others are faster or better; only of what is compared with others.
    """

    title: str
    measured: type[Any]
    table: Callable[[Any], Table]
    subject: tuple[str, ...]
    figures: Callable[[Any], list[Figure]] = _none
    charts: Callable[[Any], list[Chart]] = _none
    short: Callable[[Any], Table] | None = None
    losses: Callable[[Any], list[str]] | None = None


KINDS: dict[str, Kind] = {
    "cascade": Kind(
        "What a cascade gains", CascadeMeasurement, cascade_table,
        subject=("volume", "shape_zyx", "ensemble", "threads"), figures=cascade_figures, charts=cascade_charts,
    ),
    "compare": Kind(
        "Beside other tools", Comparison, compare_table,
        subject=("volume", "shape_zyx", "dtype", "model", "threshold", "threads"), figures=compare_figures,
        charts=compare_charts, short=short_table, losses=where_others_win,
    ),
    "dry-run": Kind(
        "What the dry run tells", EstimateMeasurement, estimate_table,
        subject=("threads", "runtime"), figures=estimate_figures, charts=estimate_charts,
    ),
    "identical": Kind(
        "The same bits, however it is computed", IdenticalMeasurement, identity_table,
        subject=("volume", "shape_zyx", "model", "runtime"), figures=identity_figures,
    ),
    "latency": Kind(
        "Latency of the networks", LatencyMeasurement, latency_table,
        subject=("device", "threads", "contexts", "cuda_graphs"), figures=latency_figures, charts=latency_charts,
        short=latency_short,
    ),
    "memory": Kind(
        "Memory against planes", MemoryMeasurement, memory_table,
        subject=("side", "planes", "threads"), figures=memory_figures, charts=memory_charts,
    ),
    "scale": Kind(
        "How the cost grows", ScaleMeasurement, scale_table,
        subject=("model", "runtime", "base", "overlap_base", "overlap_tile", "axes"),
        figures=scale_figures, charts=scale_charts,
    ),
    "skipping": Kind(
        "What leaving out the background saves", SkippingMeasurement, skipping_table,
        subject=("volume", "shape_zyx", "threads"), figures=skipping_figures, charts=skipping_charts,
    ),
    "throughput": Kind(
        "An identity network", Throughput, throughput_table,
        subject=("shape_zyx", "threads"), figures=throughput_figures, charts=throughput_charts,
    ),
    "train": Kind(
        "Training", TrainingMeasurement, training_table,
        subject=("config", "settings", "volumes_zyx", "threads"), figures=training_figures, charts=training_charts,
        losses=where_loops_win,
    ),
    "volume": Kind(
        "A volume from end to end", VolumeMeasurement, volume_table,
        subject=(
            "volume", "shape_zyx", "dtype", "truth", "precision", "runtime", "device", "threads", "memory_bytes",
        ),
        figures=volume_figures, charts=volume_charts, short=volume_short,
    ),
}  # fmt: skip

Measurement = (
    CascadeMeasurement | Comparison | EstimateMeasurement | IdenticalMeasurement | LatencyMeasurement
    | MemoryMeasurement | ScaleMeasurement | SkippingMeasurement | Throughput
    | TrainingMeasurement | VolumeMeasurement
)  # fmt: skip


def write_measurement(path: Path, measurement: Measurement) -> None:
    """Write the measurement with every sample. Raises OutputError where that cannot be."""
    text = json.dumps(asdict(measurement), indent=2, ensure_ascii=False)
    try:
        path.write_text(text + "\n", encoding="utf-8")
    except OSError as error:
        raise OutputError(f"{path}: cannot be written ({error.strerror}); choose another place") from error


def table_from_file(path: Path, *, short: bool = False) -> str:
    """The Markdown table of a file that `write_measurement` wrote; with `short` that of few columns, if there is one.

    Raises:
        ConfigError: the file is no measurement.
    """
    measured = read_measurement(path)
    kind = KINDS[measured.kind]
    return (kind.short if short and kind.short else kind.table)(measured).markdown()


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
