"""From a volume on disk to a folder with its mask, a preview and a summary."""

import logging
import platform
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from time import perf_counter

import numpy as np

import sennet_engine
from sennet_engine.bundle import BUILTIN, Bundle, open_bundle
from sennet_engine.output_folder import FolderKind, output_folder, refuse_existing
from sennet_engine.pipeline import SlabResult, predicted_slabs
from sennet_engine.plan import Plan, PlanRequest, make_plan
from sennet_engine.preview import Preview
from sennet_engine.rle import SubmissionWriter
from sennet_engine.runtimes import DEFAULT_PRECISION, DEFAULT_RUNTIME, open_predictor
from sennet_engine.stack_writer import StackWriter
from sennet_engine.summary import SUMMARY_NAME, Counts, Summary
from sennet_engine.volumes.name import volume_name
from sennet_engine.volumes.open import open_volume
from sennet_engine.volumes.volume import Volume, VoxelSize
from sennet_engine.window import Window, surveyed_window

logger = logging.getLogger(__name__)

MASK, PROBABILITY, SUBMISSION, PREVIEW = "mask.tif", "probability.tif", "submission.csv", "preview.png"
RESULT = FolderKind(marker=SUMMARY_NAME, others=(MASK, PROBABILITY, SUBMISSION, PREVIEW))

# Beyond this a network sees structures of another size than it was trained on.
VOXEL_SIZE_TOLERANCE = 0.1


@dataclass(frozen=True)
class InferSettings:
    """What a person asks for.

    Attributes:
        out: the output folder; by default NAME.sennet beside the input.
        window: grey levels that become 0 and 255; by default the 0.1 % and 99.9 % levels of the volume.
        runtime, precision, threads: what computes, which ONNX file, on how many threads; see `open_predictor`.
        probability, submission: whether `probability.tif` and `submission.csv` are written too.
    """

    model: Path = BUILTIN
    out: Path | None = None
    overwrite: bool = False
    voxel_size_um: VoxelSize | None = None
    window: Window | None = None
    runtime: str = DEFAULT_RUNTIME
    precision: str = DEFAULT_PRECISION
    threads: int | None = None
    probability: bool = False
    submission: bool = False
    plan: PlanRequest = field(default_factory=PlanRequest)


def infer(path: Path, settings: InferSettings, *, on_planes: Callable[[int, int], None]) -> Summary:
    """Segment the volume at `path` and write mask.tif, preview.png and summary.json into the output folder.

    Args:
        path: anything that `open_volume` opens.
        settings: see InferSettings.
        on_planes: called with (planes done, planes in all) at the start and after every slab.

    Raises:
        SennetError: see its subclasses. Nothing is left behind then.
    """
    started = perf_counter()
    out = settings.out or default_out(path)
    refuse_existing(out, RESULT, overwrite=settings.overwrite)
    with open_volume(path, voxel_size_um=settings.voxel_size_um) as volume:
        bundle = open_bundle(settings.model)
        plan = make_plan(volume.shape_zyx, bundle.card, settings.plan)
        warnings = _warnings(volume, bundle)
        with (
            open_predictor(
                bundle, runtime=settings.runtime, precision=settings.precision, threads=settings.threads
            ) as predictor,
            output_folder(out, RESULT, overwrite=settings.overwrite) as folder,
        ):
            window = settings.window or surveyed_window(volume)
            results = predicted_slabs(volume, predictor, plan, window=window)
            counts = _write_results(results, folder, volume, plan, settings, on_planes)
            summary = Summary(
                input=str(path.resolve()),
                output=str(out.resolve()),
                shape_zyx=volume.shape_zyx,
                dtype=str(volume.dtype),
                voxel_size_um=volume.voxel_size_um,
                window=(window.low, window.high),
                model=bundle.card.name,
                model_files={name: file.sha256 for name, file in bundle.card.files.items()},
                runtime=predictor.runtime,
                precision=settings.precision,
                threads=predictor.threads,
                tile=plan.grid.side,
                halo=bundle.card.tiling.halo,
                batch=plan.batch,
                slab_planes=settings.plan.slab_planes,
                tiles=plan.tile_count,
                threshold=plan.threshold_milli / 1000,
                vessel_voxels=counts.vessel_voxels,
                voxels=int(np.prod(volume.shape_zyx, dtype=np.int64)),
                stage_seconds=counts.stage_seconds,
                seconds=perf_counter() - started,
                warnings=warnings,
                versions={
                    "sennet": sennet_engine.__version__,
                    "numpy": np.__version__,
                    "python": platform.python_version(),
                },
            )
            summary.write(folder)
    return summary


def default_out(path: Path) -> Path:
    """NAME.sennet beside the input: `scan.ome.tif` gives `scan.sennet`."""
    path = path.absolute()  # not resolved: beside a link, not beside what it points to
    return path.with_name(f"{volume_name(path)}.sennet")


def _write_results(
    results: Iterator[SlabResult],
    folder: Path,
    volume: Volume,
    plan: Plan,
    settings: InferSettings,
    on_planes: Callable[[int, int], None],
) -> Counts:
    counts = Counts()
    preview = Preview(volume.shape_zyx, voxel_size_um=volume.voxel_size_um)
    depth = volume.shape_zyx[0]
    writer = partial(StackWriter, shape_zyx=volume.shape_zyx, voxel_size_um=volume.voxel_size_um)
    with ExitStack() as files:
        mask_file = files.enter_context(writer(folder / MASK))
        probability_file = submission = None
        if settings.probability:
            probability_file = files.enter_context(writer(folder / PROBABILITY))
        if settings.submission:
            submission = files.enter_context(SubmissionWriter(folder / SUBMISSION, name=volume.name))
        on_planes(0, depth)
        for result in results:
            began = perf_counter()
            mask = result.canvas.mask(plan.threshold_milli)
            mask_file.append(mask.astype(np.uint8) * np.uint8(255))
            if probability_file:
                probability_file.append(result.canvas.probability())
            if submission:
                for plane_id, plane in zip(volume.plane_ids[result.slab.start : result.slab.stop], mask, strict=True):
                    submission.append(plane_id, plane)
            preview.add(result.slab.start, result.grey, mask)
            counts.add(result.stage_seconds | {"write": perf_counter() - began}, int(np.count_nonzero(mask)))
            on_planes(result.slab.stop, depth)
    preview.save(folder / PREVIEW)
    return counts


def _warnings(volume: Volume, bundle: Bundle) -> list[str]:
    """What a person should know of the result; logged, and kept in the summary."""
    trained = bundle.card.voxel_size_um
    shown = bundle.card.shown_voxel_sizes_um or (trained, trained)
    smallest, largest = shown[0] * (1 - VOXEL_SIZE_TOLERANCE), shown[1] * (1 + VOXEL_SIZE_TOLERANCE)
    messages = []
    if volume.voxel_size_um is None:
        messages.append(
            f"{volume.path} does not tell its voxel size: taken as the {trained} µm that the model was trained for; "
            f"give it with --voxel-size"
        )
    elif any(not smallest <= size <= largest for size in volume.voxel_size_um):
        messages.append(
            f"the voxels are {' × '.join(f'{size:g}' for size in volume.voxel_size_um)} µm and the model was trained "
            f"for {_range_of(shown)} µm: vessels look larger or smaller to it; rescale the volume for a better mask"
        )
    for message in messages:
        logger.warning(message)
    return messages


def _range_of(sizes_um: tuple[float, float]) -> str:
    return f"{sizes_um[0]:g}" if sizes_um[0] == sizes_um[1] else f"{sizes_um[0]:.3g} to {sizes_um[1]:.3g}"
