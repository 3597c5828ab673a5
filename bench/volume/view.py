"""A volume from end to end as a table, figures and charts."""

import math
import statistics
from collections.abc import Sequence

from sennet_bench.inference import Inference
from sennet_bench.report.chart import Bars, Chart, Parts
from sennet_bench.report.figure import Figure, Nature
from sennet_bench.report.table import Table
from sennet_bench.volume.measurement import VolumeEntry, VolumeMeasurement
from sennet_engine.planning.memory import text_from_bytes

NONE = "–"
# Entries of the stage times that are the pipeline's, not a stage's.
CLOCK, OUTSIDE = "wall", "outside_network"
WAITS = {"for_input": "waits for input", "for_place": "waits for a place", "otherwise": "has nothing to do"}
UNTOLD = {
    "processor_joules": "energy of the processors",
    "gpu_joules": "energy of the GPU",
    "gpu_peak_mb": "memory of the GPU",
}


def volume_table(measured: VolumeMeasurement) -> Table:
    """A column for each model, a row for each fact; those of which nothing is known are left out, and notes say why."""
    columns = [_facts(entry, voxels=math.prod(measured.shape_zyx)) for entry in measured.entries]
    names = dict.fromkeys(name for column in columns for name in column)
    rows = [(name, *(column.get(name, NONE) for column in columns)) for name in names]
    return Table(
        heads=("", *(entry.model for entry in measured.entries)),
        rows=tuple(row for row in rows if any(cell != NONE for cell in row[1:])),
        notes=(*_notes(measured), str(measured.circumstances)),
    )


def volume_short(measured: VolumeMeasurement) -> Table:
    """A row for each model."""
    voxels = math.prod(measured.shape_zyx)
    rows = [
        (
            entry.model, _median(_seconds(entry), "{:.2f}"), _median(_rates(entry, voxels), "{:.2f}"),
            _median([one.peak_mb for one in entry.runs], "{:.0f}"), _median(entry.surface_dice_0, "{:.4f}"),
        )
        for entry in measured.entries
    ]  # fmt: skip
    return Table(
        heads=("model", "seconds", "Mvoxel/s", "peak MB", "surface Dice"),
        rows=tuple(rows),
        notes=(_subject(measured), str(measured.circumstances)),
    )


def volume_figures(measured: VolumeMeasurement) -> list[Figure]:
    """Seconds, voxels in a second, peak memory and scores of each model."""
    figures = []
    for entry in measured.entries:
        rates = _rates(entry, math.prod(measured.shape_zyx))
        figures += [
            Figure(f"{entry.model}: seconds", "s", tuple(_seconds(entry)), Nature.SPEED),
            Figure(f"{entry.model}: Mvoxel/s", "Mvoxel/s", tuple(rates), Nature.SPEED, more_is_better=True),
        ]
        peaks = {"peak MB": [one.peak_mb for one in entry.runs], "peak MB of the GPU": _consumed(entry, "gpu_peak_mb")}
        for name, values in peaks.items():
            if found := _known(values):
                figures.append(Figure(f"{entry.model}: {name}", "MB", tuple(found), Nature.MEMORY))
        for name, values in {"surface Dice": entry.surface_dice_0, "Dice": entry.dice}.items():
            if found := _known(values):
                figures.append(
                    Figure(f"{entry.model}: {name}", "", tuple(found), Nature.QUALITY, more_is_better=True)
                )  # fmt: skip
    return figures


def volume_charts(measured: VolumeMeasurement) -> list[Chart]:
    """Seconds of the models, what their stages are busy with, and for each model how its stages wait."""
    typical = {entry.model: _typical(entry) for entry in measured.entries}
    charts: list[Chart] = [
        Bars("From opening to the whole output", "s",
             tuple((entry.model, tuple(_seconds(entry))) for entry in measured.entries), ours=frozenset(typical)),
        Parts("Busy seconds of the stages, which run at the same time", "s",
              tuple((name, {_spoken(stage): one.stage_seconds[stage] for stage in one.waiting_seconds})
                    for name, one in typical.items())),
        Parts("Before and after the stages", "s",
              tuple((name, {_spoken(part): seconds for part, seconds in one.part_seconds.items()})
                    for name, one in typical.items())),
    ]  # fmt: skip
    for name, one in typical.items():
        bars = tuple(
            (_spoken(stage), {"is busy": one.stage_seconds[stage], **{told: waits[key] for key, told in WAITS.items()}})
            for stage, waits in one.waiting_seconds.items()
        )
        charts.append(Parts(f"{name}: what each stage does from the first plane to the last", "s", bars))
    return charts


