"""A .npy file that grows along its first axis, and the hash of what it holds.

It is written as any file is: a full disk ends a process that writes a memory-mapped one.
"""

import hashlib
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import numpy as np
import numpy.typing as npt

from sennet_trainer.whole_file import writing_to


class GrowingArray:
    """A context manager; the file is a valid .npy once the block has ended without an error.

    Args:
        path: the file, written anew.
        dtype: of the array.
        item_shape: its shape without the first axis.

    Attributes:
        count: items written, the length of the first axis.

    Raises:
        OSError: the file cannot be written; carries `path`.
    """

    def __init__(self, path: Path, dtype: npt.DTypeLike, item_shape: tuple[int, ...] = ()) -> None:
        self.count = 0
        self._path, self._dtype, self._item_shape = path, np.dtype(dtype), item_shape
        self._content = hashlib.sha256()
        with writing_to(path):
            self._file = path.open("wb")
            self._write_header()

    @property
    def sha256(self) -> str:
        """Hex digest of voxel type, shape and values: of the content alone, wherever and whenever it is written."""
        digest = self._content.copy()
        digest.update(f"{self._dtype.str} {(self.count, *self._item_shape)}".encode())
        return digest.hexdigest()

    def append(self, items: npt.NDArray[Any]) -> None:
        """Add `items`, [N, *item_shape]."""
        values = np.ascontiguousarray(items, self._dtype)
        self._content.update(values.data)
        with writing_to(self._path):
            self._file.write(values.data)
        self.count += len(values)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        with writing_to(self._path), self._file:
            if kind is None:
                self._file.seek(0)
                self._write_header()

    def _write_header(self) -> None:
        """Equally long for every count: the format keeps room for the first axis to grow."""
        shape = (self.count, *self._item_shape)
        header = {"descr": np.lib.format.dtype_to_descr(self._dtype), "fortran_order": False, "shape": shape}
        np.lib.format.write_array_header_1_0(self._file, header)
