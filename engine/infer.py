"""From a volume on disk to a folder with its mask, a preview and a summary."""

import hashlib
import logging
import os
from collections.abc import Callable, Mapping
from pathlib import Path
from time import perf_counter

import sennet_engine
from sennet_engine.errors import DeviceError, ModelError
from sennet_engine.pipeline.plane_source import VolumePlanes
from sennet_engine.pipeline.volume_run import VolumeRun
from sennet_engine.planning.costs import measured_costs
from sennet_engine.planning.estimate import Estimate, estimated
from sennet_engine.planning.memory import memory_needed
from sennet_engine.preparation import Interrupted, Prepared, prepared
from sennet_engine.results.assembly import MASK, PREVIEW, PROBABILITY, SUBMISSION, AssemblyCounts, assemble
from sennet_engine.settings import InferSettings
from sennet_engine.storage.output_folder import FolderKind, output_folder, refuse_existing
from sennet_engine.storage.work_folder import JSON, interrupted_facts, work_folder
from sennet_engine.summary import SUMMARY_NAME, Summary, summary_of
from sennet_engine.survey.audit import Audit, audited
from sennet_engine.volumes.name import volume_name
from sennet_engine.volumes.open import open_volume
from sennet_engine.volumes.volume import Volume

__all__ = ["RESULT", "InferSettings", "default_out", "dry_run", "infer"]

RESULT = FolderKind(marker=SUMMARY_NAME, others=(MASK, PROBABILITY, SUBMISSION, PREVIEW))

logger = logging.getLogger(__name__)

OnPlanes = Callable[[int, int], None]


def infer(path: Path, settings: InferSettings, *, on_planes: OnPlanes) -> Summary:
    """Segment the volume at `path` and write mask.tif, preview.png and summary.json into the output folder.

    Args:
        path: anything that `open_volume` opens.
        settings: see InferSettings.
        on_planes: called with (planes done, planes in all) at the start and after every slab; planes along y and x
            count too. It may be called from another thread.

    Raises:
        SennetError: see its subclasses. What was done stays hidden beside the output, to be resumed; where nothing
            was, nothing is left behind.
    """
    began = perf_counter()
    out = settings.out or default_out(path)
    refuse_existing(out, RESULT, overwrite=settings.overwrite)
    interrupted = _interrupted(out) if settings.resume else None
    with (
        open_volume(path, voxel_size_um=settings.voxel_size_um) as volume,
        prepared(volume, settings, interrupted=interrupted) as ready,
    ):
        seconds = dict(ready.seconds)
        with work_folder(
            out, _facts(volume, ready, settings), units=_units(ready), resume=settings.resume,
            discard=settings.overwrite,
        ) as work:  # fmt: skip
            run = VolumeRun(
                volume, ready.window, ready.plan, ready.workers, work,
                probability=settings.probability, on_planes=on_planes, overflows=ready.overflows,
            )  # fmt: skip
            run.run()
            overflowed = dict(ready.overflows.tiles)  # before the audit adds its own
            with output_folder(out, RESULT, overwrite=settings.overwrite) as folder:
                assembling = perf_counter()
                counts = _assembled(run, volume, ready, settings, folder)
                auditing = perf_counter()
                audit = _audit(run, volume, ready, settings)
                seconds |= {"assemble": auditing - assembling, "audit": perf_counter() - auditing}
                summary = summary_of(
                    path, out, volume, ready, run.counts, counts, audit, overflowed_tiles=overflowed,
                    seconds_by_part=seconds, seconds=perf_counter() - began,
                )  # fmt: skip
                summary.write(folder)
    return summary


def dry_run(path: Path, settings: InferSettings) -> tuple[Estimate, Prepared]:
    """What `infer` would do with the same arguments, and what it would take; a few tiles are computed, none is kept.

    Raises:
        SennetError: as `infer` would before its first slab.
    """
    out = settings.out or default_out(path)
    refuse_existing(out, RESULT, overwrite=settings.overwrite)
    with (
        open_volume(path, voxel_size_um=settings.voxel_size_um) as volume,
        prepared(volume, settings, measure_memory=True) as ready,
    ):
        costs = measured_costs(
            ready.plan, ready.predictors, VolumePlanes(volume, ready.window), scratch=_existing_parent(out)
        )
        estimate = estimated(
            ready.plan,
            costs,
            memory_bytes=memory_needed(ready.plan, ready.memory_facts),
            multiply_adds={one.key: one.bundle.card.multiply_adds_per_pixel for one in ready.passes},
            without_skipping=ready.plan_without_skipping(),
            other_seconds={name: value for name, value in ready.seconds.items() if name != "trial"},
            probability=settings.probability,
        )
        return estimate, ready


