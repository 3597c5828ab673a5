"""The mean probability of all passes over a volume, out of core, as integer sums of uint8 probabilities."""

import shutil
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
import torch

from sennet_engine.pipeline.canvas import sum_at_threshold
from sennet_trainer.prediction.array_file import mapped_array, write_array
from sennet_trainer.prediction.passes import Observer, Pass, passes_of, predict_passes
from sennet_trainer.prediction.result_file import Result, current_result, write_result
from sennet_trainer.prediction.task import PredictionTask

UInt16 = npt.NDArray[np.uint16]

PLAN, PASSES, SUMS = "plan.json", "passes", "sums.npy"
BLOCK_BYTES = 2**26


@dataclass(frozen=True)
class MeanProbability:
    """Sums over passes, on disk.

    Attributes:
        path: a .npy file, uint16 [Z, Y, X]: the sum of the passes' probabilities, each 0..255.
        passes: how many were summed; the mean probability is sum / (255 * passes).
    """

    path: Path
    passes: int

    @property
    def sums(self) -> UInt16:
        """Memory-mapped uint16 [Z, Y, X]."""
        return mapped_array(self.path)

    def level(self, threshold_milli: int) -> int:
        """The smallest sum that is vessel at `threshold_milli` thousandths."""
        return sum_at_threshold(threshold_milli, total_weight=self.passes)


def mean_probability(
    task: PredictionTask, folder: Path, *, device: torch.device, observer: Observer
) -> MeanProbability:
    """Predict the volume by every network along each axis, and sum the answers up in `folder`.

    Called again it goes on where it was, and returns at once where it was finished. The files of another task are
    deleted first. Memory holds one slab; on disk lie one byte a voxel and pass, and in the end two a voxel.

    Raises:
        ModelError: a network cannot be loaded.
        OSError: a file cannot be written.
    """
    images, sums = task.volume.images, folder / SUMS
    passes = passes_of(images.shape, task.teachers, task.axes, folder=folder / PASSES, device=device)
    if current_result(folder / PLAN, Result, key=task.key) is None:
        # The plan goes first and comes last: whatever a kill leaves in between belongs to no plan, and is deleted.
        (folder / PLAN).unlink(missing_ok=True)
        sums.unlink(missing_ok=True)
        if (folder / PASSES).exists():
            shutil.rmtree(folder / PASSES)
        folder.mkdir(parents=True, exist_ok=True)
        write_result(folder / PLAN, Result(key=task.key))
    if not sums.exists():
        predict_passes(images, passes, device=device, observer=observer)
        write_array(sums, _summed_blocks(passes, images.shape, observer), item_shape=images.shape[1:], dtype=np.uint16)
    shutil.rmtree(folder / PASSES, ignore_errors=True)
    return MeanProbability(sums, passes=len(passes))


def plane_blocks(shape_zyx: tuple[int, ...], *, bytes_a_voxel: int) -> Iterator[slice]:
    """Runs of planes along z of at most 64 MiB, and at least a plane."""
    step = max(1, BLOCK_BYTES // (bytes_a_voxel * shape_zyx[1] * shape_zyx[2]))
    for start in range(0, shape_zyx[0], step):
        yield slice(start, min(start + step, shape_zyx[0]))


def _summed_blocks(passes: Sequence[Pass], shape_zyx: tuple[int, ...], observer: Observer) -> Iterator[UInt16]:
    for planes in plane_blocks(shape_zyx, bytes_a_voxel=2):
        block = np.zeros((planes.stop - planes.start, *shape_zyx[1:]), np.uint16)
        for one in passes:
            one.add_to(block, z_start=planes.start)
        yield block
        observer("adding up", planes.stop, shape_zyx[0])
