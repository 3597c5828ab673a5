"""What the parts of a run cost on this machine, measured in a moment with a few planes and a few tiles."""

import tempfile
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from statistics import median
from time import perf_counter
from types import TracebackType
from typing import Self

import numpy as np
import numpy.typing as npt

from sennet_engine.pipeline.canvas import Canvas, accumulator
from sennet_engine.pipeline.plane_source import PlaneSource
from sennet_engine.pipeline.slab_result import SlabResult
from sennet_engine.pipeline.stage_times import StageTimes
from sennet_engine.pipeline.stream_pipeline import run_axis
from sennet_engine.planning.axes import Axis, axis_first
from sennet_engine.planning.cells import CELL
from sennet_engine.planning.passes import AxisPlan, Plan, Slab
from sennet_engine.planning.tile_counts import Shape, tile_counts
from sennet_engine.predictor import Predictor, Tiles
from sennet_engine.results.component_filter import without_small_components
from sennet_engine.results.preview import Preview
from sennet_engine.results.stack_writer import StackWriter
from sennet_engine.storage.bricks import BrickFile
from sennet_engine.storage.slab_file import SlabFile, write_slab_file
from sennet_engine.tile_timing import timed_tiles

# Of each model, the shapes with the most tiles; others are taken to cost the same by pixels.
MEASURED_SHAPES = 3
# Rounds on a tile shape: one that warms up, and these, of which the middle counts.
ROUNDS = 3
SECONDS_A_SHAPE = 1.0
# So many voxels and planes go through the stages around the networks.
SAMPLE_VOXELS = 2**23
SAMPLE_PLANES = 16
BRICK_SAMPLE = (32, 256, 256)


@dataclass(frozen=True)
class AxisCosts:
    """Seconds of the stages around the networks, along one axis.

    Attributes:
        by_voxel: read, window, resize, write: what every voxel of the axis takes.
        by_pixel: cut, copy_in, copy_out, accumulate: what every pixel that goes through a network takes.
    """

    by_voxel: Mapping[str, float]
    by_pixel: Mapping[str, float]


@dataclass(frozen=True)
class Costs:
    """See `measured_costs`.

    Attributes:
        tile_seconds: by model and shape of a tile, with all contexts at work.
        pixel_seconds: by model, for tiles of other shapes.
        axes: by axis.
        sum_by_voxel: seconds to add up the axes at a voxel, where there are several.
        assembly_by_voxel: seconds from the slab files to the output.
        preview: seconds for the picture, whatever the volume's planes.
        processors: that the networks keep busy.
    """

    tile_seconds: Mapping[tuple[str, Shape], float]
    pixel_seconds: Mapping[str, float]
    axes: Mapping[Axis, AxisCosts]
    sum_by_voxel: float
    assembly_by_voxel: float
    preview: float
    processors: int

    def network_seconds(self, model: str, shape: Shape, tiles: int) -> float:
        """Of `tiles` tiles of `shape` through `model`."""
        known = self.tile_seconds.get((model, shape))
        return tiles * (self.pixel_seconds.get(model, 0.0) * shape[0] * shape[1] if known is None else known)


def measured_costs(plan: Plan, predictors: Mapping[str, Predictor], source: PlaneSource, *, scratch: Path) -> Costs:
    """Measure what `plan` will cost. No mask is made, and nothing stays in `scratch`.

    Args:
        predictors: loaded as in the run, by the passes' `model`.
        source: of the planes along z; a few of them are read.
        scratch: a folder on the disk that the run will use.

    Raises:
        VolumeError: a plane cannot be read.
        ModelError: a model does not take its tiles.
    """
    tile_seconds = _tile_seconds(plan, predictors)
    pixel_seconds = {
        model: float(np.mean([seconds / (rows * columns) for (one, (rows, columns)), seconds in tile_seconds.items()
                              if one == model]))
        for model in {model for model, _ in tile_seconds}
    }  # fmt: skip
    with tempfile.TemporaryDirectory(dir=scratch, prefix=".calibration-") as folder:
        bricks = None if plan.along_z_alone else _measured_bricks(Path(folder), plan)
        axes = {
            axis.axis: _axis_costs(axis, plan, predictors, source if axis.axis == "z" else None, Path(folder), bricks)
            for axis in plan.axes
        }
        sum_by_voxel = 0.0 if bricks is None else _sum_by_voxel(plan, bricks, Path(folder))
        assembly_by_voxel, preview = _assembly_seconds(plan, Path(folder))
    return Costs(
        tile_seconds=tile_seconds,
        pixel_seconds=pixel_seconds,
        axes=axes,
        sum_by_voxel=sum_by_voxel,
        assembly_by_voxel=assembly_by_voxel,
        preview=preview,
        processors=max((one.threads * one.contexts for one in predictors.values()), default=1),
    )


