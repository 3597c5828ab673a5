"""`summary.json`: what was done, with what, how long it took and what came out."""

import json
import platform
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from math import prod
from pathlib import Path

import numpy as np

import sennet_engine
from sennet_engine.pipeline.volume_run import RunCounts
from sennet_engine.preparation import Prepared
from sennet_engine.results.assembly import AssemblyCounts
from sennet_engine.survey.audit import Audit
from sennet_engine.volumes.volume import Volume, VoxelSize

SUMMARY_NAME = "summary.json"


@dataclass(frozen=True)
class Summary:
    """The facts of one finished run.

    Attributes:
        window: in the volume's grey levels.
        model: the ensemble's or the bundle's name.
        model_files: sha256 of every file of the bundles.
        passes: the plan's, by name, with their weights.
        device: where it was computed, and why.
        runtimes: what computed each model, on how many calls and threads, and why.
        plan: for people: what was decided, and why.
        tiles: that went through networks; `tiles_not_gone_on` were left out by a cascade.
        lost_devices: that failed and left their slabs to others.
        overflowed_tiles: by model, those with NaN or infinity in their answers, which were computed again in float32.
        skipped_share: of the volume's cells of 16 x 16 x 16 voxels, those left out as background.
        audit: of a sample of them that was computed after all; None where nothing was left out.
        removed_components, removed_voxels: by `min_voxels`.
        stage_seconds: busy seconds of each stage of the pipeline; they overlap. `wall` is their clock, and
            `outside_network` of it are those in which no network computed; `handing_over` are those in which the host
            handed work over to GPUs.
        waiting_seconds: of each stage, in which its streams did not work; see `Waiting`.
        seconds_by_part: of what comes before and after the pipeline.
        planes_resumed: that an interrupted run had done; they are in none of the times and tiles.
        seconds: of the whole.
    """

    input: str
    output: str
    shape_zyx: tuple[int, int, int]
    dtype: str
    voxel_size_um: VoxelSize | None
    window: tuple[float, float]
    model: str
    model_files: dict[str, str]
    passes: dict[str, int]
    device: str
    runtimes: dict[str, str]
    precision: str
    plan: list[str]
    batch: int
    slab_planes: int
    tiles: int
    tiles_not_gone_on: int
    lost_devices: int
    overflowed_tiles: dict[str, int]
    skipped_share: float
    audit: Audit | None
    threshold: float
    min_voxels: int
    removed_components: int
    removed_voxels: int
    vessel_voxels: int
    voxels: int
    stage_seconds: dict[str, float]
    waiting_seconds: dict[str, dict[str, float]]
    seconds_by_part: dict[str, float]
    planes_resumed: int
    seconds: float
    warnings: list[str]
    versions: dict[str, str]

    def write(self, folder: Path) -> None:
        """Write `summary.json` into `folder`."""
        text = json.dumps(asdict(self), indent=2, ensure_ascii=False)
        # A file name may hold bytes that are no UTF-8; escaped they are still JSON.
        (folder / SUMMARY_NAME).write_text(text + "\n", encoding="utf-8", errors="backslashreplace")


def summary_of(
    path: Path,
    out: Path,
    volume: Volume,
    ready: Prepared,
    run: RunCounts,
    counts: AssemblyCounts,
    audit: Audit | None,
    *,
    overflowed_tiles: Mapping[str, int],
    seconds_by_part: Mapping[str, float],
    seconds: float,
) -> Summary:
    """The summary of a run of `seconds` whose mask is `counts`."""
    plan = ready.plan
    return Summary(
        input=str(path.resolve()),
        output=str(out.resolve()),
        shape_zyx=volume.shape_zyx,
        dtype=str(volume.dtype),
        voxel_size_um=volume.voxel_size_um,
        window=(ready.window.low, ready.window.high),
        model=ready.opened.name,
        model_files=ready.opened.sha256s,
        passes={one.name: one.weight for axis in plan.axes for one in axis.passes},
        device=ready.device,
        runtimes={key: _runtime(ready, key) for key in ready.predictors},
        precision=ready.opened.precision,
        plan=list(plan.reasons),
        batch=ready.request.batch,
        slab_planes=len(plan.axes[0].slabs[0]),
        tiles=run.tiles,
        tiles_not_gone_on=run.tiles_not_gone_on,
        lost_devices=run.lost_devices,
        overflowed_tiles=dict(overflowed_tiles),
        skipped_share=1 - plan.occupancy.share,
        audit=audit,
        threshold=plan.threshold_milli / 1000,
        min_voxels=plan.min_voxels,
        removed_components=counts.removed_components,
        removed_voxels=counts.removed_voxels,
        vessel_voxels=counts.vessel_voxels,
        voxels=prod(volume.shape_zyx),
        stage_seconds=run.times.seconds(),
        waiting_seconds={stage: asdict(waiting) for stage, waiting in run.times.waiting.items()},
        seconds_by_part=dict(seconds_by_part),
        planes_resumed=run.planes_resumed,
        seconds=seconds,
        warnings=ready.warnings,
        versions={
            "sennet": sennet_engine.__version__,
            "numpy": np.__version__,
            "python": platform.python_version(),
        },
    )


def _runtime(ready: Prepared, key: str) -> str:
    predictor, choice = ready.predictors[key], ready.choices[key]
    how = f"{predictor.runtime}, {predictor.contexts} calls at a time on {predictor.threads} threads each"
    return f"{how}; {'remembered: ' if choice.remembered else ''}{choice.reason}"
