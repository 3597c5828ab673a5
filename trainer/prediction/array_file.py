"""An array file that is written from front to back and appears under its name only when whole."""

from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from sennet_trainer.growing_array import GrowingArray


def write_array(
    path: Path, blocks: Iterable[npt.NDArray[Any]], *, item_shape: tuple[int, ...], dtype: npt.DTypeLike
) -> None:
    """Write `blocks`, each [n, *item_shape] and in order of the first axis, as the .npy file `path`.

    Raises:
        OSError: the file cannot be written; nothing of it is left then.
    """
    partial = path.with_name(path.name + ".partial")
    try:
        with GrowingArray(partial, dtype, item_shape) as array:
            for block in blocks:
                array.append(block)
        partial.replace(path)
    except BaseException:
        partial.unlink(missing_ok=True)
        raise


def mapped_array(path: Path) -> npt.NDArray[Any]:
    """The array of a .npy file, memory-mapped and read-only."""
    array: npt.NDArray[Any] = np.load(path, mmap_mode="r", allow_pickle=False)
    return array
