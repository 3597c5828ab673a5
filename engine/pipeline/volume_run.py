"""Run a plan over a volume, until every slab of it is a slab file in the work folder.

Along z alone a slab is finished when it was computed. With passes along y and x the windowed volume goes to a file of
bricks first, each axis writes its sums into a file of its own, and the axes are added up in the end. Every unit is
written once and marked in the journal when it is on the disk, so nothing is lost or counted twice by a kill.
"""

import io
import logging
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import numpy.typing as npt

from sennet_engine.pipeline.canvas import Canvas, accumulator
from sennet_engine.pipeline.overflow import OverflowWatch
from sennet_engine.pipeline.plane_source import PlaneSource, VolumePlanes
from sennet_engine.pipeline.shared_slabs import run_axis_on
from sennet_engine.pipeline.stream_pipeline import RING, SlabResult, StageTimes
from sennet_engine.pipeline.worker import Worker
from sennet_engine.planning.axes import Axis
from sennet_engine.planning.cells import CELL
from sennet_engine.planning.passes import AxisPlan, Plan, Slab
from sennet_engine.resident import release_freed_memory
from sennet_engine.storage.bricks import BrickFile, BrickPlanes
from sennet_engine.storage.durable import write_durably
from sennet_engine.storage.slab_file import write_slab_file
from sennet_engine.storage.work_folder import WorkFolder
from sennet_engine.volumes.volume import Volume
from sennet_engine.window import Window

logger = logging.getLogger(__name__)

GREY = "grey.bricks"

OnPlanes = Callable[[int, int], None]


@dataclass
class RunCounts:
    """What adds up over a run; a resumed run counts what it did itself.

    Attributes:
        lost_devices: that failed and left their slabs to others.
    """

    times: StageTimes = field(default_factory=StageTimes)
    tiles: int = 0
    tiles_not_gone_on: int = 0
    planes_resumed: int = 0
    lost_devices: int = 0