def _tile_seconds(plan: Plan, predictors: Mapping[str, Predictor]) -> dict[tuple[str, Shape], float]:
    batches = {one.model: one.batch for axis in plan.axes for one in axis.passes}
    found, shapes_of = {}, dict.fromkeys(predictors, 0)
    for (model, shape), _ in sorted(tile_counts(plan).items(), key=lambda one: -one[1] * one[0][1][0] * one[0][1][1]):
        if shapes_of[model] < MEASURED_SHAPES:
            shapes_of[model] += 1
            timing = timed_tiles(
                predictors[model], shape, batch=batches[model], rounds=ROUNDS, seconds=SECONDS_A_SHAPE,
                give_up_above=float("inf"),
            )  # fmt: skip
            found[model, shape] = median(timing.further)
    return found


@dataclass(frozen=True)
class _BrickSeconds:
    """By voxel of one byte."""

    write: float
    read: Mapping[Axis, float]


def _axis_costs(
    axis: AxisPlan,
    plan: Plan,
    predictors: Mapping[str, Predictor],
    source: PlaneSource | None,
    folder: Path,
    bricks: _BrickSeconds | None,
) -> AxisCosts:
    """Let a few planes through the pipeline itself, with networks that answer at once."""
    _, rows, columns = axis.shape
    slab = _sample(axis)
    stand_ins = {one.model: _AtOnce(predictors[one.model].contexts) for one in axis.passes}
    path = folder / "sample.slab"

    def sink(result: SlabResult) -> None:
        if bricks is None:
            write_slab_file(path, result.slab.start, result.canvas.mask(plan.threshold_milli), None, result.grey)

    times = run_axis(
        source or _Noise(rows, columns), replace(axis, cascade=None), stand_ins, sink, slabs=[slab], ring=1
    )
    voxels = len(slab) * rows * columns
    pixels = sum(one.layout_of(plane).computed_pixels for one in axis.passes for plane in range(slab.start, slab.stop))
    by_voxel = {name: seconds / voxels for name, seconds in _stages(times, "read", "window", "resize", "write").items()}
    if bricks:
        sums = np.dtype(accumulator(plan.total_weight)).itemsize
        by_voxel["write"] += bricks.write * (sums + (1 if axis.axis == "z" else 0))
        by_voxel["read"] += bricks.read[axis.axis] if axis.axis != "z" else 0.0
    by_pixel = {
        name: seconds / max(pixels, 1)
        for name, seconds in _stages(times, "cut", "copy_in", "copy_out", "accumulate").items()
    }
    return AxisCosts(by_voxel, by_pixel)


def _stages(times: StageTimes, *names: str) -> dict[str, float]:
    return {name: float(getattr(times, name)) for name in names}