def _facts(entry: VolumeEntry, *, voxels: int) -> dict[str, str]:
    """Cells of one model by the names of their rows."""
    run = _typical(entry)
    organ = [round(voxels * (1 - one.skipped_share)) for one in entry.runs]
    rates = [count / one.seconds / 1e6 for count, one in zip(organ, entry.runs, strict=True)]
    first = f"{entry.first.seconds:.2f} + {entry.first.trial_seconds:.2f}"
    return {
        "seconds from opening to the whole output (range)": _range(_seconds(entry), "{:.2f}"),
        "Mvoxel/s (range)": _range(_rates(entry, voxels), "{:.2f}"),
        "Mvoxel/s of organ (range)": _range(rates, "{:.2f}"),
        "organ, of the voxels": f"{organ[0] / voxels:.0%}",
        "tiles through networks": f"{run.tiles:,}",
        "surface Dice": _median(entry.surface_dice_0, "{:.4f}"),
        "Dice": _median(entry.dice, "{:.4f}"),
        "peak MB": _median([one.peak_mb for one in entry.runs], "{:.0f}"),
        "peak MB of the GPU": _median(_consumed(entry, "gpu_peak_mb"), "{:.0f}"),
        "J of the processors, for a run (for a Gvoxel)": _joules(entry, "processor_joules", voxels),
        "J of the GPU, for a run (for a Gvoxel)": _joules(entry, "gpu_joules", voxels),
        "mask": f"{run.mask_sha256[:16]}, {'the same' if entry.same_mask else 'NOT the same'} in all runs",
        "first run + its trial of the runtimes, s": first,
        "no network at work, of the run": _share(1 - run.network_seconds / run.seconds),
        "no network at work, of the stages' clock": _share(run.stage_seconds[OUTSIDE] / run.stage_seconds[CLOCK]),
        **{f"before and after: {_spoken(part)}, s": f"{seconds:.3f}" for part, seconds in run.part_seconds.items()},
        "stages, by the clock, s": f"{run.stage_seconds[CLOCK]:.3f}",
        **{f"stage: {_spoken(stage)}": _stage(run, stage) for stage in run.waiting_seconds},
    }


def _notes(measured: VolumeMeasurement) -> list[str]:
    notes = [
        f"{_subject(measured)} Medians of {measured.repeats} rounds in turns after one that does not count, each run "
        "in a process of its own. Organ is what is not left out as background. The trial of the runtimes is in no "
        "figure but its own.",
        "Stages are those of the run of median seconds: busy / waits for input / waits for a place to put its output / "
        "has nothing to do, in seconds, added up over its streams. They run at the same time; for each stream the four "
        "are the clock. Streams of a GPU do not tell what they wait for.",
        *(
            f"{entry.model} was computed by {'; '.join(dict.fromkeys(_typical(entry).runtimes.values()))}."
            for entry in measured.entries
        ),
    ]
    if any(_known(_consumed(entry, name)) for entry in measured.entries for name in UNTOLD):
        notes.append("Energy is that of whole processors and GPUs, and GPU memory that of all programs on it.")
    untold: dict[str, list[str]] = {}
    for name, what in UNTOLD.items():
        for run in (run for entry in measured.entries for run in entry.runs):
            if why := run.consumption.untold.get(name):
                untold[why] = list(dict.fromkeys([*untold.get(why, []), what]))
    notes += [f"Not measured: {' and '.join(what)}, since {why}." for why, what in untold.items()]
    return notes


def _subject(measured: VolumeMeasurement) -> str:
    z, y, x = measured.shape_zyx
    limit = "" if measured.memory_bytes is None else f", memory below {text_from_bytes(measured.memory_bytes)}"
    truth = f", scored with {measured.truth}" if measured.truth else ""
    return (
        f"{measured.volume}, {z} × {y} × {x} {measured.dtype}{truth}; {measured.threads} threads, device "
        f"{measured.device}, runtime {measured.runtime}, precision {measured.precision}{limit}."
    )


def _typical(entry: VolumeEntry) -> Inference:
    """The run of median seconds; of two in the middle the faster."""
    return sorted(entry.runs, key=lambda one: one.seconds)[(len(entry.runs) - 1) // 2]


def _seconds(entry: VolumeEntry) -> list[float]:
    return [one.seconds for one in entry.runs]


def _rates(entry: VolumeEntry, voxels: int) -> list[float]:
    return [voxels / one.seconds / 1e6 for one in entry.runs]


def _consumed(entry: VolumeEntry, name: str) -> list[float | None]:
    return [getattr(one.consumption, name) for one in entry.runs]


def _joules(entry: VolumeEntry, name: str, voxels: int) -> str:
    found = _known(_consumed(entry, name))
    return f"{statistics.median(found):.1f} ({statistics.median(found) / voxels * 1e9:.0f})" if found else NONE


def _stage(run: Inference, stage: str) -> str:
    waits = run.waiting_seconds[stage]
    return " / ".join(f"{seconds:.3f}" for seconds in (run.stage_seconds[stage], *(waits[key] for key in WAITS)))


def _share(share: float) -> str:
    return f"{share:.1%}"


def _spoken(name: str) -> str:
    return name.replace("_", " ")


def _known(values: Sequence[float | None]) -> list[float]:
    return [value for value in values if value is not None]


def _median(values: Sequence[float | None], form: str) -> str:
    found = _known(values)
    return form.format(statistics.median(found)) if found else NONE


def _range(values: Sequence[float], form: str) -> str:
    middle, least, most = (form.format(kind(values)) for kind in (statistics.median, min, max))
    return f"{middle} ({least} to {most})"
