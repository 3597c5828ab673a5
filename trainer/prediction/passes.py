"""A pass: one network over the planes along one axis. Its answers are kept in files that are written once.

Each file holds one slab. What is there is never predicted again, so an interruption costs the slab in hand.
"""

import logging
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import groupby
from pathlib import Path

import numpy as np
import numpy.typing as npt
import torch

from sennet_engine.pipeline.slab_result import SlabResult
from sennet_engine.pipeline.stream_pipeline import run_axis
from sennet_engine.planning.axes import AXES, Axis, axis_first, seen_along
from sennet_engine.planning.blending import blended_layout, usual_step
from sennet_engine.planning.cells import cell_edges, everywhere
from sennet_engine.planning.layout import Layout
from sennet_engine.planning.packing import packed_layout
from sennet_engine.planning.passes import AxisPlan, PassPlan, Slab
from sennet_trainer.prediction.array_file import mapped_array, write_array
from sennet_trainer.prediction.teacher import Teacher, open_teacher

UInt8 = npt.NDArray[np.uint8]
# Called with what is being done, how much of it is, and how much there is in all.
Observer = Callable[[str, int, int], None]

# Along y and x every slab reads the whole volume once: thick ones read it less often.
LARGEST_SLAB_BYTES = 2**28
LARGEST_SLAB_PLANES = 32
# Of two slabs at a time what is read, what was read before, what the network sees and its answers; blended sums of one.
SLAB_BYTES_A_VOXEL = 12
# A CPU gains nothing from batches.
BATCH_BY_DEVICE = {"cuda": 8}
# One network a plan.
MODEL = "network"

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Pass:
    """One network along one axis.

    Attributes:
        plan: of the volume with `axis` first.
        folder: holds a uint8 file [n, ., .] for each slab, named after its first plane.
    """

    teacher: Teacher
    axis: Axis
    plan: AxisPlan
    folder: Path

    def file_of(self, slab: Slab) -> Path:
        """The file of one slab."""
        return self.folder / f"{slab.start:05d}.npy"

    def add_to(self, block_zyx: npt.NDArray[np.uint16], *, z_start: int) -> None:
        """Add the answers for the planes from `z_start` on to `block_zyx`, [n, Y, X] in the order of the volume."""
        z_stop = z_start + len(block_zyx)
        for slab in self.plan.slabs:
            if self.axis != "z":
                of_slab = seen_along(block_zyx, self.axis)[slab.start : slab.stop]
                of_slab += mapped_array(self.file_of(slab))[:, z_start:z_stop]
                continue
            start, stop = max(slab.start, z_start), min(slab.stop, z_stop)
            if start < stop:
                answer = mapped_array(self.file_of(slab))
                block_zyx[start - z_start : stop - z_start] += answer[start - slab.start : stop - slab.start]


def passes_of(
    shape_zyx: tuple[int, int, int], teachers: Sequence[Teacher], axes: str, *, folder: Path, device: torch.device
) -> list[Pass]:
    """Every teacher along every axis, over a volume of `shape_zyx`; their files lie in folders below `folder`."""
    return [
        Pass(
            teacher=teacher,
            axis=axis,
            plan=_plan(shape_zyx, axis, teacher, batch=BATCH_BY_DEVICE.get(device.type, 1)),
            folder=folder / f"{number:02d}{axis}",
        )
        for number, teacher in enumerate(teachers)
        for axis in AXES
        if axis in axes
    ]


def predict_passes(images: UInt8, passes: Sequence[Pass], *, device: torch.device, observer: Observer) -> None:
    """Predict what is missing of `passes` over `images`, uint8 [Z, Y, X]; each network is loaded once.

    Raises:
        ModelError: a network cannot be loaded.
        OSError: a file cannot be written; what is whole stays.
    """
    total = sum(one.plan.shape[0] for one in passes)
    missing = {id(one): [slab for slab in one.plan.slabs if not one.file_of(slab).exists()] for one in passes}
    done = total - sum(len(slab) for slabs in missing.values() for slab in slabs)
    observer("predicting", done, total)
    # Passes of one teacher follow one another.
    for teacher, its_passes in groupby(passes, key=lambda one: one.teacher):
        unfinished = [one for one in its_passes if missing[id(one)]]
        if not unfinished:
            continue
        with open_teacher(teacher, device=device) as predictor:
            logger.info("%s predicts with %s", teacher.name, predictor.runtime)
            for one in unfinished:
                one.folder.mkdir(parents=True, exist_ok=True)

                def keep(result: SlabResult, one: Pass = one) -> None:
                    nonlocal done
                    answer = result.canvas.sums
                    write_array(one.file_of(result.slab), [answer], item_shape=answer.shape[1:], dtype=np.uint8)
                    done += len(result.slab)
                    observer("predicting", done, total)

                planes = MappedPlanes(images, one.axis)
                run_axis(planes, one.plan, {MODEL: predictor}, keep, slabs=missing[id(one)])


class MappedPlanes:
    """The planes along an axis of a memory-mapped [Z, Y, X] array that is windowed already. See `PlaneSource`."""

    def __init__(self, images: UInt8, axis: Axis) -> None:
        self._images, self._axis = images, axis

    def read(self, start: int, stop: int) -> UInt8:
        """A slab is read in one go through the map."""
        if self._axis == "z":
            return np.array(self._images[start:stop])
        _, rows, columns = axis_first(self._images.shape, self._axis)
        planes = np.empty((stop - start, rows, columns), np.uint8)
        for z, plane_yx in enumerate(self._images):
            planes[:, z] = plane_yx[start:stop] if self._axis == "y" else plane_yx[:, start:stop].T
        return planes

    def windowed(self, planes: UInt8) -> UInt8:
        return planes


def _plan(shape_zyx: tuple[int, int, int], axis: Axis, teacher: Teacher, *, batch: int) -> AxisPlan:
    shape = axis_first(shape_zyx, axis)
    layout = _layout((shape[1], shape[2]), teacher)
    fitting = LARGEST_SLAB_BYTES // (SLAB_BYTES_A_VOXEL * layout.padded_shape[0] * layout.padded_shape[1])
    step = max(1, min(fitting, LARGEST_SLAB_PLANES))
    occupancy = everywhere(shape_zyx, reason="labels may be anywhere")
    layers = occupancy.layers(axis).shape[0]
    one = PassPlan(
        model=MODEL,
        name=f"{teacher.name} {axis}",
        scale=(1.0, 1.0),
        layouts=(layout,) * layers,
        flip="none",
        weight=1,
        batch=batch,
    )
    return AxisPlan(
        axis=axis,
        shape=shape,
        slabs=tuple(Slab(start, min(start + step, shape[0])) for start in range(0, shape[0], step)),
        passes=(one,),
        occupancy=occupancy,
        total_weight=1,
    )


def _layout(plane_shape: tuple[int, int], teacher: Teacher) -> Layout:
    edges = [cell_edges(size, size) for size in plane_shape]
    cells = np.ones([len(ends) - 1 for ends in edges], bool)
    if teacher.halo is not None:
        return packed_layout(
            cells, row_edges=edges[0], column_edges=edges[1], plane_shape=plane_shape, sides=[teacher.side],
            halo=teacher.halo, stride=teacher.stride, whole_planes=False,
        )  # fmt: skip
    return blended_layout(
        cells, row_edges=edges[0], column_edges=edges[1], plane_shape=plane_shape, side=teacher.side,
        step=usual_step(teacher.side, teacher.stride), stride=teacher.stride,
    )  # fmt: skip