def default_out(path: Path) -> Path:
    """NAME.sennet beside the input: `scan.ome.tif` gives `scan.sennet`."""
    path = path.absolute()  # not resolved: beside a link, not beside what it points to
    return path.with_name(f"{volume_name(path)}.sennet")


def _assembled(
    run: VolumeRun, volume: Volume, ready: Prepared, settings: InferSettings, folder: Path
) -> AssemblyCounts:
    return assemble(
        run.slab_files,
        folder,
        volume,
        min_voxels=ready.plan.min_voxels,
        probability=settings.probability,
        submission=settings.submission,
        grey_of_plane=lambda z: ready.window.to_uint8(volume.read_planes(z, z + 1))[0],
        on_planes=lambda _done, _total: None,
    )


def _audit(run: VolumeRun, volume: Volume, ready: Prepared, settings: InferSettings) -> Audit | None:
    """None where it fails, too, with a warning: the mask is done by then."""
    try:
        return audited(
            volume,
            ready.window,
            ready.plan,
            run.workers[0].predictors,
            tilings={one.key: one.bundle.card.tiling for one in ready.passes},
            sides=ready.request.sides,
            share=settings.audit_share,
            overflows=ready.overflows,
        )
    except (DeviceError, ModelError) as error:
        ready.warnings.append(f"what was left out as background could not be audited: {error}")
        logger.warning("%s", ready.warnings[-1])
        return None


def _units(ready: Prepared) -> int:
    plan = ready.plan
    return sum(len(axis.slabs) for axis in plan.axes) + (0 if plan.along_z_alone else len(plan.axes[0].slabs))


def _facts(volume: Volume, ready: Prepared, settings: InferSettings) -> Mapping[str, JSON]:
    """All that a finished slab depends on."""
    plan, ensemble = ready.plan, ready.opened.ensemble
    return {
        "sennet": sennet_engine.__version__,
        "volume": {
            "path": os.fspath(volume.path.resolve()),
            "modified": _last_modified(volume.path),
            "shape_zyx": list(volume.shape_zyx),
            "dtype": str(volume.dtype),
            "window": [ready.window.low, ready.window.high],
        },
        "models": {
            key: {
                "sha256": one.bundle.card.files[one.bundle.onnx_name(one.precision)].sha256,
                "runtime": ready.predictors[key].runtime,
                "by": ready.choices[key].runtime,
                "on": ready.choices[key].fingerprint,
            }
            for key, one in {one.key: one for one in ready.passes}.items()
        },
        "passes": [
            {
                "name": one.name,
                "model": one.model,
                "axis": axis.axis,
                "flip": one.flip,
                "scale": list(one.scale),
                "weight": one.weight,
                "layouts": _digest(one.layouts),
                "batch": one.batch,
            }
            for axis in plan.axes
            for one in axis.passes
        ],
        "cascade": ensemble.cascade.low_bound if ensemble.cascade else None,
        "threshold": plan.threshold_milli / 1000,
        "occupied_cells": hashlib.sha256(plan.occupancy.cells.tobytes()).hexdigest(),
        "slab_planes": len(plan.axes[0].slabs[0]),
        "brick": plan.brick,
        "probability": settings.probability,
    }


def _interrupted(out: Path) -> Interrupted:
    facts = interrupted_facts(out)
    return Interrupted(
        runtimes={key: one["by"] for key, one in facts.get("models", {}).items()},
        batch=next((one["batch"] for one in facts.get("passes", [])), None),
    )


def _last_modified(path: Path) -> str:
    """Of a folder: of the slices in it, which may be written anew without a trace in the folder itself."""
    files = [one for one in path.rglob("*") if one.is_file()] if path.is_dir() else [path]
    facts = [(one.stat().st_mtime_ns, one.stat().st_size) for one in files]
    return f"{max(facts)[0]} in {len(facts)} files of {sum(size for _, size in facts)} bytes"


def _digest(layouts: object) -> str:
    return hashlib.sha256(repr(layouts).encode()).hexdigest()


def _existing_parent(path: Path) -> Path:
    return next(parent for parent in path.absolute().parents if parent.is_dir())