class VolumeRun:
    """One plan over one volume, in a work folder that may hold a part of it already.

    Args:
        workers: the devices that share the slabs, each with all models of the plan. One that fails is given up for the
            rest of the run, as long as there is another.
        work: holds the journal; the run leaves its slab files there.
        probability: whether the slab files hold it.
        on_planes: told (planes done, planes in all), from any thread, but never by two at once.
        overflows: answers in place of networks that overflow; by default that is an error.
        ring: see `run_axis`; of each worker.
    """

    def __init__(
        self,
        volume: Volume,
        window: Window,
        plan: Plan,
        workers: Sequence[Worker],
        work: WorkFolder,
        *,
        probability: bool,
        on_planes: OnPlanes,
        overflows: OverflowWatch | None = None,
        ring: int = RING,
    ) -> None:
        self._volume, self._window, self._plan, self._workers = volume, window, plan, tuple(workers)
        self._work, self._probability, self._ring = work, probability, ring
        self._on_planes, self._overflows = on_planes, overflows
        self.counts = RunCounts()
        self._planes_done, self._planes = 0, sum(axis.shape[0] for axis in plan.axes)

    @property
    def workers(self) -> tuple[Worker, ...]:
        """Those that have not failed."""
        return self._workers

    @property
    def slab_files(self) -> list[Path]:
        """The files that the run leaves, in the order of their planes."""
        return [self._slab_path(slab) for slab in self._plan.axes[0].slabs]

    def run(self) -> None:
        """Do what the journal does not call done.

        Raises:
            SennetError: a plane cannot be read, a model cannot compute, or all devices failed. What is done stays in
                the work folder.
            OSError: the disk is full.
        """
        self._on_planes(0, self._planes)
        if self._plan.along_z_alone:
            self._along(
                self._plan.axes[0],
                VolumePlanes(self._volume, self._window),
                lambda result: self._write_slab(result.slab, result.grey, result.canvas),
            )
        else:
            self._along_all_axes()

    def _write_slab(self, slab: Slab, grey: npt.NDArray[np.uint8], canvas: Canvas) -> None:
        probability = canvas.probability() if self._probability else None
        write_slab_file(self._slab_path(slab), slab.start, canvas.mask(self._plan.threshold_milli), probability, grey)

    def _along(
        self,
        axis: AxisPlan,
        source: PlaneSource,
        sink: Callable[[SlabResult], None],
        *,
        first_pass_cells: npt.NDArray[np.uint8] | None = None,
    ) -> None:
        journal = self._work.journal
        missing = [slab for slab in axis.slabs if not journal.is_done(_unit(axis.axis, slab))]
        done = axis.shape[0] - sum(map(len, missing))
        self.counts.planes_resumed += done
        self._report(done)

        def keep(result: SlabResult) -> None:
            sink(result)
            journal.mark_done(_unit(axis.axis, result.slab))
            self.counts.tiles += result.tiles_done
            self.counts.tiles_not_gone_on += result.tiles_not_gone_on
            self._report(len(result.slab))

        if missing:
            self.counts.times += run_axis_on(
                source, axis, self._workers, keep,
                slabs=missing, ring=self._ring, first_pass_cells=first_pass_cells, overflows=self._overflows,
                on_lost=self._give_up,
            )  # fmt: skip
            # The slabs along the next axis have another size: what these leave would be held beside them.
            release_freed_memory()

    def _give_up(self, worker: Worker, error: BaseException, slabs: int) -> None:
        logger.warning(
            "%s failed and is given up; %d slabs that it had in hand are done by the others: %s",
            worker.name, slabs, error,
        )  # fmt: skip
        self._workers = tuple(one for one in self._workers if one is not worker)
        self.counts.lost_devices += 1

    def _along_all_axes(self) -> None:
        plan, folder = self._plan, self._work.path
        seen = _FirstPassCells(folder, plan)
        with ExitStack() as opened:
            resumed = bool(self._work.journal.done)
            grey = opened.enter_context(_opened(folder / GREY, plan, np.uint8, resumed=resumed))
            dtype = accumulator(plan.total_weight)
            sums = {
                one.axis: opened.enter_context(_opened(folder / f"{one.axis}.bricks", plan, dtype, resumed=resumed))
                for one in plan.axes
            }

            def keep_along_z(result: SlabResult) -> None:
                grey.write_planes("z", result.slab.start, result.grey)
                grey.sync()
                seen.keep(result)
                keep_sums("z", result)

            def keep_sums(axis: Axis, result: SlabResult) -> None:
                sums[axis].write_planes(axis, result.slab.start, result.canvas.sums)
                sums[axis].sync()

            first, *others = plan.axes
            self._along(first, VolumePlanes(self._volume, self._window), keep_along_z)
            cells = seen.cells() if first.cascade else None
            for one in others:
                source = BrickPlanes(grey, one.axis)
                self._along(one, source, lambda result, one=one: keep_sums(one.axis, result), first_pass_cells=cells)  # type: ignore[misc]
            for slab in first.slabs:
                self._add_up(slab, sums, grey)

    def _add_up(self, slab: Slab, sums: Mapping[Axis, BrickFile], grey: BrickFile) -> None:
        unit = _unit("sum", slab)
        if self._work.journal.is_done(unit):
            return
        canvas = Canvas((len(slab), *self._plan.shape_zyx[1:]), total_weight=self._plan.total_weight)
        for file in sums.values():
            canvas.sums += file.read_planes("z", slab.start, slab.stop)
        self._write_slab(slab, grey.read_planes("z", slab.start, slab.stop), canvas)
        self._work.journal.mark_done(unit)

    def _slab_path(self, slab: Slab) -> Path:
        return self._work.path / f"{slab.start:06d}.slab"

    def _report(self, planes: int) -> None:
        self._planes_done += planes
        self._on_planes(self._planes_done, self._planes)


class _FirstPassCells:
    """The largest answer of a cascade's first pass in every cell, kept slab by slab beside the sums."""

    def __init__(self, folder: Path, plan: Plan) -> None:
        self._folder, self._plan = folder, plan

    def keep(self, result: SlabResult) -> None:
        if result.first_answers is not None:
            content = io.BytesIO()
            np.save(content, cell_maxima(result.first_answers))
            write_durably(self._path(result.slab), content.getvalue())

    def cells(self) -> npt.NDArray[np.uint8]:
        """[Z, Y, X] in cells; all slabs must be done."""
        cells = np.zeros(self._plan.occupancy.cells.shape, np.uint8)
        for slab in self._plan.axes[0].slabs:
            layers = np.load(self._path(slab))
            first = slab.start // CELL
            np.maximum(cells[first : first + len(layers)], layers, out=cells[first : first + len(layers)])
        return cells

    def _path(self, slab: Slab) -> Path:
        return self._folder / f"{slab.start:06d}.first.npy"


def cell_maxima(answers: npt.NDArray[np.uint8]) -> npt.NDArray[np.uint8]:
    """[n, Y, X] answers of planes that begin at a cell, or lie within one, as their maxima in cells."""
    for axis in range(answers.ndim):
        answers = np.maximum.reduceat(answers, np.arange(0, answers.shape[axis], CELL), axis=axis)
    return answers


def _unit(kind: str, slab: Slab) -> str:
    return f"{kind} {slab.start}"


def _opened(path: Path, plan: Plan, dtype: npt.DTypeLike, *, resumed: bool) -> BrickFile:
    """A file that is gone although units are done is an error: it would read as 0."""
    if resumed or path.exists():
        return BrickFile.open(path)
    return BrickFile.create(path, plan.shape_zyx, dtype, plan.brick)