def _sample(axis: AxisPlan) -> Slab:
    """Planes of the layer that is computed neither most nor least."""
    planes, rows, columns = axis.shape
    layers = range(-(-planes // CELL))
    pixels = [sum(one.layouts[layer].computed_pixels for one in axis.passes) for layer in layers]
    busy = [layer for layer in layers if pixels[layer]] or list(layers)
    layer = sorted(busy, key=lambda one: pixels[one])[len(busy) // 2]
    count = min(_sample_planes(rows, columns), planes - layer * CELL)
    return Slab(layer * CELL, layer * CELL + count)


def _sample_planes(rows: int, columns: int) -> int:
    return min(SAMPLE_PLANES, max(1, SAMPLE_VOXELS // (rows * columns)))


def _measured_bricks(folder: Path, plan: Plan) -> _BrickSeconds:
    planes = np.random.default_rng(0).integers(0, 256, BRICK_SAMPLE, dtype=np.uint8)
    with BrickFile.create(folder / "sample.bricks", BRICK_SAMPLE, np.dtype(np.uint8), plan.brick) as file:
        step = plan.brick
        began = perf_counter()
        for start in range(0, len(planes), step):
            file.write_planes("z", start, planes[start : start + step])
        file.sync()
        write = (perf_counter() - began) / planes.size
        read: dict[Axis, float] = {}
        for axis in (one.axis for one in plan.axes):
            began = perf_counter()
            depth = axis_first(BRICK_SAMPLE, axis)[0]
            for start in range(0, depth, step):
                file.read_planes(axis, start, min(start + step, depth))
            read[axis] = (perf_counter() - began) / planes.size
    return _BrickSeconds(write, read)


def _sum_by_voxel(plan: Plan, bricks: _BrickSeconds, folder: Path) -> float:
    """Read the sums of all axes and the grey levels, add up, and write a slab file."""
    sums = np.dtype(accumulator(plan.total_weight)).itemsize
    began = perf_counter()
    canvas = Canvas(BRICK_SAMPLE, total_weight=plan.total_weight)
    for _ in plan.axes:
        canvas.sums += _answers((1, 1, *BRICK_SAMPLE[1:]))[0, 0]
    grey = np.zeros(BRICK_SAMPLE, np.uint8)
    write_slab_file(folder / "sums.slab", 0, canvas.mask(plan.threshold_milli), None, grey)
    adding = (perf_counter() - began) / grey.size
    return adding + bricks.read["z"] * (1 + sums * len(plan.axes))


def _assembly_seconds(plan: Plan, folder: Path) -> tuple[float, float]:
    """For a voxel, and for the preview."""
    planes, rows, columns = plan.shape_zyx
    depth = min(_sample_planes(rows, columns), planes)
    path, shape = folder / "assembly.slab", (depth, rows, columns)
    mask = np.broadcast_to(_answers((1, 1, rows, columns))[0], shape) > 0
    write_slab_file(path, 0, mask, None, np.broadcast_to(np.uint8(0), shape))
    preview = Preview(plan.shape_zyx, voxel_size_um=None)
    began = perf_counter()
    with SlabFile.open(path) as slab, StackWriter(folder / "sample.tif", shape_zyx=shape, voxel_size_um=None) as writer:
        mask = np.stack([slab.mask_plane(plane) for plane in range(depth)])
        if plan.min_voxels > 1:
            mask = next(without_small_components(lambda _: mask, 1, min_voxels=plan.min_voxels)).mask
        for plane in range(depth):
            writer.append_encoded([slab.mask_strip(plane)])
            preview.add(plane, mask[plane], slab.grey_lines(plane))
    assembled = perf_counter()
    preview.save(folder / "sample.png", grey_of_plane=lambda _: np.zeros((rows, columns), np.uint8))
    return (assembled - began) / mask.size, perf_counter() - assembled


class _AtOnce:
    """A predictor that answers at once: a grid of small vessels, which compress as masks do."""

    runtime = "none"
    threads = 1
    watches_overflow = False

    def __init__(self, contexts: int) -> None:
        self.contexts = contexts
        self._answers: dict[tuple[int, ...], Tiles] = {}

    def predict(self, tiles: Tiles, *, context: int = 0) -> Tiles:
        del context
        if tiles.shape not in self._answers:
            self._answers[tiles.shape] = _answers(tiles.shape)
        return self._answers[tiles.shape]

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        return


def _answers(shape: tuple[int, ...]) -> Tiles:
    rows, columns = (np.arange(side) % 48 < 5 for side in shape[2:])
    answers = np.zeros(shape, np.uint8)
    answers[:] = 255 * (rows[:, None] & columns[None, :])
    return answers


class _Noise:
    """A source of planes that no disk and no window delays."""

    def __init__(self, rows: int, columns: int) -> None:
        self._shape = rows, columns

    def read(self, start: int, stop: int) -> npt.NDArray[np.uint8]:
        return np.random.default_rng(0).integers(0, 256, (stop - start, *self._shape), dtype=np.uint8)

    def windowed(self, planes: npt.NDArray[np.uint8]) -> npt.NDArray[np.uint8]:
        return planes
