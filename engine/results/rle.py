"""Run-length encoded masks, and the CSV of them that Kaggle takes as a submission."""

import csv
from pathlib import Path
from types import TracebackType
from typing import Self

import numpy as np
import numpy.typing as npt

from sennet_engine.errors import VolumeError

# A mask without a voxel, as the SenNet + HOA competition wants it written.
EMPTY = "1 0"


def rle_from_mask(mask_yx: npt.NDArray[np.generic]) -> str:
    """`start length start length ...` of the runs of non-zero pixels; starts count from 1, row by row (Y, X).

    A run may go on from the end of a row into the next. An empty mask is "1 0".
    """
    line = np.zeros(mask_yx.size + 2, bool)
    line[1:-1] = np.ravel(mask_yx != 0)
    changes = np.flatnonzero(line[1:] != line[:-1])
    starts, stops = changes[::2], changes[1::2]
    if not starts.size:
        return EMPTY
    return " ".join(map(str, np.column_stack([starts + 1, stops - starts]).ravel().tolist()))


def mask_from_rle(rle: str, shape_yx: tuple[int, int]) -> npt.NDArray[np.bool_]:
    """The mask [Y, X] that `rle` encodes.

    Raises:
        VolumeError: not pairs of whole numbers, or runs that overlap, go backwards or leave the plane.
    """
    try:
        numbers = np.array(rle.split(), np.int64)
        starts, lengths = numbers.reshape(-1, 2).T
    except (ValueError, OverflowError) as error:
        raise VolumeError(f"run lengths: got {_shortened(rle)!r}, expected pairs of whole numbers") from error
    starts, lengths = starts[lengths != 0] - 1, lengths[lengths != 0]
    stops = starts + lengths
    bounds = np.concatenate([[0], np.column_stack([starts, stops]).ravel(), [shape_yx[0] * shape_yx[1]]])
    if (lengths < 0).any() or (np.diff(bounds) < 0).any():
        raise VolumeError(
            f"run lengths: got {_shortened(rle)!r}, expected ascending runs without overlap within {shape_yx} (Y, X)"
        )
    steps = np.zeros(bounds[-1] + 1, np.int8)
    steps[starts] += 1
    steps[stops] -= 1
    return np.cumsum(steps[:-1], dtype=np.int8).astype(bool).reshape(shape_yx)


class SubmissionWriter:
    """Writes `id,rle` rows plane by plane; the id of a plane is `NAME_PLANEID`. A context manager."""

    def __init__(self, path: Path, *, name: str) -> None:
        self._name = name
        self._file = path.open("w", newline="", encoding="utf-8")
        self._rows = csv.writer(self._file, lineterminator="\n")
        self._rows.writerow(["id", "rle"])

    def append(self, plane_id: str, mask_yx: npt.NDArray[np.generic]) -> None:
        """Append the row of one plane [Y, X], vessel where not 0."""
        self._rows.writerow([f"{self._name}_{plane_id}", rle_from_mask(mask_yx)])

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._file.close()


def _shortened(text: str) -> str:
    return text if len(text) <= 40 else text[:37] + "..."
