"""A pass: one network over the planes along one axis. Its answers are kept in files that are written once.

Each file holds one slab. What is there is never predicted again, so an interruption costs the slab in hand.
"""

import logging
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from itertools import groupby
from pathlib import Path

import numpy as np
import numpy.typing as npt
import torch

from sennet_engine.pipeline import predicted_slabs
from sennet_engine.plan import Plan, Slab
from sennet_engine.tiles import tile_grid
from sennet_engine.volumes.volume import Volume
from sennet_engine.window import Window
from sennet_trainer.prediction.array_file import mapped_array, write_array
from sennet_trainer.prediction.teacher import Teacher, open_teacher

UInt8 = npt.NDArray[np.uint8]
# Called with what is being done, how much of it is, and how much there is in all.
Observer = Callable[[str, int, int], None]

AXES = {"z": 0, "y": 1, "x": 2}
# Along y and x every slab reads the whole volume once: thick ones read it less often.
LARGEST_SLAB_BYTES = 2**28
LARGEST_SLAB_PLANES = 32
# Grey levels as read, windowed and padded; sums of two bytes, and the answer.
SLAB_BYTES_A_VOXEL = 6
# A CPU gains nothing from batches.
BATCH_BY_DEVICE = {"cuda": 8}
# The volume is windowed already.
IDENTITY = Window(0, 255)

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Pass:
    """One network along one axis.

    Attributes:
        plan: of the volume with `axis` first.
        folder: holds a uint8 file [n, ., .] for each slab, named after its first plane.
    """

    teacher: Teacher
    axis: str
    plan: Plan
    folder: Path

    def file_of(self, slab: Slab) -> Path:
        """The file of one slab."""
        return self.folder / f"{slab.start:05d}.npy"

    def add_to(self, block_zyx: npt.NDArray[np.uint16], *, z_start: int) -> None:
        """Add the answers for the planes from `z_start` on to `block_zyx`, [n, Y, X] in the order of the volume."""
        z_stop = z_start + len(block_zyx)
        for slab in self.plan.slabs:
            if self.axis != "z":
                of_slab = np.moveaxis(block_zyx, AXES[self.axis], 0)[slab.start : slab.stop]
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
            plan=_plan(_axis_first(shape_zyx, axis), teacher, batch=BATCH_BY_DEVICE.get(device.type, 1)),
            folder=folder / f"{number:02d}{axis}",
        )
        for number, teacher in enumerate(teachers)
        for axis in axes
    ]


def predict_passes(images: UInt8, passes: Sequence[Pass], *, device: torch.device, observer: Observer) -> None:
    """Predict what is missing of `passes` over `images`, uint8 [Z, Y, X]; each network is loaded once.

    Raises:
        ModelError: a network cannot be loaded.
        OSError: a file cannot be written; what is whole stays.
    """
    total = sum(one.plan.shape_zyx[0] for one in passes)
    missing = {id(one): [slab for slab in one.plan.slabs if not one.file_of(slab).exists()] for one in passes}
    done = total - sum(slab.stop - slab.start for slabs in missing.values() for slab in slabs)
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
                plan = replace(one.plan, slabs=tuple(missing[id(one)]))
                for result in predicted_slabs(AxisVolume(images, one.axis), predictor, plan, window=IDENTITY):
                    answer = result.canvas.probability()
                    write_array(one.file_of(result.slab), [answer], item_shape=answer.shape[1:], dtype=np.uint8)
                    done += result.slab.stop - result.slab.start
                    observer("predicting", done, total)


class AxisVolume(Volume):
    """A memory-mapped [Z, Y, X] array with another axis first, of which a slab is read in one go through the map."""

    def __init__(self, images: UInt8, axis: str) -> None:
        super().__init__(
            Path("images"), name="images", shape_zyx=_axis_first(images.shape, axis), dtype=images.dtype,
            voxel_size_um=None,
        )  # fmt: skip
        self._images, self._axis = images, AXES[axis]

    def read_planes(self, start: int, stop: int) -> UInt8:
        if self._axis == 0:
            return np.array(self._images[start:stop])
        planes = np.empty((stop - start, *self.shape_zyx[1:]), np.uint8)
        for z, plane_yx in enumerate(self._images):
            planes[:, z] = plane_yx[start:stop] if self._axis == 1 else plane_yx[:, start:stop].T
        return planes

    def _read_plane(self, z: int) -> UInt8:
        plane: UInt8 = self.read_planes(z, z + 1)[0]
        return plane


def _plan(shape: tuple[int, int, int], teacher: Teacher, *, batch: int) -> Plan:
    depth, rows, columns = shape
    grid = tile_grid((rows, columns), side=teacher.side, halo=teacher.halo, stride=teacher.stride)
    fitting = LARGEST_SLAB_BYTES // (SLAB_BYTES_A_VOXEL * grid.padded_shape[0] * grid.padded_shape[1])
    step = max(1, min(fitting, LARGEST_SLAB_PLANES))
    return Plan(
        shape_zyx=shape,
        grid=grid,
        slabs=tuple(Slab(start, min(start + step, depth)) for start in range(0, depth, step)),
        batch=batch,
        threshold_milli=round(1000 * teacher.threshold.value),
    )


def _axis_first(shape_zyx: tuple[int, ...], axis: str) -> tuple[int, int, int]:
    first = shape_zyx[AXES[axis]]
    rows, columns = (extent for index, extent in enumerate(shape_zyx) if index != AXES[axis])
    return first, rows, columns
